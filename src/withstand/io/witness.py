"""Witness files: one input that breaks its property, and its replay in onnxruntime without torch.

A witness is an npz archive without pickled objects, so any numpy reads it.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from withstand.core.arguments import checked
from withstand.core.errors import InputError
from withstand.core.tolerance import GRID, grid, reach
from withstand.io import margins, moves, pixels, png
from withstand.io.npz import Archive
from withstand.io.written import Written

FORM = 2
"""Version of the file's form."""

DRAWS = 21
"""How often a model without a deployed form, which may be random, is asked: most answers decide."""


@dataclass(frozen=True)
class Witness:
    """One violated question.

    x0, x: clean and adversarial input, one sample's shape. y: label or regression target. norm, radius, domain, levels:
    the threat (levels 0: any number can reach the model). adversarial: the class at x. margin: of the property at x.
    id: the sample's number in the data. method: who found it. model: its digest. limits: numbers of the threat beside
    its radius. move: what makes x of x0, in a threat of moves (empty in others).
    """

    x0: np.ndarray
    x: np.ndarray
    y: np.ndarray
    id: int
    property: str
    norm: str
    radius: float
    domain: tuple[float, float]
    levels: int
    adversarial: float
    margin: float
    method: str
    model: str
    limits: tuple[float, ...] = ()
    move: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))

    def save(self, path: Path) -> None:
        """Write the file, and a picture of x beside it where x is one of 8 bits; a reader sees all of it or nothing."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.tmp")
        with beside.open("wb") as file:
            np.savez(file, form=np.int64(FORM), **asdict(self))
        beside.replace(path)
        if png.is_picture(self.x.shape, self.levels, self.domain):
            png.write_png(self.x, path.with_suffix(".png"), self.domain)

    @cached_property
    def distance(self) -> float:
        """Distance of x from x0 in the threat's norm; in a threat of moves, the size of the move."""
        if self.norm in moves.NORMS:
            return moves.size(self.norm, self.move, self.limits)
        if self.norm in pixels.NORMS:
            return pixels.size(self.norm, self.x0, self.x, self.limits)
        change = np.abs(self.x.astype(np.float64) - self.x0.astype(np.float64)).ravel()
        match self.norm:
            case "linf":
                return float(change.max(initial=0.0))
            case "l2":
                return float(np.sqrt((change**2).sum()))
            case "l1":
                return float(change.sum())
        known = ", ".join(("linf", "l2", "l1", *pixels.NORMS, *moves.NORMS))
        raise InputError(f"The witness names the norm {self.norm!r}; replay knows {known}.")

    @cached_property
    def inside(self) -> bool:
        """Whether x lies in the threat: radius, domain, grid if the input is quantised, and made by its move if any."""
        x = self.x.astype(np.float64)
        near = self.distance <= reach(self.radius, self.domain, self.x.dtype == np.float64)
        within = bool(((x >= self.domain[0]) & (x <= self.domain[1])).all())
        on_grid = True
        if self.levels:
            first, per_unit = grid(self.domain, self.levels)
            steps = (x - first) * per_unit
            on_grid = bool((np.abs(steps - np.round(steps)) <= GRID).all())
        return near and within and on_grid and (self.norm not in moves.NORMS or self._moved)

    @cached_property
    def _moved(self) -> bool:
        """Whether x is what the move makes of x0, but for rounding."""
        fill = self.domain[0] if math.isfinite(self.domain[0]) else 0.0
        made = np.clip(moves.render(self.norm, self.x0, self.move, fill), *self.domain)
        off = moves.rounding(self.x0, fill) + (1 / grid(self.domain, self.levels)[1] if self.levels else 0.0)
        return bool((np.abs(self.x.astype(np.float64) - made) <= off).all())


def load_witness(path: str | PathLike[str]) -> Witness:
    """Read a witness file, or the picture of one: its pixels are then the input, all else is in the file beside it.

    Raises InputError when the file is not there or not of the form.
    """
    path = Path(path)
    if path.suffix.lower() == ".png":
        beside = path.with_suffix(".npz")
        if path.is_file() and not beside.is_file():
            raise InputError(
                f"{path} holds the adversarial input alone; put the witness {beside.name} of its run beside it, which "
                "holds the clean input and the question."
            )
        held = load_witness(beside)
        return replace(held, x=png.read_png(path, held.x.shape, held.domain))
    if not path.is_file():
        raise InputError(f"There is no witness file {path}; witnesses lie in the folder `witnesses` of a run.")
    try:
        with Archive(path) as archive:
            parts: dict[str, Any] = {name: archive.array(name) for name in archive.names}
        form = int(parts.pop("form"))
        typed: dict[str, Any] = {k: str(parts.pop(k)) for k in ("property", "norm", "method", "model")}
        typed |= {k: int(parts.pop(k)) for k in ("id", "levels")}
        typed |= {k: float(parts.pop(k)) for k in ("radius", "adversarial", "margin")}
        typed["limits"] = tuple(parts.pop("limits", np.empty(0)).tolist())
        low, high = parts.pop("domain").tolist()
        witness = Witness(**typed, **parts, domain=(low, high))
        _check_whole(witness)
        if witness.norm in moves.NORMS:
            moves.check_shape(witness.norm, witness.x0, witness.move, witness.limits)
    except Exception:
        raise InputError(f"{path} is not a witness file of withstand; give one from a run folder.") from None
    if form > FORM:
        raise InputError(f"{path} was written by a newer withstand (form {form}); update withstand to replay it.")
    return witness


