"""Every operator on values of every rank per sample that it takes, 0 to 4, with axes of size 1 among them: all methods
hold what sampling finds, for inputs and outputs of that rank too."""

from typing import Any

import pytest
import torch
from nets import graph, points, slack

from withstand.bounds import prepare
from withstand.bounds.rule import Elementwise, rules
from withstand.core.balls import L1, L2, Linf
from withstand.core.box import Box
from withstand.core.property import Rows
from withstand.graph.ir import Graph, Node

METHODS = ("ibp", "crown", "crown-ibp", "forward", "zonotope")
SHAPES = {0: [()], 1: [(1,), (3,)], 2: [(1, 1), (2, 3)], 3: [(1, 1, 1), (2, 1, 3)], 4: [(1, 1, 1, 1), (1, 2, 2, 1)]}
ATTRS: dict[str, dict[str, Any]] = {
    "leaky_relu": {"slope": 0.1},
    "elu": {"alpha": 1.0},
    "clip": {"low": -0.1, "high": 0.4},
    "pow": {"exponent": 2.0},
}
POSITIVE = {"log", "sqrt", "reciprocal"}
PAIRS = ("add", "sub", "mul", "max", "min", "div")


def one_input(op: str, shape: tuple[int, ...]) -> Graph:
    """The function of x through tanh, made positive where it has to be."""
    nodes, constants = [Node("t", "tanh", ("x",))], {"two": torch.tensor(2.0).double()}
    if op in POSITIVE:
        nodes.append(Node("p", "add", ("t", "two")))
    return graph([*nodes, Node("f", op, (nodes[-1].name,), ATTRS.get(op, {}))], constants, shape)


def two_inputs(op: str, shape: tuple[int, ...]) -> Graph:
    """The map of x through tanh and of x through exp."""
    return graph([Node("t", "tanh", ("x",)), Node("e", "exp", ("x",)), Node("f", op, ("t", "e"))], {}, shape)


def with_constant(op: str, shape: tuple[int, ...], constant: tuple[int, ...]) -> Graph:
    """The map of x through tanh and of a constant."""
    values = torch.linspace(0.5, 1.5, max(1, torch.Size(constant).numel())).reshape(constant).double()
    return graph([Node("t", "tanh", ("x",)), Node("f", op, ("t", "c"))], {"c": values}, shape)


def moved(shape: tuple[int, ...]) -> dict[str, Graph]:
    """Operators that work on axes, where the rank has them, between tanh and abs."""
    rank, last = len(shape), len(shape)
    steps: dict[str, tuple[str, dict[str, Any]]] = {
        "reshape": ("reshape", {"shape": (1, torch.Size(shape).numel(), 1)}),
        "expand": ("expand", {"shape": (2, *shape)}),
    }
    if rank:
        every = tuple(range(1, rank + 1))
        steps |= {
            "sum": ("sum", {"dims": every, "keepdim": False}),
            "mean": ("mean", {"dims": (last,), "keepdim": True}),
            "transpose": ("transpose", {"perm": (0, *reversed(every))}),
            "slice": ("slice", {"dim": last, "start": 0, "stop": 1}),
            "softmax": ("softmax", {"dim": last}),
            "log_softmax": ("log_softmax", {"dim": 1}),
            "pad": ("pad", {"pads": (1, 0), "value": 0.5}),
        }
    made = {}
    for name, (op, attrs) in steps.items():
        nodes = [Node("t", "tanh", ("x",)), Node("m", op, ("t",), attrs), Node("f", "abs", ("m",))]
        made[name] = graph(nodes, {}, shape)
    nodes = [Node("t", "tanh", ("x",)), Node("w", "where", ("mask", "t", "c")), Node("f", "abs", ("w",))]
    constants = {"mask": torch.zeros(1, *shape).bool(), "c": torch.ones(1, *shape).double()}
    made["where"] = graph(nodes, constants, shape)
    if rank:
        constants = {"i": torch.tensor(0), "w": torch.ones(2, shape[-1]).double(), "v": torch.ones(shape[-1]).double()}
        picked = Node("m", "gather", ("t", "i"), {"dim": last})
        made["gather"] = graph([nodes[0], picked, Node("f", "abs", ("m",))], constants, shape)
        mapped = Node("m", "linear", ("t", "w"))
        made["linear"] = graph([nodes[0], mapped, Node("f", "abs", ("m",))], constants, shape)
        joined = Node("m", "concat", ("t", "x"), {"dim": 1})
        made["concat"] = graph([nodes[0], joined, Node("f", "abs", ("m",))], {}, shape)
    return made


def networks(rank: int) -> dict[str, Graph]:
    made = {}
    for shape in SHAPES[rank]:
        ops = [op for op, rule in rules().items() if isinstance(rule, Elementwise)]
        made |= {f"{op}{shape}": one_input(op, shape) for op in [*ops, "neg"]}
        made |= {f"{op}{shape}:two": two_inputs(op, shape) for op in PAIRS}
        for constant in {(), shape}:
            made |= {f"{op}{shape}:{constant}": with_constant(op, shape, constant) for op in PAIRS}
        made |= {f"{name}{shape}": found for name, found in moved(shape).items()}
    return made


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rank", SHAPES)
def test_bounds_hold_sampled_values_of_every_rank(rank, method):
    for number, (name, model) in enumerate(networks(rank).items()):
        model = model.double()
        shape = model.input_shape
        x0 = torch.randn(2, *shape, generator=torch.Generator().manual_seed(number)).double()
        edge = x0[0].abs() / 3
        threats = (Linf(0.3, (-9.0, 9.0)), L2(0.4, (-1.0, 1.0)), L1(0.4, (-9.0, 9.0)), Box(lower=-edge, upper=edge))
        threat = threats[number % 4]
        x0 = x0.clamp(-1, 1)
        outputs = torch.Size(model.output_shape).numel()
        weight = torch.stack([torch.ones(outputs), -torch.ones(outputs)]).double().expand(2, -1, -1)
        rows = Rows(weight, torch.zeros(2, 2).double(), torch.arange(2))
        found = prepare(method, model, threat, x0)
        values = model.trace(points(threat, x0, 30))
        for inner, (low, high) in found.boxes.items():
            seen = values[inner].reshape(30, 2, *low.shape[1:])
            assert bool((seen >= low - slack(seen)).all()), (name, inner)
            assert bool((seen <= high + slack(seen)).all()), (name, inner)
        told = values[model.output].reshape(30, 2, -1).sum(2)
        bound = found.lower(rows)
        assert bool((told >= bound[:, 0] - slack(told)).all()), name
        assert bool((-told >= bound[:, 1] - slack(told)).all()), name
