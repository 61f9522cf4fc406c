"""Operators that move numbers about."""

import numpy as np
from contract.onnx_cases.case import NEGATED, case, normal, whole

for axis in (0, 1, 2, 3, 4):
    case("Flatten", (1, 2, 3, 4), axis=axis)
for axis in (-1, -4):
    case("Flatten", (1, 2, 3, 4), axis=axis, since=11)
case("Flatten", (1, 2, 3))

for shape in ((0, -1), (-1, 24), (0, 0, -1), (1, 6, 4), (6, 4), (-1,), (24,), (2, 2, 6), (1, 0, 4, 3)):
    case("Reshape", (1, 2, 3, 4), shape=whole(*shape)) if shape != (1, 0, 4, 3) else None
case("Reshape", (1, 2, 3, 4), shape=whole(1, 0, -1))
case("Reshape", (1, 2, 3), shape=whole(1, 6), allowzero=1)
case("Reshape", (1, 2, 3), shape=whole(0, 6), allowzero=1, refused=("reader", "checker"))

case("Transpose", (1, 2, 3))
for perm in ([0, 2, 1, 3], [0, 3, 2, 1], [1, 0, 2, 3], [3, 2, 1, 0]):
    case("Transpose", (1, 2, 3, 4), perm=perm)

for until, kind in ((12, list), (23, lambda *a: whole(*a[0]))):
    since = 7 if until == 12 else 13
    for axes in ([0], [2], [0, 2]):
        case("Squeeze", (1, 3, 1, 2), axes=kind(axes), since=since, until=until)
    for axes in ([0], [2], [1, 3], [0, 4]):
        case("Unsqueeze", (1, 3, 2), axes=kind(axes), since=since, until=until)
    for axes in ([-2], [-4, 2]):
        case("Squeeze", (1, 3, 1, 2), axes=kind(axes), since=max(11, since), until=until)
        case("Unsqueeze", (1, 3, 2), axes=kind(axes), since=max(11, since), until=until)
    for sizes in ([1, 3], [3, 1], [2, 2]):
        case("Split", (1, 3, 4), axis=2, split=kind(sizes), outputs=2, since=since, until=until)
    case("Split", (1, 3, 4), axis=1, split=kind([1, 1, 1]), outputs=3, since=since, until=until)
    case("Split", (1, 3, 4), axis=2, split=kind([1, 1]), outputs=2, since=since, until=until)  # not all of it
    case("Squeeze", (1, 3, 1, 2), axes=kind([1]), since=since, until=until)  # an axis of size 3
case("Squeeze", (1, 3, 1, 2))
case("Squeeze", (1, 3, 1, 2), axes=whole(), since=13, refused=("checker", "reader"))  # runtimes differ in it
case("Split", (1, 3, 4), axis=-1, outputs=2, until=17)
case("Split", (2, 3), outputs=2, until=17)
case("Split", (1, 3, 5), axis=2, outputs=2, until=17)
case("Split", (1, 3, 7), axis=2, num_outputs=3, outputs=3)
case("Split", (1, 3, 6), axis=-1, num_outputs=3, outputs=3)
case("Split", (1, 3, 5), axis=2, num_outputs=2, outputs=2)
case("Split", (1, 3, 6), axis=2, num_outputs=3, outputs=2)

for axis in (1, 2, -1, 0):
    case("Concat", (1, 2, 3), more=(NEGATED, normal(1, 2, 3)), axis=axis)
case("Concat", (1, 2, 3), axis=1)

LISTS = {"starts": [1, -1], "ends": [4, -9], "axes": [2, 1], "steps": [2, -1]}
for axes in (None, [0, 1, 2], [-1, 1, 0]):
    given = {"starts": [0, -2, 1], "ends": [1, 2**31, 9] if axes != [-1, 1, 0] else [3, 2**31, 9]}
    given["starts"][2] = 1 if axes != [-1, 1, 0] else 0
    given |= {"axes": axes} if axes else {}
    case("Slice", (1, 3, 5), **{k: list(v) for k, v in given.items()}, until=9)
    case("Slice", (1, 3, 5), **{k: whole(*v) for k, v in given.items()}, since=10)
for start, stop, step in [(7, 0, -1), (-1, -9, -2), (-9, -99, -1), (4, -6, -3), (0, 5, 2), (1, 99, 3), (-3, -1, 1)]:
    given = {"starts": whole(start), "ends": whole(stop), "axes": whole(-1), "steps": whole(step)}
    case("Slice", (1, 2, 5), **given)
case("Slice", (1, 2, 5), starts=whole(3), ends=whole(-(2**62)), axes=whole(2), steps=whole(-1))

