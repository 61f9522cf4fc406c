"""ONNX operators with weights: matrix products, convolutions, normalisations."""

from collections.abc import Sequence

from torch import Tensor

from withstand.graph.builder import Array, Builder, Unsupported, Value, number
from withstand.graph.lower import arith, moves, norms, products
from withstand.graph.onnx_ops import Call, lowers


def spatial_pads(c: Call, sizes: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
    """(before, after) on each spatial axis, from `pads` or `auto_pad`."""
    mode = c.attrs.get("auto_pad", "NOTSET")
    rank = len(kernel)
    if mode == "VALID":
        return [(0, 0)] * rank
    if mode == "NOTSET":
        flat = c.attrs.get("pads", [0] * 2 * rank)
        return list(zip(flat[:rank], flat[rank:]))
    pads = []
    for axis, size in enumerate(sizes):
        stride = c.attrs.get("strides", [1] * rank)[axis]
        reach = c.attrs.get("dilations", [1] * rank)[axis] * (kernel[axis] - 1) + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        small = total // 2
        pads.append((small, total - small) if mode == "SAME_UPPER" else (total - small, small))
    return pads


def sample_first(b: Builder, c: Call) -> Array:
    """The first input; a batch folded away is found again."""
    x = c.array(0)
    return b.batched(x) if isinstance(x, Value) else x


@lowers("MatMul")
def matmul(b: Builder, c: Call) -> Array:
    return products.matmul(b, c.array(0), c.array(1))


@lowers("Gemm")
def gemm(b: Builder, c: Call) -> Array:
    x, y, bias = c.array(0), c.array(1), c.optional(2)
    x = moves.transpose(b, x, (1, 0)) if c.attrs.get("transA", 0) else x
    y = moves.transpose(b, y, (1, 0)) if c.attrs.get("transB", 0) else y
    alpha, beta = c.attrs.get("alpha", 1.0), c.attrs.get("beta", 1.0)
    if alpha != 1.0:
        target = (x, arith.binary(b, "mul", y, number(alpha)))
        x, y = target if isinstance(y, Tensor) else (arith.binary(b, "mul", x, number(alpha)), y)
    if bias is not None and beta != 1.0:
        bias = arith.binary(b, "mul", bias, number(beta))
    return products.gemm(b, x, y, bias)


@lowers("Conv")
def conv(b: Builder, c: Call) -> Array:
    x, weight = sample_first(b, c), c.array(1)
    kernel = weight.shape[2:]
    rank = len(kernel)
    return products.convolve(
        b,
        x,
        weight,
        c.optional(2),
        stride=c.attrs.get("strides", [1] * rank),
        pads=spatial_pads(c, x.shape[2:], kernel),
        dilation=c.attrs.get("dilations", [1] * rank),
        groups=c.attrs.get("group", 1),
    )


@lowers("ConvTranspose")
def conv_transpose(b: Builder, c: Call) -> Array:
    x, weight = sample_first(b, c), c.array(1)
    kernel = weight.shape[2:]
    rank = len(kernel)
    stride, dilation = c.attrs.get("strides", [1] * rank), c.attrs.get("dilations", [1] * rank)
    extra = c.attrs.get("output_padding", [0] * rank)
    flat = c.attrs.get("pads", [0] * 2 * rank)
    pads = list(zip(flat[:rank], flat[rank:]))
    full = [(s - 1) * t + (k - 1) * d + 1 + e for s, t, k, d, e in zip(x.shape[2:], stride, kernel, dilation, extra)]
    mode = c.attrs.get("auto_pad", "NOTSET")
    wanted = c.attrs.get("output_shape")
    if wanted is None and mode.startswith("SAME"):
        wanted = [s * t for s, t in zip(x.shape[2:], stride)]
    if wanted is not None:
        totals = [f - w for f, w in zip(full, wanted[-rank:])]
        upper = mode != "SAME_LOWER" if mode != "NOTSET" else False
        pads = [(t // 2, t - t // 2) if upper else (t - t // 2, t // 2) for t in totals]
    groups = c.attrs.get("group", 1)
    options = {"stride": stride, "pads": pads, "extra": extra, "dilation": dilation, "groups": groups}
    return products.convolve_transposed(b, x, weight, c.optional(2), **options)


@lowers("BatchNormalization")
def batch_norm(b: Builder, c: Call) -> Array:
    if c.attrs.get("training_mode", 0) or c.outputs > 1:
        raise Unsupported("is exported in training mode, so export the model after model.eval()")
    statistics = [c.array(i) for i in range(1, 5)]
    return norms.batch_norm(b, sample_first(b, c), *statistics, eps=c.attrs.get("epsilon", 1e-5))


@lowers("InstanceNormalization")
def instance_norm(b: Builder, c: Call) -> Array:
    x = c.array(0)
    return norms.group_norm(b, x, x.shape[1], c.array(1), c.array(2), c.attrs.get("epsilon", 1e-5))


@lowers("GroupNormalization")
def group_norm(b: Builder, c: Call) -> Array:
    return norms.group_norm(b, c.array(0), c.attrs["num_groups"], c.array(1), c.array(2), c.attrs.get("epsilon", 1e-5))


@lowers("LayerNormalization", "RMSNormalization")
def layer_norm(b: Builder, c: Call) -> Array:
    if c.outputs > 1:
        raise Unsupported("is asked for its mean or deviation")
    x = c.array(0)
    rank = len(x.shape)
    axes = range(c.attrs.get("axis", -1) % rank, rank)
    centre = c.op == "LayerNormalization"
    y = norms.standardise(b, x, axes, c.attrs.get("epsilon", 1e-5), centre=centre)
    return norms.affine(b, y, c.array(1), c.optional(2))
