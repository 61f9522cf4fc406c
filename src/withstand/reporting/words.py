"""Numbers and sentences as a page shows them."""

import math
import shlex
from typing import Literal

from withstand.core.records import Alarm, Plan, Summary
from withstand.core.tally import executed_words, named_right
from withstand.reporting.run import Run, parse_ball

DASH = "\N{EN DASH}"
NBSP = "\N{NO-BREAK SPACE}"
MEANING = {
    "proved": "A sound bound shows that no input inside the threat violates the property.",
    "unknown": "Neither a proof nor a witness was found within the budget; the sample counts for the upper end only.",
    "refuted": "A witness inside the threat violates the property, and it was replayed before it counted.",
    "invalid": "The property fails on the clean input already; counted in accuracy, never as attacked.",
    "certified accuracy": "Share of all samples that are proved: a lower end for the true robust accuracy.",
    "attacked accuracy": "Share of all samples that survive every attack: an upper end for it.",
    "margin": "How far the outputs are from violating the property: above zero it holds, at or below it is violated.",
    "bound": "The best proven lower bound on the margin over the whole threat.",
    "witness": "A stored input inside the threat that violates the property.",
    "alarm": "A sign that the attacks or the proofs were hindered, so that the numbers may mislead.",
}
NAMES = {"proved": "proved", "unknown": "unknown", "refuted": "refuted", "invalid": "wrong when clean"}

_ADVICE = {
    "black box beats white box": (
        "A sample or two may be luck, since the search is random; more mean that something hides the gradient: "
        "distrust the upper end, and attack more without gradients."
    ),
    "one step beats many": (
        "A sample or two may be luck; more mean that the iterated attacks lose their way: "
        "give them more restarts or another loss."
    ),
    "larger radius does not hurt": "Distrust the upper end; attack without gradients and look for what hides them.",
    "zero gradients": "Attack with a loss on the logits or without gradients; look for saturated or rounded layers.",
    "NaN gradients": "Find the operation that divides by zero or overflows near these samples.",
    "loss not flat": "Give a larger budget or more steps: the attacks were still gaining when they ended.",
    "torch and onnxruntime disagree": "Export the model again; trust neither number until both forms agree.",
    "non-determinism": (
        "Switch off dropout and other random layers, or attack averages of the answers by `withstand attack --eot 32`."
    ),
    "softmax before the loss": "Give the model without its last softmax, so that it returns logits.",
    "quantised input": "Declare the stored form of the input, for example linf:8/255@u8, and audit again.",
    "too many unknown": (
        "Look at the curve: at a smaller radius both ends may meet. Give a larger budget where the time ran out. "
        "Proofs come easily only on networks trained for them; on others the fast bounds used here are loose."
    ),
}
_DEFAULT_ADVICE = "Find the cause before you use the numbers of this run."


NOT_MEASURED = "not measured"


def percent(share: float | None, n: int, end: Literal["low", "high", "near"] = "near") -> str:
    """A share of n samples in percent; a lower end is rounded down and an upper end up, so that both stay true. A share
    that is missing is told so."""
    if share is None:
        return NOT_MEASURED
    digits = 1 if n <= 1000 else 2
    scaled = share * 100 * 10**digits
    whole = {"low": math.floor(scaled + 1e-6), "high": math.ceil(scaled - 1e-6), "near": round(scaled)}[end]
    return f"{whole / 10**digits:.{digits}f}{NBSP}%"


def number(value: float | None, digits: int = 4) -> str:
    """A number with some significant digits; a dash for none."""
    if value is None:
        return DASH
    if isinstance(value, int) or (math.isfinite(value) and value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:,.{digits}g}" if math.isfinite(value) else ("∞" if value > 0 else "-∞" if value < 0 else "NaN")


