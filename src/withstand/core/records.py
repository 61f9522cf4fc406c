"""What a run folder holds, versioned: an old run renders years later. No torch here."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

VERSION = 1
"""Version of the records' form, raised when a field changes its meaning."""

StatusName = Literal["proved", "refuted", "unknown", "invalid"]

EndedBy = Literal["time", "interrupt"]
"""Why a run ended before everything was done."""

Share = Annotated[float, Field(ge=0, le=1)]
"""A share of samples."""

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""Seconds and the like: a file that says infinitely many is no record."""


class Record(BaseModel):
    """Base of all records: unknown fields are refused, infinities survive JSON."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")


class Plan(Record):
    """What a run was asked to do: everything that decides its results.

    verb: an audit lets each method see what those before it left open; an attack lets each see every sample.
    """

    verb: Literal["audit", "attack"] = "audit"
    model: str
    data: str
    threat: str
    property: str = "argmax"
    limit: int | None = None
    seed: int = 0
    budget_seconds: float | None = None
    sample_queries: int | None = Field(
        default=None, description="forward passes a sample the attacks listed may spend, alarms and curve aside"
    )
    attacks: list[str] = Field(default_factory=list, description="cheap to dear, as `name:parameter=value`")
    verifiers: list[str] = Field(default_factory=list, description="cheap to dear")
    curve: list[float] = Field(default_factory=list, description="radii of the curve, as multiples of the threat's")
    certificates: bool = Field(default=False, description="store a checked certificate of each proof, where it can be")
    queries: int | None = Field(default=None, description="rows of the model a sample that each attack may cost")
    access: Literal["gradient", "scores", "labels"] = Field(default="gradient", description="what attacks see")
    draws: int = Field(default=1, description="answers of a random model that are averaged")
    surrogate: str | None = Field(default=None, description="the model that attacks see in place of the attacked one")
    train: str | None = Field(default=None, description="the data that universal attacks are fitted on")
    skip: int = Field(
        default=0, description="samples at the start that are left out, because universal attacks are fitted on them"
    )
    closest: bool = Field(default=False, description="attacks look for the nearest violation, at whatever radius")


class Alarm(Record):
    """Something that makes the numbers doubtful. `share`: of the samples looked at, where that has a meaning."""

    name: str
    sentence: str
    share: float | None = None
    samples: list[int] = Field(default_factory=list)


class Check(Record):
    """One finding of the doctor, or on masked gradients. samples: the numbers of those it is about, where some are."""

    name: str
    outcome: Literal["pass", "note", "warn", "fail"]
    sentence: str
    figures: dict[str, Any] = Field(default_factory=dict)
    samples: list[int] = Field(default_factory=list)


class AttackRecord(Record):
    """What one attack did to one sample, in a run that lets each attack see every sample.

    refuted: it found a witness within the threat's radius. distance: of the violation it found; beyond the radius only
    where the plan asks for the nearest one. margin: the lowest it reached. adversarial: the model's answer there.
    witness: its file, relative to the run folder. stopped: why it ended early. attacked: it asked about the sample at
    least once.
    """

    refuted: bool = False
    distance: float | None = None
    margin: float | None = None
    adversarial: float | None = None
    witness: str | None = None
    queries: int = 0
    gradients: int = 0
    seconds: Amount = 0.0
    cpu_seconds: Amount = 0.0
    stopped: str | None = None
    attacked: bool = True


class SampleRecord(Record):
    """One line of samples.jsonl: one sample, one question, settled or given up. Of several lines about a sample, one an
    attempt, the last counts; it holds what all of them found and cost.

    bound: best sound lower bound on the margin (None: none computed). margin: the lowest at an admissible point.
    distance: of the witness from the clean input, in the threat's norm. witness, certificate: their files, relative to
    the run folder. executed: of a proof, whether it surely holds for the network as it is run in its own float type,
    roundings included (None: not asked). certified_radius, attacked_radius: on the plan's curve, the largest radius
    proved and the smallest refuted (None: none was). flags: names of doubtful things seen on the way; alarms count
    them. attacks: each attack's own result, by its text, where each saw every sample.

    attacked: an attack looked for a witness; an unknown sample that none looked at says nothing of the upper end.
    tried: the radii of the curve at which an attack looked (None: all that need it). cut: the methods that time kept
    from their end, and why; more time goes on with them.
    """

    id: int
    label: float
    predicted: float
    status: StatusName
    reason: str = ""
    method: str | None = None
    grade: str | None = None
    clean_margin: float
    margin: float
    bound: float | None = None
    distance: float | None = None
    adversarial: float | None = None
    witness: str | None = None
    certificate: str | None = None
    executed: bool | None = None
    queries: int = 0
    gradients: int = 0
    seconds: Amount = 0.0
    certified_radius: float | None = None
    attacked_radius: float | None = None
    flags: list[str] = Field(default_factory=list)
    attacks: dict[str, AttackRecord] = Field(default_factory=dict)
    attacked: bool = True
    tried: list[float] | None = None
    cut: dict[str, str] = Field(default_factory=dict)


class Counts(Record):
    """How many of the n questions ended how."""

    proved: int = 0
    refuted: int = 0
    unknown: int = 0
    invalid: int = 0


class Seconds(Record):
    """Wall seconds, summed over resumed parts of the run; attack and verify are summed over workers too."""

    doctor: Amount = 0.0
    attack: Amount = 0.0
    verify: Amount = 0.0
    total: Amount = 0.0


class CurvePoint(Record):
    """Shares of all n samples at one radius: lower <= true <= upper. attacked: None where it is not measured, because
    no attack looked at some sample there."""

    radius: Amount
    certified: Share
    attacked: Share | None


class Interval(Record):
    """A confidence interval for the population the n samples were drawn from (Clopper and Pearson 1934). high: None
    where the upper end of the samples is not measured."""

    low: Share
    high: Share | None
    confidence: Share = 0.95


class Summary(Record):
    """The numbers of a run. Accuracies are shares of all n samples; certified <= true <= attacked.

    While a run is not complete, n counts the samples that are settled. unattacked: unknown samples that no attack has
    looked at; where there are some, attacked_accuracy is not measured: None. cut: samples on which time kept a method
    from its end. executed: proofs that surely hold for the network as it is run in its own float type
    too (None: there are none of which that was asked).
    """

    n: int
    clean_accuracy: Share
    certified_accuracy: Share
    attacked_accuracy: Share | None
    unattacked: int = 0
    cut: int = 0
    counts: Counts
    population_interval: Interval
    seconds: Seconds
    queries: int
    gradients: int = 0
    executed: int | None = None
    peak_memory_mb: Amount | None = None
    alarms: list[Alarm] = Field(default_factory=list)


class Origin(Record):
    """Where and with what a run was made."""

    withstand: str
    python: str
    packages: dict[str, str]
    platform: str
    processor: str
    cores: int
    device: str = "cpu"
    git: str | None = None
    model_digest: str
    data_digest: str


class RunRecord(Record):
    """run.json: the whole run but for its samples and witnesses. ended_by: what ended a partial run."""

    version: int = VERSION
    plan: Plan
    origin: Origin
    state: Literal["running", "partial", "complete"] = "running"
    ended_by: EndedBy | None = None
    samples: int = Field(
        default=0, description="how many the run is to settle; its summary counts those settled so far"
    )
    began: datetime = Field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None
    input_shape: list[int]
    classes: list[str] | None = None
    checks: list[Check] = Field(default_factory=list)
    summary: Summary | None = None
    curve: list[CurvePoint] = Field(default_factory=list)
