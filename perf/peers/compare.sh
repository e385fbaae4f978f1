#!/bin/sh
# compare.sh -- huddle beside PyTorch, gloo and Open MPI: the same work on the same threads.
#
# usage: perf/peers/compare.sh [ROUNDS [SECONDS]]        3 rounds, 2 seconds a measurement
#        PYTHON=python with torch, MPICC=mpicc, MPIRUN=mpirun, HUDDLE=build/huddle
#
# In each round huddle and the peer are measured one right after the other, so that a machine that
# gets slower for a while is slower for both; medians over the rounds, and the median of the ratios.
# What is not installed is left out, and said so; so is what takes longer than a measurement may,
# as processes that spin for one another do on a busy machine.
set -u
cd "$(dirname "$0")/../.." || exit 1
rounds=${1:-3} seconds=${2:-2}
python=${PYTHON:-python3} mpicc=${MPICC:-mpicc} mpirun=${MPIRUN:-mpirun}
huddle=${HUDDLE:-build/huddle}
floats=1663370
[ -x "$huddle" ] && [ -x build/perf/exchange_perf ] ||
    make -s "$huddle" build/perf/exchange_perf >/dev/null || exit 1
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT

# What a measurement may take at most, start and all: it is stopped then and there is no figure.
limited() { timeout $((20 + 2 * ${seconds%%.*})) "$@" 2>>"$scratch/log"; }
median() { sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# ---- one measurement each; a number on stdout ------------------------------------------------------
huddle_samples() { # model batch threads: samples a second. A run ends between rounds, so those are short
    case $1 in 2nn) round=1000 ;; *) round=10 ;; esac
    limited "$huddle" train data.set=synthetic synthetic.height=28 synthetic.width=28 \
        synthetic.channels=1 data.threads=0 model.layers="$1" data.batch="$2" topology.threads="$3" \
        workers=1 strategy=easgd easgd.tau="$round" schedule.rate=0.01 epochs=0 eval_every=1e9 \
        seconds="$seconds" folder="$scratch/runs" |
        awk '/^samples\/s/ { print $2 }'
}
torch_samples() { # the same
    OMP_NUM_THREADS=$3 limited "$python" perf/peers/torch_step.py "$1" "$2" "$3" "$seconds" |
        awk '{ print $5 }'
}
huddle_sum() { # workers: microseconds
    limited build/perf/exchange_perf -n 5 -b $((floats * 4)) -t "$1" | awk '$1 == "mean" { print $5 }'
}
gloo_sum() { limited "$python" perf/peers/torch_gloo.py "$1" $floats | awk '{ print $4 }'; }
mpi_sum() { # processes; root may do it too, on fewer cores than processes
    OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 limited "$mpirun" --oversubscribe --mca btl self,vader \
        -np "$1" "$scratch/mpi_allreduce" $floats | awk '{ print $4 }'
}

# row NAME UNIT MORE_IS_BETTER OURS THEIRS ARGUMENT ...
row() {
    name=$1 unit=$2 more=$3 ours=$4 theirs=$5
    shift 5
    : >"$scratch/ours"; : >"$scratch/theirs"; : >"$scratch/ratio"
    for _ in $(seq "$rounds"); do
        a=$($ours "$@") b=$($theirs "$@")
        if [ -z "$a" ] || [ -z "$b" ]; then
            tail -n 3 "$scratch/log" | sed 's/^/# /'
            printf '%-38s could not be measured\n' "$name"
            return
        fi
        echo "$a" >>"$scratch/ours"
        echo "$b" >>"$scratch/theirs"
        echo "$a $b" | awk -v more="$more" '{ print more ? $1 / $2 : $2 / $1 }' >>"$scratch/ratio"
    done
    printf '%-38s %-10s %12.0f %12.0f %8.2f\n' "$name" "$unit" "$(median <"$scratch/ours")" \
        "$(median <"$scratch/theirs")" "$(median <"$scratch/ratio")"
}

sed -n 's/^model name[^:]*: /# /p;T;q' /proc/cpuinfo
echo "# $(nproc) cores, commit $(git describe --always --dirty 2>/dev/null), $rounds rounds of $seconds s"
printf '#%-37s %-10s %12s %12s %8s\n' what unit huddle peer gain
if "$python" -c 'import torch' 2>/dev/null; then
    "$python" -c 'import torch; print("# PyTorch", torch.__version__)'
    for threads in 1 2; do
        [ "$threads" -gt "$(nproc)" ] && continue
        row "2nn, B 10, $threads threads, PyTorch" samples/s 1 huddle_samples torch_samples 2nn 10 $threads
        row "mnist_cnn, B 64, $threads threads, PyTorch" samples/s 1 huddle_samples torch_samples mnist_cnn 64 $threads
    done
    for workers in 2 4; do
        row "all-reduce, $workers workers, gloo" us 0 huddle_sum gloo_sum $workers
    done
else
    echo "# $python has no torch: left out"
fi
if "$mpicc" -O2 perf/peers/mpi_allreduce.c -o "$scratch/mpi_allreduce" 2>>"$scratch/log"; then
    "$mpirun" --version 2>/dev/null | sed -n '1s/^/# /p'
    for workers in 2 4; do
        row "all-reduce, $workers workers, MPI" us 0 huddle_sum mpi_sum $workers
    done
else
    echo "# no $mpicc: MPI left out"
fi
