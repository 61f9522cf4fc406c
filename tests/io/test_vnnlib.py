"""VNN-LIB: formulas mean what evaluating them by hand means, and bad files get one sentence with a line."""

import csv

import pytest
import torch
from calls import calls_of
from hypothesis import given, settings
from hypothesis import strategies as st

from withstand.core.errors import InputError
from withstand.io.vnnlib import read_vnnlib, write_witness
from withstand.io.vnnlib.forms import parse_forms

HEAD = "(declare-const X_0 Real)(declare-const X_1 Real)\n(declare-const Y_0 Real)(declare-const Y_1 Real)\n"
BOX = "(assert (>= X_0 -1))(assert (<= X_0 1))(assert (>= X_1 0))(assert (<= X_1 0.5))\n"


@pytest.fixture
def read(tmp_path):
    def reader(text, head=HEAD, shape=None):
        path = tmp_path / "file.vnnlib"
        path.write_text(head + text)
        return read_vnnlib(path, shape)

    return reader


def unsafe(regions, x, y):
    """Whether a point and its outputs are a counterexample according to the regions."""
    x, y = torch.tensor([x], dtype=torch.float64), torch.tensor([y], dtype=torch.float64)
    for r in regions:
        if bool(r.threat.contains(x, x)):
            closed = bool(r.property.margin(y, torch.zeros(1)) <= 0)
            assert r.is_unsafe(y[0]) <= closed
            assert r.strict is not None or r.is_unsafe(y[0]) == closed
            if r.is_unsafe(y[0]):
                return True
    return False


def test_box_and_one_conjunction(read):
    (region,) = read(BOX + "(assert (<= Y_0 Y_1)) (assert (>= Y_0 3e-1)) ; comment (assert (<= X_0 0))")
    assert region.threat.lower.tolist() == [-1, 0]
    assert region.threat.upper.tolist() == [1, 0.5]
    assert region.property.weight.tolist() == [[1, -1], [-1, 0]]
    assert region.property.offset.tolist() == [0, 0.3]
    assert region.property.group.tolist() == [0, 0]


def test_disjunctions_become_groups(read):
    (region,) = read(BOX + "(assert (or (and (<= Y_0 1) (<= Y_1 2)) (and (>= Y_0 3)) (>= Y_1 4)))")
    assert region.property.group.tolist() == [0, 0, 1, 2]
    assert unsafe([region], [0, 0], [0.5, 1.5])
    assert not unsafe([region], [0, 0], [0.5, 2.5])
    assert unsafe([region], [0, 0], [3.5, 2.5])


def test_several_asserts_multiply(read):
    (region,) = read(BOX + "(assert (or (<= Y_0 1) (<= Y_0 2)))(assert (or (<= Y_1 1) (<= Y_1 2)))")
    assert region.property.group.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_input_disjunctions_become_regions(read):
    text = "(assert (or (and (<= X_0 1) (>= X_0 0)) (and (<= X_0 -2) (>= X_0 -3))))(assert (or (<= Y_0 0) (<= Y_1 0)))"
    regions = read("(assert (>= X_1 0))(assert (<= X_1 0))" + text)
    assert [r.threat.lower.tolist() for r in regions] == [[0, 0], [-3, 0]]
    assert [r.property.group.tolist() for r in regions] == [[0, 1], [0, 1]]


def test_mixed_disjunctions_keep_outputs_with_their_box(read):
    regions = read(BOX + "(assert (or (and (<= X_0 0) (<= Y_0 0)) (and (>= X_0 0.5) (<= Y_1 0))))")
    assert unsafe(regions, [-0.5, 0], [-1, 1])
    assert not unsafe(regions, [-0.5, 0], [1, -1])
    assert unsafe(regions, [0.75, 0], [1, -1])
    assert not unsafe(regions, [0.25, 0], [-1, -1])


def test_arithmetic(read):
    text = "(assert (<= (+ (* 2 Y_0) (* Y_1 -3.0) 1) (- (- Y_0) 4 Y_1)))(assert (<= (* 2 X_0) (- 1 0.5)))"
    (region,) = read(BOX + text)
    assert region.property.weight.tolist() == [[3, -2]]
    assert region.property.offset.tolist() == [5]
    assert region.threat.upper.tolist() == [0.25, 0.5]


def test_empty_boxes_and_false_constants_leave_no_region(read):
    assert read(BOX + "(assert (<= X_0 -2))") == []
    assert read(BOX + "(assert (<= 1 0))") == []
    assert len(read(BOX + "(assert (or (<= 1 0) (<= Y_0 0)))")) == 1


