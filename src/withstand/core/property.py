"""Properties: what must stay true, as a margin. margin > 0 holds, margin <= 0 is violated.

The properties here are made of linear rows over the outputs: they hold when in *each group* of rows *some* row is
positive. Argmax is one row a group; an unsafe region of VNN-LIB (an "or" of "and"s) is one group an "and".
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.core.evidence import Loss
from withstand.core.shapes import flattened


@dataclass(frozen=True)
class Rows:
    """Linear rows over flat outputs z [B, O]: value = weight . z + offset.

    weight [B, R, O], offset [B, R], group [R]: the number of the group each row belongs to (0, 1, ... in any order).
    """

    weight: Tensor
    offset: Tensor
    group: Tensor

    def value(self, outputs: Tensor) -> Tensor:
        """The rows' values [B, R] at outputs [B, ...].

        A question alone is asked twice, because the kernel of a single matrix rounds unlike that of several."""
        weight, flat = self.weight, flattened(outputs)
        if len(flat) == 1:
            weight, flat = weight.expand(2, -1, -1), flat.expand(2, -1)
        return torch.einsum("bro,bo->br", weight, flat)[: len(outputs)] + self.offset

    def groups(self, values: Tensor) -> Tensor:
        """The best value of every group [B, G]."""
        groups = int(self.group.max()) + 1
        best = values.new_full((len(values), groups), -torch.inf)
        return best.scatter_reduce(1, self.group.expand_as(values), values, "amax")

    def combine(self, values: Tensor) -> Tensor:
        """The margin [B] from the rows' values, or from lower bounds on them: least group, best row in each."""
        if int(self.group.max()) + 1 == values.shape[1]:
            return values.amin(1)
        return self.groups(values).amin(1)

    def __getitem__(self, index: Tensor) -> "Rows":
        return Rows(self.weight[index], self.offset[index], self.group)


