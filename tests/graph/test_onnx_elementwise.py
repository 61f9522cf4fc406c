"""Element-wise ONNX operators against onnxruntime."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx_case import agrees, network, node, ops

UNARY = "Neg Relu Sigmoid Tanh Softplus Exp Abs Sign Sin Cos Erf Floor Round Ceil Softsign HardSwish Mish Selu Identity"
POSITIVE = ["Log", "Sqrt", "Reciprocal"]
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3)


@pytest.mark.parametrize("op", UNARY.split() + POSITIVE)
def test_operators_of_one_value(op):
    agrees(network([node(op)], [None, 3, 4], opset=18), low=0.1 if op in POSITIVE else -3.0, high=3.0)


SLOPES = [(op, a) for op in ("LeakyRelu", "Elu", "Celu", "HardSigmoid", "PRelu") for a in (0.05, 0.5, 1.5)]
FALLING = [("LeakyRelu", -0.5), ("Elu", -0.5), ("PRelu", -0.5)]


@pytest.mark.parametrize(("op", "alpha"), SLOPES + FALLING)
def test_operators_with_a_slope(op, alpha):
    if op == "PRelu":
        data = network([node("PRelu", "x s")], [None, 3, 4], {"s": np.full((3, 1), alpha, np.float32)})
    else:
        data = network([node(op, alpha=alpha)], [None, 3, 4])
    agrees(data)


def test_gelu_in_both_forms():
    for form in ("none", "tanh"):
        agrees(network([node("Gelu", approximate=form)], [None, 4], opset=20))


@settings(max_examples=25, deadline=None)
@given(
    op=st.sampled_from(["Add", "Sub", "Mul", "Div", "Max", "Min"]),
    shape=SHAPES,
    dropped=st.integers(0, 4),
    ones=st.lists(st.booleans(), min_size=4, max_size=4),
    constant_first=st.booleans(),
)
@example(op="Mul", shape=[1], dropped=0, ones=[False] * 4, constant_first=False)
def test_operators_of_a_value_and_a_broadcast_constant(op, shape, dropped, ones, constant_first):
    full = [1, *shape]
    sizes = [1 if one else size for size, one in zip(full, ones)][min(dropped, len(full)) :]
    constant = np.random.default_rng(0).uniform(0.5, 2.0, sizes).astype(np.float32)
    names = "k x" if constant_first else "x k"
    agrees(network([node(op, names)], [None, *shape], {"k": constant}), low=0.5)


def test_a_constant_of_higher_rank_than_the_value():
    constant = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 10
    agrees(network([node("Add", "x k")], [1, 4], {"k": constant}))


@pytest.mark.parametrize("op", ["Sum", "Max", "Min", "Mean"])
def test_operators_of_many_values(op):
    nodes = [node("Relu", "x", "a"), node("Neg", "x", "b"), node(op, "a b x k")]
    agrees(network(nodes, [None, 4], {"k": np.array([0.3], np.float32)}))


@pytest.mark.parametrize("opset", [9, 11, 13])
@pytest.mark.parametrize(("low", "high"), [(-0.5, 0.5), (0.0, None), (None, 0.25), (0.0, 6.0)])
def test_clip_takes_limits_as_attributes_and_as_inputs(opset, low, high):
    if opset < 11:
        limits = {name: value for name, value in (("min", low), ("max", high)) if value is not None}
        data = network([node("Clip", **limits)], [None, 4], opset=opset)
    else:
        constants = {n: np.float32(v) for n, v in (("low", low), ("high", high)) if v is not None}
        names = f"x {'low' if low is not None else '-'} {'high' if high is not None else '-'}"
        data = network([node("Clip", names)], [None, 4], constants, opset=opset)
    agrees(data)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 3.0, -1.0])
def test_powers(exponent):
    agrees(network([node("Pow", "x p")], [None, 4], {"p": np.float32(exponent)}), low=0.2)


def test_constant_base_to_a_value():
    agrees(network([node("Pow", "k x")], [None, 4], {"k": np.float32(2.5)}))


def test_where_with_a_constant_condition():
    mask = np.array([[True], [False], [True]])
    nodes = [node("Neg", "x", "a"), node("Where", "m x a")]
    agrees(network(nodes, [None, 3, 4], {"m": mask}))


def test_quotient_of_two_values():
    agrees(network([node("Exp", "x", "a"), node("Div", "x a")], [None, 4]))


def test_dropout_and_casts_disappear():
    nodes = [node("Dropout", "x", "a"), node("Cast", "a", "b", to=1), node("Relu", "b")]
    model = agrees(network(nodes, [None, 4]))
    assert ops(model) == ["relu"]
