"""The figures of a run, counted from its samples' records."""

from collections.abc import Sequence

from withstand.auditing.alarms import raise_alarms
from withstand.core.records import Check, CurvePoint, SampleRecord, Seconds, Summary
from withstand.core.tally import is_measured, tally


def summarise(
    samples: Sequence[SampleRecord], seconds: Seconds, checks: Sequence[Check], *, proofs: bool = True
) -> Summary:
    """The numbers of a run from its samples, with its alarms and the memory it took. proofs: it looked for them."""
    extra = {"peak_memory_mb": peak_memory(), "alarms": raise_alarms(samples, checks, proofs=proofs)}
    return tally(samples, seconds).model_copy(update=extra)


def curve(samples: Sequence[SampleRecord], radii: Sequence[float]) -> list[CurvePoint]:
    """Certified and attacked accuracy at each radius; both fall as the radius grows. Where an attack is yet to look at
    a sample at some radius, the upper end there is not measured."""
    n = len(samples)
    right = [sample for sample in samples if sample.status != "invalid"]
    points = []
    for radius in sorted(radii) if n else ():
        certified = sum(s.certified_radius is not None and s.certified_radius >= radius for s in right)
        refuted = sum(s.attacked_radius is not None and s.attacked_radius <= radius for s in right)
        left = (len(right) - refuted) / n if all(is_measured(s, radius) for s in right) else None
        points.append(CurvePoint(radius=radius, certified=certified / n, attacked=left))
    return points


def peak_memory() -> float:
    """The largest memory the process and its workers have held, in MB."""
    import resource

    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) / 1024
