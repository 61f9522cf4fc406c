"""Operators that readers compute of constants, such as shapes."""

import numpy as np
from contract.onnx_cases.case import case, whole
from onnx import TensorProto, helper

case("Shape", (1, 2, 3))
for start, end in ((0, 2), (1, None), (-2, None), (0, -1), (2, 1), (-9, 9)):
    case("Shape", (1, 2, 3), start=start, **({"end": end} if end is not None else {}))
case("Size", (1, 2, 3))

for shape in ((3,), (2, 1), ()):
    case("ConstantOfShape", (0,), input=whole(*shape), still=True)
    filling = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.5])
    case("ConstantOfShape", (0,), input=whole(*shape), value=filling, still=True)
    filling = helper.make_tensor("v", TensorProto.INT64, [1], [-2])
    case("ConstantOfShape", (0,), input=whole(*shape), value=filling, still=True)

INTS = {"still": True, "kind": np.int64, "low": -9.0, "high": 9.0}
for op in ("Add", "Sub", "Mul", "Div", "Equal"):
    for other in (whole(3, -2, 2**40 + 1), np.array([[5], [-7]])):
        case(op, (2, 3), B=other, **INTS)
case("Div", (3,), A=whole(2**60 + 1, -(2**60) - 1, -7), B=whole(3, 2, 2), **INTS)
case("Equal", (3,), A=whole(1, 2, 3), B=whole(1, 3, 3), **INTS)
for other in (whole(3, -4, 5), np.array([[5], [-7]])):
    case("Mod", (2, 3), B=other, **INTS)
    case("Mod", (2, 3), B=other, fmod=1, **INTS)
case("Neg", (4,), **INTS)
for op in ("Min", "Max"):
    case(op, (2, 3), more=(whole(1, -2, 3), whole(0)), **INTS)
for start, limit, delta in ((0, 5, 1), (5, 0, -2), (3, 3, 1), (0, 7, 3)):
    case("Range", (), start=np.int64(start), limit=np.int64(limit), delta=np.int64(delta), still=True)
for keep in (0, 1):
    case("ReduceProd", (2, 3), keepdims=keep, **INTS)
    case("ReduceProd", (2, 3), keepdims=keep, axes=[1], until=17, **INTS)
    case("ReduceProd", (2, 3), keepdims=keep, axes=whole(-1), since=18, **INTS)
    case("ReduceProd", (2, 3), keepdims=keep, noop_with_empty_axes=1, **INTS)
    case("ReduceProd", (2, 3), keepdims=keep, axes=whole(), since=18, **INTS)
for to in (1, 6, 7, 9, 11):
    case("Cast", (5,), to=to, still=True)
    case("Cast", (5,), to=to, **INTS)
for op, given in (("Gather", {"indices": whole(-1, 0)}), ("Reshape", {"shape": whole(3, -1)})):
    case(op, (2, 3), **given, **INTS)
case("Gather", (3,), indices=np.int64(-1), **INTS)
case("Concat", (2, 3), more=(np.array([[1, 2, 3]]),), axis=0, **INTS)
case("Concat", (2, 3), more=(np.array([[1], [2]]),), axis=-1, **INTS)
for repeats in ((2, 1), (1, 0), (2, 3)):
    case("Tile", (2, 3), repeats=whole(*repeats), **INTS)
case("Where", (2, 3), condition=np.array([[True], [False]]), Y=whole(1, 2, 3), at="X", **INTS)
case("Pad", (2, 3), pads=whole(1, 0, 0, 2), constant_value=np.int64(7), **INTS)
case("Slice", (2, 3), starts=whole(-1), ends=whole(-9), axes=whole(1), steps=whole(-2), **INTS)
