"""What a file holds beside its graph, or in a way the checker does not read, is refused: nothing is passed over."""

import os
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from checker.nets import File, chain
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from withstand.checker.check import check
from withstand.checker.reading import read_network
from withstand.core.errors import InputError


def proto(output: str = "") -> onnx.ModelProto:
    """y = x W + b."""
    file = File((1, 2), 0)
    last = file.add("Gemm", "x", file.normal(2, 3), file.normal(3))
    return onnx.load_model_from_string(file.bytes(output or last))


def refused(model: onnx.ModelProto, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        read_network(model.SerializeToString())
    assert "\n" not in str(error.value)


def test_a_reduction_of_nothing_is_not_one_of_everything():
    for op in ("ReduceSum", "ReduceMean", "ReduceMax"):
        for axes in ((), (np.zeros(0, np.int64),)):
            file = File((1, 3), 0)
            held = [file.constant(a) for a in axes]
            network = read_network(file.bytes(file.add(op, "x", *held, noop_with_empty_axes=1), 18))
            x = np.array([[0.25, -1.0, 2.0]])
            np.testing.assert_array_equal(network(x), x)


def test_a_false_certificate_about_such_a_reduction_fails(shared):
    cases = shared / "cases"
    if not cases.is_dir():
        pytest.skip("the folder of cases is not there")
    assert not check(cases / "identity-reduce.safetensors", cases / "identity-reduce.onnx").holds


def outside(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """The same constant with its numbers in a file of the working directory."""
    kept = onnx.TensorProto()
    kept.CopyFrom(tensor)
    set_external_data(kept, "weights.bin")
    kept.ClearField("raw_data")
    return kept


def with_initialiser(model: onnx.ModelProto) -> None:
    held = outside(model.graph.initializer[1])
    model.graph.initializer[1].CopyFrom(held)


def with_constant(model: onnx.ModelProto) -> None:
    held = model.graph.initializer.pop(1)
    model.graph.node.insert(0, helper.make_node("Constant", [], [held.name], value=outside(held)))


def with_filling(model: onnx.ModelProto) -> None:
    held = model.graph.initializer.pop(1)
    one = numpy_helper.from_array(np.array([7.0], np.float32), "one")
    model.graph.initializer.append(numpy_helper.from_array(np.array([3]), "size"))
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["size"], [held.name], value=outside(one)))


@pytest.mark.parametrize("place", [with_initialiser, with_constant, with_filling])
def test_numbers_in_other_files_are_never_read(place: Callable, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(np.full(16, 7.0, np.float32).tobytes())
    model = proto()
    place(model)
    refused(model, "other files")
    assert os.listdir(tmp_path) == ["weights.bin"]


@pytest.mark.parametrize(
    "attrs",
    [
        {"value_string": "one"},
        {"value_strings": ["one"]},
        {"value": numpy_helper.from_array(np.array(["one"], object), "w")},
        {
            "sparse_value": helper.make_sparse_tensor(
                helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0]),
                helper.make_tensor("i", TensorProto.INT64, [1], [0]),
                [3],
            )
        },
        {},
        {"value_float": 1.0, "value_int": 2},
    ],
)
def test_constants_that_are_no_plain_numbers_are_refused(attrs):
    model = proto()
    name = model.graph.initializer.pop(1).name
    model.graph.node.insert(0, helper.make_node("Constant", [], [name], **attrs))
    refused(model, "not known|words")


@pytest.mark.parametrize(
    ("attrs", "size"),
    [
        ({"value_float": 0.5}, 1),
        ({"value_floats": [0.5, 1.5, 2.0]}, 3),
        ({"value": numpy_helper.from_array(np.arange(3, dtype=np.float32))}, 3),
    ],
)
def test_constants_that_are_plain_numbers_are_read(attrs, size):
    model = proto()
    name = model.graph.initializer.pop(1).name
    model.graph.node.insert(0, helper.make_node("Constant", [], [name], **attrs))
    assert read_network(model.SerializeToString()).outputs == 3


@pytest.mark.parametrize("imports", [[6], [24], [999], [], [13, 17]])
def test_other_operator_sets_are_refused(imports):
    model = proto()
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid("", version) for version in imports)
    refused(model, "asks for operator set .* the checker knows 7 to")


def test_two_names_of_the_standard_are_one_operator_set():
    model = proto()
    model.opset_import.append(helper.make_opsetid("ai.onnx", 11))
    refused(model, "17 and 11")


def test_functions_of_the_file_and_steps_of_training_are_refused():
    model = proto()
    node = helper.make_node("Relu", ["a"], ["b"])
    model.functions.append(helper.make_function("", "Gemm", ["a"], ["b"], [node], [helper.make_opsetid("", 17)]))
    refused(model, "functions of its own")
    model = proto()
    model.training_info.add()
    refused(model, "steps of training")


