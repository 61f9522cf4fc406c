"""ATen operations with weights: matrix products, convolutions, attention, normalisations."""

import math
from typing import Any

import torch
from torch import Tensor

from withstand.graph.aten_ops import captures, listed, spread
from withstand.graph.builder import Array, Builder, Unsupported, Value, number
from withstand.graph.lower import arith, moves, norms, pools, products


@captures("linear")
def linear(b: Builder, x: Array, weight: Array, bias: Array | None = None) -> Array:
    if isinstance(x, Value) and isinstance(weight, Tensor) and not isinstance(bias, Value):
        return products.linear(b, x, weight, bias)
    product = products.matmul(b, x, moves.transpose(b, weight, (1, 0)))
    return product if bias is None else arith.binary(b, "add", product, bias)


@captures("matmul", "mm", "bmm", "mv", "dot")
def matmul(b: Builder, x: Array, y: Array) -> Array:
    return products.matmul(b, x, y)


@captures("addmm", "baddbmm", "addmv")
def addmm(b: Builder, bias: Array, x: Array, y: Array, beta: float = 1, alpha: float = 1) -> Array:
    if beta == alpha == 1 and len(x.shape) == len(y.shape) == 2:
        return products.gemm(b, x, y, bias)
    product = arith.binary(b, "mul", products.matmul(b, x, y), number(alpha))
    return arith.binary(b, "add", product, arith.binary(b, "mul", bias, number(beta)))


@captures("convolution")
def convolution(
    b: Builder,
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Array:
    rank = len(weight.shape) - 2
    unbatched = len(x.shape) == rank + 1
    x = moves.unsqueeze(b, x, (0,)) if unbatched else x
    pads = [(p, p) for p in spread(padding, rank)]
    common = {"stride": spread(stride, rank), "pads": pads, "dilation": spread(dilation, rank), "groups": groups}
    if transposed:
        extra = spread(output_padding, rank)
        y = products.convolve_transposed(b, x, weight, bias, extra=extra, **common)
    else:
        y = products.convolve(b, x, weight, bias, **common)
    return moves.squeeze(b, y, (0,)) if unbatched else y


@captures("scaled_dot_product_attention")
def attention(
    b: Builder,
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Array:
    """softmax(query key' / sqrt(width) + mask) value."""
    if dropout_p or enable_gqa:
        raise Unsupported("uses dropout or grouped queries")
    rank = len(key.shape)
    swap = (*range(rank - 2), rank - 1, rank - 2)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    query = arith.binary(b, "mul", query, number(factor))
    scores = products.matmul(b, query, moves.transpose(b, key, swap))
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if isinstance(attn_mask, Tensor) and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros(attn_mask.shape).masked_fill(~attn_mask, torch.finfo(torch.float32).min / 4)
    scores = scores if attn_mask is None else arith.binary(b, "add", scores, attn_mask)
    return products.matmul(b, pools.softmax(b, "softmax", scores, -1), value)


@captures("batch_norm")
def batch_norm(
    b: Builder,
    x: Array,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool = False,
) -> Array:
    if training or mean is None or var is None:
        raise Unsupported("normalises with the statistics of the batch, so call model.eval() and track statistics")
    scale = torch.ones_like(mean) if weight is None else weight
    offset = torch.zeros_like(mean) if bias is None else bias
    return norms.batch_norm(b, x, scale, offset, mean, var, eps)


@captures("_native_batch_norm_legit_no_training")
def stored_batch_norm(
    b: Builder,
    x: Array,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    var: Tensor,
    momentum: float,
    eps: float,
) -> list[Array]:
    return [batch_norm(b, x, weight, bias, mean, var, False, momentum, eps)]


@captures("layer_norm")
def layer_norm(
    b: Builder,
    x: Array,
    shape: list[int],
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    cudnn: bool = True,
) -> Array:
    axes = range(len(x.shape) - len(shape), len(x.shape))
    return norms.affine(b, norms.standardise(b, x, axes, eps), weight, bias)


@captures("rms_norm")
def rms_norm(b: Builder, x: Array, shape: list[int], weight: Array | None = None, eps: float | None = None) -> Array:
    axes = range(len(x.shape) - len(shape), len(x.shape))
    epsilon = torch.finfo(b.dtype).eps if eps is None else eps
    return norms.affine(b, norms.standardise(b, x, axes, epsilon, centre=False), weight, None)


@captures("group_norm")
def group_norm(
    b: Builder,
    x: Array,
    groups: int,
    weight: Array | None = None,
    bias: Array | None = None,
    eps: float = 1e-5,
    cudnn: bool = True,
) -> Array:
    return norms.group_norm(b, x, groups, weight, bias, eps)


@captures("instance_norm")
def instance_norm(
    b: Builder,
    x: Array,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn: bool = False,
) -> Array:
    if not use_input_stats:
        return batch_norm(b, x, weight, bias, mean, var, False, momentum, eps)
    return norms.group_norm(b, x, x.shape[1], weight, bias, eps)


@captures("linalg_vector_norm")
def vector_norm(b: Builder, x: Array, ord: float = 2, dim: Any = None, keepdim: bool = False, **_: Any) -> Array:
    axes = listed(dim, len(x.shape))
    if ord == 1:
        return pools.reduce(b, "sum", arith.unary(b, "abs", x), axes, keepdim)
    if ord != 2:
        raise Unsupported(f"is a norm of order {ord}")
    squares = arith.power(b, x, number(2.0))
    return arith.unary(b, "sqrt", pools.reduce(b, "sum", squares, axes, keepdim))
