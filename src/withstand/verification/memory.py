"""A verifier that runs out of memory goes on with batches of half the size."""

import dataclasses
from collections.abc import Generator
from typing import Any

import torch

from withstand.core.evidence import Evidence
from withstand.verification.problem import Problem

SIZES = {"entries": 10_000, "memory_mb": 1, "batch": 1}
"""Parameters of a verifier that state how much it works on at a time, with the least value worth a try."""


def prove_within_memory(verifier: Any, problem: Problem) -> Generator[Evidence, None, str | None]:
    """The verifier's evidence. Where memory runs out, it begins again on the questions still open, with half of each of
    its `SIZES`; where it has none, or they are at their least, it ends and the sentence returned says so."""
    while True:
        try:
            return (yield from verifier.prove(problem))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        less = with_half_the_memory(verifier)
        if less is None:
            return "memory ran out; free some, or set a smaller limit on the work done at a time"
        verifier = less


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python's or of torch's says that no memory was left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "not enough memory" in text)


def with_half_the_memory(verifier: Any) -> Any | None:
    """The same verifier with half of each of its `SIZES`, or None where nothing can be halved."""
    held = {f.name: getattr(verifier, f.name) for f in dataclasses.fields(verifier) if f.name in SIZES}
    halved = {name: value // 2 if isinstance(value, int) else value / 2 for name, value in held.items()}
    halved = {name: value for name, value in halved.items() if value >= SIZES[name]}
    return dataclasses.replace(verifier, **halved) if halved else None
