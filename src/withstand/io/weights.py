"""Weights from files that cannot run code: safetensors, or torch's own format without pickled objects."""

import pickle
import warnings
from os import PathLike
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.io.paths import must_exist

PICKLES = (".pkl", ".pickle", ".joblib")
REFUSED = "it is a pickle, and reading one can run any code its author put in"
"""The middle of a sentence that refuses a file."""


def load_weights(path: str | PathLike[str]) -> dict[str, Tensor]:
    """The tensors by name, on the CPU, of a `.safetensors` file or of a `.pt`, `.pth`, `.bin` or `.ckpt` of torch.save.

    A checkpoint that keeps them one level down under `state_dict`, `model_state_dict` or `model` is unwrapped.
    Raises InputError when the file is missing, damaged, holds no tensors by name, or could run code.
    """
    path = Path(path)
    must_exist(path, "weights file", extra=[], forms="correct the path.")
    if path.suffix.lower() in PICKLES:
        raise InputError(f"{path} is refused: {REFUSED}; save the weights with safetensors.torch.save_file.")
    tensors = _safetensors(path) if path.suffix == ".safetensors" else _unwrap(_torch(path))
    if not is_state_dict(tensors):
        raise InputError(f"{path} holds no tensors by name; save module.state_dict() in it.")
    return tensors


def _unwrap(held: Any) -> Any:
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(held, dict) and isinstance(held.get(key), dict):
            held = held[key]
    return held


def is_state_dict(value: Any) -> TypeGuard[dict[str, Tensor]]:
    """Whether it maps names to tensors."""
    return isinstance(value, dict) and len(value) > 0 and all(isinstance(v, Tensor) for v in value.values())


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except Exception:
        raise InputError(f"{path} cannot be read as safetensors; write it again or correct its ending.") from None


def _torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch warns of, it also raises
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} is refused: it holds more than tensors, {REFUSED}; save module.state_dict() with safetensors."
        ) from None
    except Exception:
        raise InputError(f"{path} cannot be read as a file of torch.save; write it again.") from None