def _check_whole(witness: Witness) -> None:
    """Raise ValueError unless the parts of a witness fit together."""
    arrays = (witness.x0, witness.x, witness.y, witness.move)
    if witness.x0.shape != witness.x.shape or any(array.dtype.kind not in "biuf" for array in arrays):
        raise ValueError
    if not (witness.radius >= 0 and witness.domain[0] < witness.domain[1] and witness.levels >= 0 and witness.y.size):
        raise ValueError


@dataclass(frozen=True)
class Replay:
    """What a model says to a stored witness.

    label: the class that must stay (or the regression target). clean, adversarial: the model's class at x0 and at x (or
    its first output). margin: of the property at x; the property is violated where it is not positive. inside: whether
    x lies in the threat. reproduced: inside and violated. sentence: the same in words.
    """

    file: str
    model: str
    label: float
    clean: float
    adversarial: float
    margin: float
    distance: float
    radius: float
    norm: str
    inside: bool
    reproduced: bool
    sentence: str = ""

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return asdict(self)


@checked
def replay(witness: str | PathLike[str], model: Any = None, *, trust: bool = False) -> Replay:
    """Run a witness file through a model in onnxruntime and say whether it still breaks the property.

    witness: an npz or png file of a run folder. model: an ONNX file, for which torch is not needed, or anything that
    `withstand.io.models.load_model` reads, which is exported first, or asked as it is where it has no deployed form;
    unless given, the model of the witness's own run. trust: code that the witness or the record of its run names may
    run, if it is declared (see `withstand.factory`).

    Raises InputError when the file is no witness, it names code and is not trusted, or the model does not take its
    input.
    """
    file = Path(witness)
    held = load_witness(file)
    law = Written(held.property, str(file), trust)
    if not margins.is_plain(law):
        margins.load(law)
    ask, name, draws = _asked(model if model is not None else _model_of_run(file, trust), held)
    clean, *drawn = (ask(x[None]).ravel() for x in (held.x0, *[held.x] * draws))
    drawn.sort(key=lambda outputs: margins.margin(law, outputs, held.y))
    outputs = drawn[draws // 2]
    margin = margins.margin(law, outputs, held.y)
    answer = Replay(
        file=str(file),
        model=name,
        label=margins.label(held.property, held.y),
        clean=margins.answer(held.property, clean),
        adversarial=margins.answer(held.property, outputs),
        margin=margin,
        distance=held.distance,
        radius=held.radius,
        norm=held.norm,
        inside=held.inside,
        reproduced=held.inside and margin <= 0,
    )
    return replace(answer, sentence=_sentence(answer))


def _sentence(r: Replay) -> str:
    where = f"{r.norm} distance {r.distance:.6g} of {r.radius:.6g} allowed"
    if r.reproduced:
        return f"Reproduced: label {r.label:g}, the model says {r.adversarial:g} (margin {r.margin:.4g}) at {where}."
    if not r.inside:
        return f"Not a witness: the input lies outside its threat ({where}, or off its domain or grid)."
    return f"Not reproduced: the property still holds with margin {r.margin:.4g} at {where}."


def _asked(model: Any, witness: Witness) -> tuple[Callable[[np.ndarray], np.ndarray], str, int]:
    """The model as a function from inputs to outputs, its name, and how often to ask it."""
    from withstand.graph.replay import OnnxSession

    if isinstance(model, str | PathLike | Written) and str(model).lower().endswith(".onnx"):
        path = Path(str(model))
        if not path.is_file():
            raise InputError(f"There is no model file {path}; give the ONNX file that the witness is for.")
        return OnnxSession(path), str(path), 1
    from withstand.io.models import load_model

    loaded = load_model(model, tuple(witness.x.shape))
    if loaded.why_no_onnx is None:
        return OnnxSession(loaded.onnx_bytes()), loaded.name, 1
    import torch

    if isinstance(model, str | PathLike | Written):
        loaded.module.eval()

    def ask(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return loaded(torch.from_numpy(x)).numpy()

    return ask, f"{loaded.name} (in torch)", DRAWS


def _model_of_run(witness: Path, trust: bool) -> Path | Written:
    """The model that the run folder around a witness stores or names."""
    import json

    folder = witness.resolve().parent.parent
    if (folder / "model.onnx").is_file():
        return folder / "model.onnx"
    record = folder / "run.json"
    try:
        return Written(str(json.loads(record.read_text(encoding="utf-8"))["plan"]["model"]), str(record), trust)
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{witness} lies in no run folder; name the model, as in --model net.onnx.") from None
