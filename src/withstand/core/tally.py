"""The figures of a run that follow from its samples' records alone."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from withstand.core.records import Counts, Interval, SampleRecord, Seconds, Summary

CONFIDENCE = 0.95
"""Of the population interval."""


def count(samples: Sequence[SampleRecord]) -> Counts:
    """How many samples ended how."""
    return Counts(**Counter(sample.status for sample in samples))


def tally(samples: Sequence[SampleRecord], seconds: Seconds) -> Summary:
    """The numbers of a run from its samples; with no sample the lower ends are 0 and no upper end is measured."""
    counts, n = count(samples), len(samples)
    unattacked = sum(is_unattacked(sample) for sample in samples)
    attacked = None if unattacked else counts.proved + counts.unknown
    asked = [sample.executed for sample in samples if sample.executed is not None]
    return Summary(
        n=n,
        clean_accuracy=_share(n - counts.invalid, n),
        certified_accuracy=_share(counts.proved, n),
        attacked_accuracy=None if attacked is None or not n else _share(attacked, n),
        unattacked=unattacked,
        cut=sum(bool(sample.cut) for sample in samples),
        counts=counts,
        population_interval=population(counts.proved, attacked, n),
        seconds=seconds,
        queries=sum(sample.queries for sample in samples),
        gradients=sum(sample.gradients for sample in samples),
        executed=sum(asked) if asked else None,
    )


def executed_words(executed: int | None, proofs: int) -> str:
    """How many of the proofs hold for the network as it is run, in a sentence; empty where that was not asked.

    >>> executed_words(2, 2)
    'All 2 proofs surely hold for the network as it is run in its float type too, rounding errors included.'
    """
    if executed is None:
        return ""
    if executed == proofs:
        which = "The proof surely holds" if proofs == 1 else f"All {proofs:,} proofs surely hold"
        return f"{which} for the network as it is run in its float type too, rounding errors included."
    return (
        f"{executed:,} of {proofs:,} proofs surely hold for the network as it is run in its float type too; of the "
        "others, the margin may be smaller than what rounding errors add up to."
    )


def is_unattacked(sample: SampleRecord) -> bool:
    """Whether a sample has no verdict and no attack looked at it, so that its upper end is not measured."""
    return sample.status == "unknown" and not sample.attacked


def is_measured(sample: SampleRecord, radius: float) -> bool:
    """Whether the upper end of a sample at a radius of the curve is known: by a proof or a witness that reaches it, by
    an attack at that radius, or by one that found nothing at a larger one."""
    proved, refuted = sample.certified_radius, sample.attacked_radius
    if (proved is not None and proved >= radius) or (refuted is not None and refuted <= radius):
        return True
    if sample.tried is None:
        return not is_unattacked(sample)
    return any(tried >= radius and (refuted is None or tried < refuted) for tried in sample.tried)


def _share(k: int, n: int) -> float:
    return k / n if n else 0.0


def population(certified: int, attacked: int | None, n: int) -> Interval:
    """Where the robust share of the population lies: Clopper and Pearson's lower end (doi:10.2307/2331986) for the
    certified samples, their upper end for those no attack refuted (None: not measured), of n drawn independently."""
    from scipy.stats import beta

    tail = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, certified, n - certified + 1)) if certified else 0.0
    if attacked is None:
        return Interval(low=low, high=None, confidence=CONFIDENCE)
    high = float(beta.ppf(1 - tail, attacked + 1, n - attacked)) if attacked < n else 1.0
    return Interval(low=low, high=high, confidence=CONFIDENCE)


@dataclass(frozen=True)
class AttackFigures:
    """One attack on its own. attacked_accuracy: None where it did not come to look at some sample. median_distance: of
    its witnesses, in the threat's norm (None: it found none); where the nearest violation was asked for, over all
    samples right when clean, infinite where it found none."""

    attacked_accuracy: float | None
    median_distance: float | None
    queries: int
    gradients: int
    cpu_seconds: float
    seconds: float


def attack_figures(samples: Sequence[SampleRecord], attack: str, nearest: bool) -> AttackFigures:
    """The figures of one of the attacks that each saw every sample; nearest: they looked for the nearest violation."""
    records = [sample.attacks[attack] for sample in samples if sample.status != "invalid"]
    looked = bool(samples) and all(record.attacked for record in records)
    if nearest:
        far = [math.inf if record.distance is None else record.distance for record in records]
    else:
        far = [record.distance for record in records if record.refuted and record.distance is not None]
    return AttackFigures(
        attacked_accuracy=_share(sum(not record.refuted for record in records), len(samples)) if looked else None,
        median_distance=statistics.median(far) if far else None,
        queries=sum(record.queries for record in records),
        gradients=sum(record.gradients for record in records),
        cpu_seconds=sum(record.cpu_seconds for record in records),
        seconds=sum(record.seconds for record in records),
    )


def named_right(samples: Sequence[SampleRecord]) -> float | None:
    """The share of samples whose class the model names right when clean, whatever the property asks; None of none."""
    return sum(sample.predicted == sample.label for sample in samples) / len(samples) if samples else None
