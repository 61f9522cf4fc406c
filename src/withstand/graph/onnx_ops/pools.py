"""ONNX pooling, reductions and softmax."""

import math

from withstand.graph.builder import Array, Builder, Unsupported, number
from withstand.graph.lower import arith, moves, pools
from withstand.graph.onnx_call import axis_of
from withstand.graph.onnx_ops import Call, lowers
from withstand.graph.onnx_ops.products import ends, sample_first, spatial_pads


@lowers("MaxPool", "AveragePool")
def pool(b: Builder, c: Call) -> Array:
    if c.outputs > 1:
        raise Unsupported("is asked for the places of its maxima")
    x = sample_first(b, c)
    rank = len(x.shape) - 2
    kernel, stride, dilation = (ends(c, name, rank, 1) for name in ("kernel_shape", "strides", "dilations"))
    c.attrs.get("storage_order")  # that of the places, which are not given
    pads = spatial_pads(c, x.shape[2:], kernel)
    if c.attrs["auto_pad"].startswith("SAME") and set(dilation) != {1}:
        raise Unsupported("is padded to the same size with dilations, which runtimes take for different sizes")
    ceil = bool(c.attrs.get("ceil_mode", 0))
    ends_ = zip(x.shape[2:], kernel, stride, dilation, pads)
    if ceil and c.version < 22 and any(pools.pooled_size(*e, True) < pools.stated_size(*e) for e in ends_):
        raise Unsupported("has windows that begin behind the image (ceil_mode), of which runtimes differ")
    if c.op == "MaxPool":
        return pools.max_pool(b, x, kernel, stride, pads, dilation, ceil)
    return pools.avg_pool(b, x, kernel, stride, pads, dilation, ceil, bool(c.attrs["count_include_pad"]))


@lowers("GlobalAveragePool")
def global_average_pool(b: Builder, c: Call) -> Array:
    return pools.reduce(b, "mean", c.array(0), range(2, len(c.array(0).shape)), True)


@lowers("GlobalMaxPool")
def global_max_pool(b: Builder, c: Call) -> Array:
    return pools.reduce_max(b, c.array(0), range(2, len(c.array(0).shape)), True)


def _square(b: Builder, x: Array) -> Array:
    return arith.power(b, x, number(2.0))


BEFORE = {"ReduceL1": "abs", "ReduceLogSumExp": "exp"}
AFTER = {"ReduceL2": "sqrt", "ReduceLogSum": "log", "ReduceLogSumExp": "log"}
REDUCTIONS = "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp"


@lowers(*REDUCTIONS.split())
def reduction(b: Builder, c: Call) -> Array:
    """No axes: all, unless the node says none."""
    x, keepdim = c.array(0), bool(c.attrs["keepdims"])
    none = c.attrs.get("noop_with_empty_axes", 0)
    axes = c.axes(1, len(x.shape)) or ([] if none else list(range(len(x.shape))))
    if len(set(axes)) < len(axes):
        raise Unsupported("names an axis twice")
    if not axes and c.op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"):
        return x
    if c.op == "ReduceMax":
        return pools.reduce_max(b, x, axes, keepdim)
    if c.op == "ReduceMin":
        return pools.reduce_min(b, x, axes, keepdim)
    if c.op in ("ReduceL2", "ReduceSumSquare"):
        x = _square(b, x)
    x = arith.unary(b, BEFORE[c.op], x) if c.op in BEFORE else x
    x = pools.reduce(b, "mean" if c.op == "ReduceMean" else "sum", x, axes, keepdim)
    return arith.unary(b, AFTER[c.op], x) if c.op in AFTER else x


@lowers("Softmax", "LogSoftmax")
def softmax(b: Builder, c: Call) -> Array:
    """Before operator set 13 all axes from `axis` on are one."""
    op = "softmax" if c.op == "Softmax" else "log_softmax"
    x = c.array(0)
    axis = axis_of(c.attrs["axis"], len(x.shape))
    if c.version >= 13:
        return pools.softmax(b, op, x, axis)
    if math.prod(x.shape[axis:]) == x.shape[axis]:
        return pools.softmax(b, op, x, axis)
    flat = moves.reshape(b, x, (*x.shape[:axis], math.prod(x.shape[axis:])))
    return moves.reshape(b, pools.softmax(b, op, flat, axis), x.shape)