def test_no_output_condition_is_unsafe_everywhere(read):
    assert unsafe(read(BOX), [0, 0], [100, -100])


def test_shape_is_filled_in_c_order(read):
    head = "".join(f"(declare-const X_{i} Real)(assert (<= X_{i} {i}))(assert (>= X_{i} {i - 1}))" for i in range(6))
    (region,) = read("(assert (<= Y_0 0))", head + "(declare-const Y_0 Real)", (1, 2, 3))
    assert region.threat.upper.tolist() == [[[0, 1, 2], [3, 4, 5]]]


def test_a_constant_no_float32_can_be_is_widened_to_the_nearest(read):
    (region,) = read("(assert (<= X_0 0.1))(assert (>= X_0 0.1))(assert (<= X_1 0.5))(assert (>= X_1 0.1))")
    near = float(torch.tensor(0.1))
    assert [region.threat.lower[0].item(), region.threat.upper[0].item()] == [0.1, 0.1]
    assert [region.deployed.lower[0].item(), region.deployed.upper[0].item()] == [0.1, near]
    assert region.deployed.lower[1].item() == 0.1


def test_float32_points_stay_inside_and_proofs_cover_the_box(read):
    (region,) = read("(assert (<= X_0 -0.45))(assert (>= X_0 -0.5))(assert (<= X_1 0.1))(assert (>= X_1 -0.1))")
    x0 = torch.zeros(1, 2)
    point = region.threat.project(x0, torch.tensor([[9.0, 9.0]]))
    assert point.dtype == torch.float32
    assert region.threat.contains(x0, point).all()
    low, high = region.threat.box(x0)
    assert (low.double() <= region.threat.lower).all()
    assert (high.double() >= region.threat.upper).all()
    assert (high.double() - region.threat.upper).max() < 1e-7


