"""Constants that a file computes are refused by their declared size, before anything of that size is made."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from withstand.core.errors import InputError
from withstand.graph.onnx_reader import read_onnx

HUGE = 2**40


def network(nodes, held=None, opset=13) -> bytes:
    """y = x + c, where the nodes make c from the arrays held."""
    nodes = [
        *nodes,
        helper.make_node("ReduceMax", ["big"], ["c"], keepdims=0),
        helper.make_node("Add", ["x", "c"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy"]
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in (held or {}).items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


def loop(rounds: int, body_op: str = "Add", keep: bool = False):
    """A Loop that adds 1 to a number, or joins it with itself, so many times."""
    if body_op == "Concat":
        step = helper.make_node(body_op, ["v", "v"], ["w"], axis=0)
    else:
        step = helper.make_node(body_op, ["v", "one"], ["w"])
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["cond"], ["cond_out"]),
            helper.make_node("Constant", [], ["one"], value=numpy_helper.from_array(np.array([1.0], np.float32))),
            step,
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("cond", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("cond_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, None),
        ],
    )
    node = helper.make_node("Loop", ["n", "yes", "start"], ["big"], body=body)
    return network([node], {"n": np.int64(rounds), "yes": np.array(True), "start": np.array([0.0], np.float32)})


CASES = {
    "loop": loop(2**62),
    "loop without end": loop(-1),
    "loop that doubles": loop(60, "Concat"),
    "tile": network(
        [helper.make_node("Tile", ["a", "n"], ["big"])], {"a": np.ones(4, "f4"), "n": np.array([HUGE], np.int64)}
    ),
    "expand": network(
        [helper.make_node("Expand", ["a", "n"], ["big"])], {"a": np.ones(1, "f4"), "n": np.array([HUGE, 3], np.int64)}
    ),
    "constant of shape": network(
        [helper.make_node("ConstantOfShape", ["n"], ["big"])], {"n": np.array([2**20, 2**20], np.int64)}
    ),
    "range": network(
        [helper.make_node("Range", ["a", "b", "d"], ["r"]), helper.make_node("Cast", ["r"], ["big"], to=1)],
        {"a": np.int64(0), "b": np.int64(HUGE), "d": np.int64(1)},
    ),
    "one-hot": network(
        [helper.make_node("OneHot", ["i", "n", "v"], ["big"])],
        {"i": np.array([1, 2], np.int64), "n": np.int64(HUGE), "v": np.array([0, 1], np.float32)},
    ),
    "pad": network(
        [helper.make_node("Pad", ["a", "n"], ["big"])], {"a": np.ones(1, "f4"), "n": np.array([0, HUGE], np.int64)}
    ),
    "resize": network(
        [helper.make_node("Resize", ["a", "", "s"], ["big"])],
        {"a": np.ones((1, 1, 2, 2), "f4"), "s": np.array([1, 1, 1e6, 1e6], np.float32)},
    ),
    "outer product": network(
        [helper.make_node("MatMul", ["a", "b"], ["big"])],
        {"a": np.ones((40000, 1), "f4"), "b": np.ones((1, 40000), "f4")},
    ),
    "broadcast": network(
        [helper.make_node("Add", ["a", "b"], ["big"])], {"a": np.ones((40000, 1), "f4"), "b": np.ones((1, 40000), "f4")}
    ),
    "random": network([helper.make_node("RandomNormal", [], ["big"], shape=[HUGE])]),
    "concat chain": network(
        [
            *(helper.make_node("Concat", [f"a{i}"] * 64, [f"a{i + 1}"], axis=0) for i in range(6)),
            helper.make_node("Identity", ["a6"], ["big"]),
        ],
        {"a0": np.ones(4, "f4")},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_constant_that_would_be_huge_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="fold it first"):
        read_onnx(CASES[name])


def test_small_ones_are_computed() -> None:
    for given in (
        loop(5),
        network(
            [helper.make_node("Tile", ["a", "n"], ["big"])], {"a": np.full(2, 5, "f4"), "n": np.array([3], np.int64)}
        ),
        network(
            [helper.make_node("Expand", ["a", "n"], ["big"])],
            {"a": np.full(1, 5, "f4"), "n": np.array([3, 2], np.int64)},
        ),
        network([helper.make_node("Concat", ["a"] * 3, ["big"], axis=0)], {"a": np.full(2, 5, "f4")}),
    ):
        graph = read_onnx(given).graph
        assert graph is not None
        assert float(next(iter(graph.constants.values())).max()) == 5


@pytest.mark.parametrize(
    ("op", "held"),
    [
        ("Tile", {"n": np.array([1, HUGE], np.int64)}),
        ("Expand", {"n": np.array([1, HUGE, 2], np.int64)}),
        ("Pad", {"n": np.array([0, 0, 0, HUGE], np.int64)}),
    ],
)
def test_values_of_the_network_too(op: str, held: dict) -> None:
    nodes = [helper.make_node(op, ["x", "n"], ["z"]), helper.make_node("ReduceSum", ["z"], ["y"], keepdims=1)]
    ends = [helper.make_tensor_value_info("x", 1, [1, 2]), helper.make_tensor_value_info("y", 1, None)]
    weights = [numpy_helper.from_array(value, name) for name, value in held.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    with pytest.raises(InputError, match=r"declares|cannot be read"):
        read_onnx(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
        )


def damaged(change) -> bytes:
    model = onnx.load_model_from_string(
        network([helper.make_node("Identity", ["a"], ["big"])], {"a": np.ones((2, 3), "f4")})
    )
    change(model.graph)
    return model.SerializeToString()


def external(graph) -> None:
    tensor = graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


CHANGES = {
    "type": lambda g: setattr(g.initializer[0], "data_type", 77),
    "no type": lambda g: setattr(g.initializer[0], "data_type", 0),
    "length": lambda g: setattr(g.initializer[0], "raw_data", b"123"),
    "dims": lambda g: g.initializer[0].dims.append(7),
    "negative dims": lambda g: g.initializer[0].dims.__setitem__(0, -2),
    "huge dims": lambda g: g.initializer[0].dims.__setitem__(0, 2**60),
    "strings": lambda g: g.initializer[0].CopyFrom(numpy_helper.from_array(np.array(["w"], object), "a")),
    "sparse": lambda g: g.sparse_initializer.add(dims=[4]).values.CopyFrom(g.initializer[0]),
    "external": external,
    "no producer": lambda g: g.node[0].input.__setitem__(0, "nobody"),
    "circle": lambda g: g.node[0].input.__setitem__(0, "c"),
    "order": lambda g: (g.node.append(g.node[0]), g.node.pop(0)),
    "no outputs": lambda g: g.node[1].ClearField("output"),
    "no input": lambda g: g.ClearField("input"),
    "odd attribute": lambda g: setattr(g.node[1].attribute[0], "type", 3),
}


@pytest.mark.parametrize("name", CHANGES)
def test_damaged_parts_are_told_in_a_sentence(name: str) -> None:
    with pytest.raises(InputError) as caught:
        read_onnx(damaged(CHANGES[name]))
    assert "\n" not in str(caught.value).strip()


@pytest.mark.parametrize("where", ["missing.bin", "../weights.bin", "/etc/hostname"])
def test_weights_elsewhere(tmp_path, where: str) -> None:
    model = onnx.load_model_from_string(damaged(external))
    model.graph.initializer[0].external_data[0].value = where
    (tmp_path / "weights.bin").write_bytes(bytes(24))
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="not a readable ONNX network"):
        read_onnx(tmp_path / "inner" / "net.onnx")
