"""A run of randomised smoothing as its page shows it: numbers, sentences and the table, all of statistics."""

import shlex
from collections import Counter
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from withstand.core.run_files import present_state, read_lines, read_whole
from withstand.core.smoothing_records import SmoothedSample, SmoothingPlan, SmoothingRecord, SmoothingSummary
from withstand.core.smoothing_tally import summarise
from withstand.reporting.words import NBSP, percent

NAMES = {"smoothed": "right", "abstained": "abstained", "wrong": "wrong"}
"""How a sample ended, and its word."""

MEANING = {
    "smoothed model": "The class that the model names most often when Gaussian noise is added to the input.",
    "statistical certificate": (
        "A statement made from random draws that is false with a chance of at most alpha; no proof."
    ),
    "radius": "Within this l2 distance the smoothed model keeps its class, unless the draws were unlucky.",
    "abstained": "The votes do not settle the class with so small a chance of error; counted as wrong.",
    "cap": "The radius where all draws agree: with so many draws and this alpha no larger one can be certified.",
    "bound": "Clopper and Pearson's lower bound on the probability of the class under noise.",
    "average radius": "The mean of the certified radii over all samples, 0 for those that are not right.",
}


@dataclass(frozen=True)
class SmoothedRun:
    """One run folder of randomised smoothing in memory. summary: None while no sample is finished. state: of
    the record, or "interrupted" where nothing goes on with what it tells."""

    folder: Path
    record: SmoothingRecord
    samples: list[SmoothedSample]
    summary: SmoothingSummary | None
    state: str = "complete"

    def label(self, value: int | None) -> str:
        """The name of a class where the run knows one, else its number; nothing for none."""
        names = self.record.classes
        if value is None:
            return ""
        return names[value] if names and 0 <= value < len(names) else str(value)


def is_smoothed(folder: str | PathLike[str]) -> bool:
    """Whether a folder holds a run of randomised smoothing."""
    return (Path(folder) / "smooth.json").is_file()


def read_smoothed(folder: str | PathLike[str]) -> SmoothedRun:
    """The run in a folder. Raises InputError when its record or a line in the middle of its samples cannot be read."""
    folder = Path(folder)
    record = read_whole(folder / "smooth.json", SmoothingRecord, "smooth")
    samples = read_lines(folder / "smooth.jsonl", SmoothedSample, "id", "the next run redoes it")
    spent = (0.0, 0.0) if record.summary is None else (record.summary.seconds, record.summary.cpu_seconds)
    summary = summarise(record.plan, samples, record.cap, *spent) if samples else None
    return SmoothedRun(folder, record, samples, summary, present_state(folder, record.state))


def headline(run: SmoothedRun) -> str:
    """The run in one plain sentence."""
    s, plan = run.summary, run.record.plan
    if s is None:
        return f"Smoothed by noise of sigma {plan.sigma:g}: no sample is finished yet."
    noun = "sample" if s.n == 1 else "samples"
    right = f"the smoothed model has an accuracy of {percent(s.clean_accuracy, s.n)} on {s.n:,} {noun}"
    if s.average_radius is None or s.cap is None:
        return f"With noise of sigma {plan.sigma:g}, {right}: a statistic."
    return (
        f"With noise of sigma {plan.sigma:g}, {right} and keeps its class within an average l2 radius of "
        f"{s.average_radius:.3g}: a statistic, no proof."
    )


def notice(run: SmoothedRun) -> str:
    """What the numbers are about, and what each is worth."""
    alpha = run.record.plan.alpha
    return (
        "It is about the smoothed model, the vote of the model over noisy copies of an input, and says nothing of the "
        f"model itself. Each sample's answer is false with a chance of at most {alpha:g}. The rounding of "
        "floating-point numbers is left out."
    )


def together(run: SmoothedRun) -> str:
    """What may be said of all samples together."""
    s, alpha = run.summary, run.record.plan.alpha
    if s is None:
        return ""
    union = f"at least {s.together:.4g}" if s.together > 0 else "not bounded: n times alpha is 1 or more"
    return (
        f"All {s.n:,} answers hold together with a chance that is, by the union bound, {union}. With a chance of "
        f"at least {100 * (1 - alpha):g}{NBSP}% no more than {s.false_at_most:,} of them are false. "
        f"For all of them to hold with a chance of {1 - alpha:g}, run with --alpha {alpha / s.n:.2g}."
    )


def parts(run: SmoothedRun) -> list[tuple[str, str, int]]:
    """How the samples ended: a key, its word and a count each."""
    counts = Counter(_ended(sample) for sample in run.samples)
    return [(key, name, counts[key]) for key, name in NAMES.items()]


def table(run: SmoothedRun) -> dict[str, Any]:
    """Columns, words and one list a sample for the page's script."""
    certified = run.record.plan.mode == "certify"
    columns = [("sample", "id"), ("smoothed answer", "verdict"), ("label", "text"), ("smoothed class", "text")]
    columns += [("class without noise", "text"), ("votes", "number")]
    columns += [("bound", "number"), ("radius", "number")] if certified else [("p-value", "number")]
    columns += [("seconds", "number")]
    return {
        "columns": [{"title": title, "kind": kind} for title, kind in columns],
        "verdicts": NAMES,
        "rows": [_row(run, sample, certified) for sample in run.samples],
    }


def command(plan: SmoothingPlan) -> str:
    """The command line that asks the same again."""
    words = ["withstand", "smooth", plan.model, "--data", plan.data, "--sigma", f"{plan.sigma:g}"]
    words += ["--n", str(plan.draws), "--n0", str(plan.first_draws), "--alpha", f"{plan.alpha:g}"]
    words += ["--radii", ",".join(f"{radius:g}" for radius in plan.radii)] if plan.radii else []
    words += ["--predict"] if plan.mode == "predict" else []
    words += [] if plan.limit is None else ["--limit", str(plan.limit)]
    return shlex.join([*words, "--seed", str(plan.seed)])


def _ended(sample: SmoothedSample) -> str:
    return "abstained" if sample.answer is None else "smoothed" if sample.right else "wrong"


def _row(run: SmoothedRun, s: SmoothedSample, certified: bool) -> list[Any]:
    classes = [run.label(s.label), run.label(s.answer), run.label(s.base)]
    figures = [s.bound, s.radius] if certified else [s.p_value]
    ahead = max(s.counts.values()) if s.guess is None else s.counts.get(s.guess, 0)
    return [s.id, _ended(s), *classes, ahead, *(_short(figure) for figure in figures), s.seconds]


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")
