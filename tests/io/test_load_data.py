"""Every form of DATA, every wrong one, and the arrangement to a model's input."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loading import sentence

from withstand.core.errors import InputError
from withstand.io.data import Data, arrange, load_data
from withstand.io.labels import check_labels

X = np.arange(24, dtype=np.float32).reshape(4, 2, 3) / 24
Y = np.array([0, 1, 2, 1])


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("names", [("x", "y"), ("x_test", "y_test"), ("inputs", "answers")])
def test_npz_finds_its_pair(tmp_path, names):
    data = load_data(str(save(tmp_path / "d.npz", **dict(zip(names, (X, Y), strict=True)))))
    assert torch.equal(data.x, torch.from_numpy(X))
    assert data.y.tolist() == Y.tolist()
    assert data.y.dtype == torch.int64
    assert data.ids == (0, 1, 2, 3)
    assert data.notes == ()


def test_npz_takes_labels_first_when_only_two_arrays(tmp_path):
    data = load_data(save(tmp_path / "d.npz", answers=Y, inputs=X))
    assert data.shape == (2, 3)
    assert data.y.tolist() == Y.tolist()


def test_npz_with_named_arrays(tmp_path):
    path = save(tmp_path / "d.npz", x=X, y=Y, a=X + 1, b=Y[::-1])
    data = load_data(f"{path}[a, b]")
    assert data.x.max() > 1
    assert data.y.tolist() == [1, 2, 1, 0]


def test_npz_ignores_arrays_beside_a_known_pair(tmp_path):
    assert len(load_data(save(tmp_path / "d.npz", x_train=X, y_train=Y, x_test=X[:2], y_test=Y[:2]))) == 2


@pytest.mark.parametrize(
    ("arrays", "brackets", "says"),
    [
        ({"a": X, "b": Y, "c": Y}, "", r"holds the arrays a, b, c; .* as in '.*\[a,b\]'"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y}, "", r"as in '.*\[x_test,y_test\]'"),
        ({"x": X}, "", "say which are inputs and labels"),
        ({"x_test": X, "y_test": Y}, "[x_tset,y_test]", "did you mean 'x_test'"),
        ({"x": X, "y": Y}, "[x]", "Name two arrays"),
        ({"x": X, "y": Y}, "[x,y", "not understood"),
        ({"x": X, "y": np.array([0, "a", None, 1], dtype=object)}, "", "'y' .* is pickled .* could run code"),
        ({"x": X, "y": Y[:3]}, "", "4 inputs but the labels are 3"),
        ({"x": X[:0], "y": Y[:0]}, "", "holds no samples"),
        ({"x": X.astype(str), "y": Y}, "", "not numbers; give floats or uint8"),
        ({"x": X, "y": Y.astype(str)[:, None]}, "", "give class numbers"),
        ({"x": X[:, 0, 0], "y": Y}, "", "first axis must count samples"),
        ({"x": X, "y": np.array([0, 1, np.nan, 1])}, "", "labels hold a NaN"),
    ],
)
def test_wrong_npz_gets_one_sentence(tmp_path, arrays, brackets, says):
    path = save(tmp_path / "d.npz", **arrays)
    with pytest.raises(InputError, match=says) as caught:
        load_data(f"{path}{brackets}")
    sentence(caught)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_inputs_that_are_not_finite_are_named_by_row(bad):
    x = X.astype(np.float64)
    x[1, 0, 0] = x[3, 1, 2] = bad
    with pytest.raises(InputError, match=r"2 inputs hold a NaN or an infinity \(rows 1, 3\)"):
        load_data((x, Y))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("digit", "did you mean 'digits'"),
        ("train.npz", "did you mean '.*trains.npz'"),
        ("nowhere/d.npz", "folder 'nowhere' does not exist"),
        ("zzzz", "write file.npz, .* or digits"),
    ],
)
def test_missing_data_gets_a_near_miss_or_the_forms(tmp_path, monkeypatch, name, says):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "trains.npz", x=X, y=Y)
    with pytest.raises(InputError, match=says) as caught:
        load_data(name)
    sentence(caught)


@pytest.mark.parametrize(("name", "says"), [("d.npz", "cannot be read as npz"), ("d.txt", "unknown ending '.txt'")])
def test_unreadable_file(tmp_path, name, says):
    (tmp_path / name).write_text("no archive")
    with pytest.raises(InputError, match=says):
        load_data(tmp_path / name)


def test_a_single_array_is_no_data(tmp_path):
    np.save(tmp_path / "d.npy", X)
    (tmp_path / "d.npy").rename(tmp_path / "d.npz")
    with pytest.raises(InputError, match="single array"):
        load_data(tmp_path / "d.npz")


def test_uint8_becomes_floats_of_one_and_says_so():
    data = load_data((np.array([[0, 51, 255]], dtype=np.uint8), [1]))
    assert data.x.tolist() == [[0.0, pytest.approx(0.2), 1.0]]
    assert data.x.dtype == torch.float32
    assert data.quantised
    assert "divided by 255" in data.notes[0]


def test_other_whole_numbers_keep_their_values_and_say_so():
    data = load_data((np.array([[0, 300]]), [1]))
    assert data.x.tolist() == [[0.0, 300.0]]
    assert not data.quantised
    assert "same values" in data.notes[0]


def test_tensors_lists_and_data_are_accepted():
    data = load_data([torch.rand(3, 2, requires_grad=True), torch.tensor([0, 1, 2])])
    assert not data.x.requires_grad
    assert load_data(data) is data
    assert load_data(([[0.5, 1.0]], [0.25])).y.dtype == torch.float32
    assert load_data((torch.ones(2, 2, dtype=torch.bfloat16), [0.0, 1.0])).y.dtype == torch.int64


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ((X, Y, Y), "pair"),
        (3.5, "DATA string or a pair"),
        ((X, 7), "a single value"),
        (([[1.0, 2.0], [3.0]], [0, 1]), "rectangular"),
    ],
)
def test_wrong_objects_get_one_sentence(source, says):
    with pytest.raises(InputError, match=says):
        load_data(source)


def test_one_hot_labels_become_numbers_and_say_so():
    data = load_data((X, np.eye(3)[Y]))
    assert data.y.tolist() == Y.tolist()
    assert "one-hot rows of 3" in data.notes[0]
    assert load_data((X, Y[:, None])).y.tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("have", "want"),
    [
        ((6, 5, 3), (3, 6, 5)),
        ((3, 6, 5), (6, 5, 3)),
        ((6, 5), (1, 6, 5)),
        ((1, 6, 5), (6, 5)),
        ((6, 5, 1), (1, 6, 5)),
        ((6, 5), (30,)),
        ((30,), (1, 6, 5)),
    ],
)
def test_arrange_keeps_every_value_and_says_so(have, want):
    data = Data("d", torch.arange(2 * 90)[: 2 * int(np.prod(have))].float().reshape(2, *have), torch.zeros(2), (0, 1))
    out = arrange(data, want)
    assert out.shape == want
    assert sorted(out.x.flatten().tolist()) == data.x.flatten().tolist()
    assert "arranged to the model's" in out.notes[-1]
    assert arrange(out, want) is out


def test_arrange_moves_channels_pixel_by_pixel():
    x = torch.rand(2, 6, 5, 3)
    data = Data("d", x, torch.zeros(2), (0, 1))
    assert torch.equal(arrange(data, (3, 6, 5)).x[:, 2], x[..., 2])
    assert torch.equal(arrange(arrange(data, (3, 6, 5)), (6, 5, 3)).x, x)


def test_arrange_never_resizes():
    data = Data("photos", torch.zeros(1, 28, 28), torch.zeros(1), (0,))
    with pytest.raises(InputError, match="photos: samples have the shape 28 x 28, the model wants 3 x 32 x 32"):
        arrange(data, (3, 32, 32))


def labelled(y):
    return Data("d", torch.zeros(len(y), 1), torch.as_tensor(y), tuple(range(len(y))))


@pytest.mark.parametrize(
    ("y", "says"),
    [
        ([0, 3, 1], r"label 3 \(row 1\) is outside 0 to 2"),
        ([1, 2, 3], "count classes from 0"),
        ([0, -1], "label -1"),
        ([0.5, 1.0], "not whole numbers; .* band:WIDTH"),
        ([[0, 1]], "have the shape 1 x 2"),
    ],
)
def test_labels_a_classifier_cannot_use(y, says):
    with pytest.raises(InputError, match=says):
        check_labels(labelled(y), 3)


@given(st.lists(st.integers(-2, 5), min_size=1, max_size=6), st.integers(1, 5))
def test_labels_pass_exactly_when_in_range(y, classes):
    if min(y) >= 0 and max(y) < classes:
        check_labels(labelled(y), classes)
    else:
        with pytest.raises(InputError):
            check_labels(labelled(y), classes)


def test_builtin_digits_are_split_without_overlap():
    test, train = load_data("digits"), load_data("digits:train")
    assert (len(test), len(train)) == (500, 1297)
    assert test.shape == (1, 8, 8)
    assert torch.equal(test.x, load_data("digits:test").x)
    assert float(test.x.min()) == 0
    assert float(test.x.max()) == 1
    assert sorted(set(test.y.tolist())) == list(range(10))
    assert not {row.numpy().tobytes() for row in test.x} & {row.numpy().tobytes() for row in train.x}


def test_head_and_digest():
    data = load_data((X, Y))
    assert data.head(2).ids == (0, 1)
    assert data.head(None) is data
    assert len({data.digest(), data.head(2).digest(), load_data((X + 1, Y)).digest()}) == 3
    assert load_data((X.copy(), Y.copy())).digest() == data.digest()
    with pytest.raises(InputError, match="limit 0"):
        data.head(0)
