"""A network as one question needs it: only the neurons whose relaxation is not exact, everything between them composed.

The state of a reduced network is its input x followed by the activations of its blocks. Each block's pre-activations
are affine in the state before it; neurons that bounds proved to be linear over the region have been composed into the
matrices and cost nothing more.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from withstand.bounds import relax
from withstand.bounds.interval import aligned
from withstand.bounds.linear import Front, Relaxation, through, through_affine
from withstand.bounds.rule import Affine, Elementwise, Nonlinear, rule_of
from withstand.core.shapes import flattened
from withstand.core.threat import Threat
from withstand.graph.ir import Node
from withstand.graph.ops import OPS
from withstand.verification.joint import Held, Joint

LARGEST = 2**23
"""Coefficients of a function's inputs, over the state and for each other, up to which it becomes a `Joint` block."""


@dataclass(frozen=True)
class Region:
    """The inputs of one question, flat: a threat around x0 [1, *shape]."""

    threat: Threat
    x0: Tensor

    def lowest(self, rows: Tensor) -> Tensor:
        """The least value of rows [..., n] over the region, rounding aside: [...]."""
        centre, half = self._box
        if self.boxed:
            return rows @ centre - rows.abs() @ half
        return self.threat.lowest(self.x0, rows.reshape(1, -1, *self.x0.shape[1:])).reshape(rows.shape[:-1])

    def corner(self, rows: Tensor, soft: float = 0.0) -> Tensor:
        """Where rows [..., n] take about their least value: points [..., n] of the region.

        soft: in boxes, the share of a row's mean coefficient about which coefficients are too small for the edge.
        """
        centre, half = self._box
        if self.boxed and soft:
            size = rows.abs()
            return centre - half * rows / (size + soft * size.mean(-1, keepdim=True)).clamp(min=1e-30)
        if self.boxed:
            return centre - half * rows.sign()
        flat = rows.reshape(-1, *self.x0.shape[1:])
        return self.threat.extreme(self.x0.expand_as(flat), flat).reshape(rows.shape)

    @cached_property
    def box(self) -> tuple[Tensor, Tensor]:
        """Least and largest value [n] of every input."""
        low, high = self.threat.box(self.x0)
        return low.flatten(), high.flatten()

    @cached_property
    def _box(self) -> tuple[Tensor, Tensor]:
        low, high = self.box
        return (low + high) / 2, (high - low) / 2

    @property
    def boxed(self) -> bool:
        """Whether the region is a box."""
        return self.threat.norm in ("linf", "box")


@dataclass(frozen=True)
class Neurons:
    """Element-wise functions `rule` of U pre-activations weight @ state + bias, bounded by low and high [U].

    node: the activation's node; place [U]: flat positions in its value. weight [U, start]: over the state before.
    """

    node: Node
    rule: Elementwise
    place: Tensor
    weight: Tensor
    bias: Tensor
    low: Tensor
    high: Tensor

    @property
    def start(self) -> int:
        """Where the block's activations begin in the state."""
        return self.weight.shape[1]

    def values(self, z: Tensor) -> Tensor:
        """The activations of pre-activations."""
        return OPS[self.rule.op].run(z, **self.node.attrs)

    def __len__(self) -> int:
        return len(self.bias)


@dataclass(frozen=True)
class Planes:
    """U values of a function of several inputs, known only to lie between two affine functions of the state before:
    where the planes of `Joint` would be too many numbers."""

    node: Node
    weight: Tensor
    bias: Tensor
    upper_weight: Tensor
    upper_bias: Tensor

    @property
    def start(self) -> int:
        """Where the block's values begin in the state."""
        return self.weight.shape[1]

    def __len__(self) -> int:
        return len(self.bias)


Block = Neurons | Joint | Planes


@dataclass(frozen=True)
class Reduced:
    """Blocks in order, and the rows of a property: weight [R, state], offset [R], over the region of one question."""

    region: Region
    blocks: tuple[Block, ...]
    weight: Tensor
    offset: Tensor

    @property
    def inputs(self) -> int:
        """How many inputs the network has."""
        return self.region.x0[0].numel()

    @cached_property
    def neurons(self) -> list[Neurons | Joint]:
        """The blocks that can be split."""
        return [block for block in self.blocks if not isinstance(block, Planes)]

    @cached_property
    def relu(self) -> bool:
        """Whether all that can be split are ReLUs."""
        return all(isinstance(block, Neurons) and block.rule.op == "relu" for block in self.neurons)

    @cached_property
    def low(self) -> Tensor:
        """Lower bounds of all neurons' pre-activations, one block after the other: [U]."""
        return torch.cat([self.offset.new_zeros(0), *(block.low for block in self.neurons)])

    @cached_property
    def high(self) -> Tensor:
        """Upper bounds of all neurons' pre-activations: [U]."""
        return torch.cat([self.offset.new_zeros(0), *(block.high for block in self.neurons)])

    @property
    def work(self) -> int:
        """Multiplications of one row on its way back."""
        return self.weight.shape[1] + sum(block.weight.numel() for block in self.blocks)


