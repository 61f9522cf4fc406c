"""The public result: bounds from both sides in their order, layers, pairs, and what it says where one is missing."""

import json
import math

import pytest
import torch
from small import chain_of, network, patterns, random_weights
from torch import nn

import withstand
from withstand.core.errors import InputError, ToolFault
from withstand.graph.ir import Graph, Node
from withstand.lipschitz.constants import Bound, Kind, _check, constants
from withstand.lipschitz.secants import MOST_OUTPUTS, secants

ORDER = ["secants", "seqlip", "eclipse-fast", "autolip"]


def test_lower_below_true_below_seqlip_below_autolip():
    for seed in range(4):
        graph = network(random_weights([6, 8, 3], seed))
        found = constants(graph)
        value = {bound.method: bound.value for bound in found.bounds}
        assert [bound.method for bound in found.bounds] == ORDER
        assert [bound.kind for bound in found.bounds] == [Kind.LOWER, *[Kind.CERTIFIED] * 3]
        exact = patterns(chain_of(graph))
        assert 0.8 * exact <= value["secants"] <= exact <= value["seqlip"] <= value["autolip"]
        assert (found.lower.method, found.upper.method) == ("secants", "seqlip")
        assert [(layer.inputs, layer.outputs) for layer in found.layers] == [(6, 8), (8, 3)]
        for layer, matrix in zip(found.layers, chain_of(graph).matrices, strict=True):
            assert layer.norm == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)))
            assert layer.power is not None
            assert 0.99 * layer.norm <= layer.power <= layer.norm
        assert [(pair.first, pair.second) for pair in found.pairs] == [(0, 1), (0, 2), (1, 2)]
        for pair in found.pairs:
            chain = chain_of(graph)
            row = chain.matrices[1][pair.first] - chain.matrices[1][pair.second]
            exact = patterns(type(chain)([chain.matrices[0], row[None]], chain.slopes))
            assert pair.method == "seqlip"
            assert 0.8 * exact <= pair.lower <= exact <= pair.norm <= exact * (1 + 1e-9)


@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_other_norms(norm):
    graph = network(random_weights([4, 7, 3], 5))
    found = constants(graph, norm)
    exact = patterns(chain_of(graph), {"linf": math.inf, "l1": 1}[norm])
    assert 0.8 * exact <= found.lower.value <= exact <= found.upper.value
    assert found.notes == ("SeqLip and ECLipsE-Fast bound constants in l2 only.",)
    assert all(pair.lower <= pair.norm for pair in found.pairs)


def test_secants_of_a_linear_map_are_exact_in_every_norm():
    made = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 5, generator=made, dtype=torch.float64)
    graph = Graph(
        [Node("z", "linear", ("x", "w"))], {"w": weight}, input="x", output="z", input_shape=(5,), output_shape=(3,)
    )
    rows, x = torch.randn(2, 3, generator=made, dtype=torch.float64), torch.rand(4, 5, generator=made).double()
    for p, dual in ((1, math.inf), (2, 2), (math.inf, 1)):
        found = secants(graph, x, p, rows)
        assert found.value == pytest.approx(float(torch.linalg.matrix_norm(weight, p)), rel=1e-8)
        assert found.rows.numpy() == pytest.approx(torch.linalg.vector_norm(rows @ weight, dual, 1).numpy(), rel=1e-8)


def test_a_derivative_that_is_wrong_at_a_kink_makes_no_secant_too_steep():
    """x - relu(x) + relu(-x) is 0 everywhere, and automatic differentiation says 1 at x = 0."""
    nodes = [
        Node("a", "relu", ("x",)),
        Node("b", "sub", ("x", "a")),
        Node("n", "neg", ("x",)),
        Node("c", "relu", ("n",)),
        Node("z", "add", ("b", "c")),
    ]
    graph = Graph(nodes, {}, input="x", output="z", input_shape=(1,), output_shape=(1,))
    assert secants(graph, torch.zeros(1, 1, dtype=torch.float64), 2, torch.ones(1, 1).double()).value < 1e-9


def test_estimates_are_named_as_such_and_never_the_tightest():
    found = constants(network(random_weights([5, 30, 3], 6)))
    kinds = {bound.method: bound.kind for bound in found.bounds}
    assert kinds["seqlip"] is Kind.ESTIMATE
    assert found.upper.method == "eclipse-fast"
    assert "seqlip" not in {pair.method for pair in found.pairs}
    assert found.notes == (
        "SeqLip is an estimate: its layers are too wide to enumerate, and a search may miss the largest.",
    )


def test_a_secant_above_a_certified_bound_is_a_fault_of_the_tool():
    with pytest.raises(ToolFault, match=r"slope 2 is steeper than the bound 1 of autolip"):
        _check(2.0, [Bound("autolip", 1.0, Kind.CERTIFIED)])
    _check(2.0, [Bound("seqlip", 1.0, Kind.ESTIMATE), Bound("autolip", 2.0, Kind.CERTIFIED)])


def test_modules_and_built_in_networks():
    made = withstand.lipschitz_constants("digits-cnn", data="digits", limit=8)
    assert made.upper.value >= made.lower.value > 0
    assert len(made.pairs) == 45
    assert json.loads(json.dumps(made.to_json()))["bounds"][0]["kind"] == "lower bound"
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    found = withstand.lipschitz_constants(module.train(), data=(torch.rand(4, 1, 9, 9), torch.zeros(4).long()))
    assert module.training
    assert [bound.method for bound in found.bounds] == ["secants", "autolip"]
    assert "no chain of matrices and functions of one number" in found.notes[0]


def test_more_outputs_than_are_looked_at_have_no_pairs():
    graph = network(random_weights([3, 4, MOST_OUTPUTS + 1], 7))
    found = constants(graph)
    assert found.pairs == ()
    assert 0 < found.lower.value <= patterns(chain_of(graph))


def test_bad_input_is_one_sentence():
    with pytest.raises(InputError, match="The argument norm must be 'l2' or 'linf' or 'l1', not 'l0'"):
        withstand.lipschitz_constants("digits-cnn", "l0")  # type: ignore[arg-type]
    graph = Graph([Node("z", "exp", ("x",))], {}, input="x", output="z", input_shape=(2,), output_shape=(2,))
    with pytest.raises(InputError, match="'exp' at node 'z' has no Lipschitz constant over all inputs"):
        constants(graph)
