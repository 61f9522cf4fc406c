"""Milliseconds per image, certified shares and mean bounds of bound methods on MNIST networks, on one thread.

    OMP_NUM_THREADS=1 python benchmarks/bounds.py [--images 100] [--peer] [--shared ../shared]

`--peer` adds auto_LiRPA's CROWN and alpha-CROWN on the same images and boxes (https://github.com/Verified-Intelligence/
auto_LiRPA, measured with version 0.7.1): the share of its time that ours takes, and how much higher ours bounds.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from withstand.bounds import lower_bound
from withstand.bounds.refine import crown
from withstand.core.balls import Linf
from withstand.core.property import Argmax, Rows
from withstand.core.threat import Threat
from withstand.graph.capture import from_module
from withstand.graph.ir import Graph
from withstand.graph.onnx_reader import read_onnx
from withstand.verification.phases import PhaseTree
from withstand.verification.problem import Problem

CASES = (
    ("mnist-cnn-small-cert", 0.02),
    ("mnist-wk17a-0.1", 0.1),
    ("mnist-fc-6x100-nat", 0.01),
    ("mlp-2x256", 0.01),
)
FEWER = {"zonotope": 20, "alpha-crown": 5}
"""Images of methods that are an order dearer."""
PEER_BATCHES = (100, 10)
"""Images that auto_LiRPA bounds together; the faster stands in the table."""


@dataclass(frozen=True)
class Case:
    """Images x [B, *shape] with labels y [B] before a network."""

    graph: Graph
    threat: Threat
    x: Tensor
    y: Tensor

    @property
    def rows(self) -> Rows:
        """The differences to the other classes."""
        return Argmax().rows(self.y, 10)

    def first(self, count: int) -> "Case":
        """The first images alone."""
        return Case(self.graph, self.threat, self.x[:count], self.y[:count])


@dataclass(frozen=True)
class Result:
    """Margins [B], process CPU and wall milliseconds an image."""

    margin: Tensor
    cpu: float
    wall: float


def main() -> None:
    """Print one line a network, radius and method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3, help="runs of every method, of which the fastest counts")
    parser.add_argument("--peer", action="store_true", help="auto_LiRPA beside ours")
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    columns = ("network", "radius", "method", "images", "cpu ms", "wall ms", "certified", "bound", "time", "higher by")
    print(f"| {' | '.join(columns)} |\n" + "|---" * len(columns) + "|")
    for name, radius in CASES:
        case = pose(given.shared, name, radius, given.images)
        for method in ("ibp", "crown", "zonotope", "alpha-crown"):
            small = case.first(min(given.images, FEWER.get(method, given.images)))
            ours = fastest(lambda small=small, method=method: own(small, method), given.repeats)
            line(name, radius, method, ours)
            if given.peer and method in ("crown", "alpha-crown"):
                other = min((peer(small, method, batch, given.repeats) for batch in PEER_BATCHES), key=lambda r: r.cpu)
                line(name, radius, f"auto_LiRPA {method}", other, ours)


def pose(shared: Path, name: str, radius: float, count: int) -> Case:
    """The first test images before a network of the shared folder, or before a perceptron as it is initialised."""
    data = np.load(shared / "data" / "mnist.npz")
    x = torch.tensor(data["x_test"][:count]).reshape(-1, 1, 28, 28).float() / 255
    if name == "mlp-2x256":
        torch.manual_seed(0)
        sizes = [nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)]
        graph = from_module(nn.Sequential(nn.Flatten(), *sizes), (1, 28, 28)).graph
    else:
        graph = read_onnx(shared / "models" / f"{name}.onnx").graph
    assert graph is not None
    return Case(graph, Linf(radius), x, torch.tensor(data["y_test"][:count]).long())


@torch.no_grad()
def own(case: Case, method: str) -> Tensor:
    """Margins [B] by a method of ours."""
    if method == "alpha-crown":
        return roots(case)
    return case.rows.combine(lower_bound(method, case.graph, case.threat, case.x, case.rows))  # type: ignore[arg-type]


def roots(case: Case) -> Tensor:
    """Margins [B] of alpha-CROWN carried to its end, where the verifier would stop at the first proof."""
    problem = Problem(case.graph, case.x, case.y, case.threat, Argmax())
    relaxation, margins = crown(case.graph, case.threat, case.x), []
    for place in range(len(case.x)):
        tree, best = PhaseTree(problem, place, place, relaxation, torch.inf, 20), -torch.inf
        while not tree.rooted:
            list(tree.step())
            best = max(best, tree.bound)
        margins.append(best)
    return torch.tensor(margins)


def peer(case: Case, method: str, batch: int, repeats: int) -> Result:
    """auto_LiRPA's margins. Raises ImportError where it is missing."""
    from contest.lirpa import Lirpa

    network = Lirpa(case.graph, case.x, batch)
    return fastest(lambda: case.rows.combine(network.lower(method, case.threat, case.x, case.rows)), repeats)


def fastest(work: Callable[[], Tensor], repeats: int) -> Result:
    """The fastest of some runs after one that warms up."""
    work()
    found = []
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        margin = work()
        per = 1000 / len(margin)
        found.append(Result(margin, (time.process_time() - cpu) * per, (time.perf_counter() - wall) * per))
    return min(found, key=lambda result: result.cpu)


def line(name: str, radius: float, method: str, found: Result, ours: Result | None = None) -> None:
    """Print one line. ours: what stands beside another package's result."""
    share = float((found.margin > 0).float().mean())
    text = f"| {name} | {radius:g} | {method} | {len(found.margin)} | {found.cpu:.2f} | {found.wall:.2f} "
    text += f"| {share:.3f} | {float(found.margin.mean()):.4f} |"
    if ours is not None:
        more = ours.margin - found.margin
        text += f" {ours.cpu / found.cpu:.3f} | {float(more.mean()):+.5f} (least {float(more.min()):+.5f})"
    print(text if ours is not None else f"{text} |", "|", flush=True)


if __name__ == "__main__":
    main()