def test_sparse_constants_are_refused():
    model = proto()
    held = model.graph.initializer.pop(1)
    values = numpy_helper.from_array(numpy_helper.to_array(held), held.name)
    places = numpy_helper.from_array(np.arange(3))
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [3]))
    refused(model, "sparse")


def test_graphs_inside_nodes_are_refused():
    model = proto()
    held = model.graph.initializer.pop(1)
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=held)],
        "branch",
        [],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [3])],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.insert(0, helper.make_node("If", ["yes"], [held.name], then_branch=branch, else_branch=branch))
    refused(model, "graph of its own")


def test_a_name_made_twice_is_refused():
    again = proto()
    again.graph.initializer.append(again.graph.initializer[0])
    refused(again, "more than once")
    again = proto()
    again.graph.node.append(helper.make_node("Relu", ["x"], [again.graph.initializer[0].name]))
    refused(again, "more than once")
    again = proto()
    again.graph.node.append(helper.make_node("Relu", [again.graph.output[0].name], ["x"]))
    refused(again, "more than once")
    again = proto()
    again.graph.node.append(again.graph.node[0])
    refused(again, "more than once")


def test_an_input_with_a_default_has_it():
    model = proto()
    plain = read_network(model.SerializeToString())
    weight = model.graph.initializer[0]
    model.graph.input.append(helper.make_tensor_value_info(weight.name, TensorProto.FLOAT, list(weight.dims)))
    x = np.random.default_rng(0).normal(size=(4, 2))
    np.testing.assert_array_equal(read_network(model.SerializeToString())(x), plain(x))
    model.graph.initializer.pop(0)
    refused(model, "2 inputs")


def test_several_outputs_are_refused():
    model = proto()
    model.graph.output.append(model.graph.output[0])
    refused(model, "2 outputs")


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT64, TensorProto.BOOL, 0])
def test_other_types_of_input_are_refused(kind):
    model = proto()
    model.graph.input[0].type.tensor_type.elem_type = kind
    refused(model, "float32 or float64")


def test_an_input_of_unknown_rank_is_refused():
    model = proto()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    refused(model, "does not tell")


def test_types_that_do_not_fit_each_other_are_refused():
    model = proto()
    wide = numpy_helper.to_array(model.graph.initializer[1]).astype(np.float64)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(wide, model.graph.initializer[1].name))
    refused(model, "type tensor\\(double\\)")
    model = proto()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    refused(model, "stated as")


@pytest.mark.parametrize("to", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT32, TensorProto.BOOL])
def test_values_are_not_turned_into_narrower_numbers(to):
    file = File((1, 2), 0)
    with pytest.raises(InputError, match="another kind"):
        read_network(file.bytes(file.add("Cast", file.add("Cast", "x", to=to), to=1)))


def node_with(change: Callable[[onnx.NodeProto], None], words: str) -> None:
    model = proto()
    change(model.graph.node[0])
    refused(model, words)


def test_attributes_and_inputs_that_the_standard_does_not_know_are_refused():
    add = helper.make_attribute
    named = onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="a")
    node_with(lambda n: n.attribute.append(add("gamma", 2.0)), "attribute 'gamma'")
    node_with(lambda n: n.attribute.append(add("alpha", 2)), "attribute 'alpha'")
    node_with(lambda n: n.attribute.extend([add("alpha", 2.0), add("alpha", 1.0)]), "attribute 'alpha'")
    node_with(lambda n: n.attribute.append(named), "'alpha'")
    node_with(lambda n: n.input.append("x"), "has 4 inputs")
    node_with(lambda n: n.output.append("more"), "has 2 outputs")
    node_with(lambda n: n.input.__setitem__(1, ""), "lacks its input 1")
    node_with(lambda n: n.input.__setitem__(1, "nothing"), "before it is made")
    node_with(lambda n: setattr(n, "domain", "com.microsoft"), "not known")
    node_with(lambda n: setattr(n, "op_type", "FusedGemm"), "not known")


def test_inputs_given_as_nothing_are_left_out():
    file = File((1, 3), 0)
    data = file.bytes(file.add("Clip", "x", "", file.constant(0.5)))
    x = np.array([[-9.0, 0.25, 9.0]])
    np.testing.assert_array_equal(read_network(data)(x), [[-9.0, 0.25, 0.5]])


