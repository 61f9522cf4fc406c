"""What to do after a run: a sentence each, with the command that does it."""

import shlex
from dataclasses import dataclass

from withstand.reporting.run import Run
from withstand.reporting.words import command

MEMORY = "arrays"
"""What a plan calls data that no command line names."""

MOVES = ("flow", "flow+linf", "spatial")
"""Threats about which nothing can be proved."""


@dataclass(frozen=True)
class Step:
    """A sentence, and the command line that does it ("": objects in memory have none)."""

    sentence: str
    command: str = ""


def next_steps(run: Run) -> list[Step]:
    """What is worth doing next, the most useful first."""
    plan, s = run.record.plan, run.summary
    if s is None or run.state in ("running", "interrupted"):
        return [_step(run, "Go on with the samples that are left.", command(plan))]
    steps = []
    ask = shlex.join([plan.model, "--data", plan.data, "--threat", plan.threat])
    limit = "" if plan.limit is None else f" --limit {plan.limit}"
    provable = run.ball is None or run.ball.norm not in MOVES
    if any(alarm.name != "too many unknown" for alarm in s.alarms):
        sentence = "An alarm puts the upper end in doubt: look for what may have misled the attacks."
        steps.append(_step(run, sentence, f"withstand masking {ask}{limit}"))
    if plan.verb == "attack" and provable:
        sentence = "Nothing was proved: an audit tells how many surely survive."
        steps.append(_step(run, sentence, f"withstand audit {ask}{limit}"))
    elif plan.verb == "audit" and s.counts.unknown:
        more = plan.model_copy(update={"budget_seconds": max(600.0, 2 * (plan.budget_seconds or 0.0))})
        open_ = "1 sample is" if s.counts.unknown == 1 else f"{s.counts.unknown:,} samples are"
        steps.append(_step(run, f"{open_} open: more time may settle them.", command(more)))
    if run.ball is not None and provable and plan.property == "argmax" and s.counts.unknown + s.counts.refuted:
        sentence = "See how far each sample holds, in place of whether it holds here."
        steps.append(_step(run, sentence, f"withstand radius {ask} --limit {min(20, s.n)}"))
    if s.counts.refuted:
        sentence = "Train a copy that withstands more; TRAIN stands for your training data."
        train = shlex.join(["withstand", "harden", plan.model, "--data", "TRAIN", "--threat", plan.threat])
        steps.append(_step(run, sentence, train))
    if s.counts.proved or s.counts.refuted:
        sentence = "Have every figure, witness and proof of this run computed again."
        steps.append(_step(run, sentence, shlex.join(["withstand", "check", str(run.folder)])))
    return steps


def _step(run: Run, sentence: str, text: str) -> Step:
    return Step(sentence, "" if run.record.plan.data == MEMORY else text)
