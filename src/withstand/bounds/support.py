"""Which operators of a graph cannot be bounded, said before any work is done."""

from withstand.bounds.rule import rule_of
from withstand.core.errors import InputError
from withstand.graph.ir import Graph


def unboundable(graph: Graph) -> list[str]:
    """One sentence for every node that cannot be bounded; empty when all can. All methods read the same rules."""
    sentences = []
    for node in graph.nodes:
        try:
            rule_of(graph, node)
        except InputError as error:
            sentences.append(str(error))
    return sentences
