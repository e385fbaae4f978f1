"""All-reduce by gloo, PyTorch's collectives between processes of one machine.

usage: torch_gloo.py PROCESSES [FLOATS]        1663370 floats are mnist_cnn's parameters

One thread a process. Prints microseconds until all have the sum: the median of five samples of
ten calls.
"""
import os
import statistics
import sys
import tempfile
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

SAMPLES, CALLS = 5, 10


def work(rank, processes, floats, meeting):
    torch.set_num_threads(1)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[rank % len(cores)]})
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method="file://" + meeting, rank=rank,
                            world_size=processes)
    vector = torch.zeros(floats)
    times = []
    for _ in range(SAMPLES + 2):
        dist.barrier()
        start = time.perf_counter()
        for _ in range(CALLS):
            dist.all_reduce(vector)
        dist.barrier()
        times.append((time.perf_counter() - start) / CALLS)
    if rank == 0:
        print(f"gloo {processes} {floats} {1e6 * statistics.median(times[2:]):.1f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    count = int(sys.argv[1])
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 1663370
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(work, (count, size, os.path.join(folder, "meeting")), nprocs=count)
