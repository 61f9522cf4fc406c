"""Gradients by images of few channels: a product and a fold beside the general kernel, in CPU seconds of one thread.

python benchmarks/image_gradient.py
"""

import time

import torch
import torch.nn.functional as F
from torch import Tensor

from withstand.graph.image_gradient import ImageConvolution, pays

LAYERS = [
    (1, 28, 16, 4, 2),
    (1, 28, 32, 3, 1),
    (3, 32, 16, 4, 2),
    (3, 32, 32, 3, 1),
    (3, 32, 64, 3, 1),
    (3, 32, 6, 5, 1),
    (4, 32, 32, 3, 1),
    (16, 14, 32, 4, 2),
]
"""Channels, side, channels out, kernel, stride."""


def main() -> None:
    """Print a line a layer and batch."""
    torch.set_num_threads(1)
    for batch in (2, 20, 200):
        for channels, side, out, kernel, stride in LAYERS:
            x = torch.rand(batch, channels, side, side, requires_grad=True)
            weight, window = torch.rand(out, channels, kernel, kernel), ((stride,) * 2, (1, 1), (1, 1))
            ours, general = ImageConvolution.apply(x, weight, None, *window), F.conv2d(x, weight, None, *window)
            ratio = least(ours, x) / least(general, x)
            used = "used" if pays(x, weight, None, 1) else "not used"
            print(
                f"{batch:3} x {channels} x {side} x {side} to {out}, {kernel}/{stride}: {ratio:.2f} of the time, {used}"
            )


def least(output: Tensor, x: Tensor, repeats: int = 10) -> float:
    """The least seconds of so many backward passes."""
    pull = torch.rand_like(output)
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        torch.autograd.grad(output, x, pull, retain_graph=True)
        times.append(time.process_time() - begin)
    return min(times)


if __name__ == "__main__":
    main()
