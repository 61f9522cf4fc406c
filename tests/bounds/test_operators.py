"""Every operator of the graph in a small network: all methods hold every sampled value, for every threat."""

from math import prod
from typing import Any

import pytest
import torch
from nets import graph, points, slack

from withstand.bounds import lower_bound, prepare, unboundable
from withstand.bounds.rule import Elementwise, rules
from withstand.core.balls import L1, L2, Linf
from withstand.core.box import Box
from withstand.core.errors import InputError
from withstand.core.property import Rows
from withstand.graph.ir import Graph, Node
from withstand.graph.ops import OPS

METHODS = ("ibp", "crown", "crown-ibp", "forward", "zonotope")
POOL: dict[str, Any] = {"kernel": (3, 2), "stride": (2, 2), "padding": (1, 0)}


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def chain(op: str, *constants: torch.Tensor, size=(2, 6, 5), first: bool = False, **attrs) -> Graph:
    """tanh(3x), the operator (its constants behind the value, or in front of it), tanh, and a dense head."""
    names = tuple(f"c{i}" for i in range(len(constants)))
    inputs = (*names, "t") if first else ("t", *names)
    nodes = [Node("s", "mul", ("x", "three")), Node("t", "tanh", ("s",)), Node("f", op, inputs, attrs)]
    return headed(nodes, {"three": torch.tensor(3.0, dtype=torch.float64), **dict(zip(names, constants))}, size)


def headed(nodes: list[Node], constants: dict[str, torch.Tensor], shape: tuple[int, ...]) -> Graph:
    """The last node's value through tanh and a dense layer of three outputs."""
    body = graph(nodes, constants, shape)
    size = prod(body.output_shape)
    tail = [
        Node("u", "tanh", (nodes[-1].name,)),
        Node("v", "reshape", ("u",), {"shape": (size,)}),
        Node("y", "linear", ("v", "head")),
    ]
    return graph([*nodes, *tail], {**constants, "head": normal(3, size, seed=9) / size**0.5}, shape)


def two(op: str, **attrs) -> Graph:
    """The operator on two activations of the same input: one through tanh, one a dense map."""
    nodes = [
        Node("a", "tanh", ("x",)),
        Node("b", "linear", ("x", "w")),
        Node("f", op, ("a", "b"), attrs),
    ]
    return headed(nodes, {"w": normal(5, 5)}, (2, 6, 5))


def quotient() -> Graph:
    nodes = [
        Node("a", "tanh", ("x",)),
        Node("e", "exp", ("x",)),
        Node("b", "linear", ("e", "w")),
        Node("f", "div", ("a", "b")),
    ]
    return headed(nodes, {"w": normal(5, 5).abs() + 0.5}, (2, 6, 5))


def product() -> Graph:
    nodes = [
        Node("a", "tanh", ("x",)),
        Node("b", "linear", ("x", "w")),
        Node("bt", "transpose", ("b",), {"perm": (0, 1, 3, 2)}),
        Node("f", "matmul", ("a", "bt")),
    ]
    return headed(nodes, {"w": normal(5, 5)}, (2, 6, 5))


def convolution(op: str, weight: torch.Tensor, **attrs) -> Graph:
    return chain(op, weight, normal(4), **attrs)


conv: dict[str, Any] = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}
MASK = torch.arange(60).reshape(1, 2, 6, 5) % 3 == 0

