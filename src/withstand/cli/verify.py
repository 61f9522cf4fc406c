"""`withstand verify`: only the lower end, by the verifier you name; or one VNN-LIB question."""

from pathlib import Path
from typing import Annotated

import typer

from withstand.cli import options
from withstand.cli.output import only_results_on_stdout, percent, print_json
from withstand.cli.results import print_counts
from withstand.core.errors import InputError


def verify(
    model: options.ModelOrNone = None,
    data: options.DataOrNone = None,
    threat: options.ThreatOrNone = None,
    method: Annotated[str, typer.Option("--method", metavar="NAME[:P=V,...]", help="The verifier.")] = "crown",
    double: Annotated[bool, typer.Option("--double", help="Compute in float64 instead of float32.")] = False,
    limit: options.Limit = None,
    budget: options.BudgetText = None,
    device: options.Device = "cpu",
    property: options.Property = "argmax",
    onnx: Annotated[
        Path | None, typer.Option("--onnx", metavar="FILE", help="The network of a VNN-LIB question.")
    ] = None,
    vnnlib: Annotated[Path | None, typer.Option("--vnnlib", metavar="FILE", help="The VNN-LIB question.")] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.0, metavar="SECONDS", help="Wall time for a VNN-LIB question.")
    ] = 60.0,
    results: Annotated[
        Path | None, typer.Option("--results", metavar="FILE", help="Write a VNN-LIB question's answer to FILE too.")
    ] = None,
    json: options.Json = False,
) -> None:
    """Prove by the method you name, or answer a VNN-LIB question.

    With `--onnx` and `--vnnlib` one word is printed, sat, unsat, timeout or unknown, and the witness after sat, in the
    form of VNN-COMP. Otherwise every sample that is right when clean is bounded by one verifier.
    """
    if onnx is not None or vnnlib is not None:
        if onnx is None or vnnlib is None or model or data or threat:
            raise InputError("A VNN-LIB question takes both --onnx and --vnnlib, and no MODEL, --data or --threat.")
        _answer(onnx, vnnlib, timeout, results, json)
        return
    if not (model and data and threat):
        raise InputError("Name MODEL, --data and --threat, or --onnx and --vnnlib for a VNN-LIB question.")
    import withstand

    with only_results_on_stdout():
        result = withstand.verify(
            model, data, threat, method, property=property, limit=limit, budget=budget, device=device, double=double
        )
    if json:
        print_json(result.to_json())
        return
    from withstand.core.records import Counts

    print_counts(Counts(**result.counts), result.n)
    typer.echo("")
    typer.echo(
        f"{result.method} proves {percent(result.certified_accuracy)} of {result.n} samples robust in "
        f"{result.seconds:.1f} s ({result.grade or 'no proof'}); clean accuracy {percent(result.clean_accuracy)}."
    )


def _answer(onnx: Path, vnnlib: Path, timeout: float, results: Path | None, json: bool) -> None:
    from withstand.verification.vnncomp import decide

    if results is not None:
        results.touch()
    with only_results_on_stdout():
        answer = decide(onnx, vnnlib, timeout)
    if results is not None:
        results.write_text(answer.text + "\n", "utf-8")
    if not json:
        typer.echo(answer.text)
        return
    witness = None if answer.witness is None else [tensor.flatten().tolist() for tensor in answer.witness]
    told = {"result": answer.result, "seconds": answer.seconds, "bound": answer.bound, "reason": answer.reason}
    print_json({**told, "witness": witness})
