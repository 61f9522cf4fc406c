"""Pretrained image classifiers of timm and transformers, from the user's cache, with their normalisation inside."""

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from withstand.core.errors import InputError
from withstand.io.factories import parse_arguments
from withstand.io.importing import line_of


class Normalised(nn.Module):
    """A classifier of images [B, C, H, W] in [0, 1]: subtracts the mean, divides by the deviation, gives the logits."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        out = self.network((x - self.mean) / self.std)
        return out if isinstance(out, Tensor) else out.logits


def timm_model(text: str) -> tuple[nn.Module, tuple[int, ...]]:
    """`name?arg=value`: a model of timm and its input shape; arguments go to timm.create_model, pretrained=true first.

    Raises InputError when timm is not installed, or the name or its weights are not there.
    """
    name, _, query = text.partition("?")
    timm, data = _package("timm"), _package("timm.data")
    given = {"pretrained": True, **parse_arguments(query)}
    network = _load("timm", name, lambda: timm.create_model(name, **given), "?pretrained=false")
    config = data.resolve_data_config({}, model=network)
    return Normalised(network, config["mean"], config["std"]).eval(), tuple(config["input_size"])


def hf_model(text: str) -> tuple[nn.Module, tuple[int, ...]]:
    """`owner/name`: an image classifier of transformers and its input shape, from the cache or a local folder.

    Raises InputError when transformers is not installed, or the name or its weights are not there.
    """
    transformers = _package("transformers")
    auto, processors = transformers.AutoModelForImageClassification, transformers.AutoImageProcessor
    network = _load("transformers", text, lambda: auto.from_pretrained(text, trust_remote_code=False), "")
    processor = _load("transformers", text, lambda: processors.from_pretrained(text, trust_remote_code=False), "")
    normalise = getattr(processor, "do_normalize", False)
    mean = tuple(processor.image_mean) if normalise else (0.0, 0.0, 0.0)
    std = tuple(processor.image_std) if normalise else (1.0, 1.0, 1.0)
    return Normalised(network, mean, std).eval(), (len(mean), *_image_size(processor))


HUBS: dict[str, Callable[[str], tuple[nn.Module, tuple[int, ...]]]] = {"timm": timm_model, "hf": hf_model}
"""Prefix of a MODEL string to its loader."""


def _image_size(processor: Any) -> tuple[int, int]:
    size = getattr(processor, "crop_size", None) or processor.size
    if isinstance(size, int):
        return size, size
    edge = size.get("shortest_edge")
    return (size["height"], size["width"]) if edge is None else (edge, edge)


def _package(name: str) -> Any:
    """A package or module, told to download nothing unless the user has set HF_HUB_OFFLINE=0."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = (error.name or name).partition(".")[0]
        raise InputError(f"This model needs the package {missing}: pip install {missing}.") from None
    except Exception as error:  # a torchvision built for another torch fails in many ways
        raise InputError(
            f"The package {name} is installed but cannot be imported ({line_of(error)}); repair it, or export the "
            "model to ONNX where it works."
        ) from error


def _load(package: str, name: str, load: Callable[[], Any], otherwise: str) -> Any:
    try:
        with _tensors_only():
            return load()
    except Exception as error:
        hint = f", or add {otherwise}" if otherwise else ""
        raise InputError(
            f"{package} has no model {name!r} in your cache ({line_of(error)}); correct the name, "
            f"download it once by setting HF_HUB_OFFLINE=0{hint}."
        ) from error


@contextmanager
def _tensors_only() -> Iterator[None]:
    """Inside, torch.load reads tensors and no pickled objects, whatever the package asks it for."""
    names = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ[names[0]] = "1"
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
