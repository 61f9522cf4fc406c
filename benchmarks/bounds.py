"""Milliseconds per image and certified shares of every bound method on MNIST networks, on one thread.

OMP_NUM_THREADS=1 python benchmarks/bounds.py [--images 100] [--shared ../shared]
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from withstand.bounds import lower_bound
from withstand.core.balls import Linf
from withstand.core.property import Argmax
from withstand.graph.onnx_reader import read_onnx

CASES = (("mnist-cnn-small-cert", 0.1), ("mnist-cnn-small-cert", 0.3), ("mnist-wk17a-0.1", 0.1))
ZONOTOPE_IMAGES = 20
"""Zonotopes are an order dearer; they get fewer images."""


def main() -> None:
    """Print one line a network, radius and method: CPU and wall milliseconds per image, share of images certified."""
    parser = argparse.ArgumentParser(description="Speed and certified shares of bound methods.")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = np.load(given.shared / "data" / "mnist.npz")
    print(f"{'network':<22}{'radius':>8}{'method':>10}{'images':>8}{'cpu ms':>9}{'wall ms':>9}{'certified':>11}")
    for name, radius in CASES:
        graph = read_onnx(given.shared / "models" / f"{name}.onnx").graph
        assert graph is not None
        for method in ("ibp", "crown", "zonotope"):
            count = min(given.images, ZONOTOPE_IMAGES) if method == "zonotope" else given.images
            x = torch.tensor(data["x_test"][:count]).reshape(count, 1, 28, 28).float() / 255
            rows = Argmax().rows(torch.tensor(data["y_test"][:count]).long(), 10)
            with torch.no_grad():
                lower_bound(method, graph, Linf(radius), x[:2], rows[torch.arange(2)])
                cpu, wall = time.process_time(), time.perf_counter()
                bound = lower_bound(method, graph, Linf(radius), x, rows)
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            share = float((rows.combine(bound) > 0).float().mean())
            per = 1000 / count
            print(f"{name:<22}{radius:>8}{method:>10}{count:>8}{cpu * per:>9.2f}{wall * per:>9.2f}{share:>11.3f}")


if __name__ == "__main__":
    main()
