"""Checkpoints of a training: one file, replaced at once, of tensors and plain values only, so that loading runs no
code. What is in it continues the training as if it had never stopped."""

import hashlib
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from withstand import __version__
from withstand.core.errors import InputError
from withstand.core.run_files import replacing

FORMAT = 1
"""Raised when the meaning of a checkpoint changes."""

PLAIN = (Tensor, str, int, float, bool, type(None))


def write(path: Path, held: Mapping[str, Any]) -> None:
    """Replace the checkpoint. Raises InputError when something in it is neither a tensor nor a plain value."""
    for name, value in held.items():
        strange = _strange(value)
        if strange is not None:
            raise InputError(
                f"The {name} holds a {type(strange).__name__}, which a checkpoint cannot store; use one whose "
                "state_dict holds tensors and numbers."
            )
    with replacing(path) as file:
        torch.save({"format": FORMAT, "library": __version__, **held}, file)


def read(path: Path, model: str, recipe: Mapping[str, str], processes: int) -> dict[str, Any]:
    """A checkpoint of this model (its `identity`), recipe and number of processes.

    Raises InputError, one sentence with the difference, when it is of others, of another version, or unreadable.
    """
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"There is no checkpoint {path}; start the training without resuming.") from None
    except Exception as error:
        raise InputError(
            f"{path} is no checkpoint, or a damaged one ({type(error).__name__}); give one that this trainer wrote, or "
            "train anew in another folder."
        ) from None
    if not isinstance(held, dict) or "format" not in held:
        raise InputError(f"{path} is no checkpoint of a training; give one that this trainer wrote.")
    if (held["format"], held["library"]) != (FORMAT, __version__):
        raise InputError(
            f"{path} was written by withstand {held['library']} (format {held['format']}) and this is {__version__} "
            f"(format {FORMAT}); go on with that version, or train anew."
        )
    if held["model"] != model:
        raise InputError(f"{path} is of another model; give the model it was trained with, or train in another folder.")
    theirs = held["recipe"]
    for name in sorted({*theirs, *recipe}):
        if theirs.get(name) != recipe.get(name):
            raise InputError(
                f"{path} is of another recipe, with {name} {theirs.get(name)} and not {recipe.get(name)}; give the "
                "same recipe, or train in another folder."
            )
    if len(held["processes"]) != processes:
        raise InputError(
            f"{path} was written by {len(held['processes'])} processes and this training has {processes}; go on with "
            "as many."
        )
    return held


def identity(module: nn.Module) -> str:
    """A hash of a module's structure: its parts, and the names, shapes and types of its tensors."""
    h = hashlib.sha256(repr([(name, type(part).__name__) for name, part in module.named_modules()]).encode())
    for name, value in module.state_dict().items():
        h.update(f"{name} {tuple(value.shape)} {value.dtype}".encode() if isinstance(value, Tensor) else name.encode())
    return h.hexdigest()[:16]


def randomness() -> dict[str, Any]:
    """The states of the random numbers of torch (every device), Python and numpy."""
    kind, keys, *rest = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest),
    }


def restore_randomness(held: Mapping[str, Any]) -> None:
    """Put back what `randomness` gave."""
    torch.set_rng_state(held["torch"])
    if held["cuda"]:
        torch.cuda.set_rng_state_all(held["cuda"])
    random.setstate(held["python"])
    kind, keys, *rest = held["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))


def _strange(value: Any) -> Any:
    """The first thing in a nest of values that is not plain, or None."""
    if isinstance(value, Mapping):
        if type(value).__module__ not in ("builtins", "collections") and not isinstance(value, Counter):
            return value
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple):
        parts = list(value)
    else:
        return None if isinstance(value, PLAIN) and type(value).__module__ in ("builtins", "torch") else value
    return next((found for part in parts if (found := _strange(part)) is not None), None)
