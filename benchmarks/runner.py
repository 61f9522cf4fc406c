"""Overhead of the runner: PGD-40 against the bare loop of 40 forward-backward passes, in one run.

    python benchmarks/runner.py [MODEL.onnx] [MNIST.npz]

The bare loop computes the margin loss and its gradient at the clean input 40 times, for all rows, and takes no step.
One thread, process CPU time, median of several interleaved repeats. Two radii: at 1e-4 hardly any row leaves the
batch, so that the ratio is the overhead; at 0.1 most rows leave it.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import torch
from torch import Tensor, nn

from withstand.attacks.pgd import PGD
from withstand.core.balls import Linf
from withstand.core.property import Argmax
from withstand.core.runner import run

SHARED = Path(__file__).resolve().parents[2] / "shared"


def cnn_a(path: Path) -> nn.Module:
    """The torch twin of the small MNIST CNN, with the weights of the ONNX file."""
    weights = {w.name: torch.tensor(onnx.numpy_helper.to_array(w)) for w in onnx.load(path).graph.initializer}
    model = nn.Sequential(
        nn.Conv2d(1, 16, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1568, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


def bare(model: nn.Module, x0: Tensor, y: Tensor, steps: int) -> None:
    """`steps` forward and backward passes of the margin, nothing else."""
    for _ in range(steps):
        x = x0.detach().requires_grad_()
        torch.autograd.grad(Argmax().margin(model(x), y).sum(), x)


def seconds(work: Callable[[], object]) -> float:
    """Process CPU seconds of one call."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", type=Path, default=SHARED / "models/mnist-plain.onnx")
    parser.add_argument("data", nargs="?", type=Path, default=SHARED / "data/mnist.npz")
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = cnn_a(args.model)
    with np.load(args.data) as data:
        x0 = torch.tensor(data["x_test"][: args.rows, None]).float() / 255
        y = torch.tensor(data["y_test"][: args.rows]).long()
    attack = PGD(steps=40)
    bare(model, x0, y, 5)
    for radius in (1e-4, 0.1):
        found = run(attack, model, x0, y, Linf(radius))
        ratios, times = [], []
        for _ in range(args.repeats):
            plain = seconds(lambda: bare(model, x0, y, 40))
            ours = seconds(lambda radius=radius: run(attack, model, x0, y, Linf(radius)))
            ratios.append(ours / plain)
            times.append((plain, ours))
        plain, ours = (statistics.median(column) for column in zip(*times, strict=True))
        print(
            f"linf {radius:g}: bare {plain:.3f} s, PGD-40 {ours:.3f} s, ratio {statistics.median(ratios):.3f} "
            f"(from {min(ratios):.3f} to {max(ratios):.3f}); {int(found.refuted.sum())} of {len(y)} rows refuted"
        )


if __name__ == "__main__":
    main()
