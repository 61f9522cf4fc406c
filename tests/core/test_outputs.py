"""Conditions on outputs: they mean what Python says of numbers, as formulas and as texts."""

import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from withstand.core.errors import InputError
from withstand.core.outputs import Condition, other, out
from withstand.core.property import Argmax
from withstand.core.property_text import parse_property

OUTPUTS = 4


def holds(condition, values):
    outputs = torch.tensor([values], dtype=torch.float64)
    return bool(condition.margin(outputs, torch.zeros(1)) > 0)


def test_above_all_others_is_argmax():
    outputs = torch.randn(50, 5, generator=torch.Generator().manual_seed(0))
    condition = out[3] > out[other]
    want = Argmax().margin(outputs, torch.full((50,), 3))
    assert condition.margin(outputs, torch.zeros(50)).tolist() == pytest.approx(want.tolist(), abs=1e-6)
    assert condition.rows(torch.zeros(2), 5).weight.shape == (2, 4, 5)


def test_linear_combinations():
    condition = 2 * out[0] - out[1] / 4 + 1 < -(out[2] * 3) - 0.5
    rows = condition.linear(3)
    assert rows.weight.tolist() == [[-2, 0.25, -3]]
    assert rows.offset.tolist() == [-1.5]
    assert str(condition) == "-3*out[2] - 0.5 > 2*out[0] - 0.25*out[1] + 1"
    assert (1 - out[0] > 0).linear(1).weight.tolist() == [[-1]]
    assert (0 < out[0]).linear(1).weight.tolist() == [[1]]  # noqa: SIM300


def test_margin_is_the_worst_of_all_and_the_best_of_either():
    condition = (out[0] > 1) & ((out[1] > 2) | (out[2] > 3))
    values = torch.tensor([[1.5, 0.0, 3.25], [1.5, 2.75, 0.0], [0.0, 9.0, 9.0]])
    assert condition.margin(values, torch.zeros(3)).tolist() == [0.25, 0.5, -1.0]
    assert condition.linear(3).group.tolist() == [0, 1, 1]


def test_others_mixed_with_either():
    condition = (out[0] > out[other]) | (out[1] > out[other])
    assert holds(condition, [3, 1, 2, 0])
    assert holds(condition, [1, 3, 2, 0])
    assert not holds(condition, [1, 2, 3, 0])
    assert condition.linear(4).weight.shape == (2 * 9, 4)
    assert holds(out[0] - out[1] > out[other] + 1, [5, 1, 2, 2.5])
    assert not holds(out[0] - out[1] > out[other] + 1, [5, 1, 2, 3.5])


def test_it_travels_to_other_processes():
    condition = pickle.loads(pickle.dumps((out[0] > out[other]) & (out[1] < 2)))
    assert holds(condition, [3, 1, 2, 0])


