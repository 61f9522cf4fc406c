"""Element-wise operators."""

import numpy as np
from contract.onnx_cases.case import ITSELF, NEGATED, case, normal

CURVES = "Neg Relu Sigmoid Tanh Softplus Exp Abs Sign Sin Cos Erf Floor Round Ceil Softsign HardSwish Mish"
for op in CURVES.split():
    case(op, (1, 3, 4), low=-4.0, high=4.0)
    case(op, (2, 3))
for op in ["Log", "Sqrt", "Reciprocal"]:
    case(op, (1, 3, 4), low=0.1, high=3.0)

for op in ["Add", "Sub", "Mul", "Div"]:
    for shape in ((4,), (3, 1), (1, 1, 1), (2, 3, 4), (2, 1, 3, 4), ()):
        case(op, (1, 3, 4), B=np.abs(normal(*shape)) + 0.5)
    case(op, (1, 1), A=normal(2, 3), at="B", low=0.5, refused=("checker",) if op == "Div" else ())
    case(op, (1, 4), A=normal(4), at="B", low=0.5, refused=("checker",) if op == "Div" else ())
    case(op, (1, 4), A=NEGATED, B=ITSELF, low=0.5, refused=("checker",) if op in ("Mul", "Div") else ())

for op in ("Sum", "Max", "Min", "Mean"):
    case(op, (1, 4), more=(NEGATED, normal(1, 4)))
    case(op, (1, 4), more=(normal(4),))  # of another shape
    case(op, (1, 3, 4), more=(normal(3, 1), normal(1, 3, 4), ITSELF), since=8)
    case(op, (1, 4))
case("Sum", (1, 4), more=(np.ones((1, 4), np.float32), ITSELF, ITSELF, NEGATED))

case("LeakyRelu", (1, 5))
for alpha in (0.0, 0.3, 1.0, 1.5, -0.5):
    case("LeakyRelu", (1, 5), alpha=alpha)
case("PRelu", (1, 3, 2), slope=normal(3, 1))
case("PRelu", (1, 3, 2), slope=np.array([0.2], float))
case("PRelu", (1, 3, 2), slope=normal(1, 3, 2))
for op in ("Elu", "Celu"):
    case(op, (1, 5))
    for alpha in (0.3, 2.0, -0.5):
        refused = ("checker", "reader") if op == "Celu" and alpha < 0 else ("checker",)
        case(op, (1, 5), alpha=alpha, refused=() if alpha == 0.3 else refused)
case("Selu", (1, 5))
case("Selu", (1, 5), alpha=0.7)
case("Selu", (1, 5), gamma=2.0)
case("HardSigmoid", (1, 9), low=-6.0, high=6.0)
case("HardSigmoid", (1, 9), alpha=0.5)
case("HardSigmoid", (1, 9), beta=0.1)
case("Gelu", (1, 5))
case("Gelu", (1, 5), approximate="tanh")

for exponent in (0.5, 1.0, 2.0, 3.0, -1.0, 0.0):
    case("Pow", (1, 4), Y=np.float32(exponent), low=0.2)
case("Pow", (1, 4), Y=np.int64(3), since=12)
case("Pow", (1, 4), Y=np.array([2.0] * 4, float))
case("Pow", (1, 4), Y=np.array([1.0, 2.0, 3.0, 2.0], float), refused=("reader",))
case("Pow", (1, 4), X=np.array([2.5], float), at="Y")

case("Clip", (1, 6))
for low, high in ((-0.5, 0.5), (0.0, None), (None, 0.25), (0.0, 6.0), (0.5, 0.5)):
    case("Clip", (1, 6), **{k: np.float32(v) for k, v in (("min", low), ("max", high)) if v is not None}, since=11)
    case("Clip", (1, 6), **{k: v for k, v in (("min", low), ("max", high)) if v is not None}, until=10)
case("Clip", (1, 6), min=np.float32(0.5), max=np.float32(-0.5), since=11, refused=("checker",))
case("Clip", (1, 6), min=0.5, max=-0.5, until=10, refused=("checker",))

MASK = np.array([[True], [False], [True]])
case("Where", (1, 3, 4), condition=MASK, Y=NEGATED, at="X")
case("Where", (1, 3, 4), condition=MASK, X=normal(4), at="Y")

case("Identity", (1, 4))
for seed in (0, 7):
    case("Dropout", (1, 4), seed=seed)
case("Dropout", (1, 4), ratio=0.25, until=11)
case("Dropout", (1, 4), ratio=np.float32(0.25), since=12)
case("Dropout", (1, 4), ratio=np.float32(0.25), training_mode=np.array(False))
case("Dropout", (1, 4))

case("Cast", (1, 4), to=1)
case("Cast", (1, 4), to=11)
case("Cast", (1, 4), to=11, kind=np.float64)
case("Cast", (1, 4), to=1, kind=np.float64, refused=("checker",))
case("Cast", (1, 4), to=1, saturate=0, refused=("reader", "checker"))
case("CastLike", (1, 4), target_type=normal(2))
case("CastLike", (1, 4), target_type=NEGATED)
case("CastLike", (1, 4), target_type=normal(2), saturate=0, refused=("reader",))
