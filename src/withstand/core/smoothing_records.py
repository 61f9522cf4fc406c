"""What a run folder of randomised smoothing holds, versioned: statistics, in records that no proof is kept in."""

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from withstand.core.records import VERSION, Origin, Record


class SmoothingPlan(Record):
    """What a run was asked to do: everything that decides its results.

    mode: certify radii, or predict classes alone. draws, first_draws: the n and n0 of Cohen et al. 2019.
    """

    verb: Literal["smooth"] = "smooth"
    mode: Literal["certify", "predict"] = "certify"
    model: str
    data: str
    limit: int | None = None
    sigma: float
    draws: int
    first_draws: int
    alpha: float
    seed: int = 0
    radii: list[float] = Field(default_factory=list, description="of the curve in numbers; they change no sample")


class SmoothedSample(Record):
    """One line of smooth.jsonl: what the vote over noisy copies of one sample says.

    base: the class that the model below names without noise. answer: the smoothed model's class, None where it
    abstains. guess: the class that the first draws chose to certify. counts: votes of the other draws, by class. bound:
    lower bound on the guess's probability. radius: in l2, below which the answer does not change, each with a chance of
    at most the plan's alpha of being too large; 0 where the smoothed model abstains. p_value: of a fair coin between
    the two classes ahead. A prediction has no guess, bound and radius; a certificate no p-value.
    """

    id: int
    label: int
    base: int
    answer: int | None
    counts: dict[int, int]
    guess: int | None = None
    bound: float | None = None
    radius: float | None = None
    p_value: float | None = None
    seconds: float = 0.0

    @property
    def right(self) -> bool:
        """Whether the smoothed model names the label."""
        return self.answer == self.label


class SmoothedPoint(Record):
    """The share of all samples that are right with a radius above this one, by statistical certificates."""

    radius: float
    certified: float


class SmoothingSummary(Record):
    """The numbers of a run, over the n samples that are settled.

    base_accuracy: of the model below, without noise. clean_accuracy: of the smoothed model; abstentions are wrong.
    average_radius: over all samples, 0 for one that is wrong. cap: the radius where all draws agree. together: what the
    union bound leaves of the chance that all n answers hold. false_at_most: so many of the n answers are false at most,
    with a chance of 1 - alpha. Predictions have no radii.
    """

    n: int
    base_accuracy: float
    clean_accuracy: float
    abstained: int
    average_radius: float | None
    cap: float | None
    curve: list[SmoothedPoint]
    together: float
    false_at_most: int
    seconds: float
    cpu_seconds: float


class SmoothingRecord(Record):
    """smooth.json: the whole run but for its samples. cap: the radius where all draws agree (None for predictions)."""

    version: int = VERSION
    plan: SmoothingPlan
    origin: Origin
    state: Literal["running", "partial", "complete"] = "running"
    samples: int
    cap: float | None = None
    began: datetime = Field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None
    input_shape: list[int]
    classes: list[str] | None = None
    summary: SmoothingSummary | None = None
