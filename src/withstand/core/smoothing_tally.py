"""The figures of a smoothed model that follow from its samples' records alone."""

from collections.abc import Sequence

from withstand.core.smoothing_records import SmoothedPoint, SmoothedSample, SmoothingPlan, SmoothingSummary

POINTS = 8
"""Radii at most of a curve for which none are named."""


def certified_accuracy(samples: Sequence[SmoothedSample], radius: float) -> float:
    """The share of all samples that are right with a certified radius above this one: the answer then holds at every
    point up to so far away, each with a chance of error of at most alpha."""
    held = sum(sample.right and sample.radius is not None and sample.radius > radius for sample in samples)
    return held / len(samples) if samples else 0.0


def summarise(
    plan: SmoothingPlan, samples: Sequence[SmoothedSample], cap: float | None, seconds: float, cpu_seconds: float
) -> SmoothingSummary:
    """The numbers of a run from its samples. cap: None where nothing is certified."""
    n = len(samples)
    count = max(1, n)
    reached = None if cap is None else sum((s.radius or 0.0) for s in samples if s.right) / count
    return SmoothingSummary(
        n=n,
        base_accuracy=sum(s.base == s.label for s in samples) / count,
        clean_accuracy=sum(s.right for s in samples) / count,
        abstained=sum(s.answer is None for s in samples),
        average_radius=reached,
        cap=cap,
        curve=[
            SmoothedPoint(radius=r, certified=certified_accuracy(samples, r))
            for r in ([] if cap is None else sorted(plan.radii) or round_radii(cap))
        ],
        together=max(0.0, 1 - n * plan.alpha),
        false_at_most=failures_at_most(n, plan.alpha) if n else 0,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
    )


def round_radii(cap: float) -> list[float]:
    """Round radii from 0 up to a cap, at equal steps.

    >>> round_radii(0.95)
    [0.0, 0.2, 0.4, 0.6, 0.8]
    """
    steps = (digit * 10.0**power for power in range(-12, 13) for digit in (1, 2, 2.5, 5))
    step = next(step for step in steps if cap / step <= POINTS)
    return [float(f"{step * k:.10g}") for k in range(int(cap / step) + 1)]


def failures_at_most(claims: int, alpha: float) -> int:
    """The number of false claims that so many independent claims, each false with a chance of at most alpha, exceed
    with a chance of at most alpha."""
    from scipy.stats import binom

    return int(binom.ppf(1 - alpha, claims, alpha))
