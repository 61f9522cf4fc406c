"""What both sides of a row are given, and the one judge of what they hand back."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from contest.plain import plain
from withstand.core.property import Argmax
from withstand.core.threat import Threat
from withstand.core.threat_text import parse_threat
from withstand.graph.model import Model
from withstand.io.models import load_model

SHARED = Path(__file__).resolve().parents[3] / "shared"

SLACK = 1e-5
"""How far, relative to the radius, a point may lie outside by rounding."""

BORDER = 1e-5
"""A margin up to this counts as violated: nearest violations lie so near to the boundary that rounding decides."""

FITTED = 1000
"""Training images that universal attacks are fitted on."""


class Counting(nn.Module):
    """A network that counts the rows it is asked about, and takes float64 too, which some packages send."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.rows = net, 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return self.net(x.float())


@dataclass(frozen=True)
class Task:
    """A model, a threat and the first images of its test data; `fitted` are training images for universal attacks.

    model: as we run it; net: the same network as plain layers, for the others.
    """

    model: Model
    net: Counting
    threat: Threat
    x: Tensor
    y: Tensor
    fitted: Tensor

    @property
    def norm(self) -> str:
        """The threat's."""
        return self.threat.norm


@dataclass(frozen=True)
class Points:
    """What an attack hands back: points [N, *shape], and the forward passes it made in all.

    found, distance: what it says itself of points that the judge cannot measure, such as moves.
    """

    x: Tensor
    queries: int
    found: Tensor | None = None
    distance: Tensor | None = None


@dataclass(frozen=True)
class Score:
    """The judge's words. robust: share of all images that are right and stay so (inside the threat). success: share of
    the right ones for which a violation was found, at whatever distance. median: distance of the violations over all
    right images, infinite where there is none. fooling: share of all images whose class changes. queries: forward
    passes an image. seconds: of process CPU."""

    robust: float
    success: float
    median: float
    fooling: float
    queries: float
    seconds: float


def data_of(model: str) -> tuple[Tensor, Tensor, Tensor]:
    """Test images [N, C, H, W] in [0, 1], their labels, and training images, for a model of the shared folder."""
    if model.startswith("cifar"):
        with np.load(SHARED / "data/cifar10-test-sample.npz") as data:
            x = torch.tensor(data["x"]).permute(0, 3, 1, 2).contiguous().float() / 255
            return x, torch.tensor(data["y"]).long(), x[:0]
    with np.load(SHARED / "data/mnist.npz") as data:
        test, train = (torch.tensor(data[name][:, None]).float() / 255 for name in ("x_test", "x_train"))
        return test, torch.tensor(data["y_test"]).long(), train[:FITTED]


data_of = cache(data_of)
model_of = cache(lambda name: load_model(SHARED / f"models/{name}.onnx"))


def pose(model: str, threat: str, count: int) -> Task:
    """The task of a row."""
    x, y, fitted = data_of(model)
    held = model_of(model)
    assert held.graph is not None
    net = Counting(plain(held.graph)).eval()
    torch.testing.assert_close(net(x[:4]), held(x[:4]))
    return Task(held, net, parse_threat(threat), x[:count], y[:count], fitted)


def cpu_seconds(work: Callable[[], Points]) -> tuple[Points, float]:
    """What the work hands back, and the process CPU seconds it took."""
    begin = time.process_time()
    points = work()
    return points, time.process_time() - begin


def judge(task: Task, points: Points, seconds: float) -> Score:
    """Look at the points afresh: class, domain and distance."""
    clean, moved = outputs(task, task.x), outputs(task, points.x.to(task.x))
    right = clean.argmax(1) == task.y
    found, far = violations(task, points, moved)
    nearest = far.masked_fill(~found, torch.inf)[right]
    return Score(
        robust=share(right & ~(found & within(task, far))),
        success=share(found[right]),
        median=statistics.median(nearest.tolist()) if len(nearest) else torch.nan,
        fooling=share(moved.argmax(1) != clean.argmax(1)),
        queries=points.queries / len(task.x),
        seconds=seconds,
    )


def broken(task: Task, points: Points) -> tuple[Tensor, Tensor]:
    """Which images [N] are right, and which of these have a violation inside the threat."""
    right = outputs(task, task.x).argmax(1) == task.y
    found, far = violations(task, points, outputs(task, points.x.to(task.x)))
    return right, right & found & within(task, far)


def outputs(task: Task, x: Tensor) -> Tensor:
    """The network's, in batches of one size."""
    with torch.no_grad():
        return torch.cat([task.model(part) for part in x.split(256)])


def violations(task: Task, points: Points, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Which points [N] violate inside the domain, at whatever distance, and their distances [N]."""
    far = distance(points.x, task.x, task.norm) if points.distance is None else points.distance.double()
    flat = points.x.flatten(1)
    inside = (flat.amin(1) >= -1e-6) & (flat.amax(1) <= 1 + 1e-6)
    return (Argmax().margin(moved, task.y) <= BORDER) & inside if points.found is None else points.found, far


def within(task: Task, far: Tensor) -> Tensor:
    """Which distances the threat allows."""
    return far <= task.threat.radius * (1 + SLACK)


def share(mask: Tensor) -> float:
    """The share that is true."""
    return float(mask.double().mean())


def distance(a: Tensor, b: Tensor, norm: str) -> Tensor:
    """Distances [N] between points, in float64; in l0 pixels are counted, all channels together."""
    difference = (a.double() - b.double()).abs()
    if norm == "l0":
        return (difference.amax(1) > 1e-7).flatten(1).sum(1).double()
    order = {"linf": torch.inf, "l2": 2, "l1": 1}.get(norm, torch.inf)
    return torch.linalg.vector_norm(difference.flatten(1), order, dim=1)
