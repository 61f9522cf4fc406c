"""The nodes of a graph as columns and rows (Tjeng et al. 2019, arXiv:1711.07356).

Functions of straight pieces are sums of ReLUs: abs(z) = 2 relu(z) - z. A ReLU of known sign costs nothing; any other is
two columns, its positive and its negative part, of which one must be zero; without that it is relaxed to a triangle.
Other functions keep to the lines or planes of linear bounds and make the program a relaxation.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from withstand.bounds.interval import aligned
from withstand.bounds.linear import Relaxation
from withstand.bounds.rule import Elementwise, Nonlinear
from withstand.core.shapes import flattened
from withstand.graph.ir import Node
from withstand.graph.ops import OPS
from withstand.verification.milp.pooling import largest, windows
from withstand.verification.milp.program import Array, Form, Program, spread
from withstand.verification.milp.stages import ENTRIES, Stage, Stages

Bend = tuple[float, float]
"""Where a function of straight pieces bends, and by how much its slope rises there."""


def pieces(op: str, attrs: Mapping[str, Any]) -> tuple[float, float, list[Bend]] | None:
    """A function of straight pieces as constant + slope * z + sum of rise * relu(z - kink), or None: it is not one."""
    if op == "relu":
        return 0.0, 0.0, [(0.0, 1.0)]
    if op == "abs":
        return 0.0, -1.0, [(0.0, 2.0)]
    if op == "leaky_relu":
        return 0.0, attrs["slope"], [(0.0, 1 - attrs["slope"])]
    if op == "clip":
        low, high = attrs.get("low", -np.inf), attrs.get("high", np.inf)
        bends = [(kink, rise) for kink, rise in ((low, 1.0), (high, -1.0)) if np.isfinite(kink)]
        return (low, 0.0, bends) if np.isfinite(low) else (0.0, 1.0, bends)
    return None


class Encoder:
    """Encodes the stages of one question, in order.

    program: where columns and rows go. forms: the input's and every encoded node's value as forms of the columns.
    """

    def __init__(self, program: Program, stages: Stages, inputs: Form) -> None:
        self.program, self.stages = program, stages
        self.forms = {stages.graph.input: inputs}

    def add(self, stage: Stage, relaxation: Relaxation) -> None:
        """Encode a stage by the boxes of its inputs."""
        node = stage.node
        inputs = [part.of(self.forms) for part in stage.inputs]
        straight = pieces(node.op, node.attrs)
        if straight is not None:
            value = self._straight(inputs[0], *_box(relaxation, node.inputs[0]), *straight)
        elif node.op in ("max", "min"):
            value = self._larger(node, inputs, relaxation)
        elif node.op == "max_pool":
            shape = relaxation.boxes[node.inputs[0]][0].shape[1:]
            index = windows(shape, relaxation.boxes[node.name][0].shape[1:], node.attrs)
            value = largest(self.program, inputs[0], *_box(relaxation, node.inputs[0]), index)
        elif isinstance(stage.rule, Elementwise):
            value = self._between_lines(node, stage.rule, inputs[0], relaxation)
        else:
            value = self._between_planes(node, stage.rule, inputs, relaxation)
        self.forms[node.name] = value

    def output(self) -> Form:
        """The graph's outputs, once all stages are encoded."""
        return self.stages.output.of(self.forms)

    def _straight(self, z: Form, low: Array, high: Array, constant: float, slope: float, bends: list[Bend]) -> Form:
        value = z.scaled(np.full(len(z), slope)).shifted(constant)
        for kink, rise in bends:
            bent = relu(self.program, z.shifted(-kink), low - kink, high - kink)
            value = value + bent.scaled(np.full(len(z), rise))
        return value

    def _larger(self, node: Node, inputs: list[Form], relaxation: Relaxation) -> Form:
        """max(a, b) = b + relu(a - b), min(a, b) = a - relu(a - b)."""
        boxes = aligned(relaxation.graph, node, relaxation.boxes)
        shape = relaxation.boxes[node.name][0].shape
        (a, a_low, a_high), (b, b_low, b_high) = (
            _broadcast(form, box, shape) for form, box in zip(inputs, boxes, strict=True)
        )
        over = relu(self.program, a - b, a_low - b_high, a_high - b_low)
        return b + over if node.op == "max" else a - over

    def _between_lines(self, node: Node, rule: Elementwise, z: Form, relaxation: Relaxation) -> Form:
        self.program.exact = False
        line = relaxation.line(node, rule)
        below, low, above, high = (part.flatten().double().numpy() for part in line)
        before = self.program.add(*_box(relaxation, node.inputs[0]), z.value)
        self.program.constrain(before - z, 0.0, 0.0)
        value = self.program.add(*_box(relaxation, node.name), lambda columns: _run(node, relaxation, [z], columns))
        self.program.constrain(value - before.scaled(below), low, np.inf)
        self.program.constrain(value - before.scaled(above), -np.inf, high)
        return value

    def _between_planes(self, node: Node, rule: Nonlinear, inputs: list[Form], relaxation: Relaxation) -> Form:
        from scipy.sparse import csr_array

        self.program.exact = False
        value = self.program.add(*_box(relaxation, node.name), lambda columns: _run(node, relaxation, inputs, columns))
        if rule.backward is None:
            return value
        boxes = aligned(relaxation.graph, node, relaxation.boxes)
        shape = relaxation.boxes[node.name][0].shape[1:]
        size = len(value)
        for places in np.array_split(np.arange(size), -(-size * size // ENTRIES)):
            units = torch.zeros(1, len(places), size, dtype=boxes[0][0].dtype)
            units[0, np.arange(len(places)), places] = 1.0
            for sign in (1.0, -1.0):
                backs, constant = rule.backward(sign * units.reshape(1, -1, *shape), boxes, **node.attrs)
                above = value[places].scaled(np.full(len(places), sign))
                for form, back in zip(inputs, backs, strict=True):
                    above = above - form.mapped(csr_array(flattened(back, 2)[0].double().numpy()))
                self.program.constrain(above, constant[0].double().numpy(), np.inf)
        return value


def relu(program: Program, z: Form, low: Array, high: Array) -> Form:
    """relu(z) of forms z with low <= z <= high: z = positive - negative, a pair."""
    bent = ((low < 0) & (high > 0)).nonzero()[0]
    value = z.scaled((low >= 0).astype(float))
    if not len(bent):
        return value
    own, none = z[bent], np.zeros(len(bent))
    positive = program.add(none, high[bent], lambda columns: own.value(columns).clip(min=0))
    negative = program.add(none, -low[bent], lambda columns: (-own.value(columns)).clip(min=0))
    program.constrain(positive - negative - own, 0.0, 0.0)
    program.pair(positive, negative)
    return value + spread(positive, bent, len(z))


def _box(relaxation: Relaxation, name: str) -> tuple[Array, Array]:
    low, high = (end[0].flatten().double().numpy() for end in relaxation.boxes[name])
    return low, high


def _broadcast(form: Form, box: tuple, shape: torch.Size) -> tuple[Form, Array, Array]:
    """A form and its box repeated to a shape [1, *shape]."""
    index = torch.arange(len(form)).reshape(box[0].shape).expand(shape).flatten().numpy()
    low, high = (end[0].flatten().double().numpy()[index] for end in box)
    return form[index], low, high


def _run(node: Node, relaxation: Relaxation, inputs: list[Form], columns: Array) -> Array:
    """A node's value at values of the columns."""
    boxes = aligned(relaxation.graph, node, relaxation.boxes)
    args = [
        torch.from_numpy(form.value(columns)).reshape(box[0].shape) for form, box in zip(inputs, boxes, strict=True)
    ]
    return OPS[node.op].run(*args, **node.attrs).flatten().numpy()
