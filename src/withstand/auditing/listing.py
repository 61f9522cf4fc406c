"""`withstand.ls`: the runs of every kind in a folder, with their main figures."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from withstand.auditing.json_values import json_values
from withstand.auditing.runfolder import HOME
from withstand.core.errors import InputError
from withstand.core.harden_records import Standing
from withstand.core.records import Summary
from withstand.core.run_files import is_harden_run, read_harden_record, read_run_record, read_whole
from withstand.core.smoothing_records import SmoothingRecord, SmoothingSummary


@dataclass(frozen=True)
class Listing:
    """One run folder in a list of runs.

    threat: of a smoothed model, the noise. summary: of an audit or attack; hardened: of a training, what its best
    weights withstand on held-out samples; smoothed: of a smoothed model, statistics. Each is None for runs of other
    kinds, and while there is none.
    """

    path: str
    kind: Literal["audit", "attack", "harden", "smooth"]
    model: str
    data: str
    threat: str
    state: str
    began: str
    summary: Summary | None = None
    hardened: Standing | None = None
    smoothed: SmoothingSummary | None = None

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return json_values(self)


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
    path = str(file.parent)
    if file.name == "smooth.json":
        vote = read_whole(file, SmoothingRecord, "smooth")
        plan, began = vote.plan, vote.began.isoformat()
        noise = f"sigma {plan.sigma:g}"
        return Listing(path, "smooth", plan.model, plan.data, noise, vote.state, began, smoothed=vote.summary)
    if is_harden_run(file):
        made = read_harden_record(file)
        began = made.began.isoformat()
        return Listing(path, "harden", made.model, made.data, made.threat, made.state, began, hardened=made.after)
    run = read_run_record(file)
    plan, began = run.plan, run.began.isoformat()
    return Listing(path, plan.verb, plan.model, plan.data, plan.threat, run.state, began, summary=run.summary)
