"""Threats l0 and patch, against every choice of pixels and every window."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.core.patch import Patch
from withstand.core.rng import RowRandom, row_seeds
from withstand.core.sparse import L0, Sparse

SHAPES = [(2, 3, 5), (6,), (4, 3), (4, 2, 3), (1, 2, 2, 2)]
THREATS = [
    L0(0),
    L0(1),
    L0(2, (-3.0, 2.0)),
    L0(50),
    Patch(),
    Patch(window=(2, 3)),
    Patch(1.0, (-3.0, 2.0), window=(9, 2)),
]
cases = pytest.mark.parametrize(("threat", "shape"), list(itertools.product(THREATS, SHAPES)), ids=str)


def uniform(threat: Sparse, *shape: int) -> Tensor:
    low, high = threat.domain
    return low + (high - low) * torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def streams(rows: int) -> RowRandom:
    return RowRandom(row_seeds(0, range(rows), "threat"))


def choices(threat: Sparse, height: int, width: int) -> list[Tensor]:
    """Every set of pixels that may change together, as masks [height, width]."""
    found = []
    if isinstance(threat, L0):
        for pixels in itertools.combinations(range(height * width), min(int(threat.radius), height * width)):
            mask = torch.zeros(height * width, dtype=torch.bool)
            mask[list(pixels)] = True
            found.append(mask.reshape(height, width))
        return found
    assert isinstance(threat, Patch)
    tall, wide = min(height, threat.window[0]), min(width, threat.window[1])
    for top, left in itertools.product(range(height - tall + 1), range(width - wide + 1)):
        mask = torch.zeros(height, width, dtype=torch.bool)
        mask[top : top + tall, left : left + wide] = True
        found.append(mask)
    return found


@cases
def test_lowest_and_extreme_are_the_optimum_over_all_choices(threat: Sparse, shape: tuple[int, ...]) -> None:
    x0, rows = uniform(threat, 4, *shape), noise(4, 3, *shape)
    low, high = threat.domain
    start, slope = threat.maps(x0)[:, None], threat.maps(rows.flatten(0, 1)).unflatten(0, (4, 3))
    edge = torch.where(slope > 0, low, high)
    best = torch.stack(
        [(slope * torch.where(mask, edge, start)).sum((2, 3, 4)) for mask in choices(threat, *start.shape[3:])]
    ).amin(0)
    torch.testing.assert_close(threat.lowest(x0, rows), best, atol=1e-4, rtol=1e-5)
    for i in range(3):
        point = threat.extreme(x0, rows[:, i])
        assert threat.contains(x0, point).all()
        torch.testing.assert_close((rows[:, i] * point).flatten(1).sum(1), best[:, i], atol=1e-4, rtol=1e-5)


@cases
def test_projection_is_the_nearest_point_over_all_choices(threat: Sparse, shape: tuple[int, ...]) -> None:
    x0 = uniform(threat, 6, *shape)
    for size in (0.1, 1.0, 30.0):
        x = x0 + size * noise(6, *shape)
        near = threat.project(x0, x)
        assert threat.contains(x0, near).all()
        assert torch.equal(threat.project(x0, near), near)
        start, far = threat.maps(x0), threat.maps(x)
        clipped = far.clamp(*threat.domain)
        gaps = [
            ((torch.where(mask, clipped, start) - far) ** 2).sum((1, 2, 3))
            for mask in choices(threat, *start.shape[2:])
        ]
        gap = ((near - x) ** 2).flatten(1).sum(1)
        torch.testing.assert_close(gap, torch.stack(gaps).amin(0), rtol=1e-4, atol=1e-5)


@cases
def test_samples_and_deep_steps_stay_inside_the_threat_and_its_bounds(threat: Sparse, shape: tuple[int, ...]) -> None:
    x0, rows, rng = uniform(threat, 5, *shape), noise(5, 4, *shape), streams(5)
    lowest, (low, high) = threat.lowest(x0, rows), threat.box(x0)
    for _ in range(20):
        x = threat.sample(x0, rng)
        assert threat.contains(x0, x).all()
        assert ((rows * x[:, None]).flatten(2).sum(2) >= lowest - 1e-5).all()
        assert ((low <= x) & (x <= high)).all()
        step = threat.project(x0, x - threat.radius * threat.steepest(noise(5, *shape), x))
        assert threat.contains(x0, step).all()
    assert threat.steepest(torch.zeros_like(x0)).abs().max() == 0
    assert torch.equal(threat.extreme(x0, torch.zeros_like(x0)), x0)


@pytest.mark.parametrize("threat", [L0(3), Patch(window=(2, 2))], ids=str)
def test_every_row_may_have_a_radius_of_its_own(threat: Sparse) -> None:
    x0, rows = uniform(threat, 5, 2, 4, 5), noise(5, 3, 2, 4, 5)
    radii = [0.0, 1.0, 2.0, 1.6, math.inf]
    wide = threat.at(torch.tensor(radii))
    sample, near = wide.sample(x0, streams(5)), wide.project(x0, x0 + noise(5, 2, 4, 5))
    assert wide.contains(x0, sample).all()
    assert wide.contains(x0, near).all()
    for row, radius in enumerate(radii):
        own, one = threat.at(radius), slice(row, row + 1)
        assert own.contains(x0[one], near[one]).all()
        assert torch.equal(own.project(x0, x0 + noise(5, 2, 4, 5))[row], near[row])
        assert torch.equal(own.lowest(x0, rows)[row], wide.lowest(x0, rows)[row])
        assert torch.equal(own.box(x0)[0][row], wide.box(x0)[0][row])
    assert torch.equal(near[4], (x0 + noise(5, 2, 4, 5)).clamp(0, 1)[4])
    assert torch.equal(near[0], x0[0])


def test_pixels_are_counted_with_all_their_channels() -> None:
    x0 = torch.zeros(1, 3, 6, 5)
    x = x0.clone()
    x[0, :, 1, 2] = 1
    x[0, 0, 3, 4] = 1e-6
    assert L0(2).distance(x0, x).item() == 2
    assert L0(2).contains(x0, x).all()
    assert not L0(1).contains(x0, x).any()
    last = x.permute(0, 2, 3, 1)
    assert L0(2).distance(torch.zeros_like(last), last).item() == 2
    assert L0(2).distance(x0.flatten(1), x.flatten(1)).item() == 4
    assert L0(2).distance(x0[0], x[0]).tolist() == [2, 1, 1]
    assert not L0(20).contains(x0, x + 1.5).any()


def test_patches_are_told_from_the_input_alone() -> None:
    x0 = torch.zeros(1, 2, 6, 7)
    x = x0.clone()
    x[0, 0, 1, 2] = x[0, 1, 2, 4] = 0.5
    assert Patch(window=(2, 3)).contains(x0, x).all()
    assert not Patch(window=(3, 2)).contains(x0, x).any()
    assert Patch(window=(1, 1)).distance(x0, x).item() == 3
    assert Patch(window=(4, 4)).distance(x0, x).item() == 0.75
    assert Patch(window=(4, 4)).distance(x0, x0).item() == 0


def test_radii_are_those_of_whole_pixels() -> None:
    assert [L0(4).at(r).radius for r in (0.9, 1.5, 2.9999999, math.inf)] == [0, 1, 3, math.inf]
    patch = Patch(window=(5, 4))
    assert [str(patch.at(r)) for r in (0.1, 0.5, 1.0, 1.5)] == ["patch:0x0", "patch:2x2", "patch:5x4", "patch:7x6"]
    assert [patch.at(r).radius for r in (0.1, 0.55, 1.0)] == [0, 0.5, 1]
    assert Patch(window=(2, 2)).widest(torch.zeros(1, 3, 10, 8)) == 5
    assert L0(1).widest(torch.zeros(1, 3, 10, 8)) == 80
    with pytest.raises(InputError, match="no count; give a whole number"):
        L0(1.5)
    with pytest.raises(InputError, match="give its domain"):
        L0(1, (-math.inf, math.inf))
    with pytest.raises(InputError, match="give at least 1x1"):
        Patch(window=(0, 3))


@pytest.mark.parametrize("threat", [L0(3, levels=255), Patch(levels=255, window=(2, 3))], ids=str)
def test_deployed_points_keep_untouched_pixels_to_the_bit(threat: Sparse) -> None:
    x0 = torch.randint(0, 256, (50, 2, 4, 5), generator=torch.Generator().manual_seed(0)) * (1 / 255)
    x0 = torch.nextafter(x0, torch.tensor(0.5))
    x = threat.sample(x0, streams(50))
    deployed = threat.deploy(x0, x)
    assert threat.contains(x0, deployed).all()
    assert torch.equal(deployed == x0, (x == x0) | (deployed == x0))
    assert ((deployed - x).abs() < 1.01 / 255).all()
