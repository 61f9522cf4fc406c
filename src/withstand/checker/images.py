"""ONNX operators on images and along axes: convolutions, averages, maxima, batch normalisation."""

import numpy as np

from withstand.checker.maps import Convolution, Dense, Scale, Transposed
from withstand.checker.maximum import Maximum
from withstand.checker.node import exact
from withstand.checker.reading import Array, Node, Reading, Refused, Value, reads

Pair = tuple[int, int]


def _image(value: Value) -> tuple[int, Pair]:
    """Channels and size of a value [1, channels, height, width]; a sequence counts as an image of height 1."""
    if len(value.shape) not in (3, 4) or value.shape[0] != 1:
        raise Refused(f"takes a value of shape {value.shape}, not one image or sequence")
    return value.shape[1], ((1,) * (4 - len(value.shape)) + value.shape[2:])[-2:]  # type: ignore[return-value]


def _each(n: Node, name: str, count: int, otherwise: int = 1) -> list[int]:
    """An attribute of one number, at least 0, for each of so many ends."""
    given = n.attr(name, [otherwise] * count)
    if len(given) != count or min(given) < 0:
        raise Refused(f"has {name} of {list(given)} for {count} of them")
    return list(given)


def _pair(n: Node, value: Value, name: str, otherwise: int = 1) -> Pair:
    """An attribute for height and width."""
    given = _each(n, name, len(value.shape) - 2, otherwise)
    return ([otherwise] * (2 - len(given)) + given)[-2:]  # type: ignore[return-value]


def _steps(n: Node, value: Value) -> tuple[Pair, Pair]:
    """Strides and dilations."""
    stride, dilation = _pair(n, value, "strides"), _pair(n, value, "dilations")
    if 0 in stride + dilation:
        raise Refused("has strides or dilations of 0")
    return tuple(stride), tuple(dilation)  # type: ignore[return-value]


