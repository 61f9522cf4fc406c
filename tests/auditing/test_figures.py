"""The figures of a run against closed forms."""

import pytest
from measured import measured

from withstand.auditing.figures import curve, summarise
from withstand.core.records import SampleRecord, Seconds
from withstand.core.tally import population


def sample(i: int, status: str, certified: float | None = None, attacked: float | None = None) -> SampleRecord:
    return SampleRecord(
        id=i,
        label=0,
        predicted=0,
        status=status,  # type: ignore[arg-type]
        clean_margin=1.0,
        margin=1.0,
        certified_radius=certified,
        attacked_radius=attacked,
        queries=10,
    )


def test_clopper_pearson_at_its_ends() -> None:
    """With 0 of n the upper end u solves (1 - u)^n = 0.025; with n of n the lower end l solves l^n = 0.025."""
    none, all_ = population(0, 0, 10), population(10, 10, 10)
    assert (none.low, none.high) == (0.0, pytest.approx(1 - 0.025**0.1))
    assert (all_.low, all_.high) == (pytest.approx(0.025**0.1), 1.0)


def test_shares_are_of_all_samples() -> None:
    samples = [sample(0, "proved"), sample(1, "refuted"), sample(2, "unknown"), sample(3, "invalid")]
    told = summarise(samples, Seconds(), [])
    assert (told.clean_accuracy, told.certified_accuracy, told.attacked_accuracy) == (0.75, 0.25, 0.5)
    assert (told.n, told.queries) == (4, 40)


def test_no_sample_says_nothing() -> None:
    told = summarise([], Seconds(), [])
    assert (told.n, told.certified_accuracy, told.population_interval.low, told.population_interval.high) == (
        0,
        0,
        0,
        1,
    )
    assert curve([], [0.1]) == []


def test_the_curve_counts_proofs_outwards_and_witnesses_inwards() -> None:
    samples = [sample(0, "proved", certified=0.2), sample(1, "refuted", attacked=0.1), sample(2, "invalid")]
    points = [
        (p.radius, round(p.certified * 3), round(measured(p.attacked) * 3))
        for p in curve(samples, [0.3, 0.05, 0.1, 0.2])
    ]
    assert points == [(0.05, 1, 2), (0.1, 1, 1), (0.2, 1, 1), (0.3, 0, 1)]
