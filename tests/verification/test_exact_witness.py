"""Witnesses lie within a question's own text: judged here by an evaluator of the text that shares nothing with it."""

import re
from fractions import Fraction

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from withstand.graph.replay import OnnxSession
from withstand.verification.vnncomp import decide

DTYPE = {TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64}


def affine(path, weight, bias, kind=TensorProto.FLOAT):
    """Y = weight X + bias as an ONNX file."""
    weight, bias = (np.asarray(a, DTYPE[kind]) for a in (weight, bias))
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["X", "W", "B"], ["Y"], transB=1)],
        "affine",
        [helper.make_tensor_value_info("X", kind, [1, weight.shape[1]])],
        [helper.make_tensor_value_info("Y", kind, [1, weight.shape[0]])],
        [numpy_helper.from_array(weight, "W"), numpy_helper.from_array(bias, "B")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def forms(text):
    """SMT-LIB text as nested lists."""
    stack = [[]]
    for token in re.findall(r"[()]|[^\s()]+", re.sub(r";.*", "", text)):
        if token == "(":
            stack.append([])
        elif token == ")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    return stack[0]


def value(term, point):
    """The exact value of a term or a condition at a point."""
    if isinstance(term, str):
        return point[term] if term in point else Fraction(term)
    word, *parts = term
    values = [value(part, point) for part in parts]
    match word:
        case "and" | "or":
            return all(values) if word == "and" else any(values)
        case "+" | "*":
            total = values[0]
            for more in values[1:]:
                total = total + more if word == "+" else total * more
            return total
        case "-":
            return -values[0] if len(values) == 1 else values[0] - sum(values[1:])
    signs = {"<=": "__le__", "<": "__lt__", ">=": "__ge__", ">": "__gt__", "=": "__eq__"}
    return getattr(values[0], signs[word])(values[1])


def confirm(onnx_file, vnnlib, answer):
    """The printed text meets every assertion exactly, its outputs being what onnxruntime gives at what it says."""
    assert answer.text.startswith("sat\n")
    (pairs,) = forms(answer.text.removeprefix("sat\n"))
    session = OnnxSession(onnx_file)
    inputs = [word for name, word in pairs if name.startswith("X")]
    outputs = session(np.array([[float(word) for word in inputs]]).astype(session.dtype))[0]
    printed = [float(word) for name, word in pairs if name.startswith("Y")]
    assert printed == outputs.tolist()
    point = {f"X_{i}": Fraction(word) for i, word in enumerate(inputs)}
    point |= {f"Y_{j}": Fraction(float(v)) for j, v in enumerate(outputs)}
    asserted = [term[1] for term in forms(vnnlib.read_text()) if term[0] == "assert"]
    assert asserted
    for term in asserted:
        assert value(term, point), term
    assert answer.witness[0].flatten().tolist() == [float(word) for word in inputs]


def question(path, limits, output, inputs=1, outputs=1):
    declared = "".join(f"(declare-const X_{i} Real)\n" for i in range(inputs))
    declared += "".join(f"(declare-const Y_{j} Real)\n" for j in range(outputs))
    path.write_text(declared + "".join(f"(assert {term})\n" for term in (*limits, output)))
    return path


LIMITS = {
    "a number that is no float32": ["(<= X_0 0.1)", "(>= X_0 0.1)"],
    "an equality": ["(= X_0 0.1)"],
    "no float32 between": ["(>= X_0 0.10000000000000001)", "(<= X_0 0.1000000001)"],
    "the end below its float32": ["(>= X_0 -1)", "(<= X_0 0.7)"],
    "the end above its float32": ["(>= X_0 -1)", "(<= X_0 0.1)"],
    "more digits than a double": ["(>= X_0 0.3333333333333333333333)", "(<= X_0 0.33333333333333333333334)"],
    "a double's decimal in full": ["(>= X_0 0)", "(<= X_0 0.1000000000000000055511151231257827)"],
    "a third": ["(>= (* 3 X_0) 1)", "(<= (* 3 X_0) 1.0000000000000000001)"],
    "a sum": ["(<= (+ X_0 0.1) 0.4)", "(>= (- X_0 0.1) 0.2)"],
    "hardly above zero": ["(>= X_0 1e-50)", "(<= X_0 1e-50)"],
    "hardly above zero in float64": ["(>= X_0 1e-400)", "(<= X_0 2e-400)"],
    "huge": ["(>= X_0 1e30)", "(<= X_0 1e30)"],
    "strict below": ["(>= X_0 0)", "(< X_0 0.7)"],
    "strict above": ["(> X_0 0.1)", "(<= X_0 0.2)"],
    "strict on both sides of a double": ["(> X_0 0.5)", "(< X_0 0.50000001)"],
    "boxes to choose from": ["(or (and (>= X_0 0.1) (<= X_0 0.1)) (and (>= X_0 0.3) (< X_0 0.3000000001)))"],
}


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE], ids=["float32", "float64"])
@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
def test_a_witness_meets_the_text_exactly(tmp_path, limits, kind):
    network = affine(tmp_path / "net.onnx", [[1.0]], [0.0], kind)
    vnnlib = question(tmp_path / "q.vnnlib", limits, "(>= Y_0 -5)")
    confirm(network, vnnlib, decide(network, vnnlib, certificate=tmp_path / "c"))
    assert (tmp_path / "c.counterexample").read_text().startswith("sat")


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.DOUBLE], ids=["float32", "float64"])
def test_random_limits(tmp_path, kind):
    rng = np.random.default_rng(3)
    network = affine(tmp_path / "net.onnx", rng.normal(size=(1, 6)), [0.0], kind)
    for trial in range(25):
        limits = []
        for i in range(6):
            low = f"{rng.normal() * 10.0 ** rng.integers(-3, 4):.{rng.integers(1, 25)}f}"
            digits = int(rng.integers(0, 22))
            high = low if digits < 6 else f"{low}{'0' * (30 - len(low)) if '.' in low else ''}{'7' * digits}"
            low, high = sorted((low, high), key=Fraction)
            limits += [f"(>= X_{i} {low})", f"(<= X_{i} {high})"]
        vnnlib = question(tmp_path / f"{trial}.vnnlib", limits, "(<= Y_0 1e9)", inputs=6)
        confirm(network, vnnlib, decide(network, vnnlib))


