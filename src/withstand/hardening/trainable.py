"""A module to train: a copy of the user's own, or one made from a graph; and whether it can learn."""

import copy

import torch
from torch import Tensor, nn

from withstand.core.errors import InputError
from withstand.graph.model import Model
from withstand.hardening.layers import Layers
from withstand.hardening.loader import Loader
from withstand.hardening.parts.modes import watching


def trainable(model: Model) -> nn.Module:
    """A module of the model's function whose weights learn: a copy of the given one if it has parameters, all of which
    learn if none was set to; else PyTorch layers made from the graph (see `withstand.hardening.layers`).

    Raises InputError when there is neither, or nothing in it to learn.
    """
    if model.takes not in (torch.float32, torch.float64):
        raise InputError(
            f"{model.name} takes {str(model.takes).removeprefix('torch.')}, in which weights do not learn; give "
            "module.float(), and precision bf16 to train in that."
        )
    if any(p.is_floating_point() for p in model.module.parameters()):
        module = copy.deepcopy(model.module)
        if not any(p.requires_grad for p in module.parameters()):
            module.requires_grad_(True)
        return module
    if model.graph is None:
        raise InputError(f"{model.name} has no weights that can learn: {model.why_no_graph}")
    module = Layers(model.graph)
    if not any(True for _ in module.parameters()):
        raise InputError(f"{model.name} has no weights that can learn; give a network with layers.")
    return module


PROBED = 16
"""Samples on which the gradient of the weights must not vanish."""


def check_trainable(module: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    """Raise InputError, one sentence, when a module cannot learn from samples x [N, *shape] with classes y [N] (-1: no
    label): it has no weights or passes no gradient but zeros, the optimiser moves other weights, or a label is no class
    of it."""
    learned = [p for p in module.parameters() if p.requires_grad]
    if not learned:
        raise InputError(
            "The model has no weights that can learn; give a module with parameters that require gradients."
        )
    known = {id(p) for p in learned}
    if any(id(p) not in known for group in optimiser.param_groups for p in group["params"]):
        raise InputError(
            "The optimiser moves weights that are not the model's; make it from `module.parameters()` after "
            "`objective.prepare(module)`."
        )
    modes = {part: part.training for part in module.modules()}
    module.eval()
    at = x[:PROBED].to(learned[0].device).detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            outputs = module(at)
    finally:
        for part, mode in modes.items():
            part.training = mode
    if not isinstance(outputs, Tensor) or outputs.dim() != 2:
        what = f"of shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
        raise InputError(f"Training needs one row of class scores an input, and the model's outputs are {what}.")
    weights = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0)).to(outputs)
    value = (weights * outputs).sum()
    slopes = torch.autograd.grad(value, [at, *learned], allow_unused=True) if outputs.requires_grad else [None]
    if slopes[0] is None or not any(slope is not None and bool(slope.any()) for slope in slopes[1:]):
        raise InputError(
            "The model passes no gradient from its outputs to its weights and inputs; take out what cuts it off, such "
            "as `detach`, `argmax` or `sign`."
        )
    if len(y) and not -1 <= int(y.min()) <= int(y.max()) < outputs.shape[1]:
        raise InputError(
            f"Labels go from {int(y.min())} to {int(y.max())}, and the model has the classes 0 to "
            f"{outputs.shape[1] - 1}; give labels in that range."
        )


def check_batches(module: nn.Module, loader: Loader, processes: int, accumulate: int) -> None:
    """Raise InputError when the smallest batch of an epoch, or a part of it, is one row and the module cannot train on
    one, as batch normalisation of vectors cannot."""
    total = len(loader.at(0, len(loader) - 1).x)
    smallest = min(rows // min(accumulate, rows) for rows in (-(-total // processes), max(1, total // processes)))
    if smallest > 1:
        return
    try:
        with watching(module, "train"), torch.no_grad():
            module(loader.x[:1].to(next(module.parameters()).device))
    except ValueError as error:
        raise InputError(
            f"{len(loader.x)} samples in batches of {loader.batch} leave a batch, or a part of one, with a single row, "
            f"on which this model cannot train ({error}); choose another size of batches."
        ) from None
