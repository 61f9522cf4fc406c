"""ONNX operators that move elements about against onnxruntime, and the repair of an exported batch of 1."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_case import agrees, network, node, ops


def ints(*values):
    return np.array(values, np.int64)


@pytest.mark.parametrize("perm", [[0, 2, 1, 3], [0, 3, 2, 1], [1, 0, 2, 3], [3, 2, 1, 0]])
def test_transpose_also_of_the_batch(perm):
    back = list(np.argsort(perm))
    nodes = [node("Transpose", "x", "a", perm=perm), node("Relu", "a", "b"), node("Transpose", "b", "y", perm=back)]
    agrees(network(nodes, [1, 2, 3, 4]))


@pytest.mark.parametrize("target", [(0, -1), (-1, 24), (0, 0, -1), (-1, 6, 4), (0, 4, 3, 2)])
def test_reshape_of_any_batch(target):
    agrees(network([node("Reshape", "x s")], [None, 2, 3, 4], {"s": ints(*target)}))


@pytest.mark.parametrize("target", [(1, -1), (1, 24), (-1,), (24,), (1, 6, 4), (6, 4)])
def test_reshape_exported_with_a_batch_of_one_is_repaired(target):
    agrees(network([node("Reshape", "x s")], [1, 2, 3, 4], {"s": ints(*target)}))


def test_a_folded_batch_is_found_again_by_a_matrix_product():
    nodes = [node("Reshape", "x s", "a"), node("Reshape", "a r", "b"), node("Gemm", "b w")]
    weight = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
    agrees(network(nodes, [1, 2, 3, 4], {"s": ints(-1), "r": ints(1, -1), "w": weight}))


def test_a_fixed_batch_of_four_becomes_any_batch():
    weight = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    nodes = [node("Reshape", "x s", "a"), node("Gemm", "a w")]
    agrees(network(nodes, [4, 2, 3], {"s": ints(4, 6), "w": weight}, output_shape=[4, 3]))


def test_an_input_without_a_batch_axis():
    weight = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    model = agrees(network([node("MatMul", "x w")], [5], {"w": weight}))
    assert model.input_shape == (5,)
    assert model.output_shape == (3,)


def test_shapes_fold_away():
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s i", "n"),
        node("Unsqueeze", "n z", "n1"),
        node("Concat", "n1 m", "t", axis=0),
        node("Reshape", "x t"),
    ]
    model = agrees(network(nodes, [None, 2, 3], {"i": np.int64(0), "z": ints(0), "m": ints(-1)}))
    assert ops(model) == ["reshape"]


def test_a_token_expanded_to_the_batch():
    nodes = [
        node("Shape", "x", "s", start=0, end=1),
        node("Concat", "s m", "t", axis=0),
        node("Expand", "k t", "e"),
        node("Concat", "e x", axis=1),
    ]
    agrees(network(nodes, [None, 2, 3], {"m": ints(1, 3), "k": np.ones((1, 1, 3), np.float32)}))


def test_constant_of_shape_and_cast_of_constants():
    nodes = [
        node("ConstantOfShape", "s", "c", value=helper.make_tensor("v", TensorProto.INT64, [1], [2])),
        node("Cast", "c", "f", to=1),
        node("Mul", "x f"),
    ]
    agrees(network(nodes, [None, 3], {"s": ints(3)}))


def test_squeeze_and_unsqueeze():
    for opset in (11, 13):
        if opset < 13:
            nodes = [node("Unsqueeze", "x", "a", axes=[1, 3]), node("Squeeze", "a", "b", axes=[1]), node("Relu", "b")]
            agrees(network(nodes, [None, 2, 3], opset=opset))
        else:
            nodes = [node("Unsqueeze", "x i", "a"), node("Squeeze", "a j", "b"), node("Relu", "b")]
            agrees(network(nodes, [None, 2, 3], {"i": ints(1, 3), "j": ints(-2)}, opset=opset))


def test_the_batch_axis_squeezed_away_and_back():
    nodes = [node("Squeeze", "x z", "a"), node("Softmax", "a", "b", axis=0), node("Unsqueeze", "b z")]
    agrees(network(nodes, [1, 2, 3], {"z": ints(0)}))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_flatten(axis):
    agrees(network([node("Flatten", axis=axis)], [1, 2, 3, 4]))


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_concat_and_split(axis):
    nodes = [node("Neg", "x", "n"), node("Concat", "x n", "c", axis=axis), node("Split", "c", "a b", axis=axis)]
    agrees(network([*nodes, node("Sub", "a b")], [None, 2, 4], opset=13))
    sizes = {"s": ints(1, 3)}
    nodes = [node("Split", "x s", "a b", axis=2), node("Concat", "b a", axis=2)]
    agrees(network(nodes, [None, 2, 4], sizes, opset=13))


def test_split_into_a_number_of_parts():
    nodes = [node("Split", "x", "a b c", axis=2, num_outputs=3), node("Concat", "c a b", axis=2)]
    agrees(network(nodes, [None, 2, 7], opset=18))
    for opset in (11, 13):  # equal parts, the last of which nothing reads
        nodes = [node("Split", "x", "a b c", axis=2), node("Sub", "b a")]
        agrees(network(nodes, [None, 2, 6], opset=opset))


@settings(max_examples=25, deadline=None)
@given(start=st.integers(-8, 8), stop=st.integers(-8, 8), step=st.sampled_from([-2, -1, 1, 2, 3]))
def test_slices_as_python_counts(start, stop, step):
    if len(range(6)[start:stop:step]) > 0:
        constants = {"a": ints(start), "b": ints(stop), "c": ints(2), "d": ints(step)}
        agrees(network([node("Slice", "x a b c d")], [None, 2, 6], constants))


@pytest.mark.parametrize("index", [1, -1, [0, 2], [[0, 1], [2, -1]]])
@pytest.mark.parametrize("axis", [1, 2])
def test_gather_with_constant_indices(index, axis):
    agrees(network([node("Gather", "x i", axis=axis)], [None, 3, 4], {"i": np.array(index, np.int64)}))


def test_gather_at_places_in_several_axes():
    places = np.array([[[0, 1], [2, 3]], [[1, -1], [2, 0]]], np.int64)
    nodes = [
        node("Transpose", "x", "t", perm=[1, 2, 0, 3]),
        node("GatherND", "t i", "g"),
        node("Transpose", "g", perm=[2, 0, 1, 3]),
    ]
    agrees(network(nodes, [None, 3, 4, 2], {"i": places}))


@settings(max_examples=25, deadline=None)
@given(mode=st.sampled_from(["constant", "reflect", "edge"]), pads=st.lists(st.integers(0, 2), min_size=4, max_size=4))
def test_pads(mode, pads):
    flat = ints(0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3])
    agrees(
        network(
            [node("Pad", "x p v" if mode == "constant" else "x p", mode=mode)],
            [None, 2, 4, 5],
            {"p": flat, "v": np.float32(0.5)},
            opset=13,
        )
    )


def test_pads_crop_and_take_attributes():
    agrees(network([node("Pad", pads=[0, 0, -1, 0, 0, -2], value=1.0)], [None, 3, 6], opset=9))


def test_expand_and_tile():
    agrees(network([node("Expand", "x s")], [None, 1, 3], {"s": ints(1, 4, 3)}))
    agrees(network([node("Expand", "x s")], [1, 3], {"s": ints(2, 4, 3)}))
    agrees(network([node("Tile", "x r")], [None, 2, 3], {"r": ints(1, 2, 3)}))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_and_back(mode):
    agrees(network([node("DepthToSpace", blocksize=2, mode=mode)], [None, 8, 2, 3]))
    agrees(network([node("SpaceToDepth", blocksize=2)], [None, 2, 4, 6]))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("place", ["half_pixel", "asymmetric", "align_corners"])
def test_resize(mode, place):
    attrs = {"mode": mode, "coordinate_transformation_mode": place}
    scales = np.array([1, 1, 2, 1.5], np.float32)
    agrees(network([node("Resize", "x - s", **attrs)], [None, 2, 3, 4], {"s": scales}))
    agrees(network([node("Resize", "x - - z", **attrs)], [1, 2, 3, 4], {"z": ints(1, 2, 5, 7)}))


def test_upsample_of_old_files():
    scales = np.array([1, 1, 2, 2], np.float32)
    agrees(network([node("Upsample", "x s", mode="nearest")], [None, 2, 3, 4], {"s": scales}, opset=9))
