"""Plans: what a run does, complete enough to repeat it; saved, loaded and compared with a run folder."""

from os import PathLike
from pathlib import Path
from typing import Any

from withstand.core.attack import misfit
from withstand.core.box import Box
from withstand.core.budget import parse_duration
from withstand.core.errors import InputError
from withstand.core.records import Plan, RunRecord
from withstand.core.registry import build, build_attack, suggest
from withstand.core.threat import Threat
from withstand.core.threat_text import parse_threat
from withstand.io.properties import load_property
from withstand.io.written import Written

ATTACKS = (
    *("noise", "rotate-translate", "pgd:steps=20", "greedy-pixels", "worst:queries=0"),
    *("square:queries=1000", "sparse-rs:queries=1000"),
)
"""Attacks of an audit, cheap to dear; score-only attacks after the first gradient attack serve as an alarm. Those that
do not work in the threat's norm, or walk down a loss that the property does not offer, are left out. The alarm takes
the place of the score-only stage that `worst` has of its own."""

VERIFIERS = ("ibp", "crown", "branch-and-bound:effort=3")
"""Verifiers of an audit, cheap to dear; the last one works after the attacks, on what is still open. Its limit, about a
second a sample, keeps hopeless searches short."""

CURVE = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""Radii of the curve, as multiples of the threat's radius."""


def make_plan(
    model: str,
    data: str,
    threat: str | Threat,
    property: str | None = None,
    *,
    limit: int | None = None,
    seed: int | None = None,
    budget: float | str | None = None,
    certificates: bool | None = None,
    base: Plan | str | PathLike[str] | None = None,
    trust: bool = False,
) -> Plan:
    """A checked plan. base: a plan (or its file) for everything that is None here. Without one, property is `argmax`,
    seed 0, and there is no limit and no budget. trust: code that the base names may run.

    Raises InputError when the base cannot be read or names code and is not trusted, a method is unknown, does not work
    in the threat's norm or needs a loss that the property does not offer, or the threat or the property has no text
    that reads back.
    """
    where = "The plan" if base is None or isinstance(base, Plan) else f"The plan {base}"
    if base is not None and not isinstance(base, Plan):
        base = load_plan(base)
    said = Written("argmax" if base is None else base.property, where, trust) if property is None else property
    text = str(said)
    norm, losses = _norm(threat), load_property(said).losses
    if base is None:
        attacks = [text for text in ATTACKS if misfit(build("attack", text), norm, losses) is None]
        base = Plan(model="", data="", threat="", attacks=attacks, verifiers=list(VERIFIERS), curve=list(CURVE))
    plan = base.model_copy(
        update={
            "model": model,
            "data": data,
            "threat": threat_text(threat),
            "property": text,
            "limit": base.limit if limit is None else limit,
            "seed": base.seed if seed is None else seed,
            "budget_seconds": base.budget_seconds if budget is None else seconds_of(budget),
            "certificates": base.certificates if certificates is None else certificates,
        }
    )
    _check(plan, norm, losses)
    return plan


def _norm(threat: str | Threat) -> str:
    if isinstance(threat, str):
        return parse_threat(threat).norm
    if isinstance(threat, Box):
        raise InputError("A run's threat is a norm's; ask about boxes with `withstand verify --onnx --vnnlib`.")
    return threat.norm


def threat_text(threat: str | Threat) -> str:
    """A threat as text that reads back to the same numbers; the user's own words where there are any."""
    return threat.strip() if isinstance(threat, str) else threat.text()


def radii_of(plan: Plan, threat: Threat) -> tuple[float, ...]:
    """The radii of the curve in rising order, in the threat's units: decimal, but for the threat's own.

    Where radii are counts, multiples that come to the same count are one, and those that come to nothing none.
    """
    own = threat.radius
    radii = {own if factor == 1 else threat.at(float(f"{own * factor:.10g}")).radius for factor in plan.curve}
    return tuple(sorted(radius for radius in radii if radius > 0 or radius == own))


def save_plan(plan: Plan, path: str | PathLike[str]) -> None:
    """Write a plan as JSON. Raises InputError when the file cannot be written."""
    try:
        Path(path).write_text(plan.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"The plan {path} cannot be written ({error.strerror}); choose another file.") from None


def load_plan(path: str | PathLike[str]) -> Plan:
    """Read a plan written by `save_plan`. Raises InputError naming what does not fit."""
    from pydantic import ValidationError

    try:
        return Plan.model_validate_json(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise InputError(f"The plan {path} cannot be read; write one with --save-plan.") from None
    except ValidationError as error:
        raise InputError(f"The plan {path} does not fit: {_first(error.errors()[0])}") from None


def _first(error: Any) -> str:
    where = str(error["loc"][0]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        return f"it has no entry {where!r}; {suggest(where, list(Plan.model_fields))}"
    if not where:
        return "it is not JSON; write one with --save-plan."
    return f"{where}: {error['msg']}."


def seconds_of(budget: float | str) -> float:
    """A budget in seconds, from seconds or a duration as text. Raises InputError unless it is positive."""
    if isinstance(budget, str):
        return parse_duration(budget)
    if not budget > 0:
        raise InputError(f"The budget {budget} leaves no time; give a positive number of seconds.")
    return float(budget)


def _check(plan: Plan, norm: str, losses: tuple[str, ...]) -> None:
    for text in plan.attacks:
        reason = misfit(build_attack(text), norm, losses)
        if reason is not None:
            raise InputError(f"The attack {text!r} {reason}; remove it.")
    for text in plan.verifiers:
        build("verifier", text)
    if any(not factor > 0 for factor in plan.curve):
        raise InputError("The plan's curve holds a radius that is not positive; give multiples above 0.")
    if plan.sample_queries is not None and plan.sample_queries < 2 * max(1, len(plan.attacks)):
        raise InputError(f"The plan's sample_queries {plan.sample_queries} is too few; give each attack 2 or more.")


_FREE = {"budget_seconds"}  # how long a run may take is no part of what it means


def check_match(plan: Plan, model_digest: str, data_digest: str, run: RunRecord, folder: Path) -> None:
    """Raise InputError unless a run folder's record is of this plan, model and data."""
    advice = f"choose another folder with --out, or remove {folder}."
    held, asked = run.plan.model_dump(exclude=_FREE), plan.model_dump(exclude=_FREE)
    for name, value in asked.items():
        if held[name] != value:
            raise InputError(f"{folder} holds a run with {name} {held[name]!r}, not {value!r}; {advice}")
    if run.origin.model_digest != model_digest:
        raise InputError(f"{folder} holds a run of other weights under the same model name; {advice}")
    if run.origin.data_digest != data_digest:
        raise InputError(f"{folder} holds a run of other data under the same name; {advice}")