class Property:
    """What must stay true of outputs [B, ...], told per row by a target y [B] (a label, a reference value).

    A subclass defines `rows`, and can then be attacked and proved, or `targets` alone, and can then only be attacked.
    It needs a `__str__`: the text by which runs and witnesses name it.

    losses: what an attack may walk down on. Every property offers the margin; labels offer others too. reads: what y
    must hold, which is checked before the first attack: a class, several labels of 0 and 1, one side (0 or 1), or any
    values. needs_y: whether y plays any part; where it does not, data without targets will do.
    """

    losses: ClassVar[tuple[Loss, ...]] = ("margin",)
    reads: ClassVar[Literal["class", "labels", "side", "values"]] = "values"
    needs_y: ClassVar[bool] = True

    def rows(self, y: Tensor, outputs: int, dtype: torch.dtype = torch.float32) -> Rows:
        """The property as linear rows over `outputs` flat outputs. Raises InputError where it has no such form."""
        raise InputError(f"The property {self} is not made of linear rows, so nothing can be proved of it; attack it.")

    def answer(self, outputs: Tensor) -> Tensor:
        """[B]: the one number by which a person names outputs: the class, unless a property says otherwise."""
        return flattened(outputs).argmax(1)

    def label(self, y: Tensor) -> Tensor:
        """[B]: the one number by which a person names y: the first of each row, unless a property says otherwise."""
        return flattened(y)[:, 0] if y.dim() > 1 else y

    def targets(self, outputs: Tensor, y: Tensor) -> Tensor:
        """[B, T]: the margin of every way in which the property can be violated (for a label: of every other class),
        the groups of `rows`. Where one of them is not positive, the property is violated."""
        flat = flattened(outputs)
        rows = self.rows(y, flat.shape[1], flat.dtype)
        return rows.groups(rows.value(flat))

    def margin(self, outputs: Tensor, y: Tensor) -> Tensor:
        """[B]: positive where the property holds."""
        return self.targets(outputs, y).amin(1)

    def loss(self, name: Loss, outputs: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
        """[B]: a loss that falls towards violation, one of `losses`; towards that of one target [B] if given.

        Raises InputError for another loss.
        """
        if name in ("margin", "smooth"):
            return self.margin(outputs, y) if target is None else picked(self.targets(outputs, y), target)
        raise InputError(f"The property {self} has no loss {name!r}; use {' or '.join(self.losses)}.")


def picked(values: Tensor, index: Tensor) -> Tensor:
    """The value [B] of every row [B, T] at its index [B]."""
    return values.gather(1, index[:, None]).squeeze(1)


def others(y: Tensor, classes: int) -> Tensor:
    """The classes other than y, rising: [B, classes - 1]."""
    lower = torch.arange(classes - 1, device=y.device).expand(len(y), -1)
    return lower + (lower >= y[:, None])


@dataclass(frozen=True)
class Argmax(Property):
    """The label y stays the largest of the logits [B, K]."""

    losses: ClassVar[tuple[Loss, ...]] = ("margin", "ce", "dlr")
    reads: ClassVar[Literal["class", "labels", "side", "values"]] = "class"

    def __str__(self) -> str:
        return "argmax"

    def rows(self, y: Tensor, outputs: int, dtype: torch.dtype = torch.float32) -> Rows:
        identity = torch.eye(outputs, dtype=dtype, device=y.device)
        weight = identity[y][:, None] - identity[others(y, outputs)]
        return Rows(weight, weight.new_zeros(weight.shape[:2]), torch.arange(outputs - 1, device=y.device))

    def targets(self, outputs: Tensor, y: Tensor) -> Tensor:
        return outputs.gather(1, y[:, None]) - outputs.gather(1, others(y, outputs.shape[1]))

    def margin(self, outputs: Tensor, y: Tensor) -> Tensor:
        own = outputs.gather(1, y[:, None])
        return (own - outputs.scatter(1, y[:, None], -torch.inf).amax(1, keepdim=True)).squeeze(1)

    def loss(self, name: Loss, outputs: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
        """`ce` is minus the cross-entropy of y, or the cross-entropy of the target. `dlr` is the difference of logits
        ratio (Croce and Hein 2020, arXiv:2003.01690), which with fewer than 3 classes (4 with a target), where it would
        be constant, is the margin."""
        if name in ("ce", "smooth"):
            if target is None:
                return -torch.nn.functional.cross_entropy(outputs, y, reduction="none")
            aim = picked(others(y, outputs.shape[1]), target)
            return torch.nn.functional.cross_entropy(outputs, aim, reduction="none")
        if name == "dlr":
            margin = super().loss("margin", outputs, y, target)
            if outputs.shape[1] < (3 if target is None else 4):
                return margin
            top = outputs.topk(3 if target is None else 4, dim=1).values
            scale = top[:, 0] - (top[:, 2] if target is None else (top[:, 2] + top[:, 3]) / 2)
            return margin / (scale + 1e-12)
        return super().loss(name, outputs, y, target)


@dataclass(frozen=True)
class NotClass(Property):
    """The class `target` does not become the largest of the logits: what a targeted attack breaks. y plays no part."""

    losses: ClassVar[tuple[Loss, ...]] = ("margin", "ce")
    reads: ClassVar[Literal["class", "labels", "side", "values"]] = "class"
    needs_y: ClassVar[bool] = False

    target: int

    def __str__(self) -> str:
        return f"not-class:{self.target}"

    def rows(self, y: Tensor, outputs: int, dtype: torch.dtype = torch.float32) -> Rows:
        if not 0 <= self.target < outputs:
            raise InputError(f"Target class {self.target} is outside the model's classes 0 to {outputs - 1}.")
        identity = torch.eye(outputs, dtype=dtype, device=y.device)
        keep = torch.arange(outputs, device=y.device) != self.target
        weight = (identity[keep] - identity[self.target]).expand(len(y), -1, -1)
        group = torch.zeros(outputs - 1, dtype=torch.long, device=y.device)
        return Rows(weight, weight.new_zeros(weight.shape[:2]), group)

    def loss(self, name: Loss, outputs: Tensor, y: Tensor, target: Tensor | None = None) -> Tensor:
        """`ce` is the cross-entropy to the target class."""
        if name in ("ce", "smooth"):
            return torch.nn.functional.cross_entropy(outputs, torch.full_like(y, self.target), reduction="none")
        return super().loss(name, outputs, y, target)


@dataclass(frozen=True)
class Band(Property):
    """A regression: every output stays within `width` of its reference y ([B] or [B, O])."""

    width: float

    def __str__(self) -> str:
        return f"band:{self.width!r}"

    def answer(self, outputs: Tensor) -> Tensor:
        """The first output."""
        return flattened(outputs)[:, 0]

    def rows(self, y: Tensor, outputs: int, dtype: torch.dtype = torch.float32) -> Rows:
        reference = y.to(dtype).reshape(len(y), -1)
        if reference.shape[1] not in (1, outputs):
            raise InputError(
                f"The property {self} compares {outputs} outputs with a reference of {reference.shape[1]} numbers; "
                "give as many, or one for all."
            )
        reference = reference.expand(-1, outputs)
        identity = torch.eye(outputs, dtype=dtype, device=y.device)
        weight = torch.cat([identity, -identity]).expand(len(y), -1, -1)
        offset = torch.cat([self.width - reference, self.width + reference], 1)
        return Rows(weight, offset, torch.arange(2 * outputs, device=y.device))


@dataclass(frozen=True)
class Linear(Property):
    """Linear rows given as numbers, in groups [R].

    weight [R, O] and offset [R] are the same for every input, and y plays no part; weight [Q, R, O] and offset [Q, R]
    hold the rows of Q questions, and y is the question's number.
    """

    needs_y: ClassVar[bool] = False

    weight: Tensor
    offset: Tensor
    group: Tensor

    def __str__(self) -> str:
        return "linear:" + " x ".join(f"{size}" for size in self.offset.shape) + " rows"

    def rows(self, y: Tensor, outputs: int, dtype: torch.dtype = torch.float32) -> Rows:
        if self.weight.shape[-1] != outputs:
            raise InputError(f"The property speaks of {self.weight.shape[-1]} outputs, the model has {outputs}.")
        parts = (self.weight, self.offset)
        if self.weight.dim() == 3:
            weight, offset = (part.to(y.device)[y].to(dtype) for part in parts)
        else:
            weight, offset = (part.to(y.device, dtype).expand(len(y), *part.shape) for part in parts)
        return Rows(weight, offset, self.group.to(y.device))
