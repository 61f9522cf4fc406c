"""ONNX layers with weights, pools, reductions and softmax against onnxruntime."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx_case import agrees, network, node, ops

from withstand.core.errors import InputError
from withstand.graph.replay import OnnxSession

RNG = np.random.default_rng(1)
AUTO = st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"])


def weights(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(
    rank=st.integers(1, 3),
    groups=st.sampled_from([1, 2]),
    auto=AUTO,
    bias=st.booleans(),
    data=st.data(),
)
def test_convolutions(rank, groups, auto, bias, data):
    def each(low, high):
        return data.draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank))

    kernel, stride, dilation, size = each(1, 3), each(1, 3), each(1, 2), each(5, 8)
    attrs = {"strides": stride, "group": groups, "kernel_shape": kernel, "auto_pad": auto}
    if auto in ("NOTSET", "VALID"):
        attrs["dilations"] = dilation
    if auto == "NOTSET":
        attrs["pads"] = each(0, 2) + each(0, 2)
    constants = {"w": weights(4, 4 // groups, *kernel)} | ({"b": weights(4)} if bias else {})
    agrees(network([node("Conv", "x w b" if bias else "x w", **attrs)], [None, 4, *size], constants), tolerance=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    rank=st.integers(1, 2), groups=st.sampled_from([1, 2]), bias=st.booleans(), how=st.integers(0, 2), data=st.data()
)
def test_transposed_convolutions(rank, groups, bias, how, data):
    def each(low, high):
        return data.draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank))

    kernel, stride, size = each(1, 3), each(1, 3), each(3, 5)
    attrs = {"strides": stride, "group": groups, "kernel_shape": kernel}
    if how == 0:
        attrs["pads"] = each(0, 1) + each(0, 1)
        attrs["output_padding"] = [data.draw(st.integers(0, s - 1)) for s in stride]
        attrs["dilations"] = each(1, 2)
    elif how == 1:
        assume(all(k >= s for k, s in zip(kernel, stride)))
        attrs["output_shape"] = [s * t for s, t in zip(size, stride)]
    constants = {"w": weights(4, 3, *kernel)} | ({"b": weights(3 * groups)} if bias else {})
    net = network([node("ConvTranspose", "x w b" if bias else "x w", **attrs)], [None, 4, *size], constants)
    sample = OnnxSession(net)(np.zeros((1, 4, *size), np.float32))
    assume(sample.size > 0)
    agrees(net, tolerance=1e-4)


@settings(max_examples=40, deadline=None)
@given(op=st.sampled_from(["MaxPool", "AveragePool"]), rank=st.integers(1, 2), auto=AUTO, data=st.data())
def test_pools(op, rank, auto, data):
    def each(low, high):
        return data.draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank))

    kernel, stride, size = each(2, 4), each(1, 3), each(7, 9)
    assume(auto == "NOTSET" or all(s <= k for s, k in zip(stride, kernel)))
    attrs = {"kernel_shape": kernel, "strides": stride, "auto_pad": auto}
    if auto == "NOTSET":
        attrs["pads"] = [data.draw(st.integers(0, k - 1)) for k in kernel * 2]
        attrs["ceil_mode"] = data.draw(st.integers(0, 1))
    if op == "AveragePool":
        attrs["count_include_pad"] = data.draw(st.integers(0, 1))
    elif auto == "NOTSET":
        attrs["dilations"] = each(1, 2)
    net = network([node(op, **attrs)], [None, 2, *size], opset=19)
    agrees(net, tolerance=1e-4)


@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools(op):
    agrees(network([node(op)], [None, 3, 5, 4]))


REDUCTIONS = "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp"


@pytest.mark.parametrize("op", REDUCTIONS.split())
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[1], [2, 3], [-1], [1, 3], [1, 2, 3]])
def test_reductions_take_axes_as_attribute(op, keepdims, axes):
    if op == "ReduceSum":
        data = network([node(op, "x a", keepdims=keepdims)], [None, 2, 3, 4], {"a": np.array(axes, np.int64)}, opset=13)
    else:
        data = network([node(op, axes=axes, keepdims=keepdims)], [None, 2, 3, 4], opset=13)
    agrees(data, low=0.2)


def test_reductions_take_axes_as_input():
    agrees(network([node("ReduceMean", "x a")], [None, 2, 3], {"a": np.array([2], np.int64)}, opset=18))


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(("opset", "axis"), [(11, 1), (11, 2), (11, 3), (11, -1), (13, 1), (13, 2), (13, -1)])
def test_softmax_before_and_after_operator_set_13(op, opset, axis):
    agrees(network([node(op, axis=axis)], [None, 2, 3, 4], opset=opset))


@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("bias", [None, (), (3,), (1, 3)])
def test_gemm(trans, bias):
    constants = {"w": weights(3, 4) if trans else weights(4, 3)}
    if bias is not None:
        constants["b"] = np.asarray(weights(*bias))
    names = "x w" if bias is None else "x w b"
    agrees(network([node("Gemm", names, transB=trans, alpha=0.5, beta=2.0)], [None, 4], constants))


@pytest.mark.parametrize(
    ("shape", "k", "left"),
    [
        ((4,), (4, 3), False),
        ((2, 4), (4, 3), False),
        ((2, 4), (2, 4, 3), False),
        ((4, 2), (3, 4), True),
        ((2, 4), (4,), False),
    ],
)
def test_matmul_with_a_constant(shape, k, left):
    agrees(network([node("MatMul", "k x" if left else "x k")], [None, *shape], {"k": weights(*k)}))


def test_matmul_of_two_values():
    nodes = [node("Transpose", "x", "t", perm=[0, 2, 1]), node("MatMul", "x t")]
    agrees(network(nodes, [None, 3, 4]))


def test_batch_norm_goes_into_the_convolution():
    constants = {"w": weights(4, 2, 3, 3), "s": weights(4), "b": weights(4), "m": weights(4), "v": np.abs(weights(4))}
    nodes = [node("Conv", "x w", "c"), node("BatchNormalization", "c s b m v")]
    model = agrees(network(nodes, [None, 2, 5, 5], constants), tolerance=1e-4)
    assert ops(model) == ["conv"]


def test_batch_norm_of_rows_and_after_a_transposed_convolution():
    constants = {"s": weights(4), "b": weights(4), "m": weights(4), "v": np.abs(weights(4))}
    agrees(network([node("BatchNormalization", "x s b m v")], [None, 4], constants), tolerance=1e-4)
    nodes = [node("ConvTranspose", "x w", "c"), node("BatchNormalization", "c s b m v")]
    model = agrees(network(nodes, [None, 3, 4, 4], constants | {"w": weights(3, 4, 2, 2)}), tolerance=1e-4)
    assert ops(model) == ["conv_transpose"]


def test_normalisations_of_one_sample():
    constants = {"s": weights(4), "b": weights(4)}
    agrees(network([node("InstanceNormalization", "x s b")], [None, 4, 3, 3], constants), tolerance=1e-4)
    agrees(network([node("LayerNormalization", "x s b")], [None, 3, 4], constants), tolerance=1e-4)
    agrees(network([node("LayerNormalization", "x s", axis=1)], [None, 2, 2], {"s": weights(2, 2)}), tolerance=1e-4)


def test_batch_norm_in_training_mode_is_refused():
    constants = {name: np.ones(4, np.float32) for name in "sbmv"}
    data = network(
        [node("BatchNormalization", "x s b m v", "y m2 v2", training_mode=1)], [None, 4], constants, opset=15
    )
    with pytest.raises(InputError, match=r"model\.eval"):
        agrees(data)
