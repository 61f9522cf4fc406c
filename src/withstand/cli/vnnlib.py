"""`withstand verify --onnx --vnnlib`: one question, answered as VNN-COMP wants it."""

import sys
from pathlib import Path

import typer

from withstand.cli.output import print_json
from withstand.core.errors import InputError, ToolFault

SECONDS = 60.0
"""Time limit of a question for which none is stated."""


def answer_question(
    onnx: Path,
    vnnlib: Path,
    timeout: float | None,
    results: Path | None,
    certificates: Path | None,
    json: bool,
    double: bool,
    began: float,
) -> None:
    """Print the answer, and write it to the file `results`, at most 5 % after the limit, all loading included.

    began: when the time began to run, by `time.monotonic`.
    """
    from withstand.io.instances import Instance
    from withstand.verification.instances import answer

    limit = SECONDS if timeout is None else timeout
    if results is not None:
        results.touch()
    stored = certificates and certificates / f"{onnx.stem}-{vnnlib.stem}"
    outcome = answer(Instance(str(onnx), str(vnnlib), Path(), limit), began, stored, double)
    result = outcome.result
    if result.result == "error":
        raise ToolFault(outcome.reason) if outcome.fault else InputError(outcome.reason)
    text = outcome.text or result.result
    if results is not None:
        results.write_text(text + "\n", "utf-8")
    if result.result == "unsat" and outcome.reason:
        print(outcome.reason, file=sys.stderr)
    if json:
        told = {name: getattr(result, name) for name in ("result", "seconds", "cpu_seconds", "bound", "domains")}
        certificate = result.certificate or None
        print_json({**told, "reason": outcome.reason, "certificate": certificate, "witness": outcome.witness})
    else:
        typer.echo(text)