atoms = st.sampled_from(
    ["(<= Y_0 {})", "(>= {} Y_1)", "(< Y_0 (+ Y_1 {}))", "(> Y_1 {})", "(<= X_0 {})", "(< {} X_1)", "(= Y_0 {})"]
)
numbers = st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5])
formulas = st.recursive(
    st.builds(lambda form, number: form.format(number), atoms, numbers),
    lambda inner: st.builds(
        lambda word, parts: f"({word} {' '.join(parts)})",
        st.sampled_from(["and", "or"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=8,
)


def truth(term, values):
    """The formula's value, by recursion on its text."""
    if isinstance(term, str):
        return values[term] if term in values else float(term)
    word, *parts = term
    parts = [truth(part, values) for part in parts]
    return {
        "and": lambda: all(parts),
        "or": lambda: any(parts),
        "<": lambda: parts[0] < parts[1],
        ">": lambda: parts[0] > parts[1],
        "=": lambda: parts[0] == parts[1],
        "<=": lambda: parts[0] <= parts[1],
        ">=": lambda: parts[0] >= parts[1],
        "+": lambda: sum(parts),
    }[word]()


@settings(max_examples=40, deadline=None)
@given(formula=formulas, more=formulas)
def test_any_formula_means_what_its_text_says(tmp_path_factory, formula, more):
    path = tmp_path_factory.mktemp("vnnlib") / "any.vnnlib"
    path.write_text(HEAD + BOX + f"(assert {formula})\n(assert {more})")
    regions = read_vnnlib(path)
    forms = [next(parse_forms(text)) for text in (formula, more)]
    for x0 in (-1.0, -0.5, 0.25, 1.0):
        for x1 in (0.0, 0.5):
            for y0 in (-1.5, -0.5, 0.25, 0.5):
                for y1 in (-1.0, 0.0, 0.25, 0.75):
                    values = {"X_0": x0, "X_1": x1, "Y_0": y0, "Y_1": y1}
                    assert unsafe(regions, [x0, x1], [y0, y1]) == all(truth(form, values) for form in forms)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("(assert (<= X_0 1)", "line 3: a parenthesis opened here is never closed"),
        ("\n(assert (<= X_0 1)))", r"line 4: '\)' stands outside"),
        ("(assert (<= X_7 1))", "line 3: X_7 is not declared"),
        ("(assert (not X_0))", r"line 3: write a condition with and, or, <=, >=, <, > or = here, not \(not ...\)"),
        ("\n\n(assert (<= X_0 one))", "line 5: 'one' is neither a number nor a variable"),
        ("(assert (<= X_0 1e999))", "line 3: '1e999' is not a finite number"),
        ("(assert (<= Y_0 1e39))", "line 3: '1e39' is not a finite number of float32"),
        ("(assert (<= (* Y_0 Y_1) 1))", "line 3: a product of two variables"),
        ("(assert (<= X_0 X_1))", "line 3: a constraint on inputs may name one input only; X_0, X_1"),
        ("(assert (<= X_0 Y_1))", "line 3: a constraint on inputs may name one input only; X_0, Y_1"),
        ("(assert (<= (/ Y_0 2) 1))", "line 3: write a linear term"),
        ("(assert (<= X_0 1))", "the input X_0 has no lower or no upper bound"),
        ("(check-sat)", "line 3: write .declare-const X_i Real."),
        ("(declare-const X_0 Real)", "line 3: X_0 is declared twice"),
        ("(declare-const X_3 Real)", "declare X_0, X_1, ... without a gap"),
        ("(assert " + "(and " * 200 + "(<= X_0 1)" + ")" * 201, "nested deeper than 100"),
        ("".join("(assert (or (<= Y_0 0) (<= Y_1 0)))" for _ in range(20)), "more than 100000 cases"),
    ],
)
def test_bad_files_get_a_sentence_with_the_line(read, text, sentence):
    with pytest.raises(InputError, match=sentence):
        read(text)


def test_strict_comparisons_leave_their_edge_out(read):
    (region,) = read("(assert (< X_0 1))(assert (> X_0 0))(assert (>= X_1 0))(assert (< X_1 0.1))(assert (< Y_0 0))")
    assert unsafe([region], [0.5, 0], [-1e-30, 0])
    assert not unsafe([region], [0.5, 0], [0, 0])
    assert not unsafe([region], [1, 0], [-1, 0])
    x0 = torch.zeros(1, 2)
    points = region.threat.project(x0, torch.tensor([[9.0, 9.0], [-9.0, -9.0]]))
    assert [points[0, 0].item(), points[1, 0].item()] == [1 - 2.0**-24, 2.0**-149]
    low, high = region.threat.box(x0)
    assert (low[0, 0].item(), high[0, 0].item()) == (0, 1)
    assert high[0, 1].item() >= 0.1


def test_wrong_size_and_missing_file(read, tmp_path):
    with pytest.raises(InputError, match=r"declares 2 inputs, the network takes \[3\]"):
        read(BOX, shape=(3,))
    with pytest.raises(InputError, match="cannot be read"):
        read_vnnlib(tmp_path / "none.vnnlib")
    (tmp_path / "two.vnnlib").write_text(HEAD + BOX)
    with pytest.raises(InputError, match="speaks of 2 outputs, the network has 3"):
        read_vnnlib(tmp_path / "two.vnnlib", (2,), 3)


def test_witness_in_the_form_of_vnn_comp():
    x, y = torch.tensor([[0.1, -2.0]]), torch.tensor([3.0])
    text = write_witness([repr(v) for v in x.flatten().tolist()], y)
    assert text == f"sat\n((X_0 {float(x[0, 0])!r})\n(X_1 -2.0)\n(Y_0 3.0))\n"
    word, form = text.split("\n", 1)
    assert word == "sat"
    assert [float(pair[1]) for pair in next(parse_forms(form))] == [float(x[0, 0]), -2.0, 3.0]


@pytest.mark.parametrize("folder", ["acasxu", "mnistfc", "eran", "verivital", "oval21"])
def test_competition_files_are_read_fast(shared, folder):
    base = shared / "vnncomp2021" / folder
    with (base / "instances.csv").open() as file:
        names = sorted({line["vnnlib"] for line in csv.DictReader(file)})
    for name in names[:4]:
        regions, calls = calls_of(lambda name=name: read_vnnlib(base / name))
        assert calls < 3 * (base / name).stat().st_size
        assert len(regions) == (2 if name == "prop_6.vnnlib" else 1)
        assert all(int(r.property.group.max()) + 1 <= 9 for r in regions)


def test_reading_time_grows_in_proportion(tmp_path):
    def calls(inputs):
        lines = [f"(declare-const X_{i} Real)\n(assert (<= X_{i} 1))\n(assert (>= X_{i} 0))\n" for i in range(inputs)]
        path = tmp_path / f"{inputs}.vnnlib"
        path.write_text("".join(lines) + "(declare-const Y_0 Real)(assert (<= Y_0 0))")
        return calls_of(lambda: read_vnnlib(path))[1]

    assert calls(8000) < 11 * calls(800)
