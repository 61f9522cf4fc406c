"""Budgets."""

import pytest

from withstand.core import budget
from withstand.core.budget import Budget, parse_duration
from withstand.core.errors import InputError


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), (" .5 s ", 0.5)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "ten", "-5", "0", "0s", "1d", "5 minutes", "1e3"])
def test_bad_durations(text: str) -> None:
    with pytest.raises(InputError, match=r"is not a duration; write for example 90s, 10m or 1\.5h\."):
        parse_duration(text)


def test_time_left_and_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    whole = Budget(seconds=10, queries=7, _began=100.0)
    now[0] += 4
    assert whole.elapsed == 4
    assert whole.left == 6
    assert (whole.share(0.5).seconds, whole.share(0.5).queries) == (3, 7)
    assert whole.share(0.5, queries=2).queries == 2
    now[0] += 7
    assert whole.left == 0
    assert whole.spent


def test_no_limit() -> None:
    assert Budget().left == float("inf")
    assert not Budget().spent
    assert Budget().share(0.1).seconds is None
    with pytest.raises(InputError, match="at least 1"):
        Budget(queries=0)
