"""`withstand harden`: train a model against a threat, and say what was gained."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from withstand.cli import options
from withstand.cli.output import only_results_on_stdout, percent, print_json, print_table

if TYPE_CHECKING:
    from withstand.auditing.harden import Hardened
    from withstand.core.harden_records import Standing


Recipe = Annotated[
    str,
    typer.Option(
        "--recipe", metavar="NAME[:P=V,...]", help="The objective; the rest goes by the data, and is printed."
    ),
]
Additions = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="NAME[:P=V,...]", help="Something added to the objective; may be repeated."),
]
Test = Annotated[
    str | None, typer.Option("--test", metavar="DATA", help="Held-out samples; a part of the data unless given.")
]
Unlabelled = Annotated[
    str | None, typer.Option("--unlabelled", metavar="DATA", help="More inputs, labels not used; also file.npz[x].")
]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, metavar="N", help="Passes over the data.")]
Batch = Annotated[int | None, typer.Option("--batch", min=1, metavar="N", help="Rows of one step.")]
Rate = Annotated[float | None, typer.Option("--rate", metavar="R", help="The largest learning rate.")]
Scratch = Annotated[bool, typer.Option("--scratch", help="Start from new weights instead of those the model has.")]
Precision = Annotated[
    str, typer.Option("--precision", metavar="P", help="fp32, or mixed with bf16 or fp16; attacks always use fp32.")
]
Audited = Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Held-out samples audited before and after.")]
Out = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="The run folder; one below ./runs unless given.")
]
Audit = Annotated[
    bool,
    typer.Option("--audit/--no-audit", help="Audit before and after; without, only PGD is tried on the weights."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the training that the folder holds.")]

Loggers = Annotated[
    list[str] | None,
    typer.Option("--log", metavar="NAME", help="Tell tensorboard or mlflow every epoch's figures too."),
]


def harden(
    model: options.Model,
    data: options.Data,
    threat: options.Threat,
    recipe: Recipe = "pgd",
    additions: Additions = None,
    test: Test = None,
    unlabelled: Unlabelled = None,
    epochs: Epochs = None,
    batch: Batch = None,
    rate: Rate = None,
    scratch: Scratch = False,
    precision: Precision = "fp32",
    limit: Audited = 500,
    out: Out = None,
    resume: Resume = False,
    seed: options.Seed = 0,
    device: options.Device = "cpu",
    log: Loggers = None,
    audit: Audit = True,
    json: options.Json = False,
) -> None:
    """Train a model to withstand a threat, and audit it before and after.

    The best weights on validation samples, by what the objective trains for, are kept, and the last ones. The run
    folder holds both, as ONNX too where the model can be captured, with the curves, two audits, a model card and a
    report.
    """
    import withstand
    from withstand.cli.harden_talk import talking

    with only_results_on_stdout(), talking() as talk:
        result = withstand.harden(
            model,
            data,
            threat,
            recipe=recipe,
            additions=additions or (),
            test=test,
            unlabelled=unlabelled,
            epochs=epochs,
            batch=batch,
            rate=rate,
            scratch=scratch,
            precision=precision,  # type: ignore[arg-type]
            limit=limit,
            out=out,
            resume=resume,
            seed=seed,
            device=device,
            loggers=log or (),
            audits=audit,
            talk=talk,
        )
        withstand.report(result.run_dir)
    if json:
        print_json(result.to_json())
    else:
        _print(result)


def _print(result: "Hardened") -> None:
    from withstand.reporting.harden import verdict

    columns = ("weights", "clean", "PGD", "attacked", "certified")
    rows = [
        (name, *(None if share is None else percent(share) for share in _shares(standing)))
        for name, standing in (
            ("before", result.before),
            (f"best (epoch {result.best_epoch})", result.after),
            (f"last (epoch {result.epochs})", result.after_last),
        )
    ]
    print_table(columns, rows)
    typer.echo("")
    for note in result.notes:
        typer.echo(note)
    if result.after.masking:
        typer.echo(f"Gradients of the best weights: {verdict(result.after)}.")
    counted = "1 epoch" if result.epochs == 1 else f"{result.epochs} epochs"
    typer.echo(
        f"{result.n} held-out samples; {counted} in {result.seconds:.0f} s "
        f"({result.cpu_seconds:.0f} CPU s, at most {result.peak_memory_mb:.0f} MB). "
        f"Weights{', audits' if result.after.masking else ''} and report are in {result.run_dir}."
    )


def _shares(standing: "Standing") -> tuple[float | None, ...]:
    s = standing
    return s.clean_accuracy, s.pgd_accuracy, s.attacked_accuracy, s.certified_accuracy
