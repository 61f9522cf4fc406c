"""What interval, linear and zonotope bounds ask of an affine node: its box, its linear part both ways, its constant."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from withstand.bounds.rule import Affine, Box
from withstand.graph.ir import Graph, Node
from withstand.graph.ops import OPS

Value = Tensor | torch.Size
"""A constant's tensor, or the shape of one sample of an activation."""

Attrs = Mapping[str, Any]


def unbroadcast(rows: Tensor, shape: Sequence[int]) -> Tensor:
    """rows [N, *out] summed over the axes along which a value of `shape` was repeated: broadcasting transposed."""
    return rows if rows.shape[1:] == tuple(shape) else rows.sum_to_size(len(rows), *shape)


def arguments(graph: Graph, node: Node, shapes: Mapping[str, torch.Size]) -> list[Value]:
    """The node's inputs: tensors of constants, and shapes of one sample for the others."""
    return [graph.constant(name) if graph.is_constant(name) else shapes[name] for name in node.inputs]


def box(rule: Affine, inputs: Sequence[Tensor | Box], attrs: Attrs) -> Box:
    """The output's box from the boxes of the activations and the constants; NaN where infinite boxes leave it."""
    run = OPS[rule.op].run
    if not rule.signed:
        ends = []
        for end in (0, 1):
            picked = [
                v if isinstance(v, Tensor) else v[1 - end if i in rule.falling else end] for i, v in enumerate(inputs)
            ]
            ends.append(run(*picked, **attrs))
        return ends[0], ends[1]
    position = next(i for i, v in enumerate(inputs) if not isinstance(v, Tensor))
    low, high = inputs[position]
    args: list[Value] = [v if isinstance(v, Tensor) else v[0].shape[1:] for v in inputs]
    half_low, half_high = low / 2, high / 2
    middle = [v if isinstance(v, Tensor) else half_low + half_high for v in inputs]
    centre, reach = run(*middle, **attrs), absolute(rule, half_high - half_low, position, args, attrs)
    return centre - reach, centre + reach


def forward(rule: Affine, x: Tensor, position: int, args: Sequence[Value], attrs: Attrs) -> Tensor:
    """The linear part with respect to the input at `position`: x [N, *in] to [N, *out]."""
    if rule.forward is not None:
        return rule.forward(x, position, args, **attrs)
    others = [_still(a, x) for a in args]
    others[position] = x
    return OPS[rule.op].run(*others, **attrs)


def _still(arg: Value, like: Tensor) -> Tensor:
    """Masks and indices as they are, everything else as zeros."""
    if isinstance(arg, Tensor):
        return torch.zeros_like(arg) if arg.is_floating_point() else arg
    return like.new_zeros(()).expand(len(like), *arg)


def absolute(rule: Affine, x: Tensor, position: int, args: Sequence[Value], attrs: Attrs) -> Tensor:
    """The linear part with the absolute values of its coefficients, which maps the radii [N, *in] of one input's
    independent errors to radii [N, *out]."""
    sized = [a.abs() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args]
    image = forward(rule, x, position, sized, attrs)
    return -image if position in rule.falling else image


def transpose(rule: Affine, rows: Tensor, position: int, args: Sequence[Value], attrs: Attrs) -> Tensor:
    """rows [B, R, *out] times the linear part with respect to the input at `position`: [B, R, *in]."""
    shape = args[position]
    assert isinstance(shape, torch.Size)
    if rule.transpose is not None:
        return rule.transpose(rows, position, args, **attrs)
    folded = rows.flatten(0, 1)
    if rule.adjoint is not None:
        back = rule.adjoint(folded, position, args, **attrs)
    else:
        with torch.enable_grad():
            zero = rows.new_zeros(()).expand(len(folded), *shape).requires_grad_()
            image = forward(rule, zero, position, args, attrs)
        (back,) = torch.autograd.grad(image, zero, folded, create_graph=folded.requires_grad)
    return back.reshape(*rows.shape[:2], *shape)


def constant_part(rule: Affine, args: Sequence[Value], attrs: Attrs, like: Tensor) -> Tensor | None:
    """The output [1, *out] at activations of zero, or None where it is zero and no constant is on an autograd tape."""
    zeros = [a if isinstance(a, Tensor) else like.new_zeros(1, *a) for a in args]
    start = OPS[rule.op].run(*zeros, **attrs)
    return start if start.requires_grad or bool((start != 0).any()) else None
