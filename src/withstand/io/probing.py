"""How a module of the user's own takes its input: tried out on samples."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from withstand.core.errors import InputError
from withstand.io.data import Data, arrange
from withstand.io.importing import line_of

ROWS = 7
"""Samples in the probing batch: a number that is no usual count of channels."""


def probe(module: nn.Module, sample: tuple[int, ...] | None, samples: Tensor | None = None) -> Tensor:
    """Inputs [7, *shape] that the module takes, of the type and in the arrangement of axes in which it takes them.

    sample: the data's shape. samples: some of the data, [K, *sample] (unless given: inputs of 0.5), for a module may
    refuse what is outside its domain. The shape is tried as it stands and in the arrangements of
    `withstand.io.data.arrange`, the type as float32 and then as that of the module's weights; the first that gives one
    output row a sample is taken. Raises InputError when none runs, with the module's own complaint.
    """
    if sample is None:
        raise InputError("The model does not state its input's shape; give input_shape, the shape of one sample.")
    complaint, fix = "", "give it data of the shape it takes"
    rows = torch.full((1, *sample), 0.5) if samples is None else samples[:ROWS]
    rows = rows.repeat(-(-ROWS // len(rows)), *(1,) * (rows.dim() - 1))[:ROWS]
    with _evaluation(module), torch.no_grad():
        for like in _arrangements(rows):
            for x in _types(module, like):
                try:
                    out = module(x.clone())
                except Exception as error:
                    complaint = complaint or line_of(error)
                    continue
                if isinstance(out, Tensor) and out.ndim >= 1 and len(out) == ROWS and out.is_floating_point():
                    return x
                if not complaint:
                    complaint = f"{ROWS} samples gave {_kind(out)}, not one row of float outputs each"
                    fix = "let it return one tensor of outputs"
    size = " x ".join(map(str, sample))
    raise InputError(f"The model does not run on samples of {size} ({complaint}); {fix}.")


def _types(module: nn.Module, x: Tensor) -> list[Tensor]:
    """x in the types that the module may take, at its place."""
    held = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
    like = held[0] if held else torch.zeros(())
    return [x.to(like.device, dtype) for dtype in dict.fromkeys((torch.float32, like.dtype))]


def _kind(value: object) -> str:
    """What a value is, for sentences: a tensor's type of numbers and shape, or the name of its class."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{value.dtype} of shape {tuple(value.shape)}"


def _arrangements(x: Tensor) -> list[Tensor]:
    shape: tuple[int, ...] = tuple(x.shape[1:])
    found: list[tuple[int, ...]] = [shape]
    if len(shape) == 3:
        moved = (shape[2], shape[0], shape[1])
        found = [moved, shape] if shape[2] in (1, 3, 4) and shape[0] not in (1, 3, 4) else [shape, moved]
    if len(shape) == 2:
        found.append((1, *shape))
    if len(shape) == 3 and 1 in (shape[0], shape[2]):
        found.append(tuple(size for size in shape if size != 1))
    if len(shape) > 1:
        found.append((math.prod(shape),))
    data = Data("the samples", x, torch.zeros(len(x)), tuple(range(len(x))))
    return [arrange(data, one).x for one in found]


@contextmanager
def _evaluation(module: nn.Module) -> Iterator[None]:
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
