"""Pools, reductions and softmax."""

from contract.onnx_cases.case import case, whole

WIDE = (1, 2, 7, 6)
for op in ("MaxPool", "AveragePool"):
    case(op, WIDE, kernel_shape=[2, 3])
    case(op, WIDE, kernel_shape=[2, 3], strides=[2, 1], pads=[1, 1, 0, 1])
    case(op, WIDE, kernel_shape=[3, 3], strides=[2, 2], pads=[0, 1, 1, 0])
    case(op, WIDE, kernel_shape=[3, 2], dilations=[2, 1])
    case(op, WIDE, kernel_shape=[3, 2], dilations=[2, 2], pads=[1, 1, 1, 1])
    for mode in ("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"):
        case(op, WIDE, kernel_shape=[2, 3], auto_pad=mode, strides=[2, 2])
        case(op, WIDE, kernel_shape=[4, 4], auto_pad=mode, strides=[1, 2])
        case(op, WIDE, kernel_shape=[2, 3], dilations=[1, 1], auto_pad=mode)
        differ = ("checker", "reader") if mode.startswith("SAME") else ()
        case(op, WIDE, kernel_shape=[2, 2], dilations=[2, 2], auto_pad=mode, refused=differ)
    ceil = {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}
    case(op, WIDE, pads=[0, 0, 0, 0], refused=("checker",), **ceil)
    case(op, WIDE, pads=[1, 0, 0, 1], refused=("checker",), since=22, **ceil)
    case(op, WIDE, pads=[1, 0, 0, 1], refused=("checker", "reader"), until=21, **ceil)
    case(op, (1, 2, 6, 6), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    case(op, (1, 3, 8), kernel_shape=[3], strides=[2], pads=[1, 0])
    case(op, (1, 2, 4, 4, 4), kernel_shape=[2, 2, 2], refused=("checker",))
    case(op, (1, 2, 3, 3), kernel_shape=[4, 4], refused=("checker", "reader"))  # nothing is left
case("MaxPool", WIDE, kernel_shape=[2, 3], storage_order=1)
for pads in ([1, 1, 1, 1], [1, 0, 0, 1]):
    case("AveragePool", WIDE, kernel_shape=[3, 3], pads=pads, count_include_pad=1)
case("AveragePool", WIDE, kernel_shape=[2, 3], auto_pad="SAME_UPPER", count_include_pad=1)
for shape in ((1, 3, 5, 4), (1, 3, 5)):
    case("GlobalAveragePool", shape)
    case("GlobalMaxPool", shape)

REDUCTIONS = "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp"
for op in REDUCTIONS.split():
    first = 13 if op == "ReduceSum" else 18
    for since, until, kind in ((7, first - 1, list), (first, 23, lambda a: whole(*a))):
        span = {"since": since, "until": until, "low": 0.2}
        for axes in ([1], [2, 3], [3, 1]):
            case(op, (1, 2, 3, 4), axes=kind(axes), **span)
        case(op, (1, 2, 3, 4), axes=kind([1, 2]), keepdims=0, **span)
        case(op, (1, 2, 3), axes=kind([0]), keepdims=0, **span)
        case(op, (1, 2, 3), axes=kind([0, 1, 2]), keepdims=0, **span)
        case(op, (1, 2, 3), axes=kind([-1]), **(span | {"since": max(11, since)}))
        case(op, (1, 2, 3, 4), axes=kind([5]), **span)
        twice = span | {"since": max(11, since), "refused": ("checker", "reader")}
        case(op, (1, 2, 3), axes=kind([1, -2]), **twice)
    for keep in (0, 1):
        case(op, (1, 2, 3), keepdims=keep, low=0.2)
        case(op, (1, 2, 3), keepdims=keep, axes=whole(), low=0.2, since=first)
        case(op, (1, 2, 3), keepdims=keep, noop_with_empty_axes=1, low=0.2)
        case(op, (1, 2, 3), keepdims=keep, axes=whole(), noop_with_empty_axes=1, low=0.2)
        case(op, (1, 2, 3), keepdims=keep, axes=whole(1), noop_with_empty_axes=1, low=0.2)

for op in ("Softmax", "LogSoftmax"):
    case(op, (1, 2, 3))
    for axis in (0, 1, 2):
        case(op, (1, 2, 3), axis=axis)
    case(op, (1, 2, 3), axis=-1, since=11)
    case(op, (1, 2, 3, 4), axis=2)
