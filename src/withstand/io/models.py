"""Models from MODEL strings, or from modules and functions in memory."""

from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import Tensor, nn

from withstand.builtin.models import BUILTIN, INPUT_SHAPE, builtin_model
from withstand.core.errors import InputError
from withstand.io.factories import build_module
from withstand.io.hubs import HUBS
from withstand.io.paths import must_exist
from withstand.io.probing import probe
from withstand.io.weights import PICKLES, REFUSED
from withstand.io.written import Written

if TYPE_CHECKING:
    from withstand.graph.model import Model

ModelLike: TypeAlias = "str | PathLike[str] | Written | Model | nn.Module | Callable[[Tensor], Tensor]"

FORMS = (
    "write package.module:factory?arg=1, file.onnx, file.nnet, file.pt2, timm:name, hf:name or a built-in "
    f"({', '.join(BUILTIN)})."
)
"""The end of a sentence that tells the forms of MODEL."""


def load_model(source: ModelLike, input_shape: tuple[int, ...] | None = None, samples: Tensor | None = None) -> "Model":
    """The model that a MODEL string names, or that wraps a module or a function from a batch to outputs.

    input_shape: the shape of one sample of the data, for models that do not state their own (modules, functions and
    factories). Where the model refuses that shape as it stands, the axes are tried in the arrangements that
    `withstand.io.data.arrange` knows, and the first that runs is the model's. samples: some inputs [K, *input_shape] to
    try such a model on, for a model may refuse what is outside its domain (unless given: inputs of 0.5).

    Normalisation belongs inside the model: inputs are natural values, such as grey levels in [0, 1].
    Raises InputError, one sentence with the fix, when there is no such file, module or factory, a file could run code
    when read, a factory may not be called (see `withstand.io.callables`), or a package is missing.
    """
    from withstand.graph.model import Model

    if isinstance(source, Model):
        return source
    if isinstance(source, nn.Module):
        return _probed(source, input_shape, samples, type(source).__name__)
    if isinstance(source, str | PathLike | Written):
        return _from_text(source, input_shape, samples)
    if callable(source):
        function = Function(source)
        return _probed(function, input_shape, samples, getattr(source, "__name__", "function"))
    raise InputError(
        f"A model must be a MODEL string, a torch module or a function, not {type(source).__name__}; {FORMS}"
    )


class Function(nn.Module):
    """A module around a function from a batch to outputs, which counts the rows that it is asked about."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function
        self._rows = [0]

    @property
    def rows(self) -> int:
        """How many rows the function has been asked about."""
        return self._rows[0]

    def forward(self, x: Tensor) -> Tensor:
        self._rows[0] += len(x)
        return self.function(x)


def _from_text(
    source: "str | PathLike[str] | Written", input_shape: tuple[int, ...] | None, samples: Tensor | None
) -> "Model":
    text = str(source).strip()
    if text in BUILTIN:
        return _captured(builtin_model(text), INPUT_SHAPE, text)
    hub, colon, rest = text.partition(":")
    if colon and hub in HUBS:
        if isinstance(source, Written):
            source.must_be_trusted("model")
        module, shape = HUBS[hub](rest)
        return _captured(module, shape, text)
    path = Path(text)
    if path.suffix.lower() in (*READERS, *_REFUSALS) and ":" not in text:
        must_exist(path, "model", extra=list(BUILTIN), forms=FORMS)
        if path.suffix.lower() in _REFUSALS:
            raise InputError(f"{text} {_REFUSALS[path.suffix.lower()].format(path=text)}")
        return READERS[path.suffix.lower()](path)
    if colon:
        module = build_module(replace(source, text=text) if isinstance(source, Written) else text)
        return _probed(module, input_shape, samples, text)
    must_exist(path, "model", extra=list(BUILTIN), forms=FORMS)
    raise InputError(f"{text!r} is no model that withstand reads; {FORMS}")


def _captured(module: nn.Module, shape: tuple[int, ...], name: str) -> "Model":
    from withstand.graph.capture import from_module

    return from_module(module, shape, name)


def _probed(module: nn.Module, input_shape: tuple[int, ...] | None, samples: Tensor | None, name: str) -> "Model":
    from withstand.graph.capture import from_module

    like = probe(module, input_shape, samples)
    return from_module(module, like.shape[1:], name, like)


def _onnx(path: Path) -> "Model":
    from withstand.graph.onnx_reader import read_onnx

    return read_onnx(path)


def _pt2(path: Path) -> "Model":
    from withstand.graph.pt2 import read_pt2

    return read_pt2(path)


def _nnet(path: Path) -> "Model":
    from withstand.io.nnet import read_nnet

    return read_nnet(path)


READERS: dict[str, "Callable[[Path], Model]"] = {".onnx": _onnx, ".nnet": _nnet, ".pt2": _pt2}
"""Ending of a model file to its reader."""

_ALONE = (
    "holds weights, or a pickled module, but no architecture that can be read safely; "
    "give the function that builds the module, as in 'package.module:factory?weights={path}'."
)
_EXPORT = "is not read; export the network to ONNX and give the .onnx file."
_REFUSALS = {
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".bin", ".safetensors"), _ALONE),
    **dict.fromkeys(
        PICKLES, f"is refused: {REFUSED}; export the network to ONNX, or give 'package.module:factory?weights=FILE'."
    ),
    **dict.fromkeys((".h5", ".keras", ".tflite", ".pb"), _EXPORT),
}
