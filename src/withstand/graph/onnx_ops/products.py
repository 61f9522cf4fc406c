"""ONNX operators with weights: matrix products, convolutions, normalisations."""

from collections.abc import Sequence

from torch import Tensor

from withstand.graph.builder import Array, Builder, Unsupported, Value, number
from withstand.graph.lower import arith, moves, norms, products
from withstand.graph.onnx_call import axis_of
from withstand.graph.onnx_ops import Call, lowers


def spatial_pads(c: Call, sizes: Sequence[int], kernel: Sequence[int]) -> list[tuple[int, int]]:
    """(before, after) on each spatial axis, from `pads` or `auto_pad`."""
    mode = c.attrs["auto_pad"]
    rank = len(kernel)
    flat = ends(c, "pads", 2 * rank, 0)
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER") or (mode != "NOTSET" and any(flat)):
        raise Unsupported(f"is padded in the way {mode} and by numbers too")
    if mode in ("NOTSET", "VALID"):
        return list(zip(flat[:rank], flat[rank:]))
    pads = []
    for axis, size in enumerate(sizes):
        stride = ends(c, "strides", rank, 1)[axis]
        reach = ends(c, "dilations", rank, 1)[axis] * (kernel[axis] - 1) + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        small = total // 2
        pads.append((small, total - small) if mode == "SAME_UPPER" else (total - small, small))
    return pads


def ends(c: Call, name: str, count: int, otherwise: int) -> list[int]:
    """An attribute of so many whole numbers, at least 0."""
    found = list(c.attrs.get(name, [otherwise] * count))
    if len(found) != count or min(found, default=0) < 0:
        raise Unsupported(f"has {name} of {found}, where {count} numbers are needed")
    return found


def kernel_of(c: Call, x: Array, weight: Array) -> list[int]:
    """The size of a kernel on each spatial axis."""
    kernel = list(weight.shape[2:])
    if len(x.shape) != len(weight.shape) or list(c.attrs.get("kernel_shape", kernel)) != kernel:
        raise Unsupported(f"has weights of shape {tuple(weight.shape)} for an input of shape {tuple(x.shape)}")
    return kernel


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
    x = moves.transpose(b, x, (1, 0)) if c.attrs["transA"] else x
    y = moves.transpose(b, y, (1, 0)) if c.attrs["transB"] else y
    alpha, beta = c.attrs["alpha"], c.attrs["beta"]
    if alpha != 1.0:
        target = (x, arith.binary(b, "mul", y, number(alpha)))
        x, y = target if isinstance(y, Tensor) else (arith.binary(b, "mul", x, number(alpha)), y)
    if bias is not None and beta != 1.0:
        bias = arith.binary(b, "mul", bias, number(beta))
    return products.gemm(b, x, y, bias)


@lowers("Conv")
def conv(b: Builder, c: Call) -> Array:
    x, weight = sample_first(b, c), c.array(1)
    kernel = kernel_of(c, x, weight)
    rank = len(kernel)
    return products.convolve(
        b,
        x,
        weight,
        c.optional(2),
        stride=ends(c, "strides", rank, 1),
        pads=spatial_pads(c, x.shape[2:], kernel),
        dilation=ends(c, "dilations", rank, 1),
        groups=c.attrs["group"],
    )


@lowers("ConvTranspose")
def conv_transpose(b: Builder, c: Call) -> Array:
    x, weight = sample_first(b, c), c.array(1)
    kernel = kernel_of(c, x, weight)
    rank = len(kernel)
    stride, dilation = ends(c, "strides", rank, 1), ends(c, "dilations", rank, 1)
    extra, flat = ends(c, "output_padding", rank, 0), ends(c, "pads", 2 * rank, 0)
    pads = list(zip(flat[:rank], flat[rank:]))
    full = [(s - 1) * t + (k - 1) * d + 1 + e for s, t, k, d, e in zip(x.shape[2:], stride, kernel, dilation, extra)]
    mode = c.attrs["auto_pad"]
    wanted = c.attrs.get("output_shape")
    if wanted is None and mode.startswith("SAME"):
        wanted = [s * t for s, t in zip(x.shape[2:], stride)]
    if wanted is not None:
        totals = [f - w for f, w in zip(full, wanted[-rank:])]
        upper = mode != "SAME_LOWER" if mode != "NOTSET" else False
        pads = [(t // 2, t - t // 2) if upper else (t - t // 2, t // 2) for t in totals]
    groups = c.attrs["group"]
    options = {"stride": stride, "pads": pads, "extra": extra, "dilation": dilation, "groups": groups}
    return products.convolve_transposed(b, x, weight, c.optional(2), **options)


@lowers("BatchNormalization")
def batch_norm(b: Builder, c: Call) -> Array:
    c.attrs["momentum"]  # for training alone
    if not c.attrs.get("spatial", 1):
        raise Unsupported("has statistics of every place")
    if c.attrs.get("training_mode", 0) or c.outputs > 1:
        raise Unsupported("is exported in training mode, so export the model after model.eval()")
    statistics = [c.array(i) for i in range(1, 5)]
    x = sample_first(b, c)
    if any(tuple(p.shape) != tuple(x.shape[1:2]) for p in statistics):
        raise Unsupported(f"has no number for each of the {x.shape[1]} channels")
    return norms.batch_norm(b, x, *statistics, eps=c.attrs["epsilon"])


@lowers("InstanceNormalization")
def instance_norm(b: Builder, c: Call) -> Array:
    x = c.array(0)
    return norms.group_norm(b, x, x.shape[1], c.array(1), c.array(2), c.attrs["epsilon"])


@lowers("GroupNormalization")
def group_norm(b: Builder, c: Call) -> Array:
    return norms.group_norm(b, c.array(0), c.attrs["num_groups"], c.array(1), c.array(2), c.attrs["epsilon"])


@lowers("LayerNormalization", "RMSNormalization")
def layer_norm(b: Builder, c: Call) -> Array:
    if c.outputs > 1:
        raise Unsupported("is asked for its mean or deviation")
    x = c.array(0)
    rank = len(x.shape)
    axes = range(axis_of(c.attrs["axis"], rank), rank)
    centre = c.op == "LayerNormalization"
    y = norms.standardise(b, x, axes, c.attrs["epsilon"], centre=centre)
    return norms.affine(b, y, c.array(1), c.optional(2))
