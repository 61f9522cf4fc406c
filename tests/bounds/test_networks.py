"""Whole networks whose truth is known: closed forms of linear models, all ReLU phases of tiny ones, and agreements."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import dense, graph, points, slack
from scipy.optimize import linprog

from withstand.bounds import grade, interval, lower_bound, prepare, windows
from withstand.core.balls import L1, L2, Linf
from withstand.core.box import Box
from withstand.core.evidence import Grade
from withstand.core.patch import Patch
from withstand.core.property import Argmax, Rows
from withstand.core.sparse import L0
from withstand.core.threat import Threat
from withstand.graph.ir import Graph, Node

METHODS = ("ibp", "crown", "crown-ibp", "forward", "zonotope")
WIDE = (-100.0, 100.0)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def convolutional(dtype: torch.dtype = torch.float64, channels: int = 1) -> Graph:
    """Two strided convolutions, a dense layer and three outputs for inputs (channels, 20, 20)."""
    step = {"stride": (2, 2), "padding": (1, 1), "dilation": (1, 1)}
    constants = {
        "w0": random(4, channels, 4, 4, seed=1) / 4,
        "b0": random(4, seed=2) / 8,
        "w1": random(6, 4, 4, 4, seed=3) / 8,
        "b1": random(6, seed=4) / 8,
        "w2": random(12, 150, seed=5) / 12,
        "w3": random(3, 12, seed=6) / 3,
    }
    nodes = [
        Node("c0", "conv", ("x", "w0", "b0"), step),
        Node("r0", "relu", ("c0",)),
        Node("c1", "conv", ("r0", "w1", "b1"), step),
        Node("r1", "relu", ("c1",)),
        Node("f", "reshape", ("r1",), {"shape": (150,)}),
        Node("z", "linear", ("f", "w2")),
        Node("r2", "relu", ("z",)),
        Node("y", "linear", ("r2", "w3")),
    ]
    return graph(nodes, {name: value.to(dtype) for name, value in constants.items()}, (channels, 20, 20))


def labels(count: int) -> Rows:
    return Argmax().rows(torch.arange(count) % 3, 3, torch.float64)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "box"])
def test_linear_models_are_bounded_exactly(method, norm):
    """The least row value of a linear model is its value at the centre minus radius times the dual norm."""
    model, x0 = dense([6, 5, 3], "neg", seed=2), random(4, 6, seed=1)
    rows = labels(4)
    jacobian = torch.stack([torch.autograd.functional.jacobian(model, x[None]).reshape(3, 6) for x in x0])  # type: ignore[arg-type]
    slopes, value = rows.weight @ jacobian, rows.value(model(x0))
    threats: dict[str, tuple[Threat, float]] = {
        "linf": (Linf(0.3, WIDE), 1),
        "l2": (L2(0.3, WIDE), 2),
        "l1": (L1(0.3, WIDE), torch.inf),
    }
    if norm == "box":
        low, high = x0 - 0.1, x0 + 0.4
        threat: Threat = Box(lower=low, upper=high)
        exact = value + torch.where(slopes > 0, -0.1 * slopes, 0.4 * slopes).sum(2)
    else:
        threat, dual = threats[norm]
        exact = value - threat.reach * torch.linalg.vector_norm(slopes, dual, dim=2)
    bound = lower_bound(method, model, threat, x0, rows)
    assert torch.allclose(bound, exact, atol=1e-9)


def exact_minimum(model: Graph, row: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """The least row value of a network with one hidden ReLU layer: a linear program for every pattern of phases."""
    w0, b0, w1, b1 = (model.constant(name).numpy() for name in ("w0", "b0", "w1", "b1"))
    best = np.inf
    for phases in itertools.product((0.0, 1.0), repeat=len(w0)):
        on = np.array(phases)
        sign = np.where(on > 0, -1.0, 1.0)
        cost = (row @ w1 * on) @ w0
        found = linprog(cost, sign[:, None] * w0, -sign * b0, bounds=list(zip(low, high, strict=True)))
        if found.status == 0:
            best = min(best, found.fun + (row @ w1 * on) @ b0 + row @ b1)
    return best


@pytest.mark.parametrize("seed", range(3))
def test_bounds_do_not_pass_the_exact_minimum(seed):
    model, x0 = dense([2, 6, 3], seed=seed), random(1, 2, seed=seed)
    rows, threat = labels(1), Linf(0.5, WIDE)
    low, high = (edge[0].numpy() for edge in threat.box(x0))
    exact = torch.tensor([exact_minimum(model, row.numpy(), low, high) for row in rows.weight[0]])
    bounds = {method: lower_bound(method, model, threat, x0, rows)[0] for method in METHODS}
    for bound in bounds.values():
        assert bool((bound <= exact + 1e-9).all())
    assert bool((bounds["ibp"] <= bounds["crown"] + 1e-12).all())
    assert float((exact - bounds["crown"]).min()) < 0.5 * float((exact - bounds["ibp"]).max())


@pytest.mark.parametrize("method", METHODS)
def test_zero_radius_gives_the_value(method):
    model, x0, rows = convolutional(), random(3, 1, 20, 20), labels(3)
    threat = Box(lower=x0, upper=x0)
    assert torch.allclose(lower_bound(method, model, threat, x0, rows), rows.value(model(x0)), atol=1e-9)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    radius=st.sampled_from([0.01, 0.1, 0.5, 2.0]),
    activation=st.sampled_from(["relu", "sigmoid", "tanh", "abs", "softplus"]),
    threat=st.sampled_from([Linf, L2, L1]),
)
def test_random_networks_hold_sampled_margins(seed, radius, activation, threat):
    model, x0 = dense([3, 8, 8, 3], activation, seed), random(2, 3, seed=seed)
    at, rows = threat(radius, WIDE), labels(2)
    bounds = {method: lower_bound(method, model, at, x0, rows) for method in METHODS}
    seen = torch.einsum("bro,kbo->kbr", rows.weight, model(points(at, x0, 100, seed)).reshape(100, 2, 3)).amin(0)
    for method, bound in bounds.items():
        assert bool((bound <= seen + slack(seen)).all()), method
    assert bool((bounds["ibp"] <= bounds["crown"] + slack(seen)).all())


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_is_its_samples(method):
    model, x0, rows, threat = convolutional(), random(4, 1, 20, 20) / 3, labels(4), Linf(0.03, WIDE)
    together = lower_bound(method, model, threat, x0, rows)
    alone = torch.cat([lower_bound(method, model, threat, x0[i : i + 1], rows[torch.tensor([i])]) for i in range(4)])
    assert torch.allclose(together, alone, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("threat", [Linf(0.03, WIDE), L2(0.2, WIDE)], ids=str)
def test_memory_does_not_change_the_bounds(method, threat):
    model, x0, rows = convolutional(), random(3, 1, 20, 20) / 3, labels(3)
    large, small = (lower_bound(method, model, threat, x0, rows, memory_mb=mb) for mb in (1024, 0.05))
    assert torch.allclose(large, small, atol=1e-9)


SPARSE = [L0(2, (-2.0, 2.0)), Patch(1.0, (-2.0, 2.0), window=(3, 2)), Patch(1.0, (-2.0, 2.0), window=(12, 1))]


@pytest.mark.parametrize("threat", [Linf(0.05, WIDE), L2(0.3, WIDE), L1(0.5, WIDE), *SPARSE], ids=str)
def test_windows_agree_with_whole_rows(threat, monkeypatch):
    model, x0, rows = convolutional(channels=2), random(3, 2, 20, 20) / 3, labels(3)
    by_windows = prepare("crown", model, threat, x0)
    assert windows.chain(model, "c1", by_windows.relaxation.shapes)  # type: ignore[union-attr]
    monkeypatch.setattr(windows, "chain", lambda *args: None)
    whole = prepare("crown", model, threat, x0)
    for name in ("c0", "c1", "z"):
        for mine, other in zip(by_windows.boxes[name], whole.boxes[name], strict=True):
            assert torch.allclose(mine, other, atol=1e-9)
    assert torch.allclose(by_windows.lower(rows), whole.lower(rows), atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("threat", SPARSE, ids=str)
def test_bounds_over_few_pixels_and_patches_hold_at_their_points(method, threat):
    model, x0, rows = convolutional(channels=2), random(3, 2, 20, 20) / 3, labels(3)
    bound = lower_bound(method, model, threat, x0, rows)
    seen = torch.einsum("bro,kbo->kbr", rows.weight, model(points(threat, x0, 200)).reshape(200, 3, 3)).amin(0)
    assert bool((bound <= seen + slack(seen)).all())
    assert bool((lower_bound(method, model, threat.at(0.0), x0, rows) >= bound - slack(seen)).all())


def residual() -> Graph:
    """A block with a skip connection around a normalised convolution."""
    step = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    constants = {"w0": random(2, 2, 3, 3) / 3, "scale": random(2, 1, 1, seed=1), "w1": random(3, 50, seed=2) / 7}
    nodes = [
        Node("c", "conv", ("x", "w0"), step),
        Node("n", "mul", ("c", "scale")),
        Node("r", "relu", ("n",)),
        Node("a", "add", ("x", "r")),
        Node("b", "sub", ("a", "r")),
        Node("s", "relu", ("b",)),
        Node("m", "max", ("s", "a")),
        Node("f", "reshape", ("m",), {"shape": (50,)}),
        Node("y", "linear", ("f", "w1")),
    ]
    return graph(nodes, constants, (2, 5, 5))


def attention() -> Graph:
    """One head over four tokens of width six, with the skip connection, gelu and a mean over tokens."""
    constants = {name: random(6, 6, seed=i) / 2 for i, name in enumerate(("q", "k", "v", "o"))}
    nodes = [
        *(Node(f"{name}x", "linear", ("x", name)) for name in ("q", "k", "v")),
        Node("kt", "transpose", ("kx",), {"perm": (0, 2, 1)}),
        Node("s", "matmul", ("qx", "kt")),
        Node("p", "softmax", ("s",), {"dim": 2}),
        Node("h", "matmul", ("p", "vx")),
        Node("g", "add", ("h", "x")),
        Node("e", "gelu", ("g",)),
        Node("m", "mean", ("e",), {"dims": (1,), "keepdim": False}),
        Node("y", "linear", ("m", "out")),
    ]
    return graph(nodes, {**constants, "out": random(3, 6, seed=8)}, (4, 6))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model", [residual(), attention()], ids=["residual", "attention"])
def test_blocks_hold_sampled_margins(model, method):
    x0, rows, threat = random(2, *model.input_shape, seed=5), labels(2), Linf(0.05, WIDE)
    bound = lower_bound(method, model, threat, x0, rows)
    seen = torch.einsum("bro,kbo->kbr", rows.weight, model(points(threat, x0, 100)).reshape(100, 2, 3)).amin(0)
    assert bool((bound <= seen + slack(seen)).all())
    assert bool(bound.isfinite().all())


def test_interval_bounds_have_gradients():
    model, x0 = convolutional(), random(2, 1, 20, 20) / 3
    radius = torch.tensor(0.02, dtype=torch.float64, requires_grad=True)
    low, high = interval(model, x0 - radius, x0 + radius)["y"]
    (slope,) = torch.autograd.grad((high - low).sum(), radius)
    assert float(slope) > 0


def test_the_same_value_twice_cancels_in_linear_bounds_and_zonotopes():
    """relu(x) - relu(x) is 0; boxes do not know."""
    nodes = [Node("r", "relu", ("x",)), Node("y", "sub", ("r", "r"))]
    model = Graph(nodes, {}, input="x", output="y", input_shape=(1,), output_shape=(1,))
    x0, threat = torch.zeros(1, 1), Linf(1.0, WIDE)
    rows = Rows(torch.ones(1, 1, 1), torch.zeros(1, 1), torch.zeros(1, dtype=torch.long))
    found = {method: float(lower_bound(method, model, threat, x0, rows)) for method in METHODS}
    assert found["zonotope"] == pytest.approx(0.0, abs=1e-6)
    assert found["crown"] == pytest.approx(0.0, abs=1e-6)
    low, high = interval(model, *threat.box(x0))["y"]
    assert [float(low), float(high)] == pytest.approx([-1.0, 1.0], abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_an_overflow_proves_nothing(method):
    """exp overflows, the difference of two infinities is unknown, and a factor of 0 must not make a number of it."""
    nodes = [
        Node("e", "exp", ("x",)),
        Node("n", "mul", ("x", "two")),
        Node("f", "exp", ("n",)),
        Node("d", "sub", ("e", "f")),
        Node("g", "mul", ("d", "x")),
        Node("m", "max", ("d", "g")),
        Node("y", "abs", ("m",)),
    ]
    two = torch.tensor([2.0])
    model = Graph(nodes, {"two": two}, input="x", output="y", input_shape=(1,), output_shape=(1,))
    x0, threat = torch.full((1, 1), 1e5), Linf(10.0, (-1e6, 1e6))
    rows = Rows(-torch.ones(1, 1, 1), torch.ones(1, 1), torch.zeros(1, dtype=torch.long))
    found = prepare(method, model, threat, x0)
    assert float(found.boxes["d"][0]) == -torch.inf
    assert float(found.boxes["g"][1]) == torch.inf
    assert float(found.lower(rows)) == -torch.inf


def test_the_grade_is_the_arithmetic_of_the_weights():
    assert grade(dense([2, 2], dtype=torch.float32)) is Grade.FLOAT32
    assert grade(dense([2, 2], dtype=torch.float64)) is Grade.FLOAT64


def test_certified_shares_of_a_trained_network(shared):
    """`mnist-cnn-small-cert` is known to be verified by intervals on .944 of the first 1,000 images at linf 0.1."""
    from withstand.graph.onnx_reader import read_onnx

    model = read_onnx(shared / "models" / "mnist-cnn-small-cert.onnx").graph
    assert model is not None
    data = np.load(shared / "data" / "mnist.npz")
    x = torch.tensor(data["x_test"][:1000]).reshape(1000, 1, 28, 28).float() / 255
    y = torch.tensor(data["y_test"][:1000]).long()
    rows = Argmax().rows(y, 10)
    for radius, share in ((0.1, 0.944), (0.2, 0.924), (0.3, 0.883)):
        bound = lower_bound("ibp", model, Linf(radius), x, rows)
        assert float((rows.combine(bound) > 0).float().mean()) == pytest.approx(share, abs=0.0015)


@pytest.mark.parametrize("method", METHODS)
def test_no_samples_have_no_bounds(method):
    net = dense([3, 4, 2])
    rows = Argmax().rows(torch.zeros(0, dtype=torch.long), 2)
    assert lower_bound(method, net, Linf(0.1), torch.zeros(0, 3), rows).shape == (0, 1)
