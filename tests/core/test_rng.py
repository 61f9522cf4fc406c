"""Row streams: statistics and independence of the batch."""

import pytest
import torch

from withstand.core.rng import RowRandom, row_seeds


def streams(ids: range | list[int], seed: int = 0, method: str = "pgd") -> RowRandom:
    return RowRandom(row_seeds(seed, ids, method))


def draws(rng: RowRandom) -> list[torch.Tensor]:
    """One of each kind, so that later draws follow earlier ones."""
    return [
        rng.uniform((3, 5)),
        rng.normal((7,)),
        rng.signs((4,)),
        rng.integers(9, (6,)),
        rng.uniform((), torch.float64),
        rng.radius(5),
    ]


def test_numbers_belong_to_the_row() -> None:
    whole = draws(streams(range(20)))
    for part, rows in ((draws(streams([7])), [7]), (draws(streams([19, 3, 4])), [19, 3, 4])):
        for full, some in zip(whole, part):
            assert torch.equal(full[rows], some)


def test_seed_method_id_and_fork_change_the_stream() -> None:
    base = streams(range(4)).bits((50,))
    others = [
        streams(range(4), seed=1).bits((50,)),
        streams(range(4), method="apgd").bits((50,)),
        streams(range(4, 8)).bits((50,)),
        streams(range(4)).fork(1).bits((50,)),
        streams(range(4)).fork(2).bits((50,)),
    ]
    for i, a in enumerate([base, *others]):
        for b in [base, *others][i + 1 :]:
            assert not (a == b).any()
    rng = streams(range(4))
    rng.fork(3).bits((9,))
    assert torch.equal(rng.bits((50,)), base)


@pytest.mark.parametrize("dimensions", [1, 3, 60])
def test_radii_are_those_of_points_in_a_ball(dimensions: int) -> None:
    radius = streams(range(20_000)).radius(dimensions, torch.float64)
    assert 0 <= radius.min() <= radius.max() <= 1
    volume = radius**dimensions
    counts = torch.histc(volume, 20, 0, 1)
    assert ((counts - 1000) ** 2 / 1000).sum() < 50  # chi-squared with 19 degrees of freedom: p > 1e-4
    torch.testing.assert_close(volume, streams(range(20_000)).uniform((), torch.float64))


def test_uniform_numbers() -> None:
    u = streams(range(200)).uniform((1000,), torch.float64)
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 0.003
    assert abs(u.var() - 1 / 12) < 0.001
    counts = torch.histc(u, 20, 0, 1)
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 50  # chi-squared with 19 degrees of freedom: p > 1e-4
    assert torch.corrcoef(u[:100]).fill_diagonal_(0).abs().max() < 0.2
    for lag in (1, 2, 7):
        assert abs(((u[:, lag:] - 0.5) * (u[:, :-lag] - 0.5)).mean() * 12) < 0.01


def test_normal_numbers() -> None:
    z = streams(range(200)).normal((1000,))
    assert z.isfinite().all()
    assert abs(z.mean()) < 0.01
    assert abs(z.var() - 1) < 0.02
    assert abs((z**4).mean() - 3) < 0.1


def test_signs_and_integers() -> None:
    rng = streams(range(500))
    signs = rng.signs((200,))
    assert signs.unique().tolist() == [-1, 1]
    assert abs(signs.mean()) < 0.01
    whole = rng.integers(5, (400,))
    assert torch.bincount(whole.flatten(), minlength=5).min() > 38_000
    assert whole.max() == 4
    high = torch.arange(1, 501)
    assert (rng.integers(high) < high).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_types(dtype: torch.dtype) -> None:
    rng = streams(range(3))
    assert rng.uniform((2,), dtype).dtype is dtype
    assert rng.normal((2,), dtype).dtype is dtype
    assert rng.uniform(()).shape == (3,)
