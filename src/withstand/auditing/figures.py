"""The figures of a run, counted from its samples' records."""

from collections import Counter
from collections.abc import Sequence

from withstand.auditing.alarms import raise_alarms
from withstand.core.records import Check, Counts, CurvePoint, Interval, SampleRecord, Seconds, Summary

CONFIDENCE = 0.95
"""Of the population interval."""


def count(samples: Sequence[SampleRecord]) -> Counts:
    """How many samples ended how."""
    return Counts(**Counter(sample.status for sample in samples))


def summarise(samples: Sequence[SampleRecord], seconds: Seconds, checks: Sequence[Check]) -> Summary:
    """The numbers of a run from its samples; with no sample all shares are 0 and the interval is everything."""
    counts, n = count(samples), len(samples)
    attacked = counts.proved + counts.unknown
    return Summary(
        n=n,
        clean_accuracy=_share(n - counts.invalid, n),
        certified_accuracy=_share(counts.proved, n),
        attacked_accuracy=_share(attacked, n),
        counts=counts,
        population_interval=population(counts.proved, attacked, n),
        seconds=seconds,
        queries=sum(sample.queries for sample in samples),
        gradients=sum(sample.gradients for sample in samples),
        peak_memory_mb=_peak_memory(),
        alarms=raise_alarms(samples, checks),
    )


def _share(k: int, n: int) -> float:
    return k / n if n else 0.0


def population(certified: int, attacked: int, n: int) -> Interval:
    """Where the robust share of the population lies: Clopper and Pearson's lower end (doi:10.2307/2331986) for the
    certified samples, their upper end for those no attack refuted, of n drawn independently."""
    from scipy.stats import beta

    tail = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, certified, n - certified + 1)) if certified else 0.0
    high = float(beta.ppf(1 - tail, attacked + 1, n - attacked)) if attacked < n else 1.0
    return Interval(low=low, high=high, confidence=CONFIDENCE)


def curve(samples: Sequence[SampleRecord], radii: Sequence[float]) -> list[CurvePoint]:
    """Certified and attacked accuracy at each radius; both fall as the radius grows."""
    n = len(samples)
    right = [sample for sample in samples if sample.status != "invalid"]
    points = []
    for radius in sorted(radii) if n else ():
        certified = sum(s.certified_radius is not None and s.certified_radius >= radius for s in right)
        refuted = sum(s.attacked_radius is not None and s.attacked_radius <= radius for s in right)
        points.append(CurvePoint(radius=radius, certified=certified / n, attacked=(len(right) - refuted) / n))
    return points


def _peak_memory() -> float:
    """The largest memory the process and its workers have held, in MB."""
    import resource

    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1024
