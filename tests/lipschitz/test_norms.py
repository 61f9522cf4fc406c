"""Norms of layers: known answers, dense matrices, and the power method from below."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from withstand.graph.ir import Graph, Node
from withstand.lipschitz.convolution import symbol_norm
from withstand.lipschitz.layout import layout
from withstand.lipschitz.norms import _stepwise, upper
from withstand.lipschitz.power import power
from withstand.lipschitz.spectral import matrix_norm, spectral

PLAIN = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}


def one_node(op, constants, shape, **attrs):
    """A graph of one node, and its only map."""
    names = [f"w{i}" for i in range(len(constants))]
    node = Node("z", op, ("x", *names), attrs)
    held = dict(zip(names, constants, strict=True))
    out = Graph([node], held, input="x", output="z", input_shape=shape, output_shape=())
    out.output_shape = tuple(out(torch.zeros(1, *shape, dtype=out.dtype)).shape[1:])
    ((map,),) = layout(out).maps[""]
    return out, map


def test_a_convolution_by_the_identity_has_norm_1():
    weight = torch.eye(3).reshape(3, 3, 1, 1)
    graph, map = one_node("conv", [weight], (3, 5, 5), **PLAIN)
    assert upper(map, 2) == pytest.approx(1, abs=1e-9)
    assert symbol_norm(graph.nodes[0], weight, map.shapes) == pytest.approx(1, abs=1e-9)
    assert upper(map, 1) == pytest.approx(1)
    assert upper(map, math.inf) == pytest.approx(1)


def test_circular_averaging_has_norm_1_and_with_zero_padding_less():
    weight = torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64)

    def circular(x):
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="circular"), weight)

    start = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(power(circular, start)) == pytest.approx(1, abs=1e-9)
    graph, map = one_node("conv", [weight], (1, 6, 6), **{**PLAIN, "padding": (1, 1)})
    assert symbol_norm(graph.nodes[0], weight, map.shapes) == pytest.approx(1, abs=1e-9)
    assert 0.7 < upper(map, 2) < 0.95


def test_average_pooling_by_two_has_norm_one_half():
    pool = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}
    _, map = one_node("avg_pool", [], (2, 8, 8), **pool)
    assert upper(map, 2) == pytest.approx(0.5, abs=1e-9)
    assert _stepwise(map, 2) == pytest.approx(0.5, abs=1e-9)
    assert upper(map, math.inf) == pytest.approx(1)
    assert upper(map, 1) == pytest.approx(0.25)


SHAPES = {
    "plain": {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1},
    "strided": {"stride": (2, 2), "padding": (1, 1), "dilation": (1, 1), "groups": 1},
    "uneven": {"stride": (3, 1), "padding": (2, 0), "dilation": (1, 2), "groups": 1},
    "dilated with stride": {"stride": (2, 3), "padding": (1, 2), "dilation": (3, 2), "groups": 1},
    "grouped": {"stride": (2, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 2},
}


@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize("op", ["conv", "conv_transpose"])
def test_the_bound_of_a_convolution_is_above_its_matrix_and_near_it_on_large_images(op, kind):
    attrs, made = SHAPES[kind], torch.Generator().manual_seed(1)
    shape = (4, 4 // attrs["groups"], 3, 3)
    extra = {"output_padding": (0, 0)} if op == "conv_transpose" else {}
    ratios = []
    for size in (6, 12):
        weight = torch.randn(*shape, generator=made, dtype=torch.float64)
        graph, map = one_node(op, [weight], (4, size, size), **attrs, **extra)
        exact = float(torch.linalg.matrix_norm(map.matrix(), 2))
        start = torch.randn(2, 4, size, size, generator=made, dtype=torch.float64)
        assert float(power(graph, start)) == pytest.approx(exact, rel=1e-2)
        assert float(power(graph, start)) <= exact * (1 + 1e-12)
        assert exact <= upper(map, 2) <= exact * (1 + 1e-8)
        bound = symbol_norm(graph.nodes[0], weight, map.shapes)
        assert _stepwise(map, 2) <= bound
        ratios.append(bound / exact)
        assert ratios[-1] >= 1
    assert ratios[1] < 1.15


@pytest.mark.parametrize("axes", [1, 3])
def test_the_bound_of_a_convolution_in_one_and_three_dimensions(axes):
    made = torch.Generator().manual_seed(2)
    attrs = {"stride": (2,) * axes, "padding": (1,) * axes, "dilation": (1,) * axes}
    weight = torch.randn(3, 2, *(3,) * axes, generator=made, dtype=torch.float64)
    graph, map = one_node("conv", [weight], (2, *(6,) * axes), **attrs)
    exact = float(torch.linalg.matrix_norm(map.matrix(), 2))
    assert exact <= symbol_norm(graph.nodes[0], weight, map.shapes) <= 1.5 * exact


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 7), columns=st.integers(1, 7), rank=st.integers(0, 7))
def test_spectral_norms_are_never_below_and_hardly_above(seed, rows, columns, rank):
    made = torch.Generator().manual_seed(seed)
    left = torch.randn(3, rows, rank, generator=made, dtype=torch.float64)
    matrix = left @ torch.randn(3, rank, columns, generator=made, dtype=torch.float64)
    exact = torch.linalg.matrix_norm(matrix, 2)
    assert (spectral(matrix) >= exact * (1 - 1e-15)).all()
    assert (spectral(matrix) <= exact * (1 + 1e-11) + 1e-150).all()
    for p in (1, math.inf):
        exact = torch.linalg.matrix_norm(matrix[0], p)
        assert exact <= matrix_norm(matrix[0], p) <= exact * (1 + 1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), p=st.sampled_from([1, 2, math.inf]))
def test_norms_step_by_step_are_above_those_of_the_whole_map(seed, p):
    made = torch.Generator().manual_seed(seed)
    constants = {
        "w": torch.randn(3, 2, 3, 3, generator=made, dtype=torch.float64),
        "c": torch.randn(3, 1, 1, generator=made, dtype=torch.float64),
        "v": torch.randn(5, 12, generator=made, dtype=torch.float64),
    }
    nodes = [
        Node("a", "conv", ("x", "w"), {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}),
        Node("b", "avg_pool", ("a",), {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1)}),
        Node("d", "mul", ("b", "c")),
        Node("e", "reshape", ("d",), {"shape": (12,)}),
        Node("f", "linear", ("e", "v")),
    ]
    graph = Graph(nodes, constants, input="x", output="f", input_shape=(2, 4, 4), output_shape=(5,))
    ((map,),) = layout(graph).maps[""]
    delta = torch.randn(1, 2, 4, 4, generator=made, dtype=torch.float64)
    change = graph(delta) - graph(torch.zeros_like(delta))
    assert map(delta) == pytest.approx(change)
    matrix = map.matrix()
    assert matrix @ delta.flatten() == pytest.approx(change.flatten())
    assert map.transpose(change).flatten() == pytest.approx(matrix.T @ change.flatten())
    exact = float(torch.linalg.matrix_norm(matrix, p))
    assert exact * (1 - 1e-12) <= upper(map, p) <= exact * (1 + 1e-10)
    assert upper(map, p) <= _stepwise(map, p) * (1 + 1e-10)
