"""ONNX operators on images and along axes: convolutions, averages, maxima, batch normalisation."""

from collections.abc import Sequence

import numpy as np

from withstand.checker.maps import Convolution, Dense, Scale, Transposed
from withstand.checker.maximum import Maximum
from withstand.checker.reading import Array, Node, Reading, Refused, Value, reads

Pair = tuple[int, int]


def _image(value: Value) -> tuple[int, Pair]:
    """Channels and size of a value [1, channels, height, width]; a sequence counts as an image of height 1."""
    if len(value.shape) not in (3, 4) or value.shape[0] != 1:
        raise Refused(f"takes a value of shape {value.shape}, not one image or sequence")
    return value.shape[1], ((1,) * (4 - len(value.shape)) + value.shape[2:])[-2:]  # type: ignore[return-value]


def _pair(n: Node, name: str, otherwise: int = 1) -> Pair:
    given = list(n.attrs.get(name, []))
    return ([otherwise] * (2 - len(given)) + given)[-2:] if given else (otherwise, otherwise)  # type: ignore


def _pads(n: Node, size: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> tuple[int, int, int, int]:
    """Top, left, bottom, right."""
    mode = n.attrs.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        ends = zip(size, kernel, stride, dilation, strict=True)
        whole = [max(0, (-(-i // s) - 1) * s + (k - 1) * d + 1 - i) for i, k, s, d in ends]
        less, more = [w // 2 for w in whole], [w - w // 2 for w in whole]
        return (*less, *more) if mode == "SAME_UPPER" else (*more, *less)  # type: ignore[return-value]
    given = list(n.attrs.get("pads", []))
    if mode == "VALID" or not given:
        return 0, 0, 0, 0
    return (0, given[0], 0, given[1]) if len(given) == 2 else tuple(given)  # type: ignore[return-value]


def _kernel(weight: Array) -> Array:
    """A weight [out, in, height, width], of height 1 for sequences."""
    return np.ascontiguousarray(weight[:, :, None] if weight.ndim == 3 else weight, np.float64)


def _apply(r: Reading, value: Value, map: Convolution | Transposed, channels: int, size: Pair) -> Value:
    return r.affine([(value, map)], None, (1, channels, *size[-(len(value.shape) - 2) :]))


def _add_channels(r: Reading, value: Value, constant: Array | None) -> Value:
    return value if constant is None else r.plus(value, constant.reshape(-1, *(1,) * (len(value.shape) - 2)))


@reads("Conv")
def convolve(r: Reading, n: Node) -> Value:
    value, weight = n.value(), _kernel(n.needed(1))
    channels, size = _image(value)
    stride, dilation, groups = _pair(n, "strides"), _pair(n, "dilations"), n.attrs.get("group", 1)
    pads = _pads(n, size, weight.shape[2:], stride, dilation)  # type: ignore[arg-type]
    if channels != weight.shape[1] * groups or len(weight) % groups:
        raise Refused(f"has weights of shape {weight.shape} for {channels} channels")
    map = Convolution(weight, size, stride, pads, dilation, groups)
    if min(map.out_size) < 1:
        raise Refused("has a kernel larger than its image")
    return _add_channels(r, _apply(r, value, map, len(weight), map.out_size), n.constant(2))


@reads("ConvTranspose")
def convolve_transposed(r: Reading, n: Node) -> Value:
    value, weight = n.value(), _kernel(n.needed(1))
    channels, size = _image(value)
    stride, dilation, groups = _pair(n, "strides"), _pair(n, "dilations"), n.attrs.get("group", 1)
    if n.attrs.get("auto_pad", "NOTSET") != "NOTSET" or "output_shape" in n.attrs:
        raise Refused("states its output's shape, not its pads")
    pads = _pads(n, size, weight.shape[2:], stride, dilation)  # type: ignore[arg-type]
    ends = zip(size, weight.shape[2:], stride, dilation, _pair(n, "output_padding", 0), pads, pads[2:], strict=False)
    out = tuple((i - 1) * s + (k - 1) * d + 1 + e - low - high for i, k, s, d, e, low, high in ends)
    map = Convolution(weight, out, stride, pads, dilation, groups)  # type: ignore[arg-type]
    if channels != len(weight) or map.out_size != size:
        raise Refused("has shapes that do not fit each other")
    return _add_channels(r, _apply(r, value, Transposed(map), map.channels, out), n.constant(2))  # type: ignore


@reads("AveragePool")
def average_pool(r: Reading, n: Node) -> Value:
    value = n.value()
    channels, size = _image(value)
    kernel, stride, dilation = _pair(n, "kernel_shape"), _pair(n, "strides"), _pair(n, "dilations")
    pads = _pads(n, size, kernel, stride, dilation)
    map = Convolution(np.ones((channels, 1, *kernel)), size, stride, pads, dilation, channels)
    if n.attrs.get("ceil_mode", 0) and map.out_size != _rounded_up(map):
        raise Refused("has windows that reach beyond the padded image (ceil_mode)")
    total = _apply(r, value, map, channels, map.out_size)
    count = np.full(map.outputs, float(kernel[0] * kernel[1]))
    if not n.attrs.get("count_include_pad", 0):
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
    value = n.value()
    channels, size = _image(value)
    kernel, stride, dilation = _pair(n, "kernel_shape"), _pair(n, "strides"), _pair(n, "dilations")
    pads = _pads(n, size, kernel, stride, dilation)
    map = Convolution(np.ones((channels, 1, *kernel)), size, stride, pads, dilation, channels)
    if n.outputs > 1 or (n.attrs.get("ceil_mode", 0) and map.out_size != _rounded_up(map)):
        raise Refused("gives its indices, or has windows that reach beyond the padded image (ceil_mode)")
    index = map.windows(r.places(value).reshape(channels, *size), -1)
    if (index < 0).all(1).any():
        raise Refused("has windows that lie in the padding alone")
    shape = (1, channels, *map.out_size[-(len(value.shape) - 2) :])
    return r.activation(value, Maximum(index, r.sizes[value.number]), shape)


@reads("GlobalMaxPool", "ReduceMax")
def largest(r: Reading, n: Node) -> Value:
    value = n.value()
    kept, axes, shape = _axes(n, value)
    index = r.places(value).transpose(*kept, *axes).reshape(int(np.prod(shape)), -1)
    return r.activation(value, Maximum(index, r.sizes[value.number]), shape)


def _axes(n: Node, value: Value) -> tuple[list[int], list[int], tuple[int, ...]]:
    """The axes to keep and those to reduce, and the result's shape."""
    rank = len(value.shape)
    everywhere = n.op.startswith("Global")
    given: Sequence[int] | None = range(2, rank) if everywhere else n.whole(1, "axes")
    axes = sorted(a % rank for a in (range(rank) if given is None else given))
    keep = everywhere or n.attrs.get("keepdims", 1)
    shape = tuple(1 if a in axes else s for a, s in enumerate(value.shape) if keep or a not in axes)
    return [a for a in range(rank) if a not in axes], axes, shape


@reads("GlobalAveragePool", "ReduceMean", "ReduceSum")
def mean(r: Reading, n: Node) -> Value:
    value = n.value()
    kept, axes, shape = _axes(n, value)
    last = r.moved(value, r.places(value).transpose(*kept, *axes))
    count, blocks = int(np.prod([value.shape[a] for a in axes])), int(np.prod(shape))
    total = r.affine([(last, Dense(np.ones((1, count)), blocks))], None, shape)
    if n.op == "ReduceSum":
        return total
    return r.affine([(total, Scale(np.full(blocks, 1 / count), 1))], None, shape)


@reads("BatchNormalization")
def batch_norm(r: Reading, n: Node) -> Value:
    """Its factor scale / sqrt(variance + epsilon) is known up to 3 roundings."""
    if n.attrs.get("training_mode", 0) or n.outputs > 1:
        raise Refused("is exported in training mode")
    scale, bias, mean, variance = (n.needed(i) for i in range(1, 5))
    spread = variance + n.attrs.get("epsilon", float(np.float32(1e-5)))
    if not (variance >= 0).all() or not (spread > 0).all():
        raise Refused("has a variance below zero")
    centred = _add_channels(r, n.value(), -mean)
    tail = (1,) * (len(centred.shape) - 2)
    factor = np.broadcast_to((scale / np.sqrt(spread)).reshape(-1, *tail), centred.shape).ravel()
    return _add_channels(r, r.affine([(centred, Scale(factor, 3))], None, centred.shape), bias)
