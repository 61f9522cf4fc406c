"""`withstand verify`: only the lower end, by the verifier you name; or VNN-LIB questions."""

import math
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from withstand.cli import options
from withstand.cli.output import only_results_on_stdout, percent, print_json
from withstand.cli.results import print_constants, print_counts
from withstand.core.errors import InputError

Onnx = Annotated[
    Path | None, typer.Option("--onnx", metavar="FILE", help="The network of a VNN-LIB question, .onnx or .nnet.")
]
Vnnlib = Annotated[Path | None, typer.Option("--vnnlib", metavar="FILE", help="The VNN-LIB question.")]
Instances = Annotated[
    Path | None,
    typer.Option(
        "--instances", metavar="CSV", help="A list of VNN-LIB questions: onnx,vnnlib[,timeout_s[,known_verdict]]."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Write answers to FILE too; a list goes on where FILE ends."),
]
Limit = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="TIME",
        help="Wall time of the search, as 90s or 10m; of each VNN-LIB question, for which it is the list's, or 60s.",
    ),
]
Workers = Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Answer N questions of a list at a time.")]
Certificates = Annotated[
    Path | None, typer.Option("--certificates", metavar="DIR", help="Store certificates and witnesses in DIR.")
]

Export = Annotated[
    Path | None,
    typer.Option("--export", metavar="DIR", help="Write the questions to DIR as VNN-LIB instances, and prove nothing."),
]


def verify(
    context: typer.Context,
    model: options.ModelOrNone = None,
    data: options.DataOrNone = None,
    threat: options.ThreatOrNone = None,
    method: Annotated[
        str, typer.Option("--method", metavar="NAME[:P=V,...]", help="The verifier, or auto: chosen by the network.")
    ] = "auto",
    double: Annotated[bool, typer.Option("--double", help="Compute in float64 instead of float32.")] = False,
    limit: options.Limit = None,
    budget: Limit = None,
    device: options.Device = "cpu",
    property: options.Property = "argmax",
    onnx: Onnx = None,
    vnnlib: Vnnlib = None,
    instances: Instances = None,
    out: Out = None,
    workers: Workers = 1,
    certificates: Certificates = None,
    export: Export = None,
    json: options.Json = False,
) -> None:
    """Prove by the method you name, or answer VNN-LIB questions.

    With `--onnx` and `--vnnlib` one word is printed, sat, unsat, timeout or unknown, and the witness after sat, in the
    form of VNN-COMP. With `--instances` all questions of a list are answered in one process, with a table and totals.
    Otherwise every sample that is right when clean is bounded by one verifier, or with `--export` written as VNN-LIB.
    """
    samples = (model, data, threat)
    _check_fit(context)
    if export is not None and not (all(samples) and not (onnx or vnnlib or instances)):
        raise InputError("Questions to write (--export) are named by MODEL, --data and --threat, as those to prove.")
    if instances is not None:
        if onnx or vnnlib or any(samples):
            raise InputError("A list of questions (--instances) takes no --onnx, --vnnlib, MODEL, --data or --threat.")
        from withstand.cli.instances import answer_list

        answer_list(instances, _seconds(budget), out, workers, certificates, double, json)
    elif onnx is not None or vnnlib is not None:
        if onnx is None or vnnlib is None or any(samples):
            raise InputError("A VNN-LIB question takes both --onnx and --vnnlib, and no MODEL, --data or --threat.")
        from withstand.cli.vnnlib import answer_question

        answer_question(onnx, vnnlib, _seconds(budget), out, certificates, json, double, began=context.obj)
    elif model and data and threat and export is not None:
        _export(model, data, threat, export, property, limit, _seconds(budget), json)
    elif model and data and threat:
        _prove(model, data, threat, method, property, limit, budget, device, double, certificates, json)
    else:
        raise InputError("Name MODEL, --data and --threat, or VNN-LIB questions: --onnx and --vnnlib, or --instances.")


def _check_fit(context: typer.Context) -> None:
    """Raise InputError where an option was given that says nothing about what is asked."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    given = {name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    of_samples = {"limit", "property"}
    of_proofs = {"method", "device"}
    if given & {"onnx", "vnnlib", "instances"}:
        what, stray = "questions in VNN-LIB", of_samples | of_proofs | (set() if "instances" in given else {"workers"})
    elif "export" in given:
        what, stray = "questions to write", of_proofs | {"double", "out", "workers", "certificates"}
    else:
        what, stray = "samples", {"out", "workers"}
    if given & stray:
        raise InputError(f"The option --{min(given & stray)} is not for {what}; leave it out.")


def _seconds(budget: str | None) -> float | None:
    """The time limit of a VNN-LIB question."""
    from withstand.core.budget import parse_duration

    return None if budget is None else parse_duration(budget)


def _prove(
    model: str,
    data: str,
    threat: str,
    method: str,
    property: str,
    limit: int | None,
    budget: str | None,
    device: str,
    double: bool,
    certificates: Path | None,
    json: bool,
) -> None:
    import withstand

    with only_results_on_stdout():
        result = withstand.verify(
            model,
            data,
            threat,
            property,
            method=method,
            limit=limit,
            budget=budget,
            device=device,
            double=double,
            certificates=certificates,
        )
    if json:
        print_json(result.to_json())
        return
    from withstand.core.records import Counts
    from withstand.core.tally import executed_words

    if result.constants is not None:
        print_constants(result.constants)
        typer.echo("")
    print_counts(Counts(**result.counts), result.n)
    typer.echo("")
    if result.why:
        typer.echo(result.why)
    told = zip(result.status, result.reasons, result.bounds, strict=True)
    unknown = [(reason, bound) for status, reason, bound in told if status == "unknown"]
    for reason, count in Counter(reason for reason, _ in unknown).most_common():
        bounds = [bound for why, bound in unknown if why == reason and math.isfinite(bound)]
        reached = f"the best bounds lie between {min(bounds):.4g} and {max(bounds):.4g}" if bounds else ""
        lacking = f"{count - len(bounds)} have no bound" if count > len(bounds) else ""
        typer.echo(f"{count} unknown: {'; '.join(part for part in (reason, reached, lacking) if part)}")
    typer.echo(
        f"{result.method} proves {percent(result.certified_accuracy)} of {result.n} samples robust in "
        f"{result.seconds:.1f} s ({result.grade or 'no proof'}); clean accuracy {percent(result.clean_accuracy)}."
    )
    if result.executed is not None:
        typer.echo(executed_words(result.executed, result.counts["proved"]))
    if certificates is not None:
        stored = sum(file.endswith(".safetensors") for file in result.certificates)
        lacking = [r for r, status in zip(result.reasons, result.status, strict=True) if status == "proved" and r]
        why = f" (for one: {lacking[0]})" if lacking else ""
        typer.echo(f"{certificates}: {stored} certificates of {result.counts['proved']} proofs{why}.")


def _export(
    model: str,
    data: str,
    threat: str,
    folder: Path,
    property: str,
    limit: int | None,
    seconds: float | None,
    json: bool,
) -> None:
    from withstand.auditing.export import export
    from withstand.cli.vnnlib import SECONDS

    with only_results_on_stdout():
        done = export(model, data, threat, folder, property=property, limit=limit, timeout=seconds or SECONDS)
    if json:
        print_json({"instances": done.path, "questions": done.questions, "left_out": done.left_out})
        return
    typer.echo(f"{done.path}: {done.questions} questions; {done.left_out} samples are wrong when clean and left out.")
    typer.echo(f"withstand verify --instances {done.path} answers them.")