def test_where_no_decimal_is_within_the_limits_that_is_said(tmp_path):
    network = affine(tmp_path / "net.onnx", [[1.0]], [0.0])
    vnnlib = question(tmp_path / "q.vnnlib", ["(= (* 3 X_0) 1)"], "(>= Y_0 0)")
    answer = decide(network, vnnlib)
    assert (answer.result, answer.witness) == ("unknown", None)
    assert "X_0 = 0.333" in answer.reason
    assert "no decimal" in answer.reason


def test_an_end_that_float32_moves_outwards_is_part_of_the_question(tmp_path):
    """float32(48.9) = 48.90000153: that is what a runtime computes with when it is given 48.9."""
    network = affine(tmp_path / "net.onnx", [[1.0]], [0.0])
    vnnlib = question(tmp_path / "q.vnnlib", ["(>= X_0 48.8)", "(<= X_0 48.9)"], "(>= Y_0 48.9000001)")
    confirm(network, vnnlib, decide(network, vnnlib))


@pytest.mark.parametrize("output", ["(<= Y_0 0.1)", "(< Y_0 0.1000000000000000055511151231257827)", "(= Y_0 0.1)"])
def test_outputs_are_judged_exactly(tmp_path, output):
    """Y is the double nearest to 0.1, which lies above 0.1 by 5.55e-18: below no such limit, and equal to none."""
    network = affine(tmp_path / "net.onnx", [[0.0]], [0.1], TensorProto.DOUBLE)
    vnnlib = question(tmp_path / "q.vnnlib", ["(>= X_0 0)", "(<= X_0 1)"], output)
    assert decide(network, vnnlib).result == "unknown"
    vnnlib = question(tmp_path / "r.vnnlib", ["(>= X_0 0)", "(<= X_0 1)"], "(< Y_0 0.10000000000000001)")
    confirm(network, vnnlib, decide(network, vnnlib))


def test_numbers_that_no_limit_needs_are_refused(tmp_path):
    from withstand.core.errors import InputError
    from withstand.io.vnnlib import read_vnnlib

    for number in ("1e-999999999", "1e999999999", "0." + "1" * 5000):
        with pytest.raises(InputError, match=r"line 3: .*digits"):
            read_vnnlib(question(tmp_path / "q.vnnlib", [f"(>= X_0 {number})"], "(<= Y_0 0)"))


def test_double_proves_what_the_rounding_of_float32_hides(tmp_path):
    network = affine(tmp_path / "net.onnx", [[1.0]], [1e6])
    vnnlib = question(tmp_path / "q.vnnlib", ["(>= X_0 0)", "(<= X_0 0.25)"], "(>= Y_0 1000000.3)")
    assert decide(network, vnnlib).result == "unknown"
    assert decide(network, vnnlib, double=True).result == "unsat"


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
def test_double_finds_witnesses_that_the_float32_network_can_be_given(tmp_path, limits):
    network = affine(tmp_path / "net.onnx", [[1.0]], [0.0])
    vnnlib = question(tmp_path / "q.vnnlib", limits, "(>= Y_0 -5)")
    confirm(network, vnnlib, decide(network, vnnlib, double=True))