def test_an_attribute_that_no_function_looks_at_is_refused(monkeypatch):
    from withstand.checker import reading

    read_network(chain([2, 3, 2], 0))
    monkeypatch.setitem(reading.OPERATORS, "LeakyRelu", lambda r, n: n.value())
    file = File((1, 3), 0)
    read_network(file.bytes(file.add("LeakyRelu", "x")))
    with pytest.raises(InputError, match="attribute alpha, which the checker does not read"):
        read_network(file.bytes(file.add("LeakyRelu", "x", alpha=0.5)))
    monkeypatch.setitem(reading.OPERATORS, "PRelu", lambda r, n: n.value())
    file = File((1, 3), 0)
    with pytest.raises(InputError, match="an input 1, which the checker does not read"):
        read_network(file.bytes(file.add("PRelu", "x", file.constant(0.5))))


@pytest.mark.parametrize("field", ["dims", "raw_data", "data_type"])
def test_malformed_constants_are_refused_in_one_sentence(field):
    model = proto()
    tensor = model.graph.initializer[0]
    if field == "dims":
        tensor.dims[0] = 5
    elif field == "raw_data":
        tensor.raw_data = tensor.raw_data[:-3]
    else:
        tensor.data_type = 77
    refused(model, "malformed")


def declared(nodes: list[onnx.NodeProto], **constants: object) -> bytes:
    """A network that declares more than it holds."""
    given = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
    ends = [helper.make_tensor_value_info("x", 1, [1, 2]), helper.make_tensor_value_info("y", 1, None)]
    made = helper.make_graph(nodes, "big", ends[:1], ends[1:], given)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


ADDED = helper.make_node("Add", ["x", "c"], ["y"])
DOUBLED = [helper.make_node("Concat", [f"d{k}"] * 2, [f"d{k + 1}"], axis=1) for k in range(40)]
BIG = {
    "ConstantOfShape": ([helper.make_node("ConstantOfShape", ["s"], ["c"]), ADDED], {"s": [10**6, 10**6]}),
    "Tile": ([helper.make_node("Tile", ["a", "s"], ["c"]), ADDED], {"a": np.ones((1, 2), "f"), "s": [10**6, 10**6]}),
    "Range": ([helper.make_node("Range", ["a", "s", "b"], ["c"]), ADDED], {"a": 0, "s": 10**13, "b": 1}),
    "Expand": ([helper.make_node("Expand", ["x", "s"], ["y"])], {"s": [10**6, 10**6, 2]}),
    "Pad": ([helper.make_node("Pad", ["x", "s"], ["y"])], {"s": [0, 10**11, 0, 10**11]}),
    "Concat": ([helper.make_node("Identity", ["x"], ["d0"]), *DOUBLED, helper.make_node("Relu", ["d40"], ["y"])], {}),
}


@pytest.mark.parametrize("op", BIG)
def test_what_declares_too_much_is_refused_before_it_is_made(op):
    nodes, constants = BIG[op]
    with pytest.raises(InputError, match=r"makes [\d,]+ numbers, more than"):
        read_network(declared(nodes, **constants))


def test_whole_numbers_are_moved_without_a_digit_lost():
    file, big = File((1, 2), 0), 2**53 + 1
    for given, fill, less in (([big], 7, [2**53, 7]), ([3], big, [3, 2**53])):
        padded = file.add("Pad", *[file.constant(np.array(a)) for a in (given, [0, 1], fill)])
        number = file.add("Cast", file.add("Sub", padded, file.constant(np.array(less))), to=1)
        network = read_network(file.bytes(file.add("Add", "x", number)))
        assert network(np.zeros((1, 2)))[0].tolist() == ([1, 0] if given == [big] else [0, 1])


@pytest.mark.parametrize("number", [np.nan, np.inf, 1e19, -129.0, 128.0])
def test_constants_that_whole_numbers_cannot_hold_are_not_cast(number):
    file = File((1, 1), 0)
    cast = file.add("Cast", file.add("Cast", file.constant([number]), to=TensorProto.INT8), to=1)
    with pytest.raises(InputError, match="cannot hold"):
        read_network(file.bytes(file.add("Add", "x", cast)))


def test_values_are_not_rounded_to_a_narrower_type():
    file = File((1, 1), 0, np.float64)
    narrow = file.add("Cast", file.add("Cast", "x", to=TensorProto.FLOAT), to=TensorProto.DOUBLE)
    with pytest.raises(InputError, match="rounds numbers to float32"):
        read_network(file.bytes(narrow))


def test_a_product_of_sizes_along_an_axis_is_a_constant():
    file = File((1, 2), 0)
    sizes = file.constant(np.array([[1, 2], [3, 4], [5, 6]]))
    made = file.add("ReduceProd", sizes, file.constant(np.array([0, 1])), keepdims=0)
    network = read_network(file.bytes(file.add("Add", "x", file.add("Cast", made, to=1)), opset=18))
    assert network(np.zeros((1, 2)))[0].tolist() == [720, 720]