for axis in (1, 2, -1):
    for index in (1, [0, 2], [[0, 1], [2, 2]]):
        case("Gather", (1, 3, 4), axis=axis, indices=np.array(index, np.int64))
    case("Gather", (1, 3, 4), axis=axis, indices=whole(-1, 0), since=11)
case("Gather", (1, 3), indices=whole(0))
case("Gather", (1, 3), indices=np.int32(0))
case("Gather", (1, 3), axis=1, indices=whole(3))
case("GatherND", (2, 3, 4), indices=np.array([[[0, 1], [1, -1]]]))
case("GatherND", (2, 3, 4), indices=np.array([[0], [1]]), batch_dims=1, refused=("reader",))

for until, kind in ((10, list), (23, lambda a: whole(*a))):
    since = 7 if until == 10 else 11
    case("Pad", (1, 3, 4), pads=kind([0, 1, 2, 0, 0, 1]), since=since, until=until)
    case("Pad", (1, 3, 4), pads=kind([0, -1, 0, 0, 0, -2]), since=since, until=until, refused=("checker",))
    for mode in ("constant", "reflect", "edge"):
        refused = () if mode == "constant" else ("checker",)
        case("Pad", (1, 3, 4), pads=kind([0, 1, 2, 0, 2, 1]), mode=mode, since=since, until=until, refused=refused)
case("Pad", (1, 3, 4), pads=whole(0, 1, 2, 0, 2, 1), mode="wrap", refused=("checker", "reader"))
case("Pad", (1, 3, 4), pads=[0, 1, 0, 0, 0, 1], value=1.5, until=10)
case("Pad", (1, 3, 4), pads=whole(0, 1, 0, 0, 0, 1), value=np.float32(1.5), since=11)
case("Pad", (1, 3, 4), pads=whole(1, 2), axes=whole(-1))
case("Pad", (1, 3, 4), pads=whole(1, 2, 0, 1), axes=whole(2, 1), value=np.float32(-1.0))

for shape in ((1, 4, 3), (3,), (1, 1), (2, 4, 3), (2, 1, 4, 3)):
    case("Expand", (1, 1, 3) if len(shape) != 2 else (1, 3), shape=whole(*shape))
case("Tile", (1, 2, 3), repeats=whole(1, 2, 3))
case("Tile", (1, 2, 3), repeats=whole(2, 1, 1))
for mode in ("DCR", "CRD"):
    case("DepthToSpace", (1, 8, 2, 3), blocksize=2, mode=mode)
case("DepthToSpace", (1, 8, 2, 3), blocksize=2)
case("SpaceToDepth", (1, 2, 4, 6), blocksize=2)

SCALES, SIZES = np.array([1, 1, 2, 1.5], float), whole(1, 2, 5, 7)
IMAGE = (1, 2, 3, 4)
for mode in ("nearest", "linear"):
    case("Resize", IMAGE, scales=SCALES, mode=mode)
    case("Resize", IMAGE, sizes=SIZES, mode=mode)
    case("Upsample", IMAGE, scales=[1.0, 1.0, 2.0, 2.0], mode=mode, until=8)
    case("Upsample", IMAGE, scales=np.array([1, 1, 2, 2], float), mode=mode, since=9)
case("Resize", IMAGE, scales=SCALES)
case("Resize", IMAGE, roi=np.zeros(0, np.float32), scales=SCALES)
case("Resize", IMAGE, scales=SCALES, mode="cubic", cubic_coeff_a=-0.5)
case("Resize", IMAGE, scales=SCALES, mode="cubic", exclude_outside=1)
for place in ("asymmetric", "align_corners", "pytorch_half_pixel"):
    case("Resize", IMAGE, scales=SCALES, mode="linear", coordinate_transformation_mode=place)
for rounding in ("floor", "ceil", "round_prefer_ceil"):
    case("Resize", IMAGE, scales=SCALES, nearest_mode=rounding)
case("Resize", IMAGE, scales=np.array([1, 1, 0.5, 0.5], float), mode="linear", antialias=1)
case("Resize", IMAGE, sizes=whole(5, 7), axes=[2, 3], mode="linear")
case("Resize", IMAGE, sizes=whole(6, 6), axes=[2, 3], keep_aspect_ratio_policy="not_larger", refused=("reader",))
CROP = {
    "coordinate_transformation_mode": "tf_crop_and_resize",
    "roi": np.array([0, 0, 0.1, 0.1, 1, 1, 0.8, 0.8], float),
}
case("Resize", IMAGE, sizes=SIZES, mode="linear", extrapolation_value=2.0, refused=("reader",), **CROP)
