"""A question's program, its neurons bounded step by step: by intervals, linear bounds, linear programs and trees, each
step only where the one before left a neuron's sign open (Tjeng et al. 2019, arXiv:1711.07356, section 4.2)."""

import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from withstand.bounds import relax
from withstand.bounds.interval import intersect, step
from withstand.bounds.linear import Relaxation
from withstand.bounds.refine import refine
from withstand.bounds.rule import Affine, Elementwise, rule_of
from withstand.verification.milp.encode import Encoder, pieces
from withstand.verification.milp.highs import Solved, Solver
from withstand.verification.milp.program import Array, Form, Program
from withstand.verification.milp.region import Region
from withstand.verification.milp.stages import Stage, Stages
from withstand.verification.milp.tree import Tree

Far = Literal["crown", "lp", "milp"]
"""The last means by which neurons are bounded."""


@dataclass(frozen=True)
class Effort:
    """How far neurons are tightened. far: the last means. seconds: for all neurons of one question by LP and MILP;
    each: for one bound of one neuron by MILP."""

    far: Far = "lp"
    seconds: float = 60.0
    each: float = 1.0


@dataclass(frozen=True)
class Encoded:
    """One question as a program: its region, the graph's outputs as a form, and the boxes of all values."""

    program: Program
    region: Region
    output: Form
    relaxation: Relaxation


def encode(
    stages: Stages, start: Relaxation, effort: Effort, memory_mb: float = 1024
) -> Generator[None, None, Encoded]:
    """The program of one question, given by the relaxation of a batch of one (float64) with boxes of all values.

    Where neurons are tightened, linear bounds of those behind them are computed again. Yields every moment.
    """
    graph, program = stages.graph, Program()
    region = Region(program, start.threat, start.x0)
    encoder = Encoder(program, stages, region.inputs)
    relaxation = replace(start, boxes=dict(start.boxes), lines=dict(start.lines))
    work = _Tightening(program, effort)
    todo, tighter = iter(stages.stages), False
    for node in graph.nodes:
        if tighter:
            relaxation.boxes[node.name] = intersect(step(graph, node, relaxation.boxes), start.boxes[node.name])
        if isinstance(rule_of(graph, node), Affine):
            continue
        stage = next(todo)
        for name in dict.fromkeys(node.inputs) if tighter else ():
            if not graph.is_constant(name):
                refine(relaxation, name, _wanted(stage, relaxation, name), memory_mb)
                yield
        if isinstance(stage.rule, Elementwise) and work.helps(stage, relaxation):
            yield from work.on(stage, relaxation, stage.inputs[0].of(encoder.forms))
            tighter = True
        if tighter:
            relaxation.lines.pop(node.name, None)
            relaxation.boxes[node.name] = intersect(step(graph, node, relaxation.boxes), start.boxes[node.name])
        encoder.add(stage, relaxation)
    return Encoded(program, region, encoder.output(), relaxation)


def _wanted(stage: Stage, relaxation: Relaxation, name: str) -> Tensor:
    """Elements of an input of the stage for which a tighter box would help: bool [1, *shape]."""
    low, high = relaxation.boxes[name]
    return relax.gap(stage.rule, (low, high), stage.node.attrs) if isinstance(stage.rule, Elementwise) else low < high


def _is_open(stage: Stage, low: float, high: float) -> bool:
    """Whether an element-wise function bends between two numbers."""
    straight = pieces(stage.node.op, stage.node.attrs)
    return low < high if straight is None else any(low < kink < high for kink, _ in straight[2])


class _Tightening:
    """Bounds the inputs of element-wise stages by the program of the stages before."""

    def __init__(self, program: Program, effort: Effort) -> None:
        self.program, self.effort, self.spent = program, effort, 0.0
        self.solver = Solver(program)

    def helps(self, stage: Stage, relaxation: Relaxation) -> bool:
        """Whether there is anything to tighten by."""
        bends = self.program.blocks and bool(_wanted(stage, relaxation, stage.node.inputs[0]).any())
        return self.effort.far != "crown" and bool(bends)

    def on(self, stage: Stage, relaxation: Relaxation, z: Form) -> Generator[None, None, None]:
        """Tighten the box of the stage's input, given as a form."""
        name = stage.node.inputs[0]
        shape = relaxation.boxes[name][0].shape
        for mean in ("lp", "milp") if self.effort.far == "milp" and len(self.program.pairs) else ("lp",):
            ends = np.stack([end.flatten().double().numpy() for end in relaxation.boxes[name]], 1)
            for i in _wanted(stage, relaxation, name).flatten().nonzero().squeeze(1).tolist():
                if self.spent < self.effort.seconds:
                    ends[i] = yield from self._neuron(stage, z[np.array([i])], ends[i], mean)
            low, high = torch.from_numpy(ends).T.reshape(2, *shape)
            relaxation.boxes[name] = (low, high)

    def _neuron(self, stage: Stage, z: Form, ends: Array, mean: Far) -> Generator[None, None, Array]:
        """The ends of one neuron: the one nearer to zero first, the other only while the neuron is open."""
        began, ends = time.monotonic(), ends.copy()
        for end, sign in ((0, 1.0), (1, -1.0)) if -ends[0] < ends[1] else ((1, -1.0), (0, 1.0)):
            start = time.monotonic()
            goal = z.scaled(np.full(1, sign))
            with closing(self._states(goal, mean)) as states:
                for state in states:
                    tighter = sign * max(state.bound, sign * ends[end])
                    ends[end] = min(tighter, ends[1]) if end == 0 else max(tighter, ends[0])
                    if not _is_open(stage, *ends) or (mean == "milp" and time.monotonic() - start > self.effort.each):
                        break
                    yield
            if not _is_open(stage, *ends):
                break
        self.spent += time.monotonic() - began
        return ends

    def _states(self, goal: Form, mean: Far) -> Generator[Solved, None, None]:
        return self.solver.least(goal) if mean == "lp" else Tree(self.solver, goal, lambda columns: None).search()
