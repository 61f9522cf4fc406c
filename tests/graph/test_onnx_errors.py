"""What the reader says about files it cannot read, and what it repairs."""

import pickle

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_case import agrees, network, node, ops

from withstand.core.errors import InputError, ToolFault
from withstand.graph import onnx_ops
from withstand.graph.onnx_reader import read_onnx
from withstand.graph.replay import OnnxSession


def one_sentence(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


def test_missing_file_and_file_that_is_no_onnx(tmp_path):
    with pytest.raises(InputError, match="no file"):
        read_onnx(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("this is not a network")
    with pytest.raises(InputError, match="not a readable ONNX network") as error:
        read_onnx(tmp_path / "text.onnx")
    one_sentence(error)
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(InputError, match="not an ONNX network"):
        read_onnx(tmp_path / "empty.onnx")


def test_unknown_operator_names_itself_its_node_and_the_remedy():
    lstm = helper.make_node("Hardmax", ["x"], ["y"], name="odd")
    with pytest.raises(InputError, match=r"Hardmax.*'odd'.*@lowers\('Hardmax'\).*graph/onnx_ops") as error:
        read_onnx(network([lstm], [None, 4]))
    one_sentence(error)


def test_condition_on_the_input_is_refused():
    nodes = [node("Greater", "x z", "m"), node("Where", "m x z")]
    with pytest.raises(InputError, match="no rule for the ONNX operator Greater"):
        read_onnx(network(nodes, [None, 4], {"z": np.zeros(4, np.float32)}))


def test_two_inputs_are_refused_but_listed_weights_are_not():
    data = network([node("Add", "x k")], [None, 4], {"k": np.ones(4, np.float32)})
    proto = onnx.load_model_from_string(data)
    proto.graph.input.append(helper.make_tensor_value_info("k", TensorProto.FLOAT, [4]))
    agrees(proto.SerializeToString())
    del proto.graph.initializer[:]
    with pytest.raises(InputError, match=r"2 inputs \(x, k\)"):
        read_onnx(proto.SerializeToString())


def test_open_sizes_other_than_the_batch_are_refused():
    with pytest.raises(InputError, match="Only the batch"):
        read_onnx(network([node("Relu")], [None, 3, None]))


def test_a_network_that_mixes_samples_is_refused():
    data = network([node("ReduceMean", "x", "m", axes=[0], keepdims=1), node("Sub", "x m")], [None, 4])
    with pytest.raises(InputError, match="mixes the samples"):
        read_onnx(data)


def test_a_wrong_lowering_is_found_with_its_node(monkeypatch):
    monkeypatch.setitem(onnx_ops.table(), "Tanh", lambda b, c: b.emit("sigmoid", c.array(0), folded=False))
    nodes = [node("Relu", "x", "a"), helper.make_node("Tanh", ["a"], ["b"], name="culprit"), node("Neg", "b")]
    with pytest.raises(ToolFault, match=r"first at node 'culprit' \(Tanh\)"):
        read_onnx(network(nodes, [None, 4]))


def test_networks_of_half_precision_answer_as_onnxruntime_does_and_are_no_graph_of_float32():
    weight = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float16)
    data = network([node("MatMul", "x w")], [None, 4], {"w": weight}, kind=TensorProto.FLOAT16)
    model = read_onnx(data)
    assert model.graph is not None
    assert model.graph.dtype == torch.float32
    assert model.differs is not None
    assert "computes in float16" in model.differs
    x = torch.rand(5, 4)
    assert np.array_equal(model(x).numpy(), OnnxSession(data)(x.numpy()).astype(np.float32))
    assert not torch.equal(model(x), model.graph(x))
    assert pickle.loads(pickle.dumps(model))(x).equal(model(x))


def test_a_rounding_to_half_precision_inside_is_no_graph_of_float32():
    half, back = (node("Cast", "x", to=TensorProto.FLOAT16)), node("Cast", "y0", to=TensorProto.FLOAT)
    half.output[0], back.input[0] = "h", "h"
    model = read_onnx(network([half, back], [None, 4], {}))
    assert model.differs is not None
    x = torch.full((1, 4), 0.1)
    assert model(x).equal(x.half().float())


def test_weights_in_other_files_are_found(tmp_path):
    weight = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    proto = onnx.load_model_from_string(network([node("MatMul", "x w")], [None, 40], {"w": weight}))
    path = tmp_path / "split.onnx"
    onnx.save(proto, str(path), save_as_external_data=True, size_threshold=0, location="split.bin")
    model = read_onnx(path)
    x = torch.randn(2, 40)
    np.testing.assert_allclose(OnnxSession(model.onnx_bytes())(x.numpy()), model(x).numpy(), rtol=1e-4, atol=1e-5)


def test_constants_of_nodes_in_other_files_are_found_and_never_read_from_bytes_alone(tmp_path, monkeypatch):
    weight = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    held = numpy_helper.from_array(weight, "w")
    data = network([node("Constant", "", "w", value=held), node("MatMul", "x w")], [None, 4])
    proto = onnx.load_model_from_string(data)
    path = tmp_path / "split.onnx"
    options = {"size_threshold": 0, "location": "split.bin", "convert_attribute": True}
    onnx.save(proto, str(path), save_as_external_data=True, **options)
    model = read_onnx(path)
    x = torch.randn(2, 4)
    np.testing.assert_allclose(model(x).numpy(), x.numpy() @ weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(OnnxSession(model.onnx_bytes())(x.numpy()), model(x).numpy(), rtol=1e-4, atol=1e-5)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="other files"):
        read_onnx(path.read_bytes())


@pytest.mark.parametrize("opset", [6, 24])
def test_other_operator_sets_are_refused(opset):
    with pytest.raises(InputError, match=f"operator set {opset}, so export it with one of 7 to 23"):
        read_onnx(network([node("Relu")], [None, 4], opset=opset))


def test_what_nothing_makes_is_refused():
    with pytest.raises(InputError, match="reads 'nothing', which nothing before makes"):
        read_onnx(network([node("Add", "x nothing")], [None, 4]), check=False)


def test_attributes_and_inputs_that_no_lowering_looks_at_are_refused(monkeypatch):
    with pytest.raises(InputError, match="attribute 'odd' that the standard does not give"):
        read_onnx(network([node("Relu", odd=1)], [None, 4]), check=False)
    with pytest.raises(InputError, match="2 inputs"):
        read_onnx(network([node("Relu", "x x")], [None, 4]), check=False)
    monkeypatch.setitem(onnx_ops.table(), "LeakyRelu", lambda b, c: c.array(0))
    read_onnx(network([node("LeakyRelu")], [None, 4]), check=False)
    with pytest.raises(InputError, match="attribute 'alpha', which is not read"):
        read_onnx(network([node("LeakyRelu", alpha=0.5)], [None, 4]), check=False)
    monkeypatch.setitem(onnx_ops.table(), "PRelu", lambda b, c: c.array(0))
    with pytest.raises(InputError, match="an input 1, which is not read"):
        read_onnx(network([node("PRelu", "x s")], [None, 4], {"s": np.array([0.5], np.float32)}), check=False)


def test_a_session_refuses_what_is_no_network(tmp_path):
    (tmp_path / "text.onnx").write_text("this is not a network")
    with pytest.raises(InputError, match="cannot be loaded"):
        OnnxSession(tmp_path / "text.onnx")


def test_a_session_needs_no_torch():
    import subprocess
    import sys

    code = "import sys, withstand.graph.replay; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_of_activations_are_those_of_the_file():
    model = read_onnx(network([node("Relu", "x", "hidden"), node("Tanh", "hidden")], [None, 4]))
    assert model.graph is not None
    assert [n.name for n in model.graph.nodes] == ["hidden", "y"]


def test_activations_written_out_become_one_node():
    c = {"r": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)}
    nodes = [node("Div", "x r", "d"), node("Erf", "d", "e"), node("Add", "e one", "a"), node("Mul", "x a", "m")]
    model = agrees(network([*nodes, node("Mul", "m half")], [None, 4], c))
    assert ops(model) == ["gelu"]
    model = agrees(network([node("Sigmoid", "x", "s"), node("Mul", "x s")], [None, 4]))
    assert ops(model) == ["silu"]
