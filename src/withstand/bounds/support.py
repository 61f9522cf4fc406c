"""Which operators of a graph cannot be bounded, said before any work is done."""

from withstand.bounds.rule import rule_of
from withstand.core.errors import InputError
from withstand.graph.ir import Graph


def unboundable(graph: Graph, method: str = "crown") -> list[str]:
    """One sentence for every node that the method cannot bound; empty when all is well.

    All methods read the same rules and fall back to boxes where a rule has no planes, so they agree today.
    """
    sentences = []
    for node in graph.nodes:
        try:
            rule_of(graph, node)
        except InputError as error:
            sentences.append(str(error))
    return sentences
