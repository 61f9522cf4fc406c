"""`withstand verify --onnx --vnnlib`: one question, answered as VNN-COMP wants it."""

import contextlib
import math
import sys
import time
from pathlib import Path
from typing import Any

import typer

from withstand.cli.deadline import OVERRUN, hard_limit
from withstand.cli.output import only_results_on_stdout, print_json

SECONDS = 60.0
"""Time limit of a question for which none is stated."""


def answer_question(
    onnx: Path, vnnlib: Path, timeout: float | None, results: Path | None, certificates: Path | None, json: bool
) -> None:
    """Print the answer, and write it to the file `results`, at most 4 % after the limit, loading included."""
    began = time.monotonic()
    limit = SECONDS if timeout is None else timeout

    def tell(text: str, told: dict[str, Any]) -> None:
        if results is not None:
            results.write_text(text + "\n", "utf-8")
        if json:
            print_json(told)
        else:
            typer.echo(text)

    def give_up() -> None:
        why = "the time was over, in the middle of a step"
        with contextlib.redirect_stdout(sys.__stdout__):
            tell("timeout", _fields("timeout", OVERRUN * limit, -math.inf, 0, why, None, None))

    if results is not None:
        results.touch()
    with only_results_on_stdout(), hard_limit(limit, give_up):
        from withstand.verification.vnncomp import decide

        stored = certificates and certificates / f"{onnx.stem}-{vnnlib.stem}"
        answer = decide(onnx, vnnlib, limit - (time.monotonic() - began), certificate=stored)
    witness = None if answer.witness is None else [tensor.flatten().tolist() for tensor in answer.witness]
    stored = answer.certificate and str(answer.certificate)
    held = (answer.result, answer.seconds, answer.bound, answer.domains, answer.reason, stored, witness)
    tell(answer.text, _fields(*held))


def _fields(*held: Any) -> dict[str, Any]:
    return dict(zip(("result", "seconds", "bound", "domains", "reason", "certificate", "witness"), held, strict=True))
