"""Universal attacks among others: fitted on data of their own, kept beside a run, then run like any attack."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from withstand.auditing.question import Question
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.oracle import call
from withstand.core.registry import components, describe, name_of
from withstand.core.runner import Access
from withstand.core.universal import Fitted, State, Universal, fooling_rate
from withstand.io.data import Data, DataLike, arrange, load_data

FOLDER = "universal"
"""Where a run folder keeps the states of fits."""


@dataclass(frozen=True)
class UniversalFigures:
    """A universal attack: the share of the samples measured whose class, as the model itself names it when clean, it
    changes; the same on the data it was fitted on; how many samples that were, the epochs and their wall seconds."""

    fooling_rate: float
    fitted_fooling_rate: float
    fitted_on: int
    epochs: int
    seconds: float


def is_universal(method: Any) -> bool:
    """Whether an attack is a universal one, which has to be fitted first."""
    return type(method) in components("universal").values()


def split(question: Question, methods: Mapping[str, Any], train: "DataLike | None") -> tuple[Question, Data | None]:
    """The question about the samples to measure on, and the data to fit universal attacks on (None: there are none).

    Where no data to fit on are named, they are the first half of the question's.
    """
    if not any(map(is_universal, methods.values())):
        if train is not None:
            raise InputError("Data to fit on is for universal attacks, and none is named; leave it out.")
        return question, None
    if train is not None:
        return question, arrange(load_data(train), question.model.input_shape)
    half = len(question.data) // 2
    if half == 0:
        raise InputError("A universal attack needs data to fit on and data to measure on; give two samples or more.")
    return without_first(question, half), question.data.head(half)


def without_first(question: Question, count: int) -> Question:
    """The question about all but the first `count` samples."""
    data = question.data
    rest = replace(data, x=data.x[count:], y=data.y[count:], ids=data.ids[count:])
    return replace(question, data=rest) if count else question


@dataclass(frozen=True)
class Fitting:
    """What fits need: the question, the data, the model that is seen, the run's seed, each fit's time, and the run's
    folder (None: nothing is kept). In a folder, a fit that was interrupted goes on where it was."""

    question: Question
    data: Data
    seen: Callable[[Tensor], Tensor] | None = None
    seed: int = 0
    seconds: float | None = None
    folder: str | PathLike[str] | None = None

    def fit(self, methods: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, UniversalFigures]]:
        """The methods with the universal ones fitted, and these ones' figures."""
        fitted, figures = dict(methods), {}
        for text, method in methods.items():
            if is_universal(method):
                fitted[text], figures[text] = self._fit(text, method)
        return fitted, figures

    def _fit(self, text: str, method: Universal) -> tuple[Fitted, UniversalFigures]:
        began, clock = time.perf_counter(), Budget(self.seconds)
        question, x = self.question, self.data.x.to(self.question.device)
        path = None if self.folder is None else Path(self.folder) / FOLDER / f"{_slug(text)}.safetensors"
        asked = self._asked(method)
        state = None if path is None else _read(path, asked)

        def model(inputs: Tensor) -> Tensor:
            return call(self.seen or question.model, inputs)

        for reached in method.fit(model, x, question.threat, self.seed, state):
            state = reached
            if path is not None:
                _write(path, state, asked)
            if clock.spent:
                break
        assert state is not None
        attack = Fitted(text, method, {name: value.to(question.device) for name, value in state.items()})
        rates = [fooling_rate(question.model, attack, part, question.threat, self.seed) for part in (question.x, x)]
        took = time.perf_counter() - began
        return attack, UniversalFigures(rates[0], rates[1], len(x), int(state["epoch"]), took)

    def _asked(self, method: Universal) -> dict[str, str]:
        """What a stored state must agree with."""
        seen = self.seen or self.question.model
        digest = getattr(seen, "digest", None)
        return {
            "attack": describe(method),
            "threat": self.question.threat.text(),
            "seed": str(self.seed),
            "data": self.data.digest(),
            "model": digest() if digest is not None else "",
        }


def check_means(methods: Mapping[str, Any], access: Access, seen: object) -> None:
    """Raise InputError where a universal attack would have to do without gradients."""
    for method in methods.values():
        if is_universal(method) and access is not Access.GRADIENT and seen is None:
            raise InputError(
                f"The universal attack {name_of(method)!r} is fitted with gradients, and only {access.value} are "
                "shown; name a surrogate to fit it on."
            )


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.=]+", "_", text)


def _read(path: Path, asked: dict[str, str]) -> State | None:
    """The state in a file, None where there is none yet. Raises InputError when it is of another fit."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(str(path), "pt") as file:
            held, state = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError):
        raise InputError(f"{path} cannot be read; remove it and the fit begins anew.") from None
    differs = next((name for name, value in asked.items() if (held or {}).get(name) != value), None)
    if differs is not None:
        raise InputError(f"{path} was fitted for another {differs}; choose another folder with --out, or remove it.")
    return state


def _write(path: Path, state: State, asked: dict[str, str]) -> None:
    """Write a state so that a reader sees the old one or the new one."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    save_file({name: value.detach().cpu().contiguous() for name, value in state.items()}, str(beside), metadata=asked)
    beside.replace(path)
