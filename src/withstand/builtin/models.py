"""The three built-in digit classifiers: one architecture, three ways of training."""

from importlib.resources import files
from importlib.resources.abc import Traversable

from torch import nn

from withstand.core.errors import InputError
from withstand.core.registry import suggest

BUILTIN: dict[str, str] = {
    "digits-cnn": "trained plainly: accurate, and easy to attack",
    "digits-cnn-pgd": "trained against PGD: hard to attack, and hard to prove",
    "digits-cnn-cert": "trained for certification by interval bounds: nearly all its robustness can be proved",
}
"""Name of each built-in model and how it was trained."""

INPUT_SHAPE = (1, 8, 8)
"""Channels, height and width; grey values in [0, 1]."""


def architecture() -> nn.Sequential:
    """Two convolutions and two linear layers: [B, 1, 8, 8] to the logits [B, 10] of the digits; 38,282 weights."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


def weights_file(name: str) -> Traversable:
    """The safetensors file of a built-in model."""
    return files("withstand.builtin").joinpath("weights", f"{name}.safetensors")


def card(name: str) -> str:
    """The card of a built-in model: data, split, recipe and measured figures, in Markdown.

    Raises InputError when there is no such model.
    """
    _known(name)
    return files("withstand.builtin").joinpath("weights", f"{name}.md").read_text(encoding="utf-8")


def builtin_model(name: str) -> nn.Sequential:
    """A built-in model with its trained weights, in evaluation mode.

    Raises InputError when there is no such model.
    """
    from safetensors.torch import load

    _known(name)
    module = architecture()
    module.load_state_dict(load(weights_file(name).read_bytes()))
    return module.eval()


def _known(name: str) -> None:
    if name not in BUILTIN:
        raise InputError(f"There is no built-in model {name!r}; {suggest(name, list(BUILTIN))}")
