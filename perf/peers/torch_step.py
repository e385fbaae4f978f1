"""Training steps of PyTorch in eager mode, as build/huddle trains the same presets.

usage: torch_step.py MODEL BATCH THREADS [SECONDS]        MODEL is 2nn or mnist_cnn

Same layers, plain SGD, cross entropy, float32; 10000 images of 28 x 28 in memory, drawn in shuffled
batches. Prints steps and samples a second, the median of five pieces of SECONDS / 5 each.
"""
import statistics
import sys
import time

import torch
from torch import nn

IMAGES, CLASSES, RATE = 10000, 10, 0.01


def model(name):
    if name == "2nn":
        return nn.Sequential(
            nn.Flatten(), nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(),
            nn.Linear(200, CLASSES))
    if name == "mnist_cnn":
        return nn.Sequential(
            nn.Conv2d(1, 32, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(), nn.Linear(512, CLASSES))
    sys.exit(f"{name}: no such model; 2nn or mnist_cnn")


def batches(images, labels, size):
    """Shuffled anew at each pass; what is left over at its end is dropped."""
    while True:
        order = torch.randperm(len(images))
        for at in range(0, len(images) - size + 1, size):
            pick = order[at:at + size]
            yield images[pick], labels[pick]


def main():
    name, batch, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 3
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    net = model(name)
    descent = torch.optim.SGD(net.parameters(), lr=RATE)
    loss = nn.CrossEntropyLoss()
    data = batches(torch.randn(IMAGES, 1, 28, 28), torch.randint(CLASSES, (IMAGES,)), batch)

    def step():
        images, labels = next(data)
        descent.zero_grad()
        loss(net(images), labels).backward()
        descent.step()

    for _ in range(5):
        step()
    rates = []
    for _ in range(5):
        steps, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds / 5:
            step()
            steps += 1
        rates.append(steps / (time.perf_counter() - start))
    rate = statistics.median(rates)
    print(f"{name} {batch} {threads} {rate:.1f} {rate * batch:.0f}")


if __name__ == "__main__":
    main()
