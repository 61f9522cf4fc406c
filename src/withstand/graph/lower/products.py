"""Matrix products and convolutions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from withstand.graph.builder import Array, Builder, Unsupported, Value
from withstand.graph.lower.arith import align, binary
from withstand.graph.lower.moves import pad, slice_axis, squeeze, unsqueeze

Pads = Sequence[tuple[int, int]]


def matmul(b: Builder, x: Array, y: Array) -> Array:
    """numpy's matrix product; with a constant matrix on the right it becomes a linear node."""
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return torch.matmul(x, y)
    if isinstance(x, Value) and isinstance(y, Tensor) and y.dim() == 2:
        return linear(b, x, y.t(), None)
    if isinstance(x, Tensor) and isinstance(y, Value) and x.dim() == 2 and len(y.shape) == 1:
        return linear(b, y, x, None)
    if len(x.shape) == 1:
        return squeeze(b, matmul(b, unsqueeze(b, x, (0,)), y), (-2,))
    if len(y.shape) == 1:
        return squeeze(b, matmul(b, x, unsqueeze(b, y, (1,))), (-1,))
    if max(len(x.shape), len(y.shape)) == 2:
        x, y = (a if isinstance(a, Tensor) else b.single(a) for a in (x, y))
        return b.emit("matmul", x, y, folded=True)
    (x, y), folded = align(b, x, y)
    return b.emit("matmul", x, y, folded=folded)


def linear(b: Builder, x: Value, weight: Tensor, bias: Tensor | None) -> Value:
    """x times weight [out, in] transposed, plus bias [out]."""
    x = b.single(x) if len(x.shape) == 1 else x
    extra = () if bias is None else (bias.expand(weight.shape[0]).contiguous(),)
    return b.emit("linear", x, weight.contiguous(), *extra, folded=x.folded)


def gemm(b: Builder, x: Array, y: Array, bias: Array | None) -> Array:
    """Matrix product of two matrices plus a bias that broadcasts."""
    row = isinstance(bias, Tensor) and (bias.dim() < 2 or bias.shape[0] == 1)
    if isinstance(x, Value) and isinstance(y, Tensor) and (bias is None or row):
        flat = bias.reshape(-1) if isinstance(bias, Tensor) else None
        return linear(b, x, y.t(), flat)
    product = matmul(b, x, y)
    if bias is not None and tuple(torch.broadcast_shapes(product.shape, bias.shape)) != tuple(product.shape):
        raise Unsupported(f"adds a bias of shape {tuple(bias.shape)} to a product of shape {tuple(product.shape)}")
    return product if bias is None else binary(b, "add", product, bias)


def convolve(
    b: Builder,
    x: Array,
    weight: Array,
    bias: Array | None,
    *,
    stride: Sequence[int],
    pads: Pads,
    dilation: Sequence[int],
    groups: int,
) -> Value:
    """Convolution with constant weights and (before, after) zeros on each spatial axis."""
    x = _image(b, x, weight, bias)
    if any(before != after or before < 0 for before, after in pads):
        x = _image(b, pad(b, x, [(0, 0), (0, 0), *pads]), weight, bias)
        pads = [(0, 0)] * len(pads)
    extra = () if bias is None else (bias,)
    padding = tuple(before for before, _ in pads)
    attrs = {"stride": tuple(stride), "padding": padding, "dilation": tuple(dilation), "groups": groups}
    return b.emit("conv", x, weight, *extra, folded=False, **attrs)


def convolve_transposed(
    b: Builder,
    x: Array,
    weight: Array,
    bias: Array | None,
    *,
    stride: Sequence[int],
    pads: Pads,
    extra: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Array:
    """Transposed convolution; `pads` crops the result, `extra` extends its ends."""
    x = _image(b, x, weight, bias)
    padding = tuple(max(min(pair), 0) for pair in pads)
    rest = [(before - p, after - p) for (before, after), p in zip(pads, padding)]
    grow = [max(e, 0) for e in extra]
    fits = all(g < max(s, d) for g, s, d in zip(grow, stride, dilation))
    attrs = {
        "stride": tuple(stride),
        "padding": padding,
        "output_padding": tuple(grow) if fits else (0,) * len(grow),
        "dilation": tuple(dilation),
        "groups": groups,
    }
    inputs = (x, weight) if not fits or bias is None else (x, weight, bias)
    y: Array = b.emit("conv_transpose", *inputs, folded=False, **attrs)
    if not fits:
        y = pad(b, y, [(0, 0), (0, 0), *((0, g) for g in grow)])
        if isinstance(bias, Tensor):
            y = binary(b, "add", y, bias.reshape(-1, *(1,) * len(pads)))
    for axis, (before, after) in enumerate(rest, start=2):
        y = slice_axis(b, y, axis, before, y.shape[axis] - after)
    return y


def _image(b: Builder, x: Array, weight: Array, bias: Array | None) -> Value:
    if isinstance(weight, Value) or isinstance(bias, Value) or isinstance(x, Tensor):
        raise Unsupported("convolves with weights that depend on the input")
    return b.batched(x)
