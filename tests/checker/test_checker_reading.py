"""Networks read by the checker compute what onnxruntime computes."""

from typing import Any

import numpy as np
import pytest
from checker.nets import KINDS, File, chain
from onnxruntime import InferenceSession

from withstand.checker.reading import read_network
from withstand.core.errors import InputError


def same(data: bytes, shape: tuple[int, ...], tolerance: float = 1e-5) -> None:
    network = read_network(data)
    x = np.random.default_rng(1).normal(size=(3, *shape[1:]))
    session = InferenceSession(data)
    kind = {"tensor(float)": np.float32, "tensor(double)": np.float64}[session.get_inputs()[0].type]
    theirs = [np.asarray(session.run(None, {"x": row[None].astype(kind)})[0]).ravel() for row in x.astype(kind)]
    ours = network(x.astype(kind).reshape(3, -1))
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    assert ours.shape[1] == network.outputs


@pytest.mark.parametrize("kind", KINDS)
def test_small_networks_as_onnxruntime(kind):
    shape = (1, 2, 4, 4) if kind in ("conv", "pooled") else (1, 3)
    for seed in range(3):
        same(KINDS[kind](seed), shape)


def image(op: str, *weights, opset: int = 17, **attrs) -> None:
    file = File((1, 4, 6, 5), 3)
    held = [file.normal(*w) if isinstance(w, tuple) else w if isinstance(w, str) else file.constant(w) for w in weights]
    same(file.bytes(file.add(op, "x", *held, **attrs), opset), file.shape, 1e-4)


def test_convolutions():
    image("Conv", (6, 4, 3, 2), strides=[2, 1], pads=[1, 0, 2, 1])
    image("Conv", (6, 2, 3, 3), (6,), group=2, dilations=[2, 1])
    image("Conv", (4, 1, 2, 2), group=4, auto_pad="SAME_UPPER", strides=[2, 2])
    image("Conv", (4, 1, 2, 2), group=4, auto_pad="SAME_LOWER")
    image("Conv", (4, 4, 2, 2), auto_pad="VALID")
    image("ConvTranspose", (4, 3, 3, 2), (3,), strides=[2, 2], pads=[1, 0, 1, 0], output_padding=[1, 1])
    image("ConvTranspose", (4, 2, 2, 2), group=2, dilations=[1, 2])
    file = File((1, 3, 8), 3)
    same(file.bytes(file.add("Conv", "x", file.normal(2, 3, 3), file.normal(2), strides=[2], pads=[1, 0])), file.shape)


