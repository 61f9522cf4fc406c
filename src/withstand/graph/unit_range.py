"""Does a network end in something that keeps its outputs within [0, 1], as probabilities are?"""

from withstand.graph.ir import Graph, Node

MOVES = ("reshape", "transpose", "concat", "slice", "gather", "expand")
"""Operations whose result holds nothing but elements of their inputs."""

ENDS = ("sigmoid", "softmax")


def unit_end(graph: Graph) -> str | None:
    """The operation by which all outputs lie within [0, 1], such as `sigmoid`; None where the last operations do not
    say so."""
    nodes = {node.name: node for node in graph.nodes}
    ends, waiting = set[str](), [graph.output]
    while waiting:
        node = nodes.get(waiting.pop())
        if node is None:
            return None
        if node.op in MOVES:
            waiting += node.inputs[:1] if node.op == "gather" else node.inputs
        elif _is_end(node):
            ends.add(node.op)
        else:
            return None
    return " and ".join(sorted(ends))


def _is_end(node: Node) -> bool:
    if node.op == "clip":
        return node.attrs.get("low", -1.0) >= 0 and node.attrs.get("high", 2.0) <= 1
    return node.op in ENDS
