"""Universal attacks among others: fitted on data of their own, kept beside a run, then run like any attack."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

from torch import Tensor

from withstand.auditing.question import Question
from withstand.auditing.siege import Means
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.oracle import call
from withstand.core.registry import components, describe, name_of
from withstand.core.runner import Access
from withstand.core.universal import Fitted, State, Universal, fooling_rate
from withstand.io.data import DataLike, arrange, load_data
from withstand.io.domains import into_domain

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


def without_first(question: Question, count: int) -> Question:
    """The question about all but the first `count` samples."""
    data = question.data
    rest = replace(data, x=data.x[count:], y=data.y[count:], ids=data.ids[count:])
    return replace(question, data=rest) if count else question


class Fitting:
    """The universal attacks of a run: what they are fitted on, and their figures once they are.

    question: about the samples to measure on. skip: how many samples at the start of the data are left out of it,
    because the attacks are fitted on them: half of all, where no data `train` are named. seconds: of each fit (None: no
    limit). folder: of the run (None: nothing is kept); a fit that was interrupted goes on where it was.
    """

    def __init__(
        self,
        question: Question,
        methods: Mapping[str, Any],
        train: "DataLike | None",
        means: Means,
        seconds: float | None = None,
        folder: str | PathLike[str] | None = None,
    ) -> None:
        self.methods, self.means, self.seconds, self.folder = dict(methods), means, seconds, folder
        self.universal = {text: method for text, method in methods.items() if is_universal(method)}
        self.skip, self.data = 0, None
        self.figures: dict[str, UniversalFigures] = {}
        if not self.universal and train is not None:
            raise InputError("Data to fit on is for universal attacks, and none is named; leave it out.")
        for method in self.universal.values():
            if means.access is not Access.GRADIENT and means.surrogate is None:
                raise InputError(
                    f"The universal attack {name_of(method)!r} is fitted with gradients, and only {means.access.value} "
                    "are shown; name a surrogate to fit it on."
                )
        if train is not None:
            samples = arrange(load_data(train, question.model.dtype), question.model.input_shape)
            self.data = into_domain(samples, question.threat)
        elif self.universal:
            self.skip = len(question.data) // 2
            if self.skip == 0:
                raise InputError("A universal attack is fitted on one half of the data; give two samples or more.")
            self.data = question.data.head(self.skip)
        self.question = without_first(question, self.skip)

    def fit(self) -> dict[str, Any]:
        """All attacks, the universal ones fitted."""
        return {text: self._fit(text, m) if text in self.universal else m for text, m in self.methods.items()}

    def _fit(self, text: str, method: Universal) -> Fitted:
        assert self.data is not None
        began, clock = time.perf_counter(), Budget(self.seconds)
        question, seed, x = self.question, self.means.seed, self.data.x.to(self.question.device)
        path = None if self.folder is None else Path(self.folder) / FOLDER / f"{_slug(text)}.safetensors"
        asked = self._asked(method)
        state = None if path is None else _read(path, asked)

        def model(inputs: Tensor) -> Tensor:
            return call(self.means.surrogate or question.model, inputs)

        for reached in method.fit(model, x, question.threat, seed, state):
            state = reached
            if path is not None:
                _write(path, state, asked)
            if clock.spent:
                break
        assert state is not None
        attack = Fitted(text, method, {name: value.to(question.device) for name, value in state.items()})
        rates = [fooling_rate(question.model, attack, part, question.threat, seed) for part in (question.x, x)]
        took = time.perf_counter() - began
        self.figures[text] = UniversalFigures(rates[0], rates[1], len(x), int(state["epoch"]), took)
        return attack

    def _asked(self, method: Universal) -> dict[str, str]:
        """What a stored state must agree with."""
        assert self.data is not None
        digest = getattr(self.means.surrogate or self.question.model, "digest", str)
        return {
            "attack": describe(method),
            "threat": self.question.threat.text(),
            "seed": str(self.means.seed),
            "data": self.data.digest(),
            "model": digest(),
        }


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