def duration(seconds: float) -> str:
    """Seconds as a person says them."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def headline(run: Run) -> str:
    """The run in one plain sentence; where a class is not to be told, another says how often the right one is."""
    right = named_right(run.samples) if run.record.plan.property.startswith("not-class") else None
    if right is None:
        return _said(run)
    return f"{_said(run)} When clean, {percent(right, len(run.samples))} of them are told their own class."


def _said(run: Run) -> str:
    s = run.summary
    if s is None:
        return f"At {run.threat}, no sample is finished yet."
    low, high = percent(s.certified_accuracy, s.n, "low"), percent(s.attacked_accuracy, s.n, "high")
    noun, survive, do = ("sample", "survives", "does") if s.n == 1 else ("samples", "survive", "do")
    c = s.counts
    if s.attacked_accuracy is None:
        return _without_upper_end(run, s, low, f"{noun} surely {survive}")
    if run.record.plan.verb == "attack":
        found = f"{c.refuted:,} refuted, {c.unknown:,} not, {c.invalid:,} wrong when clean"
        return f"At {run.threat}, at most {high} of {s.n:,} {noun} {survive}: {found}; nothing was proved."
    parts = f"{c.proved:,} proved, {c.refuted:,} refuted, {c.unknown:,} unknown, {c.invalid:,} wrong when clean"
    if not c.unknown:
        return f"At {run.threat}, exactly {percent(s.certified_accuracy, s.n)} of {s.n:,} {noun} {survive}: {parts}."
    return f"At {run.threat}, at most {high} of {s.n:,} {noun} {survive}, at least {low} surely {do}: {parts}."


def _without_upper_end(run: Run, s: Summary, low: str, surely: str) -> str:
    """The run in a sentence where no attack came to look at some samples."""
    c = s.counts
    proved = "nothing was proved" if run.record.plan.verb == "attack" else f"at least {low} of {s.n:,} {surely}"
    return (
        f"At {run.threat}, {proved}; the upper end is not measured: no attack looked at {s.unattacked:,} of "
        f"{c.unknown:,} unknown; {c.proved:,} proved, {c.refuted:,} refuted, {c.invalid:,} wrong when clean."
    )


def how_far(done: int, total: int, state: str) -> str:
    """How far a run is, as `16 of 40, interrupted`; a run that is complete is just that."""
    what = {"partial": "time over"}.get(state, state)
    return state if state == "complete" else f"{done:,} of {total:,}, {what}" if total else what


def incomplete(run: Run) -> str:
    """Why the numbers are not final; empty for a complete run."""
    if run.state == "complete":
        return ""
    done, total = len(run.samples), run.record.samples
    reached = f"{done:,} of {total:,} samples are settled" if total else f"{done:,} samples are settled so far"
    if run.state == "running":
        return f"This run is still running: {reached}."
    if run.state == "interrupted":
        return f"This run was interrupted: {reached}. The same command resumes it."
    cut = sum(bool(sample.cut) for sample in run.samples)
    return (
        f"The time was over before everything was done: on {cut:,} of {done:,} samples some method is not finished. "
        "The same command with a larger budget goes on with these."
    )


def population(run: Run) -> str:
    """What the samples say of the population they were drawn from."""
    s = run.summary
    if s is None:
        return ""
    i = s.population_interval
    low, high = percent(i.low, s.n, "low"), percent(i.high, s.n, "high")
    if i.high is None:
        return (
            f"For the population these {s.n:,} samples were drawn from, the robust share is at least {low} with "
            f"{100 * (1 + i.confidence) / 2:g}{NBSP}% confidence; its upper end is not measured."
        )
    return (
        f"For the population these {s.n:,} samples were drawn from, the robust share lies between {low} and {high} "
        f"with {100 * i.confidence:g}{NBSP}% confidence."
    )


def executed(run: Run) -> str:
    """How many proofs hold for the network as it is run; empty where that is not known."""
    s = run.summary
    return "" if s is None else executed_words(s.executed, s.counts.proved)


def advice(alarm: Alarm) -> str:
    """What to do about an alarm."""
    return _ADVICE.get(alarm.name, _DEFAULT_ADVICE)


def command(plan: Plan) -> str:
    """The command line that asks the same again."""
    words = ["withstand", plan.verb, plan.model, "--data", plan.data, "--threat", plan.threat]
    if plan.verb == "attack":
        words += _means(plan)
    if plan.property != "argmax":
        words += ["--property", plan.property]
    if plan.limit is not None:
        words += ["--limit", str(plan.limit)]
    words += ["--seed", str(plan.seed)]
    if plan.budget_seconds is not None:
        words += ["--budget", f"{plan.budget_seconds:g}s"]
    return shlex.join(words)


def _means(plan: Plan) -> list[str]:
    """The options of an attack that say what it may see and spend."""
    words = [part for name in plan.attacks for part in ("--attack", name)]
    for option, value in (("--queries", plan.queries), ("--surrogate", plan.surrogate), ("--train", plan.train)):
        words += [] if value is None else [option, str(value)]
    words += [] if plan.access == "gradient" else ["--access", plan.access]
    words += [] if plan.draws == 1 else ["--eot", str(plan.draws)]
    ball = parse_ball(plan.threat)
    if plan.curve and ball is not None:
        words += ["--radii", ",".join(f"{ball.radius * factor:.10g}" for factor in plan.curve)]
    return words + (["--closest"] if plan.closest else [])
