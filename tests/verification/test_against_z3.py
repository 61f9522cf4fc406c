"""Answers to VNN-LIB questions about small networks against z3, which reads the same text in exact arithmetic."""

from fractions import Fraction

import pytest
import torch
from tiny import random_net

from withstand.graph.onnx_writer import write_onnx
from withstand.io.vnnlib.forms import parse_forms
from withstand.verification.vnncomp import decide

z3 = pytest.importorskip("z3", reason="the package z3-solver is not installed")

HEAD = "".join(f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0", "Y_1"))
BOX = "".join(f"(assert (>= X_{i} -1))(assert (<= X_{i} 1))" for i in range(2))
QUESTIONS = [
    "(assert (<= Y_0 Y_1))",
    "(assert (or (>= Y_0 {a}) (<= Y_1 {b})))",
    "(assert (or (and (<= Y_0 {b}) (>= Y_1 {a})) (and (>= Y_0 {a}) (<= Y_1 {b}))))",
    "(assert (or (and (<= X_0 -0.5) (>= Y_0 {a})) (and (>= X_0 0.25) (<= X_1 0) (<= (- Y_0 Y_1) {b}))))",
    "(assert (> (+ (* 2 Y_0) (* -0.5 Y_1)) {a}))(assert (or (< X_0 0) (> X_1 0.5)))",
    "(assert (<= {b} Y_0 ))(assert (>= {a} Y_0))(assert (or (<= Y_1 {b}) (>= Y_1 {a})))",
]
SIGNS = {
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "+": lambda *parts: sum(parts[1:], parts[0]),
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
}


def exact(value):
    return z3.RealVal(Fraction(float(value)))


def in_z3(term, values):
    """A form of the text as z3's term."""
    if isinstance(term, str):
        return values[term] if term in values else exact(float(term))
    word, *parts = term
    parts = [in_z3(part, values) for part in parts]
    return {"and": lambda: z3.And(*parts), "or": lambda: z3.Or(*parts)}.get(word, lambda: SIGNS[word](*parts))()


def truth(graph, text):
    """z3's word on the text about the graph, with the outputs defined layer by layer."""
    solver = z3.Solver()
    inputs = [z3.Real(f"X_{i}") for i in range(2)]
    layer = inputs
    for i in range(2):
        weight, bias = graph.constant(f"w{i}"), graph.constant(f"b{i}")
        sums = [sum((exact(w) * v for w, v in zip(row, layer)), exact(b)) for row, b in zip(weight, bias)]
        layer = [z3.If(s > 0, s, 0) for s in sums] if i == 0 else sums
    values = {f"X_{i}": x for i, x in enumerate(inputs)} | {f"Y_{j}": y for j, y in enumerate(layer)}
    for form in parse_forms(text):
        if form[0] == "assert":
            solver.add(in_z3(form[1], values))
    return str(solver.check())


@pytest.mark.parametrize("question", range(len(QUESTIONS)))
def test_answers_agree_with_z3(tmp_path, question):
    words = []
    for seed in range(3):
        graph = random_net([2, 5, 2], 10 * question + seed, torch.float32)
        points = torch.rand(500, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        outputs = graph(points)
        a = float(outputs[:, 0].quantile([0.9, 1.0, 0.5][seed])) + [0.0, 0.1, 0.5][seed]
        b = float(outputs[:, 1].quantile([0.1, 0.0, 0.5][seed])) - [0.0, 0.1, 0.5][seed]
        text = HEAD + BOX + QUESTIONS[question].format(a=f"{a:.6f}", b=f"{b:.6f}")
        (tmp_path / "net.onnx").write_bytes(write_onnx(graph))
        (tmp_path / "p.vnnlib").write_text(text)
        answer = decide(tmp_path / "net.onnx", tmp_path / "p.vnnlib", 20)
        words.append(answer.result)
        assert answer.result == truth(graph, text), f"seed {seed}: {answer}"
    assert set(words) <= {"sat", "unsat"}