def reduce(relaxation: Relaxation, sample: int, weight: Tensor, offset: Tensor) -> Reduced:
    """The reduced network of one sample of a relaxation, with the rows weight [R, O], offset [R] over its outputs.

    Neurons whose function is a line over their box are composed away.
    """
    own = relaxation.select(torch.tensor([sample]))
    graph = own.graph
    reader = _Reader(own)
    blocks: list[Block] = []
    for node in graph.nodes:
        rule = rule_of(graph, node)
        if isinstance(rule, Affine):
            continue
        places = reader.bent(node, rule).flatten().nonzero().squeeze(1)
        if not len(places):
            continue
        blocks.append(reader.block(node, rule, places))
        reader.held[node.name] = places
    outputs = weight.reshape(1, len(weight), *graph.output_shape)
    rows, constant = reader.collect(graph.output, outputs)
    return Reduced(Region(own.threat, own.x0), tuple(blocks), rows, constant + offset)


class _Reader:
    """Carries rows back to the elements held in the state: held[node] are the flat places of its held elements."""

    def __init__(self, relaxation: Relaxation) -> None:
        self.relaxation = relaxation
        self.held: dict[str, Tensor] = {}

    def bent(self, node: Node, rule: Elementwise | Nonlinear) -> Tensor:
        """Elements of the node's value that are not a line of its inputs: bool [1, *shape]."""
        boxes = self.relaxation.boxes
        if isinstance(rule, Elementwise):
            return relax.gap(rule, boxes[node.inputs[0]], node.attrs)
        return boxes[node.name][0] < boxes[node.name][1]

    def block(self, node: Node, rule: Elementwise | Nonlinear, places: Tensor) -> Block:
        """The block of a node's elements at flat places."""
        boxes, graph = self.relaxation.boxes, self.relaxation.graph
        if isinstance(rule, Elementwise):
            low, high = (end.flatten()[places] for end in boxes[node.inputs[0]])
            weight, bias = self.collect(node.inputs[0], _units(places, boxes[node.inputs[0]][0]))
            return Neurons(node, rule, places, weight, bias, low, high)
        if rule.planes is not None and self._fits(node):
            return self._joint(node, rule, places)
        units = _units(places, boxes[node.name][0])
        ends = []
        for sign in (1, -1):
            front = Front({}, units.new_zeros(units.shape[:2]))
            if rule.backward is None:
                through(self.relaxation, node, rule, sign * units, front)
            else:
                backs, constant = rule.backward(sign * units, aligned(graph, node, boxes), **node.attrs)
                front.constant = constant
                for position, name in enumerate(node.inputs):
                    front.add(name, backs[position])
            rows, constant = self._walk(front)
            ends += [sign * rows, sign * constant]
        return Planes(node, *ends)

    def _fits(self, node: Node) -> bool:
        boxes = self.relaxation.boxes
        size = sum(boxes[name][0].numel() for name in set(node.inputs) if name in boxes)
        state = boxes[self.relaxation.graph.input][0].numel() + sum(map(len, self.held.values()))
        return size * (state + boxes[node.name][0].numel()) <= LARGEST

    def _joint(self, node: Node, rule: Nonlinear, places: Tensor) -> Joint:
        graph, boxes = self.relaxation.graph, self.relaxation.boxes
        inputs: list[Held | Tensor] = []
        first: dict[str, int] = {}
        parts = []
        for name, box in zip(node.inputs, aligned(graph, node, boxes), strict=True):
            if graph.is_constant(name):
                inputs.append(box[0])
                continue
            if name not in first:
                first[name] = sum(len(bias) for _, bias, _, _ in parts)
                rows = self.collect(name, _units(torch.arange(box[0].numel()), box[0]))
                parts.append((*rows, box[0].flatten(), box[1].flatten()))
            inputs.append((first[name], box[0].shape[1:]))
        return Joint(node, rule, tuple(inputs), places, *(torch.cat(column) for column in zip(*parts, strict=True)))

    def collect(self, target: str, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [1, R, *shape] over the value `target`, as rows over the state [R, S] and constants [R]."""
        return self._walk(Front({target: rows}, rows.new_zeros(rows.shape[:2])))

    def _walk(self, front: Front) -> tuple[Tensor, Tensor]:
        relaxation, count = self.relaxation, front.constant.shape[1]
        kept = {}
        for name in list(front.rows):
            if relaxation.graph.is_constant(name):
                value = relaxation.graph.constant(name)
                front.constant = front.constant + flattened(front.rows.pop(name) * value, 2).sum(2)
        for node in reversed(relaxation.graph.nodes):
            arrived = front.rows.pop(node.name, None)
            if arrived is None:
                continue
            rule = rule_of(relaxation.graph, node)
            if isinstance(rule, Affine):
                through_affine(relaxation, node, rule, arrived, front)
                continue
            if node.name in self.held:
                flat, places = flattened(arrived, 2), self.held[node.name]
                kept[node.name] = flat[0, :, places]
                arrived = flat.index_fill(2, places, 0.0).reshape(arrived.shape)
            through(relaxation, node, rule, arrived, front)
        at_input = front.rows.get(relaxation.graph.input)
        size = relaxation.x0[0].numel()
        like = front.constant
        parts = [like.new_zeros(count, size) if at_input is None else at_input.reshape(count, size)]
        parts += [kept.get(name, like.new_zeros(count, len(places))) for name, places in self.held.items()]
        return torch.cat(parts, 1), front.constant[0]


def _units(places: Tensor, like: Tensor) -> Tensor:
    """Unit rows [1, R, *shape] that pick the elements at flat places of a value [1, *shape]."""
    rows = like.new_zeros(len(places), like.numel())
    rows[torch.arange(len(places)), places] = 1.0
    return rows.reshape(1, len(places), *like.shape[1:])


def settle(network: Reduced, low: Tensor, high: Tensor) -> Reduced:
    """The network under tighter bounds [U] of all neurons' pre-activations, those that have become lines composed away.

    Only the neurons of piecewise linear functions with one kink at zero (ReLU and its kin) are composed away.
    """
    blocks: list[Block] = []
    moves = torch.eye(network.inputs, dtype=low.dtype)
    shift = low.new_zeros(network.inputs)
    # moves [old state so far, new state so far] and shift [old state so far] say old = moves @ new + shift.
    first = 0
    for block in network.blocks:
        weight, bias = block.weight @ moves, block.bias + block.weight @ shift
        width = moves.shape[1]
        if isinstance(block, Planes):
            upper, upper_bias = block.upper_weight @ moves, block.upper_bias + block.upper_weight @ shift
            blocks.append(replace(block, weight=weight, bias=bias, upper_weight=upper, upper_bias=upper_bias))
            fresh = torch.eye(len(block), dtype=low.dtype)
            moves = torch.block_diag(moves, fresh)
            shift = torch.cat([shift, shift.new_zeros(len(block))])
            continue
        own = slice(first, first + len(block))
        first += len(block)
        box = (low[own], high[own])
        if isinstance(block, Joint):
            blocks.append(replace(block, weight=weight, bias=bias, low=box[0], high=box[1]))
            moves = torch.block_diag(moves, torch.eye(len(block.place), dtype=low.dtype))
            shift = torch.cat([shift, shift.new_zeros(len(block.place))])
            continue
        bent = relax.gap(block.rule, box, block.node.attrs).nonzero().squeeze(1)
        kept = replace(
            block,
            place=block.place[bent],
            weight=weight[bent],
            bias=bias[bent],
            low=box[0][bent],
            high=box[1][bent],
        )
        line = relax.lines(block.rule, box, block.node.attrs)
        rows, offset = line.lower_slope[:, None] * weight, line.lower_slope * bias + line.lower_offset
        rows[bent], offset[bent] = 0.0, 0.0
        fresh = rows.new_zeros(len(block), len(bent))
        fresh[bent, torch.arange(len(bent))] = 1.0
        moves = torch.cat([torch.nn.functional.pad(moves, (0, len(bent))), torch.cat([rows, fresh], 1)])
        assert moves.shape[1] == width + len(bent)
        shift = torch.cat([shift, offset])
        if len(bent):
            blocks.append(kept)
    return Reduced(network.region, tuple(blocks), network.weight @ moves, network.offset + network.weight @ shift)
