"""`withstand verify --onnx --vnnlib`: one question, answered as VNN-COMP wants it."""

import contextlib
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from withstand.cli.deadline import OVERRUN, hard_limit
from withstand.cli.output import only_results_on_stdout, print_json

if TYPE_CHECKING:
    from withstand.verification.vnncomp import Answer

SECONDS = 60.0
"""Time limit of a question for which none is stated."""


def answer_question(
    onnx: Path, vnnlib: Path, timeout: float | None, results: Path | None, certificates: Path | None, json: bool
) -> None:
    """Print the answer, and write it to the file `results`, at most 4 % after the limit, loading included."""
    began = time.monotonic()
    limit = SECONDS if timeout is None else timeout
    known: list[Answer] = []

    def tell(text: str, told: dict[str, Any]) -> None:
        if results is not None:
            results.write_text(text + "\n", "utf-8")
        if json:
            print_json(told)
        else:
            typer.echo(text)

    def give_up() -> None:
        with contextlib.redirect_stdout(sys.__stdout__):
            if known:
                finish(replace(known[0], reason="no certificate was stored: the time was over before it was checked"))
            else:
                why = "the time was over, in the middle of a step"
                tell("timeout", _fields("timeout", OVERRUN * limit, -math.inf, 0, why, None, None))

    def finish(answer: "Answer") -> None:
        if answer.result == "unsat" and answer.reason:
            print(answer.reason, file=sys.stderr)
        witness = None if answer.witness is None else [tensor.flatten().tolist() for tensor in answer.witness]
        stored = answer.certificate and str(answer.certificate)
        held = (answer.result, answer.seconds, answer.bound, answer.domains, answer.reason, stored, witness)
        tell(answer.text, _fields(*held))

    if results is not None:
        results.touch()
    with only_results_on_stdout(), hard_limit(limit, give_up):
        from withstand.verification.vnncomp import decide

        stored = certificates and certificates / f"{onnx.stem}-{vnnlib.stem}"
        left = limit - (time.monotonic() - began)
        answer = decide(onnx, vnnlib, left, certificate=stored, decided=known.append)
    finish(answer)


def _fields(*held: Any) -> dict[str, Any]:
    return dict(zip(("result", "seconds", "bound", "domains", "reason", "certificate", "witness"), held, strict=True))
