"""Which verifiers to ask, in which order, and why: the method `auto`."""

import math
from collections import Counter
from dataclasses import dataclass

from withstand.bounds.rule import Affine, Elementwise, rule_of
from withstand.core.threat import Threat
from withstand.graph.ir import Graph

FEW_INPUTS = 20
"""Networks of at most so many inputs are verified by splitting their input box."""

EFFORT = 5
"""Billions of multiplications on one question where no time was set: a second or two of one core."""


@dataclass(frozen=True)
class Portfolio:
    """verifiers: their texts, in order. why: one sentence."""

    verifiers: tuple[str, ...]
    why: str


def portfolio(graph: Graph, threat: Threat, *, timed: bool) -> Portfolio:
    """The verifiers for a network and a threat. timed: whether a budget ends the search, so that it needs no other end.

    Raises InputError when an operator has no bound rule.
    """
    inputs = math.prod(graph.input_shape)
    bent = Counter(node.op for node in graph.nodes if not isinstance(rule_of(graph, node), Affine))
    boxed = threat.norm in ("linf", "box")
    if not bent:
        return Portfolio(("crown",), "the network is affine, so one linear bound is exact")
    if inputs <= FEW_INPUTS and boxed:
        return Portfolio(("crown", "input-split"), f"{inputs} inputs are few enough to split their box")
    search = "branch-and-bound" if timed else f"branch-and-bound:effort={EFFORT}"
    kinds = ", ".join(sorted(bent))
    limit = "" if timed else f"; without a time budget each question has {EFFORT} billion multiplications"
    split = all(isinstance(rule_of(graph, node), Elementwise) for node in graph.nodes if node.op in bent)
    what = "their neurons are split" if split else "the neurons that are functions of one number are split"
    return Portfolio(("ibp", "crown", search), f"{inputs} inputs are too many to split, so {what} ({kinds}){limit}")
