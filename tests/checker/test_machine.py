"""Certificates for the network as a machine runs it, against onnxruntime."""

import numpy as np
import onnx
import pytest
import torch
from checker.nets import File
from onnx import TensorProto, helper
from onnxruntime import InferenceSession
from torch import nn

import withstand
from withstand.checker.bounds import Bounder
from withstand.checker.check import check, holds_as_run
from withstand.checker.file import load
from withstand.checker.machine import LIBRARY
from withstand.checker.reading import read_network
from withstand.checker.region import Region
from withstand.graph.capture import from_module
from withstand.graph.replay import OnnxSession
from withstand.verification.vnncomp import decide

BIG = 2.0**25


def staircase(kind: int = TensorProto.FLOAT) -> bytes:
    """relu(x + 2^25) - 2^25 - x."""
    big = helper.make_tensor("big", kind, [1], [BIG])
    nodes = [("Add", ["x", "big"], "a"), ("Relu", ["a"], "b"), ("Sub", ["b", "big"], "c"), ("Sub", ["c", "x"], "y")]
    made = helper.make_graph(
        [helper.make_node(op, inputs, [output]) for op, inputs, output in nodes],
        "staircase",
        [helper.make_tensor_value_info("x", kind, [1, 1])],
        [helper.make_tensor_value_info("y", kind, [1, 1])],
        [big],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()


def bounds(data: bytes, low: np.ndarray, high: np.ndarray, machine: bool) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the outputs of a network whose last step is an activation's source, by the checker's walk."""
    network = read_network(data)
    network = network.as_run if machine else network
    assert network is not None
    bounder = Bounder(network, Region(low, high))
    with np.errstate(all="ignore"):
        parts = bounder.refine(bounder.whole())
    last = network.activations[-1].neurons
    return parts.below[0, last], parts.above[0, last]


@pytest.mark.parametrize("act", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.Softplus])
def test_bounds_hold_for_what_onnxruntime_computes(act):
    """Of a point, bounds are as wide as rounding, and numbers computed in float32 lie between them."""
    torch.manual_seed(0)
    layers = [nn.Linear(6, 30), act(), nn.Linear(30, 30), act(), nn.Linear(30, 5)]
    made = from_module(nn.Sequential(*layers, nn.ReLU()).eval(), (6,))
    before = from_module(nn.Sequential(*layers).eval(), (6,))
    session = OnnxSession(before.onnx_bytes())
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(1)).numpy()
    theirs, seen = session(x).astype(np.float64), 0.0
    for row, output in zip(x.astype(np.float64), theirs, strict=True):
        low, high = bounds(made.onnx_bytes(), row, row, machine=True)
        assert (low <= output).all()
        assert (output <= high).all()
        real = bounds(made.onnx_bytes(), row, row, machine=False)
        assert ((high - low) > 1e3 * (real[1] - real[0])).all()
        seen = max(seen, float((np.abs(output - (low + high) / 2) / (high - low)).max()))
    assert seen > 1e-3, "bounds that are never near what is seen say nothing"


def prove(folder, data: bytes, level: float, limit: float = 10.0):
    (folder / "net.onnx").write_bytes(data)
    text = "(declare-const X_0 Real)(declare-const Y_0 Real)"
    text += f"(assert (>= X_0 {-limit}))(assert (<= X_0 {limit}))(assert (>= Y_0 {level}))"
    (folder / "spec.vnnlib").write_text(text)
    answer = decide(folder / "net.onnx", folder / "spec.vnnlib", 20.0, certificate=folder / "proof")
    assert answer.result == "unsat", answer.reason
    assert answer.certificate is not None
    return load(answer.certificate), read_network(data)


def test_a_certificate_of_real_arithmetic_says_so(tmp_path):
    certificate, network = prove(tmp_path, staircase(), 3.0)
    assert check(certificate, network).holds
    assert not holds_as_run(certificate, network), "three numbers of float32 further on the sum may be another"
    certificate, network = prove(tmp_path, staircase(), 40.0)
    assert holds_as_run(certificate, network)
    certificate, network = prove(tmp_path, staircase(TensorProto.DOUBLE), 1e-6)
    assert holds_as_run(certificate, network)


def test_the_command_line_tells_which(tmp_path, capsys):
    from withstand.cli import main

    for level, word in ((3.0, "real arithmetic"), (40.0, "as it is run in its float type too")):
        prove(tmp_path, staircase(), level)
        assert not main(["check", str(tmp_path / "proof.safetensors"), "--model", str(tmp_path / "net.onnx")])
        assert word in capsys.readouterr().out


def test_values_of_two_types_have_no_machine():
    nodes = [helper.make_node("Cast", ["x"], ["w"], to=TensorProto.DOUBLE), helper.make_node("Relu", ["w"], ["y"])]
    made = helper.make_graph(
        nodes,
        "mixed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [1, 2])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    assert read_network(model.SerializeToString()).as_run is None


def test_certificates_raise_what_intervals_cannot_tell(tmp_path):
    """A deep network over small balls: interval radii exceed the margins, certificates of the parts do not."""
    torch.manual_seed(0)
    layers = [layer for _ in range(7) for layer in (nn.Linear(20, 20), nn.ReLU())]
    module = nn.Sequential(nn.Linear(4, 20), nn.ReLU(), *layers, nn.Linear(20, 3)).eval()
    with torch.no_grad():
        for part in module:
            if isinstance(part, nn.Linear):
                part.weight.mul_(6)
    x = torch.rand(6, 4)
    data = (x, module(x).argmax(1))
    plain = withstand.verify(module, data, "linf:0.06", method="branch-and-bound")
    stored = withstand.verify(module, data, "linf:0.06", method="branch-and-bound", certificates=tmp_path)
    assert plain.executed is not None
    assert stored.executed is not None
    assert plain.executed < stored.executed <= stored.counts["proved"]


def test_library_functions_are_nearer_than_the_room_for_them():
    x = torch.linspace(-30, 30, 20001)
    for function, name in ((torch.sigmoid, "Sigmoid"), (torch.tanh, "Tanh")):
        info = [helper.make_tensor_value_info(v, TensorProto.FLOAT, [1, len(x)]) for v in "xy"]
        made = helper.make_graph([helper.make_node(name, ["x"], ["y"])], "one", info[:1], info[1:])
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        theirs = OnnxSession(model.SerializeToString())(x[None].numpy())[0]
        real = function(x.double()).numpy()
        for found in (theirs, function(x).numpy()):
            assert np.abs(found - real).max() <= LIBRARY * 2.0**-24


@pytest.mark.parametrize("op", ["Mul", "Div"])
def test_numbers_beyond_the_float_type_are_not_bounded(op):
    """x 1e30 1e30 1e-30 1e-30 is x, and infinite on a machine."""
    large, small = np.float32(1e30), np.float32(1e-30)
    file, last = File((1, 1), 0), "x"
    for factor in (large, large, small, small):
        last = file.add(op, last, file.constant(factor if op == "Mul" else 1 / factor))
    data = file.bytes(file.add("Relu", last))
    one = np.ones(1)
    for machine in (False, True):
        low, high = bounds(data, one, one, machine)
        assert np.isfinite([low, high]).all() == (not machine)
    assert np.isinf(InferenceSession(data).run(None, {"x": np.ones((1, 1), np.float32)})[0]).all()


def test_no_size_cuts_off_what_a_machine_rounds_up():
    """The bounds of a sum of like numbers are not those of its exact value."""
    file = File((1, 4096), 0)
    network = read_network(file.bytes(file.add("MatMul", "x", file.constant(np.ones((4096, 1)))))).as_run
    assert network is not None
    one = np.ones(4096)
    bounder = Bounder(network, Region(one, one))
    bounder.refine(bounder.whole())
    assert bounder.sizes.magnitude[network.output][0] >= 4096 * (1 + 4096 * 2.0**-24)
