"""`withstand.ls`: the runs of every kind in a folder, with their main figures."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from withstand.auditing.json_values import json_values
from withstand.auditing.runfolder import HOME
from withstand.core.arguments import checked
from withstand.core.errors import InputError
from withstand.core.harden_records import Standing
from withstand.core.records import Summary
from withstand.core.run_files import (
    is_harden_run,
    present_state,
    read_harden_record,
    read_lines,
    read_run_record,
    read_whole,
)
from withstand.core.smoothing_records import SmoothedSample, SmoothingRecord, SmoothingSummary
from withstand.reporting.words import how_far


@dataclass(frozen=True)
class Listing:
    """One run folder in a list of runs.

    threat: of a smoothed model, the noise. summary: of an audit or attack; hardened: of a training, what its best
    weights withstand on held-out samples; smoothed: of a smoothed model, statistics. Each is None for runs of other
    kinds, and while there is none. state: of its record, or "interrupted" where that says "running" and nothing does,
    or an interrupt ended it. progress: the same in words, as `16 of 40, interrupted`.
    """

    path: str
    kind: Literal["audit", "attack", "harden", "smooth"]
    model: str
    data: str
    threat: str
    state: str
    began: str
    progress: str
    summary: Summary | None = None
    hardened: Standing | None = None
    smoothed: SmoothingSummary | None = None

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return json_values(self)


@checked
def ls(folder: str | PathLike[str] = HOME) -> list[Listing]:
    """The run folders in `folder` (or the folder itself, if it is one), oldest first, with their numbers.

    Raises InputError when there is no such folder, or a run in it cannot be read.
    """
    home = Path(folder)
    if not home.is_dir():
        raise InputError(f"There is no folder {home}; name the folder that holds your runs.")
    names = ("run.json", "smooth.json")
    found = [home / name for name in names if (home / name).is_file()]
    found = found or sorted(file for name in names for file in home.glob(f"*/{name}"))
    return sorted(map(_listing, found), key=lambda listing: listing.began)


def _listing(file: Path) -> Listing:
    path, folder = str(file.parent), file.parent
    if file.name == "smooth.json":
        vote = read_whole(file, SmoothingRecord, "smooth")
        plan, state = vote.plan, present_state(folder, vote.state)
        about = (plan.model, plan.data, f"sigma {plan.sigma:g}", state, vote.began.isoformat())
        done = len(read_lines(folder / "smooth.jsonl", SmoothedSample, "id", "the next run redoes it"))
        return Listing(path, "smooth", *about, how_far(done, vote.samples, state), smoothed=vote.summary)
    if is_harden_run(file):
        made = read_harden_record(file)
        state = present_state(folder, made.state)
        about = (made.model, made.data, made.threat, state, made.began.isoformat())
        return Listing(path, "harden", *about, how_far(made.epochs_done, made.epochs, state), hardened=made.after)
    run = read_run_record(file)
    plan, state = run.plan, present_state(folder, run.state, run.ended_by)
    about = (plan.model, plan.data, plan.threat, state, run.began.isoformat())
    done = 0 if run.summary is None else run.summary.n
    return Listing(path, plan.verb, *about, how_far(done, run.samples, state), summary=run.summary)