def test_averages():
    image("AveragePool", kernel_shape=[2, 3], strides=[2, 1], pads=[1, 1, 0, 1])
    image("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)
    image("GlobalAveragePool")
    image("ReduceMean", axes=[1, 3], keepdims=0)
    image("ReduceSum", np.array([2]), keepdims=1)


def test_maxima():
    image("MaxPool", kernel_shape=[2, 3], strides=[2, 1], pads=[1, 1, 0, 1])
    image("MaxPool", kernel_shape=[2, 2], dilations=[2, 1])
    image("GlobalMaxPool")
    image("ReduceMax", axes=[1, 3], keepdims=0)
    image("ReduceMax")


def test_moves():
    image("Transpose", perm=[0, 2, 3, 1])
    image("Reshape", np.array([0, -1, 10]))
    image("Flatten", axis=2)
    image("Flatten", axis=-1)
    image("Unsqueeze", np.array([0, 3]))
    image("Slice", np.array([1, -1]), np.array([4, -9]), np.array([2, 1]), np.array([2, -1]))
    image("Slice", np.array([0, 1]), np.array([1, 3]))
    image("Gather", np.array([[0, -1], [2, 2]]), axis=1)
    image("Pad", np.array([0, 1, 0, 2, 0, 0, 1, 0]), np.array(1.5))
    image("Expand", np.array([1, 4, 6, 5]))
    image("Squeeze")
    image("Identity")
    image("Cast", to=1)


def test_arithmetic():
    image("Add", (1, 4, 1, 1))
    image("Sub", (6, 1))
    image("Mul", (4, 1, 5))
    image("Div", np.full((5,), 3.0))
    image("Neg")
    image("MatMul", (5, 2))
    image("MatMul", (1, 1, 5, 2))
    image("MatMul", (5,))
    file = File((1, 3, 4), 0)
    y = file.add("MatMul", file.normal(2, 3), "x")
    y = file.add("Sub", file.constant(2.0), file.add("Mul", file.normal(4), y))
    z = file.add("Sum", y, file.add("Mul", y, file.constant(0.5)), file.constant(1.0))
    both = file.add("Concat", y, file.constant(np.ones((1, 1, 4))), z, axis=1)
    same(file.bytes(both), file.shape, 1e-4)


def test_gemm_and_split():
    file = File((1, 6), 0)
    file.add("Split", "x", file.constant(np.array([2, 4])), outputs=2, axis=1)
    right, left = "v0_1", "v0_0"
    y = file.add("Gemm", right, file.normal(4, 3), file.normal(3), alpha=0.5)
    y = file.add("Add", file.add("Gemm", left, file.normal(2, 3)), y)
    same(file.bytes(y), file.shape, 1e-4)


def test_shapes_computed_in_the_file():
    file = File((1, 2, 3), 0)
    first = file.add("Gather", file.add("Shape", "x"), file.constant(np.array(0)), axis=0)
    batch = file.add("Unsqueeze", first, file.constant(np.array([0])))
    shape = file.add("Concat", batch, file.constant(np.array([-1])), axis=0)
    same(file.bytes(file.add("Reshape", "x", shape)), file.shape)


def test_a_constant_goes_into_the_map_before_it_only_if_nobody_else_reads_it():
    file = File((1, 3), 0)
    y = file.add("MatMul", "x", file.normal(3, 3))
    shifted = file.add("Add", y, file.normal(3))
    same(file.bytes(file.add("Add", file.add("Flatten", y), shifted)), file.shape)
    assert len(read_network(chain([3, 4, 2], 0)).steps) == 3


@pytest.mark.parametrize(
    ("op", "inputs", "words"),
    [
        ("LpPool", (), "not known"),
        ("Mul", ("x",), "both depend"),
        ("Reciprocal", (), "not known"),
        ("Add", (np.array(np.nan),), "not a finite"),
        ("Div", (np.array(0.0),), "divides by zero"),
        ("Cast", (), "another kind"),
    ],
)
def test_what_is_not_supported_is_refused_in_one_sentence(op, inputs, words):
    file = File((1, 1, 4, 4), 0)
    attrs: Any = {"kernel_shape": [2, 2]} if op == "LpPool" else {"to": 7} if op == "Cast" else {}
    held = [i if isinstance(i, str) else file.constant(i) for i in inputs]
    with pytest.raises(InputError, match=words):
        read_network(file.bytes(file.add(op, "x", *held, **attrs)))


def test_what_is_no_network_is_refused(tmp_path):
    with pytest.raises(InputError, match="no file"):
        read_network(tmp_path / "none.onnx")
    with pytest.raises(InputError, match="not a"):
        read_network(b"not a network")
    with pytest.raises(InputError, match="not an ONNX"):
        read_network(b"")
    file = File((1, "n"), 0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="open size"):
        read_network(file.bytes(file.add("Relu", "x")))
    file = File((1, 2), 0)
    file.add("Relu", "x")
    with pytest.raises(InputError, match="does not depend"):
        read_network(file.bytes(file.constant(1.0)))


def test_networks_of_real_use(shared):
    for name in ("models/cifar-base-kw.onnx", "vnncomp2021/eran/ffnnSIGMOID__Point_6x200.onnx"):
        network = read_network(shared / name)
        session = InferenceSession((shared / name).read_bytes())
        x = np.random.default_rng(0).random((1, network.inputs))
        (given,) = session.get_inputs()
        theirs = session.run(None, {given.name: x.astype(np.float32).reshape(network.input_shape)})[0]
        np.testing.assert_allclose(network(x), np.asarray(theirs), rtol=1e-4, atol=1e-4)
