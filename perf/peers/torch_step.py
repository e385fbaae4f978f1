"""Training steps of PyTorch, as build/huddle trains the same presets.

usage: torch_step.py MODEL BATCH THREADS [SECONDS] [--device cuda] [--compile] [--turn FILE]
       MODEL is 2nn, mnist_cnn, easgd_cifar or resnet20
       --turn: measures while it holds FILE's lock, so that several may get ready at once and are
       measured one after the other; FILE.PID is there once it is ready

Same layers, plain SGD, cross entropy, float32 without TF32; 10000 images in memory, on a GPU in its
memory, drawn in shuffled batches. Eager, or compiled in mode reduce-overhead, which replays CUDA
graphs. Prints steps and samples a second, the median of five pieces of SECONDS / 5 each.
"""
import argparse
import fcntl
import os
import pathlib
import statistics
import time

import torch
from torch import nn

IMAGES, CLASSES, RATE = 10000, 10, 0.01


class Residual(nn.Module):
    """Two convolutions beside a shortcut, which a convolution stands in for where sides halve."""

    def __init__(self, inner, outer, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer), nn.ReLU(),
            nn.Conv2d(outer, outer, 3, 1, 1, bias=False), nn.BatchNorm2d(outer))
        self.shortcut = nn.Identity() if stride == 1 and inner == outer else nn.Sequential(
            nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet20():
    layers = [nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    inner = 16
    for outer in 16, 32, 64:
        for i in range(3):
            layers.append(Residual(inner, outer, 2 if i == 0 and outer > 16 else 1))
            inner = outer
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES))


# The net, and the height, width and channels of its images.
MODELS = {
    "2nn": (lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(),
        nn.Linear(200, CLASSES)), 28, 1),
    "mnist_cnn": (lambda: nn.Sequential(
        nn.Conv2d(1, 32, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, CLASSES)), 28, 1),
    "easgd_cifar": (lambda: nn.Sequential(
        nn.Conv2d(3, 64, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(128, 64, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(256, 256), nn.ReLU(), nn.Dropout(0.5), nn.Linear(256, CLASSES)), 28, 3),
    "resnet20": (resnet20, 32, 3),
}


def batches(images, labels, size):
    """Shuffled anew at each pass; what is left over at its end is dropped."""
    while True:
        order = torch.randperm(len(images), device=images.device)
        for at in range(0, len(images) - size + 1, size):
            pick = order[at:at + size]
            yield images[pick], labels[pick]


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("batch", type=int)
    parser.add_argument("threads", type=int)
    parser.add_argument("seconds", type=float, nargs="?", default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--turn")
    return parser.parse_args()


def main():
    given = arguments()
    gpu = given.device != "cpu"
    torch.set_num_threads(given.threads)
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    make, side, channels = MODELS[given.model]
    net = make().to(given.device)
    images = torch.randn(IMAGES, channels, side, side, device=given.device)
    if gpu:
        net = net.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (IMAGES,), device=given.device)
    descent = torch.optim.SGD(net.parameters(), lr=RATE)
    loss = nn.CrossEntropyLoss()
    data = batches(images, labels, given.batch)
    run = torch.compile(net, mode="reduce-overhead") if given.compile else net

    def step():
        x, y = next(data)
        descent.zero_grad()
        loss(run(x), y).backward()
        descent.step()

    def finish():
        if gpu:
            torch.cuda.synchronize()

    for _ in range(20 if given.compile else 5):
        step()
    finish()
    if given.turn:
        pathlib.Path(f"{given.turn}.{os.getpid()}").touch()
        turn = open(given.turn, "a")
        fcntl.flock(turn, fcntl.LOCK_EX)  # until this process ends
    for _ in range(5):
        step()
    finish()
    rates = []
    for _ in range(5):
        steps, start = 0, time.perf_counter()
        while time.perf_counter() - start < given.seconds / 5:
            for _ in range(10 if gpu else 1):
                step()
                steps += 1
            finish()
        rates.append(steps / (time.perf_counter() - start))
    rate = statistics.median(rates)
    print(f"{given.model} {given.batch} {given.threads} {rate:.1f} {rate * given.batch:.0f}")


if __name__ == "__main__":
    main()
