"""Operators with weights, and normalisations."""

import numpy as np
from contract.onnx_cases.case import NEGATED, case, normal

case("Gemm", (1, 4), B=normal(4, 3))
case("Gemm", (1, 4), B=normal(3, 4), transB=1)
case("Gemm", (4, 2), B=normal(4, 3), transA=1)
case("Gemm", (2, 4), B=normal(4, 3), C=normal(2, 1))
for bias in ((), (1,), (3,), (1, 3)):
    case("Gemm", (1, 4), B=normal(4, 3), C=normal(*bias))
    case("Gemm", (1, 4), B=normal(4, 3), C=normal(*bias), alpha=0.5, beta=2.0, refused=("checker",))
case("Gemm", (1, 4), B=normal(4, 3), C=normal(3), alpha=-0.5)
case("Gemm", (1, 4), B=normal(4, 3), C=normal(3), beta=0.0)
case("Gemm", (1, 4), B=normal(4, 3), C=normal(2, 3))  # the bias may not widen the product
case("Gemm", (1, 4), B=normal(5, 3))
case("Gemm", (3, 4), A=normal(2, 3), at="B", refused=("checker",))

for shape, k in [((1, 4), (4, 3)), ((1, 2, 4), (4, 3)), ((2, 4), (4,)), ((4,), (4, 3)), ((4,), (4,))]:
    case("MatMul", shape, B=normal(*k))
for shape, k in [((3, 4), (1, 1, 4, 2)), ((4,), (1, 4, 2)), ((1, 3, 4), (1, 4, 2)), ((1, 1, 3, 4), (1, 4, 2))]:
    case("MatMul", shape, B=normal(*k))
case("MatMul", (1, 2, 4), B=normal(2, 4, 3), refused=("checker",))
for k, shape in [((3, 4), (4, 2)), ((3, 4), (1, 4, 2)), ((1, 3, 4), (4, 2)), ((3, 4), (4,)), ((1, 1, 3, 4), (4, 2))]:
    case("MatMul", shape, A=normal(*k), at="B")
case("MatMul", (1, 4, 2), A=normal(4), at="B", refused=("checker",))
case("MatMul", (1, 3, 3), B=NEGATED, refused=("checker",))

W, WIDE = (6, 4, 3, 2), (1, 4, 6, 5)
case("Conv", WIDE, W=normal(*W))
case("Conv", WIDE, W=normal(*W), B=normal(6), kernel_shape=[3, 2])
case("Conv", WIDE, W=normal(*W), kernel_shape=[2, 3])
case("Conv", WIDE, W=normal(*W), strides=[2, 1], pads=[1, 0, 2, 1])
case("Conv", WIDE, W=normal(6, 2, 3, 3), B=normal(6), group=2, dilations=[2, 1])
case("Conv", WIDE, W=normal(8, 1, 2, 2), group=4, pads=[0, 1, 0, 1])
for mode in ("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"):
    case("Conv", WIDE, W=normal(4, 4, 2, 4), auto_pad=mode, strides=[2, 1])
    case("Conv", WIDE, W=normal(4, 4, 3, 2), auto_pad=mode, strides=[1, 2])
case("Conv", (1, 3, 8), W=normal(2, 3, 3), B=normal(2), strides=[2], pads=[1, 0])
case("Conv", (1, 3, 8), W=normal(2, 3, 4), auto_pad="SAME_LOWER")
case("Conv", (1, 3, 8), W=normal(2, 3, 3), dilations=[2], pads=[0, 3])
case("Conv", (1, 2, 4, 4, 4), W=normal(3, 2, 2, 2, 2), refused=("checker",))
case("Conv", (1, 4, 2, 2), W=normal(4, 4, 3, 3))  # larger than the image
case("Conv", (1, 4, 6, 5), W=normal(6, 3, 3, 2))

T = (1, 4, 3, 4)
case("ConvTranspose", T, W=normal(4, 3, 3, 2))
case("ConvTranspose", T, W=normal(4, 3, 3, 2), B=normal(3), kernel_shape=[3, 2])
case("ConvTranspose", T, W=normal(4, 3, 3, 2), strides=[2, 2], pads=[1, 0, 1, 0], output_padding=[1, 1])
case("ConvTranspose", T, W=normal(4, 3, 3, 2), strides=[2, 1], pads=[1, 0, 0, 1])
case("ConvTranspose", T, W=normal(4, 2, 2, 2), group=2, dilations=[1, 2])
case("ConvTranspose", T, W=normal(4, 2, 3, 3), strides=[2, 2], output_shape=[6, 8], refused=("checker",))
for mode in ("SAME_UPPER", "SAME_LOWER", "VALID"):
    case("ConvTranspose", T, W=normal(4, 2, 4, 3), strides=[2, 2], auto_pad=mode, refused=("checker",))
case("ConvTranspose", (1, 4, 3), W=normal(4, 3, 3), strides=[2], pads=[1, 0], output_padding=[1])

STATS = {"scale": normal(3), "B": normal(3, seed=2), "mean": normal(3, seed=3), "var": np.abs(normal(3, seed=4))}
for shape in ((1, 3), (1, 3, 4), (1, 3, 2, 2)):
    case("BatchNormalization", shape, **STATS)
case("BatchNormalization", (1, 3, 4), epsilon=0.1, **STATS)
case("BatchNormalization", (1, 3, 4), momentum=0.5, **STATS)
case(
    "BatchNormalization",
    (1, 3, 1),
    spatial=0,
    refused=("checker", "reader"),
    **{k: v[:, None] for k, v in STATS.items()},
)
case("BatchNormalization", (1, 3, 4), training_mode=1, refused=("checker", "reader"), **STATS)
case("BatchNormalization", (1, 3, 4), **(STATS | {"scale": normal(1)}))

case("InstanceNormalization", (1, 4, 3, 3), scale=normal(4), B=normal(4))
case("InstanceNormalization", (1, 4, 5), scale=normal(4), B=normal(4), epsilon=0.1)
case("GroupNormalization", (1, 4, 3), scale=normal(2), bias=normal(2), num_groups=2, until=20)
case("GroupNormalization", (1, 4, 3), scale=normal(4), bias=normal(4), num_groups=2, since=21)
case("GroupNormalization", (1, 4, 3), scale=normal(2), bias=normal(2), num_groups=2, epsilon=0.1, until=20)
case("GroupNormalization", (1, 4, 3), scale=normal(4), bias=normal(4), num_groups=2, epsilon=0.1, since=21)
case("GroupNormalization", (1, 4, 3), scale=normal(4), bias=normal(4), num_groups=2, stash_type=10, refused=("reader",))
for axis in (-1, 1, 2):
    tail = (3, 4) if axis == 1 else (4,)
    case("LayerNormalization", (1, 3, 4), Scale=normal(*tail), B=normal(*tail), axis=axis)
    case("RMSNormalization", (1, 3, 4), scale=normal(*tail), axis=axis)
case("LayerNormalization", (1, 3, 4), Scale=normal(4), epsilon=0.1)
case("LayerNormalization", (1, 3, 4), Scale=normal(4), stash_type=10, refused=("reader",))
case("RMSNormalization", (1, 3, 4), scale=normal(4), epsilon=0.1)
case("RMSNormalization", (1, 3, 4), scale=normal(4), stash_type=10, refused=("reader",))
