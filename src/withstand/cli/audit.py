"""`withstand audit`: doctor, attacks and proofs in one run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from withstand.cli import options
from withstand.cli.output import only_results_on_stdout, print_json
from withstand.cli.progress import progress
from withstand.cli.results import print_run
from withstand.core.errors import InputError

if TYPE_CHECKING:
    from withstand.core.records import Plan

Certificates = Annotated[
    bool | None,
    typer.Option(
        "--certificates/--no-certificates", help="Store certificates of proofs, which a small program checks."
    ),
]


def audit(
    model: options.ModelOrNone = None,
    data: options.DataOrNone = None,
    threat: options.ThreatOrNone = None,
    limit: options.Limit = None,
    budget: options.BudgetText = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The run folder; one below ./runs unless given.")
    ] = None,
    seed: options.SeedOrNone = None,
    device: options.Device = "cpu",
    workers: Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Processes to share the samples.")] = 1,
    property: options.PropertyOrNone = None,
    save_plan: Annotated[
        Path | None, typer.Option("--save-plan", metavar="FILE", help="Write the plan of this run to FILE as well.")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Take what is not given here from a saved plan.")
    ] = None,
    certificates: Certificates = None,
    trust: options.Trust = False,
    json: options.Json = False,
) -> None:
    """Find out what a model withstands, from both sides.

    The doctor comes first, then attacks and proofs from cheap to dear on the samples still open.
    The same command again, with more time if need be, resumes the run. Ctrl-C leaves a valid partial run.
    """
    import withstand
    from withstand.io.written import Written

    with only_results_on_stdout():
        agreed = _agree(model, data, threat, property, limit, seed, budget, certificates, plan, trust)
        if save_plan is not None:
            from withstand.auditing.plan import save_plan as save

            save(agreed, save_plan)
        with progress() as tell:
            result = withstand.audit(
                model or Written(agreed.model, f"The plan {plan}", trust),
                agreed.data,
                threat=agreed.threat,
                property=property,
                out=out,
                device=device,
                workers=workers,
                plan=agreed,
                progress=tell,
                trust=trust,
            )
        withstand.report(result.run_dir)
    if json:
        print_json(result.to_json())
    else:
        print_run(result.run_dir)
    if result.ended_by == "interrupt":
        raise typer.Exit(130)


def _agree(
    model: str | None,
    data: str | None,
    threat: str | None,
    property: str | None,
    limit: int | None,
    seed: int | None,
    budget: str | None,
    certificates: bool | None,
    plan: Path | None,
    trust: bool,
) -> "Plan":
    """The plan that the command line asks for, on top of a saved one where there is one."""
    from withstand.auditing.plan import load_plan, make_plan

    base = None if plan is None else load_plan(plan)
    if base is not None:
        model, data, threat = model or base.model, data or base.data, threat or base.threat
    if not (model and data and threat):
        raise InputError("Name MODEL, --data and --threat, or a saved plan with --plan that holds them.")
    return make_plan(
        *(model, data, threat, property),
        limit=limit,
        seed=seed,
        budget=budget,
        certificates=certificates,
        base=plan,
        trust=trust,
    )
