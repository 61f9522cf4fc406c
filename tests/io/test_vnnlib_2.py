"""VNN-LIB 2.0: the same formulas as in 1.0 are the same regions; what is not understood gets one sentence."""

import builtins
import math
import re

import pytest
import torch
from calls import calls_of
from hypothesis import given, settings
from hypothesis import strategies as st

from withstand.core.errors import InputError
from withstand.io.vnnlib import read_vnnlib

pytest.importorskip("vnnlib", reason="the package vnnlib is not installed")

NET = "(declare-network N (declare-input X float32 [1,2]) (declare-output Y float32 [1,2]))"
HEAD = f'; a comment (with "text"\n(vnnlib-version <2.0>)\n{NET}\n'
BOX = "(assert (and (>= X[0,0] -1.0) (<= X[0,0] 1.0) (>= X[0,1] 0.0) (<= X[0,1] 0.5)))\n"
OLD_HEAD = "".join(f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0", "Y_1"))


@pytest.fixture
def read(tmp_path):
    def reader(text, head=HEAD, shape=None, outputs=None):
        path = tmp_path / "file.vnnlib"
        path.write_text(head + text)
        return read_vnnlib(path, shape, outputs)

    return reader


def test_box_conjunction_and_disjunction(read):
    (region,) = read(BOX + "(assert (or (<= Y[0,0] Y[0,1]) (and (>= (+ (* 2.0 Y[0,1]) 1.0) 0.5) (< Y[0,0] 3.25))))")
    assert region.threat.lower.tolist() == [-1, 0]
    assert region.threat.upper.tolist() == [1, 0.5]
    assert region.property.weight.tolist() == [[1, -1], [0, -2], [1, 0]]
    assert region.property.offset.tolist() == [0, -0.5, -3.25]
    assert region.property.group.tolist() == [0, 1, 1]
    assert region.strict.tolist() == [False, False, True]


def test_equal_and_unequal(read):
    (region,) = read(BOX + "(assert (!= Y[0,0] 0.0))(assert (== Y[0,1] 1.0))")
    outputs = [(0.0, 1.0), (0.5, 1.0), (-0.5, 1.0), (0.5, 1.5)]
    assert [region.is_unsafe(torch.tensor(y)) for y in outputs] == [False, True, True, False]


def test_elements_are_numbered_in_c_order(read):
    head = "(vnnlib-version <2.0>)(declare-network N (declare-input X float32 [2,3]) (declare-output Y float32 []))"
    text = "".join(f"(assert (== X[{i},{j}] {i}.{j}))" for i in range(2) for j in range(3)) + "(assert (<= Y 0.0))"
    (region,) = read(text, head, (1, 2, 3), 1)
    assert region.threat.lower is not None
    assert region.threat.upper is not None
    middle = ((region.threat.lower + region.threat.upper) / 2).float()
    assert torch.allclose(middle, torch.tensor([[[0.0, 0.1, 0.2], [1.0, 1.1, 1.2]]]))
    with pytest.raises(InputError, match=r"declares 6 inputs, the network takes \[5\]"):
        read(text, head, (5,))


atoms = st.sampled_from(
    ["(<= Y_0 {})", "(>= {} Y_1)", "(< Y_0 (+ Y_1 {}))", "(> X_0 {})", "(<= X_1 {})", "(>= (- Y_0 Y_1) {})"]
)
numbers = st.sampled_from(["-1.0", "-0.5", "0.0", "0.25", "0.5"])
formulas = st.recursive(
    st.builds(lambda form, number: form.format(number), atoms, numbers),
    lambda inner: st.builds(
        lambda word, parts: f"({word} {' '.join(parts)})",
        st.sampled_from(["and", "or"]),
        st.lists(inner, min_size=2, max_size=3),
    ),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(formulas, formulas)
def test_both_versions_say_the_same(tmp_path_factory, one, more):
    folder = tmp_path_factory.mktemp("versions")
    asserted = f"(assert {one})\n(assert {more})"
    box = BOX.replace("X[0,0]", "X_0").replace("X[0,1]", "X_1")
    (folder / "old.vnnlib").write_text(OLD_HEAD + box + asserted)
    (folder / "new.vnnlib").write_text(HEAD + BOX + re.sub(r"([XY])_(\d)", r"\1[0,\2]", asserted))
    old, new = (read_vnnlib(folder / name) for name in ("old.vnnlib", "new.vnnlib"))
    assert len(old) == len(new)
    for a, b in zip(old, new, strict=True):
        for mine, other in ((a.threat.lower, b.threat.lower), (a.threat.upper, b.threat.upper)):
            assert mine is not None
            assert other is not None
            assert torch.equal(mine, other)
        assert torch.equal(a.property.weight, b.property.weight)
        assert torch.equal(a.property.offset, b.property.offset)
        assert torch.equal(a.property.group, b.property.group)
        assert (a.strict is None) == (b.strict is None)


IN, OUT = "(declare-input X float32 [2])", "(declare-output Y float32 [1])"


ANY = "(assert (<= Y[0] 0.0))"


def network(*parts):
    return "(vnnlib-version <2.0>)(declare-network N " + " ".join(parts) + ")"


EQUAL = (
    network(IN, OUT) + "(declare-network M (equal-to N) (declare-input U float32 [2]) (declare-output V float32 [1]))"
)


@pytest.mark.parametrize(
    ("head", "text", "sentence"),
    [
        (network(IN, OUT) + f"(declare-network M {IN.replace('X', 'U')} {OUT.replace('Y', 'V')})", ANY, "2 networks"),
        (network(IN, "(declare-input Z float32 [2])", OUT), ANY, "declares 2 inputs of the network"),
        (network(IN, OUT, "(declare-output Z float32 [2])"), ANY, "declares 2 outputs of the network"),
        (network(IN, '(declare-hidden H float32 [3] "relu")', OUT), ANY, "names the hidden node H"),
        (EQUAL, ANY, "compares its network with another|2 networks"),
        (network("(declare-input X int8 [2])", OUT), "(assert (<= X[0] 1))", "the input X is declared I8"),
        (network(IN, OUT), "(assert (<= (* X[0] Y[0]) 1.0))", "is not linear"),
        (
            network(IN, OUT),
            "(assert (<= X[2] 1.0))",
            "line 1: Index out of bounds for variable at X.2.: Index 2 is out",
        ),
        (network(IN, OUT), "(assert (<= X[0] 1.0)", "a parenthesis opened here is never closed"),
        (network(IN, OUT), "(assert (<= X[0] one))", "cannot read it|not declared|Undeclared"),
        (
            network(IN, OUT),
            "(assert (<= X[0] X[1]))",
            "line 1: a constraint on inputs may name one input only; X_0, X_1",
        ),
        (network(IN, OUT), "(assert (<= X[0] 1.0))", "X_0 has no lower or no upper bound"),
        (network(IN, OUT).replace("2.0", "3.0"), "(assert (<= X[0] 1.0))", "3.0"),
        (network(IN, OUT), "(assert " + "(and " * 100_000 + ")" * 100_001, "nested deeper than 100"),
        (network(IN, OUT), "".join("(assert (or (<= Y[0] 0.0) (>= Y[0] 1.0)))" for _ in range(20)), "more than 100000"),
    ],
)
def test_what_is_not_understood_gets_one_sentence(read, head, text, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        read(text, head)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


def test_without_the_package_a_sentence_says_what_to_install(read, monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **named):
        if name == "vnnlib":
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'withstand\[vnnlib\]'"):
        read(BOX)


def test_large_files_are_read_by_few_calls(read):
    size = 3072
    head = f"(vnnlib-version <2.0>)(declare-network N (declare-input X float32 [3,32,32]) {OUT})"
    places = [f"X[{i // 1024},{i // 32 % 32},{i % 32}]" for i in range(size)]
    text = "".join(f"(assert (<= {place} 0.75))(assert (>= {place} 0.25))\n" for place in places)
    (region,), calls = calls_of(lambda: read(text + "(assert (<= Y[0] 0.0))", head))
    assert calls < 100 * 2 * size
    assert math.prod(region.threat.lower.shape) == size