def _pads(n: Node, value: Value, kernel: Pair, stride: Pair, dilation: Pair) -> tuple[int, int, int, int]:
    """Top, left, bottom, right."""
    mode, rank = n.attr("auto_pad"), len(value.shape) - 2
    given = _each(n, "pads", 2 * rank, 0)
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER") or (mode != "NOTSET" and any(given)):
        raise Refused(f"is padded in the way {mode} and by numbers too")
    if mode in ("NOTSET", "VALID"):
        return (0, given[0], 0, given[1]) if rank == 1 else tuple(given)  # type: ignore[return-value]
    ends = zip(_image(value)[1], kernel, stride, dilation, strict=True)
    whole = [max(0, (-(-i // s) - 1) * s + (k - 1) * d + 1 - i) for i, k, s, d in ends]
    less, more = [w // 2 for w in whole], [w - w // 2 for w in whole]
    return (*less, *more) if mode == "SAME_UPPER" else (*more, *less)  # type: ignore[return-value]


def _weight(n: Node, value: Value) -> Array:
    """A weight [out, in, height, width], of height 1 for sequences."""
    weight = n.needed(1)
    if weight.ndim != len(value.shape) or list(n.attr("kernel_shape", weight.shape[2:])) != list(weight.shape[2:]):
        raise Refused(f"has weights of shape {weight.shape} for a value of shape {value.shape}")
    return np.ascontiguousarray(weight[:, :, None] if weight.ndim == 3 else weight, np.float64)


def _apply(r: Reading, value: Value, map: Convolution | Transposed, channels: int, size: Pair) -> Value:
    return r.affine([(value, map)], None, (1, channels, *size[-(len(value.shape) - 2) :]))


def _add_channels(r: Reading, value: Value, constant: Array | None) -> Value:
    return value if constant is None else r.plus(value, _channels(value, constant))


def _channels(value: Value, constant: Array) -> Array:
    """One number a channel in the form in which it broadcasts."""
    if constant.shape != value.shape[1:2]:
        raise Refused(f"has numbers of shape {constant.shape} for a value of shape {value.shape}")
    return constant.reshape(-1, *(1,) * (len(value.shape) - 2))


@reads("Conv")
def convolve(r: Reading, n: Node) -> Value:
    value = n.value()
    channels, size = _image(value)
    weight, (stride, dilation), groups = _weight(n, value), _steps(n, value), n.attr("group")
    pads = _pads(n, value, weight.shape[2:], stride, dilation)  # type: ignore[arg-type]
    if channels != weight.shape[1] * groups or len(weight) % groups:
        raise Refused(f"has weights of shape {weight.shape} for {channels} channels")
    map = Convolution(weight, size, stride, pads, dilation, groups)
    if min(map.out_size) < 1:
        raise Refused("has a kernel larger than its image")
    return _add_channels(r, _apply(r, value, map, len(weight), map.out_size), n.constant(2))


@reads("ConvTranspose")
def convolve_transposed(r: Reading, n: Node) -> Value:
    value = n.value()
    channels, size = _image(value)
    weight, (stride, dilation), groups = _weight(n, value), _steps(n, value), n.attr("group")
    if n.attr("auto_pad") != "NOTSET" or n.attr("output_shape") is not None:
        raise Refused("states its output's shape, not its pads")
    pads, extra = _pads(n, value, weight.shape[2:], stride, dilation), _pair(n, value, "output_padding", 0)  # type: ignore[arg-type]
    extra = (0, extra[1]) if len(value.shape) == 3 else extra
    ends = zip(size, weight.shape[2:], stride, dilation, extra, pads, pads[2:], strict=False)
    out = tuple((i - 1) * s + (k - 1) * d + 1 + e - low - high for i, k, s, d, e, low, high in ends)
    map = Convolution(weight, out, stride, pads, dilation, groups)  # type: ignore[arg-type]
    if channels != len(weight) or channels % groups or min(out) < 1 or map.out_size != size:
        raise Refused("has shapes that do not fit each other")
    return _add_channels(r, _apply(r, value, Transposed(map), map.channels, out), n.constant(2))  # type: ignore


def _pooling(n: Node, value: Value) -> Convolution:
    """The sums over a pool's windows."""
    channels, size = _image(value)
    kernel, (stride, dilation) = _pair(n, value, "kernel_shape"), _steps(n, value)
    pads = _pads(n, value, kernel, stride, dilation)
    map = Convolution(np.ones((channels, 1, *kernel)), size, stride, pads, dilation, channels)
    if min(map.out_size) < 1:
        raise Refused("has windows larger than its image")
    if n.attr("auto_pad").startswith("SAME") and set(dilation) != {1}:
        raise Refused("is padded to the same size with dilations, which runtimes take for different sizes")
    if n.attr("ceil_mode", 0) and map.out_size != _rounded_up(map):
        raise Refused("has windows that reach beyond the padded image (ceil_mode)")
    return map


@reads("AveragePool")
def average_pool(r: Reading, n: Node) -> Value:
    value = n.value()
    map = _pooling(n, value)
    total = _apply(r, value, map, map.channels, map.out_size)
    count = np.full(map.outputs, float(np.prod(map.weight.shape[2:])))
    if not n.attr("count_include_pad"):
        count = map.forward(np.ones((1, map.inputs)))[0]
    if not count.all():
        raise Refused("has windows that lie in the padding alone")
    return r.affine([(total, Scale(1 / count, 1))], None, total.shape)


def _rounded_up(map: Convolution) -> Pair:
    ends = zip(map.size, map.pads, map.pads[2:], map.weight.shape[2:], map.dilation, map.stride, strict=False)
    height, width = (-(-(i + low + high - (k - 1) * d - 1) // s) + 1 for i, low, high, k, d, s in ends)
    return height, width


@reads("MaxPool")
def max_pool(r: Reading, n: Node) -> Value:
    """The order of storage is that of the indices, which are not given."""
    value = n.value()
    map = _pooling(n, value)
    n.attr("storage_order")
    if n.outputs > 1:
        raise Refused("gives its indices")
    index = map.windows(r.places(value).reshape(map.channels, *map.size), -1)
    if (index < 0).all(1).any():
        raise Refused("has windows that lie in the padding alone")
    shape = (1, map.channels, *map.out_size[-(len(value.shape) - 2) :])
    return r.activation(value, Maximum(index, r.sizes[value.number]), shape)


@reads("GlobalMaxPool", "ReduceMax")
def largest(r: Reading, n: Node) -> Value:
    value = n.value()
    kept, axes, shape = _axes(n, value)
    if not axes:
        return value
    index = r.places(value).transpose(*kept, *axes).reshape(int(np.prod(shape)), -1)
    return r.activation(value, Maximum(index, r.sizes[value.number]), shape)


def _axes(n: Node, value: Value) -> tuple[list[int], list[int], tuple[int, ...]]:
    """The axes to keep and those to reduce, and the result's shape. No axes: all, unless the node says none."""
    rank = len(value.shape)
    if everywhere := n.op.startswith("Global"):
        _image(value)
        axes = list(range(2, rank))
    else:
        none = n.attr("noop_with_empty_axes", 0)
        axes = sorted(n.axes(1, rank) or ([] if none else range(rank)))
    if len(set(axes)) < len(axes):
        raise Refused("names an axis twice")
    keep = everywhere or n.attr("keepdims")
    shape = tuple(1 if a in axes else s for a, s in enumerate(value.shape) if keep or a not in axes)
    return [a for a in range(rank) if a not in axes], axes, shape


@reads("GlobalAveragePool", "ReduceMean", "ReduceSum")
def mean(r: Reading, n: Node) -> Value:
    value = n.value()
    kept, axes, shape = _axes(n, value)
    if not axes:
        return value
    last = r.moved(value, r.places(value).transpose(*kept, *axes))
    count, blocks = int(np.prod([value.shape[a] for a in axes])), int(np.prod(shape))
    total = r.affine([(last, Dense(np.ones((1, count)), blocks))], None, shape)
    if n.op == "ReduceSum":
        return total
    return r.affine([(total, Scale(np.full(blocks, 1 / count), 1))], None, shape)


@reads("BatchNormalization")
def batch_norm(r: Reading, n: Node) -> Value:
    """Its factor scale / sqrt(variance + epsilon) is known up to 3 roundings. Momentum is for training alone."""
    n.attr("momentum")
    if n.attr("training_mode", 0) or n.outputs > 1:
        raise Refused("is exported in training mode")
    if not n.attr("spatial", 1):
        raise Refused("has statistics of every place")
    scale, bias, mean, variance = (_channels(n.value(), n.needed(i)) for i in range(1, 5))
    spread = variance + n.attr("epsilon")
    if not (variance >= 0).all() or not (spread > 0).all():
        raise Refused("has a variance below zero")
    centred = r.plus(n.value(), -mean)
    factor = np.broadcast_to(exact(scale / np.sqrt(spread)), centred.shape).ravel()
    return r.plus(r.affine([(centred, Scale(factor, 3))], None, centred.shape), bias)
