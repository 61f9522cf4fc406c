"""Counting the classes that a model gives to noisy copies of its inputs."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from withstand.core.errors import InputError

BATCH = 256
"""Noisy copies that go through the model together, unless the caller says otherwise."""

_ELEMENTS = 2**22
"""Numbers that are drawn at once, about."""


def noisy(x: Tensor, sigma: float, draws: int, seed: int) -> Iterator[Tensor]:
    """Copies of one input x [*shape], each with Gaussian noise of its own, in blocks [b, *shape], `draws` in all.

    sigma: standard deviation, in the units of the data. The noise is a stream of torch's generator under `seed` that
    is cut by the shape alone, so that a copy does not depend on batches; on another device it is another stream.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    block = max(1, min(128, _ELEMENTS // max(1, x.numel())))
    while draws > 0:
        noise = torch.randn((block, *x.shape), generator=generator, dtype=x.dtype, device=x.device)
        yield noise[:draws].mul_(sigma).add_(x)
        draws -= block


def count_votes(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    sigma: float,
    draws: int,
    seeds: Sequence[int],
    batch: int = BATCH,
) -> Tensor:
    """How often the model names each class on noisy copies of each input: int64 [B, K], each row of the sum `draws`.

    model: from [b, *shape] to logits [b, K]. x: [B, *shape]. seeds: one a row. batch: copies in a forward pass, joined
    over rows where a row has fewer; apart from the rounding of the model's own sums it changes no count.

    Raises InputError when the model answers a NaN.
    """
    counts: Tensor | None = None
    with torch.no_grad():
        for rows, copies in _batches(x, sigma, draws, seeds, batch):
            logits = model(copies)
            if bool(logits.isnan().any()):
                raise InputError(
                    f"The model answers NaN to inputs with noise of sigma {sigma:g}; lower sigma, or make the model "
                    "take inputs outside its data's range."
                )
            if counts is None:
                counts = torch.zeros(len(x), logits.shape[1], dtype=torch.long, device=x.device)
            votes = rows * logits.shape[1] + logits.argmax(1)
            counts += torch.bincount(votes, minlength=counts.numel()).view_as(counts)
    assert counts is not None, "there is a draw"
    return counts


def _batches(x: Tensor, sigma: float, draws: int, seeds: Sequence[int], batch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of noisy copies [b, *shape] with the row [b] that each belongs to, b = batch but in the last."""
    rows: list[Tensor] = []
    parts: list[Tensor] = []
    held = 0
    for row, seed in enumerate(seeds):
        for part in noisy(x[row], sigma, draws, seed):
            rows.append(torch.full((len(part),), row, device=x.device))
            parts.append(part)
            held += len(part)
            while held >= batch:
                joined, at = torch.cat(parts), torch.cat(rows)
                yield at[:batch], joined[:batch]
                parts, rows, held = [joined[batch:]], [at[batch:]], held - batch
    if held:
        yield torch.cat(rows), torch.cat(parts)
