"""The report: one self-contained HTML page of a run, or of several side by side."""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from os import PathLike, path
from pathlib import Path
from typing import TYPE_CHECKING, Any

from withstand.core.arguments import checked
from withstand.core.errors import InputError
from withstand.reporting import figures, harden, smoothed, words
from withstand.reporting.classes import by_class
from withstand.reporting.harden import Training, is_training, read_training
from withstand.reporting.next_steps import next_steps
from withstand.reporting.run import Run, read_run
from withstand.reporting.smoothed import SmoothedRun, is_smoothed, read_smoothed
from withstand.reporting.table import methods, table
from withstand.reporting.threat_words import threat_in_words
from withstand.reporting.training_curves import training_curves
from withstand.reporting.witnesses import galleries, worst

if TYPE_CHECKING:
    from jinja2 import Environment

AnyPath = str | PathLike[str]


@checked
def report(folder: AnyPath | Sequence[AnyPath], out: AnyPath | None = None) -> Path:
    """Write the page of a run folder, or one page that lays several run folders side by side; return its path.

    folder: what `withstand audit`, `attack`, `smooth` or `harden` wrote; a list of the first two for several. The page
    of a training run lays the audits before and after it side by side, and links to their own pages. out: the file to
    write; by default `report.html` in the run folder, or `index.html` in the folder that holds all of them. The page is
    one file, refers to nothing outside itself (the page of several runs links to their reports) and appears whole or
    not at all.

    Raises InputError when a folder holds no readable run or the file cannot be written.
    """
    if isinstance(folder, str | PathLike):
        if is_smoothed(folder):
            vote = read_smoothed(folder)
            return _write(Path(out) if out else vote.folder / "report.html", render_smoothed(vote))
        if is_training(folder):
            training = read_training(folder)
            target = Path(out) if out else training.folder / "report.html"
            return _write(target, render_training(training, target.parent))
        run = read_run(folder)
        target = Path(out) if out else run.folder / "report.html"
        return _write(target, render(run))
    runs = [read_run(one) for one in folder]
    if not runs:
        raise InputError("No run folder was named; give at least one folder that `withstand audit` wrote.")
    home = Path(path.commonpath([run.folder.resolve().parent for run in runs]))
    target = Path(out) if out else home / "index.html"
    return _write(target, render_several(runs, target.parent))


def render(run: Run) -> str:
    """The HTML page of one run."""
    return _filled_by(
        run,
        "report.html.j2",
        headline=words.headline(run),
        incomplete=words.incomplete(run),
        population=words.population(run),
        executed=words.executed(run),
        command=words.command(run.record.plan),
        figure=figures.envelope(run),
        witnesses=worst(run),
        galleries=galleries(run),
        table=table(run),
        methods=methods(run),
        threat_words=threat_in_words(run.ball, run.record.input_shape),
        classes=by_class(run),
        steps=next_steps(run),
    )


def render_smoothed(run: SmoothedRun) -> str:
    """The HTML page of one run of randomised smoothing."""
    return _filled_by(
        run,
        "smoothed.html.j2",
        headline=smoothed.headline(run),
        notice=smoothed.notice(run),
        together=smoothed.together(run),
        parts=smoothed.parts(run),
        meaning=smoothed.MEANING,
        command=smoothed.command(run.record.plan),
        figure=figures.smoothed_curve(run),
        table=smoothed.table(run),
    )


def render_training(training: Training, home: Path) -> str:
    """The HTML page of a training run; `home` is the folder the page will lie in, for its links."""
    record, audits = training.record, training.audits
    titles = [name for name, run in (("before", training.before), ("after", training.after)) if run is not None]
    return _filled(
        "harden.html.j2",
        training=training,
        record=record,
        headline=harden.headline(training),
        progress=harden.progress(training),
        lines=harden.lines(training),
        masking=harden.masking_rows(training),
        verdicts=[harden.verdict(one) for one in (record.before, record.after)],
        curves=training_curves(training),
        envelopes=figures.side_by_side(audits, titles),
        runs=list(zip(titles, audits, _links(audits, home), strict=True)),
    )


def render_several(runs: list[Run], home: Path) -> str:
    """The HTML page of several runs; `home` is the folder the page will lie in, for its links."""
    links = _links(runs, home)
    envelopes = figures.side_by_side(runs, [run.folder.resolve().name for run in runs])
    return _filled("several.html.j2", runs=list(zip(runs, links, strict=True)), figure=envelopes)


def _links(runs: list[Run], home: Path) -> list[str | None]:
    """Where the pages of the runs lie, as seen from a folder; None where there is none."""
    pages = [run.folder / "report.html" for run in runs]
    return [Path(path.relpath(page, home)).as_posix() if page.is_file() else None for page in pages]


def _filled_by(run: Run | SmoothedRun, template: str, **values: object) -> str:
    """A template with the parts of a run's record and values of its own; its table of samples has a script."""
    record = run.record
    parts = {"run": run, "record": record, "plan": record.plan, "origin": record.origin, "summary": run.summary}
    return _filled(template, script="table.js", **parts, **values)


def _filled(template: str, script: str | None = None, **values: object) -> str:
    """A template with its values, the style, and the script (none named: none) with the hash that admits it."""
    text = None if script is None else _asset(script)
    admitted = None if text is None else _hash(text)
    return (
        _environment().get_template(template).render(values, css=_asset("page.css"), script=text, script_hash=admitted)
    )


def _write(target: Path, text: str) -> Path:
    beside = target.with_name(f".{target.name}.tmp")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(target)
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}); name another place.") from None
    return target


def _hash(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _asset(name: str) -> str:
    return files("withstand.reporting").joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("withstand.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {"percent": words.percent, "number": words.number, "duration": words.duration}
    environment.filters |= {**filters, "advice": words.advice, "headline": words.headline}
    environment.filters |= {"progress": lambda run: words.how_far(len(run.samples), run.record.samples, run.state)}
    environment.filters |= {"figures_text": harden.figures_text, "setting": harden.setting}
    environment.globals |= {"MEANING": words.MEANING, "NAMES": words.NAMES}
    return environment