sums = st.recursive(
    st.sampled_from([f"out[{i}]" for i in range(OUTPUTS)] + ["1", "0.5", "-2", "2.5e-1"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(st.sampled_from(["2", "-0.5"]), inner).map(lambda t: f"{t[0]} * {t[1]}"),
        inner.map(lambda t: f"-{t}"),
        inner.map(lambda t: f"{t} / 4"),
    ),
    max_leaves=4,
)
formulas = st.recursive(
    st.tuples(sums, st.sampled_from(["<", ">", "<=", ">="]), sums).map(lambda t: f"({t[0]} {t[1]} out[0] + {t[2]})"),
    lambda inner: st.tuples(inner, st.sampled_from("&|"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
    max_leaves=6,
)


@settings(max_examples=150, deadline=None)
@given(formulas, st.lists(st.integers(-8, 8).map(lambda n: n / 4 + 1 / 64), min_size=OUTPUTS, max_size=OUTPUTS))
def test_text_means_what_python_says(text, values):
    named = {"out": values}
    as_numbers = eval(text, {"__builtins__": {}}, named)  # texts of this test's own making, on plain numbers
    margins = []
    condition = parse_property(text)
    assert isinstance(condition, Condition)
    in_python = eval(text, {"__builtins__": {}}, {"out": out})
    outputs = torch.tensor([values], dtype=torch.float64)
    for one in (condition, in_python, parse_property(str(condition))):
        margins.append(float(one.margin(outputs, torch.zeros(1))))
    assert margins == pytest.approx([margins[0]] * 3)
    if abs(margins[0]) > 1e-9:  # on the edge, >= and > differ by design
        assert (margins[0] > 0) == as_numbers


def test_text_binds_looser_than_comparisons_and_chains():
    text = "out[3] > out[1] + 0.5 & (out[0] < 2 | out[2] > 0)"
    assert str(parse_property(text)) == "out[3] > out[1] + 0.5 & (2 > out[0] | out[2] > 0)"
    assert str(parse_property("0 < out[0] <= 1")) == "out[0] > 0 & 1 > out[0]"
    assert str(parse_property("out[1] > out[other] and out[0] < 3")) == "out[1] > out[other] & 3 > out[0]"
    assert str(parse_property("out[0] > 1 | out[1] > 1 & out[2] > 1")) == "out[0] > 1 | (out[1] > 1 & out[2] > 1)"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("out[3]", "'out[3]' is not understood"),
        ("out[3] > x", "'x'"),
        ("out[3] == 2", "'out[3] == 2'"),
        ("out[3] != out[1]", "not understood"),
        ("__import__('os').getcwd() > out[0]", "__import__('os')"),
        ("out[0].real > 1", "'out[0].real'"),
        ("out[0] * out[1] > 2", "not linear"),
        ("out[-1] > 0", "'out[-1]'"),
        ("out[0:2] > 0", "'out[0:2]'"),
        ("out[True] > 0", "'out[True]'"),
        ("out[0] / 0 > 1", "'out[0] / 0'"),
        ("1 / out[0] > 1", "not linear"),
        ("not out[0] > 1", "not understood"),
        ("out[0] > 1 &", "not understood"),
        ("out[0] > 1e999", "finite"),
        ("out[0] > 1j", "'1j'"),
        ("out[0] > True", "'True'"),
        ("(out[0] > 1) > 1", "not understood"),
        ("(" * 500 + "out[0]" + ")" * 500 + " > 1", "not understood"),
        ("-" * 5000 + "out[0] > 1", "not understood"),
        ("out[0] > 1 | " * 2000, "too long"),
        ("[out[0] for out in (1,)] > 1", "not understood"),
    ],
)
def test_other_texts_get_a_sentence(text, part):
    with pytest.raises(InputError) as caught:
        parse_property(text)
    assert part in str(caught.value)
    assert len(str(caught.value)) < 400


def test_mistakes_in_python_get_a_sentence():
    with pytest.raises(InputError, match="each in parentheses"):
        _ = out[0] > 1 & out[1] < 2  # type: ignore[operator]
    with pytest.raises(InputError, match="write & for and"):
        _ = 0 < out[0] < 1
    with pytest.raises(InputError, match="exactly equal"):
        _ = out[0] == out[1]
    with pytest.raises(InputError, match="not linear"):
        _ = out[0] * out[1] > 0  # type: ignore[operator]
    with pytest.raises(InputError, match="no output"):
        _ = out["three"]  # type: ignore[index]
    with pytest.raises(InputError, match="no number"):
        _ = out[0] > float("nan")
    with pytest.raises(InputError, match="in parentheses"):
        _ = (out[0] > 1) & 3  # type: ignore[operator]


def test_conditions_that_do_not_fit_the_model():
    with pytest.raises(InputError, match=r"speaks of out\[7\], the model has 4 outputs, 0 to 3"):
        (out[7] > out[other]).linear(4)
    with pytest.raises(InputError, match="leaves none"):
        (out[0] > out[1] + out[other]).linear(2)
    either = (out[0] > out[other]) | (out[1] > out[other])
    for _ in range(4):
        either = either | (out[2] > out[other])
    with pytest.raises(InputError, match="multiplies to more than 10000 rows"):
        either.linear(10)
    with pytest.raises(InputError, match="beyond 3"):
        (1e200 * out[0] > 1).linear(1)