GRAPHS: dict[str, Graph] = {
    "linear": chain("linear", normal(4, 5), normal(4)),
    "conv": convolution("conv", normal(4, 2, 3, 2), **conv),
    "conv:rest": chain("conv", normal(4, 2, 3, 2), normal(4), stride=(4, 3), padding=(0, 0), dilation=(1, 1)),
    "conv:groups": chain("conv", normal(4, 1, 3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=2),
    "conv:1d": chain("conv", normal(4, 2, 3), size=(2, 7), stride=(2,), padding=(1,), dilation=(1,)),
    "conv:3d": chain(
        "conv", normal(2, 1, 2, 2, 2), size=(1, 3, 3, 3), stride=(1,) * 3, padding=(0,) * 3, dilation=(1,) * 3
    ),
    "conv_transpose": convolution("conv_transpose", normal(2, 4, 3, 2), output_padding=(1, 0), **conv),
    "conv_transpose:wide": convolution(
        "conv_transpose", normal(2, 4, 2, 2), stride=(1, 1), padding=(0, 0), output_padding=(1, 1), dilation=(2, 2)
    ),
    "add": two("add"),
    "add:constant": chain("add", normal(2, 1, 5)),
    "add:spread": chain("add", normal(1, 4, 6, 5), size=(1, 6, 5)),
    "sub": two("sub"),
    "sub:constant": chain("sub", normal(5), first=True),
    "mul": two("mul"),
    "mul:constant": chain("mul", normal(6, 1)),
    "div": quotient(),
    "div:constant": chain("div", normal(5) + 3),
    "div:by": headed([Node("e", "exp", ("x",)), Node("f", "div", ("c", "e"))], {"c": normal(5)}, (2, 6, 5)),
    "matmul": product(),
    "matmul:right": chain("matmul", normal(5, 4)),
    "matmul:left": chain("matmul", normal(3, 6), first=True),
    "matmul:vector": chain("matmul", normal(5)),
    "max": two("max"),
    "max:constant": chain("max", normal(5)),
    "min": two("min"),
    "where": chain("where", MASK, normal(1, 2, 6, 5), first=True),
    "neg": chain("neg"),
    "max_pool": chain("max_pool", dilation=(1, 2), **POOL),
    "max_pool:ceil": chain("max_pool", dilation=(1, 1), ceil_mode=True, **POOL),
    "max_pool:1d": chain("max_pool", size=(2, 7), kernel=(3,), stride=(2,), padding=(1,), dilation=(1,)),
    "avg_pool": chain("avg_pool", **POOL),
    "avg_pool:inside": chain("avg_pool", ceil_mode=True, count_include_pad=False, **POOL),
    "mean": chain("mean", dims=(2, 3), keepdim=False),
    "sum": chain("sum", dims=(1, 3), keepdim=True),
    "softmax": chain("softmax", dim=2),
    "softmax:one": chain("softmax", size=(1, 4), dim=1),
    "log_softmax": chain("log_softmax", dim=1),
    "log_softmax:one": chain("log_softmax", size=(1, 4), dim=1),
    "reshape": chain("reshape", shape=(4, 15)),
    "transpose": chain("transpose", perm=(0, 3, 1, 2)),
    "concat": two("concat", dim=2),
    "concat:constant": chain("concat", normal(1, 3, 6, 5), dim=1),
    "slice": chain("slice", dim=2, start=1, stop=6, step=2),
    "gather": chain("gather", torch.tensor([[0, 3], [3, 1]]), dim=3),
    "pad": chain("pad", pads=(1, 0, 2, 1), value=0.5),
    "pad:reflect": chain("pad", pads=(1, 2, 0, 1), mode="reflect"),
    "expand": chain("expand", shape=(4, 2, 6, 5)),
    "leaky_relu": chain("leaky_relu", slope=0.2),
    "elu": chain("elu", alpha=1.0),
    "clip": chain("clip", low=-0.5, high=0.5),
    "pow": chain("pow", exponent=2.0),
}
for op, rule in rules().items():
    if isinstance(rule, Elementwise) and op not in GRAPHS:
        GRAPHS[op] = chain(op)


def rows_of(model: Graph, count: int, dtype: torch.dtype) -> Rows:
    weight = torch.cat([torch.eye(3), -torch.eye(3), torch.tensor([[1.0, -1.0, 0.0]])]).to(dtype)
    weight = weight.expand(count, -1, -1)
    return Rows(weight, torch.zeros(weight.shape[:2], dtype=dtype), torch.arange(weight.shape[1]))


def test_every_operator_has_a_rule_and_a_network_here():
    assert set(rules()) == set(OPS)
    assert {name.partition(":")[0] for name in GRAPHS} == set(OPS)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", GRAPHS)
def test_bounds_hold_sampled_values(name, method):
    wide = (-100.0, 100.0)
    edges = Box(lower=torch.full((), 0.1), upper=torch.full((), 0.4))
    for dtype, threat in (
        (torch.float64, L2(0.5, wide)),
        (torch.float64, edges),
        (torch.float32, Linf(0.15, wide)),
        (torch.float32, L1(0.5, wide)),
        (torch.float32, Linf(0.0, wide)),
    ):
        model = GRAPHS[name].to(dtype)
        x0 = normal(2, *model.input_shape, seed=3).to(dtype).abs() / 2 + 0.6
        found = prepare(method, model, threat, x0)
        values = model.trace(points(threat, x0, 40))
        for inner, (low, high) in found.boxes.items():
            if inner != model.input:
                seen = values[inner].reshape(40, 2, *low.shape[1:])
                assert bool((seen >= low - slack(seen)).all()), f"{inner} below its bound, {threat} {dtype}"
                assert bool((seen <= high + slack(seen)).all()), f"{inner} above its bound, {threat} {dtype}"
        rows = rows_of(model, 2, dtype)
        told = torch.einsum("bro,kbo->kbr", rows.weight, values["y"].reshape(40, 2, 3))
        assert bool((told >= found.lower(rows) - slack(told)).all()), f"a row below its bound, {threat} {dtype}"


@pytest.mark.parametrize("name", GRAPHS)
def test_linear_bounds_are_no_looser_than_intervals(name):
    model = GRAPHS[name].double()
    x0 = normal(2, *model.input_shape, seed=3) / 2 + 0.4
    rows = rows_of(model, 2, torch.float64)
    loose, tight = (lower_bound(m, model, Linf(0.1, (-9.0, 9.0)), x0, rows) for m in ("ibp", "crown"))
    assert bool((tight >= loose - slack(loose)).all())


def test_an_operator_without_a_rule_is_named(monkeypatch):
    monkeypatch.setitem(OPS, "unheard", OPS["neg"])
    model = GRAPHS["neg"]
    odd = Graph([Node("n7", "unheard", ("x",))], {}, input="x", output="n7", input_shape=(3,), output_shape=(3,))
    assert unboundable(model) == []
    (sentence,) = unboundable(odd)
    assert "'unheard'" in sentence
    assert "'n7'" in sentence
    with pytest.raises(InputError, match="has no bound rule"):
        lower_bound("crown", odd, Linf(0.1), torch.zeros(1, 3), rows_of(odd, 1, torch.float32))


def test_weights_that_are_not_constant_are_named():
    nodes = [Node("w", "linear", ("x", "c")), Node("z", "linear", ("x", "w"))]
    odd = Graph(nodes, {"c": normal(3, 3)}, input="x", output="z", input_shape=(3,), output_shape=(3,))
    (sentence,) = unboundable(odd)
    assert "'z'" in sentence


def test_an_unknown_method_is_answered_with_the_near_one():
    with pytest.raises(InputError, match="crown"):
        prepare("crow", GRAPHS["neg"], Linf(0.1), torch.zeros(1, 2, 6, 5))  # type: ignore[arg-type]
