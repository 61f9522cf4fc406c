"""How data is divided into training, validation and test samples."""

from pathlib import Path

import numpy as np
import pytest
import torch

from withstand.core.errors import InputError
from withstand.hardening.division import MOST, divide
from withstand.io.data import load_data


def arrays(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    drawn = np.random.default_rng(seed)
    return drawn.random((n, 1, 4, 4), dtype=np.float32), drawn.integers(0, 3, n)


def test_the_parts_share_no_sample_and_lose_none() -> None:
    parts = divide(arrays(500))
    ids = [set(part.ids) for part in (parts.train, parts.validation, parts.test)]
    assert [len(found) for found in ids] == [360, 40, 100]
    assert set.union(*ids) == set(range(500))


def test_rows_keep_their_labels() -> None:
    x, y = arrays(200)
    parts = divide((x, y))
    for part in (parts.train, parts.validation, parts.test):
        rows = list(part.ids)
        assert torch.equal(part.x, torch.from_numpy(x[rows]))
        assert torch.equal(part.y, torch.from_numpy(y[rows]))


def test_the_same_rows_every_time() -> None:
    first, again = divide(arrays(300)), divide(arrays(300, seed=1))
    assert (first.train.ids, first.validation.ids, first.test.ids) == (
        again.train.ids,
        again.validation.ids,
        again.test.ids,
    )


def test_test_data_given_apart_is_kept_whole_and_validation_is_bounded() -> None:
    parts = divide(arrays(20_000), arrays(50, seed=2))
    assert len(parts.validation) == MOST
    assert len(parts.train) == 20_000 - MOST
    assert torch.equal(parts.test.x, torch.from_numpy(arrays(50, seed=2)[0]))


def test_the_digits_are_divided_as_everywhere() -> None:
    parts = divide("digits")
    assert len(parts.test) == 500
    assert len(parts.train) + len(parts.validation) == 1297


def test_an_npz_with_both_parts(tmp_path: Path) -> None:
    (x, y), (x_test, y_test) = arrays(100), arrays(30, seed=3)
    np.savez(tmp_path / "both.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    parts = divide(str(tmp_path / "both.npz"))
    assert torch.equal(parts.test.x, torch.from_numpy(x_test))
    assert len(parts.train) + len(parts.validation) == 100


def test_test_samples_have_a_data_string_or_none(tmp_path: Path) -> None:
    (x, y), (x_test, y_test) = arrays(100), arrays(30, seed=3)
    both, one = str(tmp_path / "both.npz"), str(tmp_path / "one.npz")
    np.savez(both, x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    np.savez(one, x=x, y=y)
    assert divide("digits").held == "digits:test"
    for parts in (divide(both), divide(arrays(100), f"{both}[x_test,y_test]"), divide("digits")):
        assert parts.held is not None
        assert torch.equal(load_data(parts.held).x, parts.test.x)
    assert divide(one).held is None
    assert divide(arrays(100)).held is None
    assert divide(arrays(100), arrays(30)).held is None


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(InputError, match="too few"):
        divide(arrays(4))
    with pytest.raises(InputError, match="same shape"):
        divide(arrays(50), (np.zeros((5, 7), np.float32), np.zeros(5, np.int64)))
