"""AutoLip, SeqLip and ECLipsE-Fast on networks whose constants are known or can be enumerated."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import chain_of, layerwise, network, patterns, random_weights

from withstand.core.errors import InputError
from withstand.graph.ir import Graph, Node
from withstand.lipschitz.autolip import autolip
from withstand.lipschitz.certified import Certified, certified
from withstand.lipschitz.eclipse import Eclipse, eclipse
from withstand.lipschitz.layout import layout
from withstand.lipschitz.seqlip import MOST, SeqLip, enumerated, greedy, seqlip

ROOM = 1 + 1e-9


def three(graph):
    """AutoLip, SeqLip and ECLipsE-Fast in l2."""
    known = Certified(graph)
    assert isinstance(known.seqlip, SeqLip)
    assert isinstance(known.eclipse, Eclipse)
    return known.autolip(2), known.seqlip, known.eclipse


def test_a_linear_network_has_the_norm_of_its_product():
    weights = random_weights([6, 5, 7, 4], 0)
    nodes = [Node(f"z{i}", "linear", (f"z{i - 1}" if i else "x", f"w{i}")) for i in range(3)]
    held = {f"w{i}": weight for i, weight in enumerate(weights)}
    graph = Graph(nodes, held, input="x", output="z2", input_shape=(6,), output_shape=(4,))
    product = weights[2] @ weights[1] @ weights[0]
    for p in (1, 2, math.inf):
        exact = float(torch.linalg.matrix_norm(product, p))
        assert exact <= autolip(layout(graph), p).value <= exact * ROOM
    for method in three(graph):
        exact = float(torch.linalg.matrix_norm(product, 2))
        assert exact <= method.value <= exact * ROOM
        assert method.rows(torch.eye(4).double()).numpy() == pytest.approx(product.norm(dim=1).numpy())


def test_identity_activations_leave_the_product_and_autolip_multiplies():
    weights = random_weights([5, 6, 3], 1)
    graph = network(weights, "leaky_relu", slope=1.0)
    exact = float(torch.linalg.matrix_norm(weights[1] @ weights[0], 2))
    both = math.prod(float(torch.linalg.matrix_norm(w, 2)) for w in weights)
    auto, seq, ecl = three(graph)
    assert auto.value == pytest.approx(both)
    assert seq.value == pytest.approx(exact)
    assert exact <= ecl.value <= exact * 1.01


def test_aligned_orthogonal_layers_are_exact():
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64))[0]
    graph = network([turn, 3 * torch.eye(6, dtype=torch.float64), 2 * turn.T])
    for method in three(graph):
        assert method.value == pytest.approx(6, rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.sampled_from([[4, 6, 3], [5, 8, 1], [3, 5, 4, 2], [2, 3, 4, 3, 2], [6, 2, 6, 4]]),
    activation=st.sampled_from(["relu", "tanh", "sigmoid", "abs", "leaky_relu", "gelu", "silu"]),
)
def test_true_below_seqlip_and_eclipse_below_autolip(seed, sizes, activation):
    attrs = {"slope": 0.3} if activation == "leaky_relu" else {}
    graph = network(random_weights(sizes, seed), activation, **attrs)
    auto, seq, ecl = three(graph)
    exact = patterns(chain_of(graph))
    assert seq.certified
    for method in (seq, ecl):
        assert exact <= method.value * (1 + 1e-12)
        assert method.value <= auto.value * ROOM
    if len(sizes) == 3:
        assert seq.value == pytest.approx(exact, rel=1e-9)
    rows = torch.randn(3, sizes[-1], generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for index, row in enumerate(rows):
        chain = chain_of(graph)
        chain = type(chain)([*chain.matrices[:-1], row[None] @ chain.matrices[-1]], chain.slopes)
        exact = patterns(chain)
        for method in (auto, seq, ecl):
            assert exact <= float(method.rows(rows)[index]) * (1 + 1e-12)
        assert float(seq.rows(rows)[index]) <= float(auto.rows(rows)[index]) * ROOM
        assert float(ecl.rows(rows)[index]) <= float(auto.rows(rows)[index]) * ROOM


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), p=st.sampled_from([1, math.inf]))
def test_autolip_holds_in_other_norms(seed, p):
    graph = network(random_weights([4, 5, 4, 3], seed))
    assert patterns(chain_of(graph), p) <= autolip(layout(graph), p).value * (1 + 1e-12)


def test_scaling_a_layer_scales_every_bound():
    weights = random_weights([5, 7, 6, 3], 3)
    before = three(network(weights))
    after = three(network([weights[0], 2.5 * weights[1], weights[2]]))
    rows = torch.eye(3, dtype=torch.float64)
    for one, other in zip(before, after, strict=True):
        assert other.value == pytest.approx(2.5 * one.value, rel=1e-9)
        assert other.rows(rows).numpy() == pytest.approx(2.5 * one.rows(rows).numpy(), rel=1e-9)


def test_ratios_on_random_networks():
    """Means over ten networks of how far each bound lies below AutoLip."""
    for sizes, seq_band, ecl_band in (([10, 10, 10], (0.7, 0.85), (0.75, 0.95)), ([10] * 4, (0.55, 0.75), (0.6, 0.75))):
        found = [three(network(random_weights(sizes, seed))) for seed in range(10)]
        seqs = [seq.value / auto.value for auto, seq, _ in found]
        eclipses = [ecl.value / auto.value for auto, _, ecl in found]
        assert seq_band[0] < sum(seqs) / 10 < seq_band[1]
        assert ecl_band[0] < sum(eclipses) / 10 < ecl_band[1]


@pytest.mark.parametrize("limits", [(0.0, 1.0), (-1.0, 1.0), (0.2, 1.0)])
def test_enumeration_finds_the_largest_and_the_search_a_smaller_one(limits):
    made = torch.Generator().manual_seed(4)
    short = 0
    for _ in range(10):
        left, right = (torch.randn(*size, generator=made, dtype=torch.float64) for size in ((4, 8), (8, 5)))
        exact = layerwise(left, right, limits)
        assert exact <= float(enumerated(left, right, limits)) <= exact * ROOM
        short += float(greedy(left, right, limits)) < exact * (1 - 1e-6)
        assert exact * 0.8 <= float(greedy(left, right, limits)) <= exact * (1 + 1e-12)
    assert short <= 5


def test_wide_layers_make_seqlip_an_estimate_and_wider_ones_no_number():
    graph = network(random_weights([3, MOST + 1, 2], 5))
    found = seqlip(chain_of(graph))
    assert isinstance(found, SeqLip)
    assert not found.certified
    assert "seqlip" not in Certified(graph).methods(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("withstand.lipschitz.seqlip.WIDEST", 10)
        patch.setattr("withstand.lipschitz.eclipse.WIDEST", 10)
        assert seqlip(chain_of(graph)) == "a hidden layer has 19 neurons, more than 10"
        assert eclipse(chain_of(graph)) == "a hidden layer has 19 neurons, more than 10"


def residual(seed=6):
    """x -> w1 relu(w0 x) + x, then a linear layer after a max."""
    made = torch.Generator().manual_seed(seed)
    held = {f"w{i}": torch.randn(4, 4, generator=made, dtype=torch.float64) / 2 for i in range(3)}
    nodes = [
        Node("z", "linear", ("x", "w0")),
        Node("a", "relu", ("z",)),
        Node("b", "linear", ("a", "w1")),
        Node("s", "add", ("b", "x")),
        Node("m", "max", ("s", "x")),
        Node("out", "linear", ("m", "w2")),
    ]
    return Graph(nodes, held, input="x", output="out", input_shape=(4,), output_shape=(4,)), held


@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_branches_add_up(p):
    graph, held = residual()
    norm = {name: float(torch.linalg.matrix_norm(w, p)) for name, w in held.items()}
    inner = norm["w1"] * norm["w0"] + 1
    both = max(inner, 1) if p == math.inf else (inner**p + 1) ** (1 / p)
    assert autolip(layout(graph), p).value == pytest.approx(norm["w2"] * both)
    assert "no chain" in str(Certified(graph).seqlip)
    made = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2000, 4, generator=made, dtype=torch.float64) for _ in range(2))
    steep = torch.linalg.vector_norm(graph(x) - graph(y), p, 1) / torch.linalg.vector_norm(x - y, p, 1)
    assert steep.max() <= autolip(layout(graph), p).value


def test_a_value_read_twice_is_cut_once():
    """s = w0 x is read by two branches: its norm counts in both, and the maps are those from s."""
    weights = random_weights([3, 4, 4], 7)
    nodes = [
        Node("s", "linear", ("x", "w0")),
        Node("a", "relu", ("s",)),
        Node("b", "linear", ("a", "w1")),
        Node("out", "add", ("b", "s")),
    ]
    held = {"w0": weights[0], "w1": weights[1]}
    graph = Graph(nodes, held, input="x", output="out", input_shape=(3,), output_shape=(4,))
    one, two = (float(torch.linalg.matrix_norm(w, 2)) for w in weights)
    found = autolip(layout(graph), 2)
    assert found.value == pytest.approx(one * (two + 1))
    assert found.constants["s"] == pytest.approx(one)


@pytest.mark.parametrize("op", ["relu", "tanh", "sigmoid", "softplus", "erf", "sin", "cos", "silu", "gelu", "abs"])
def test_slopes_hold_and_are_reached(op):
    from withstand.bounds.relax import derivative
    from withstand.lipschitz.slopes import slopes

    for attrs in [{"approximate": "none"}, {"approximate": "tanh"}] if op == "gelu" else [{}]:
        found = slopes(Node("a", op, ("x",), attrs))
        assert found is not None
        low, high = found
        seen = derivative(op, torch.linspace(-30, 30, 600_001, dtype=torch.float64), attrs)
        assert low <= seen.min() <= low + 1e-4
        assert high - 1e-4 <= seen.max() <= high


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("max_pool", {"kernel": (3, 2), "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}),
        ("max_pool", {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1)}),
        ("softmax", {"dim": 1}),
        ("log_softmax", {"dim": 1}),
        ("softmax", {"dim": 3}),
    ],
)
@pytest.mark.parametrize("p", [1, 2, math.inf])
def test_gains_of_nodes_that_are_not_elementwise(op, attrs, p):
    graph = Graph([Node("z", op, ("x",), attrs)], {}, input="x", output="z", input_shape=(3, 6, 6), output_shape=())
    graph.output_shape = tuple(graph(torch.zeros(1, 3, 6, 6)).shape[1:])
    limit = autolip(layout(graph), p).value
    made = torch.Generator().manual_seed(0)
    steepest = 0.0
    for size in (0.1, 1.0, 30.0):
        x = size * torch.randn(200, 3, 6, 6, generator=made, dtype=torch.float64)
        jacobian = torch.func.vmap(torch.func.jacrev(lambda one: graph(one[None]).flatten()))(x).flatten(2)
        steepest = max(steepest, float(torch.linalg.matrix_norm(jacobian, p).max()))
    assert 0.4 * limit <= steepest <= limit * ROOM


@pytest.mark.parametrize(("op", "attrs"), [("exp", {}), ("pow", {"exponent": 2.0}), ("mul", {}), ("floor", {})])
def test_a_node_without_a_constant_is_an_input_error(op, attrs):
    nodes = [Node("a", "relu", ("x",)), Node("z", op, ("a", "x") if op == "mul" else ("a",), attrs)]
    graph = Graph(nodes, {}, input="x", output="z", input_shape=(3,), output_shape=(3,))
    with pytest.raises(InputError, match=f"Operator '{op}' at node 'z' has no Lipschitz constant over all inputs"):
        certified(graph).rows(torch.eye(3, dtype=torch.float64), 2)


def test_constants_are_kept_until_the_weights_change():
    graph = network(random_weights([3, 4, 2], 8))
    first = certified(graph)
    assert certified(graph) is first
    graph.constant("w0").mul_(2)
    again = certified(graph)
    assert again is not first
    assert again.autolip(2).value == pytest.approx(2 * first.autolip(2).value)
