"""The graph as a torch module: batches, memory, copies, types, digest."""

import copy
import io

import torch

from withstand.graph.ir import Graph, Node


def small() -> Graph:
    constants = {"w": torch.tensor([[1.0, -2.0], [0.5, 1.0]]), "b": torch.tensor([0.0, 1.0]), "i": torch.tensor([1, 0])}
    nodes = [
        Node("a", "linear", ("x", "w", "b")),
        Node("unused", "exp", ("a",)),
        Node("r", "relu", ("a",)),
        Node("s", "add", ("r", "x")),
        Node("y", "gather", ("s", "i"), {"dim": 1}),
    ]
    return Graph(nodes, constants, input="x", output="y", input_shape=(2,), output_shape=(2,))


def test_values_in_closed_form_and_unused_nodes_dropped():
    graph = small()
    assert [n.name for n in graph.nodes] == ["a", "r", "s", "y"]
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    assert graph(x).tolist() == [[2 + 3.5, 1.0 + 0.0], [-1 + 1.5, 3 + 5.0]]
    assert graph.trace(x)["r"].tolist() == [[0.0, 3.5], [5.0, 1.5]]


def test_the_output_may_be_any_node_or_the_input():
    nodes = [Node("a", "relu", ("x",)), Node("y", "neg", ("a",))]
    x = torch.tensor([[-1.0, 2.0]])
    ends = {"input": "x", "input_shape": (2,), "output_shape": (2,)}
    assert Graph(nodes, {}, output="a", **ends)(x).tolist() == [[0.0, 2.0]]
    assert Graph(nodes, {}, output="x", **ends)(x) is x


def test_copies_and_pickles_compute_the_same():
    graph = small()
    buffer = io.BytesIO()
    torch.save(graph, buffer)
    buffer.seek(0)
    x = torch.randn(3, 2)
    for other in (copy.deepcopy(graph), torch.load(buffer, weights_only=False)):
        assert torch.equal(other(x), graph(x))
        assert other.digest() == graph.digest()


def test_double_precision_keeps_integer_constants():
    graph = small().double()
    assert graph.dtype == torch.float64
    assert graph.constant("i").dtype == torch.int64
    assert graph(torch.zeros(1, 2, dtype=torch.float64)).dtype == torch.float64


def test_digest_changes_with_weights_and_structure_but_not_with_names():
    graph = small()
    renamed = [Node(n.name + "_", n.op, tuple(i + "_" for i in n.inputs), n.attrs) for n in graph.nodes]
    constants = {name + "_": value for name, value in graph.constants.items()}
    ends = {"input": "x_", "output": "y_", "input_shape": (2,), "output_shape": (2,)}
    assert Graph(renamed, constants, **ends).digest() == graph.digest()
    constants["b_"] = constants["b_"] + 1
    assert Graph(renamed, constants, **ends).digest() != graph.digest()
    renamed[1] = Node("r_", "tanh", ("a_",))
    assert Graph(renamed, constants, **ends).digest() != graph.digest()
