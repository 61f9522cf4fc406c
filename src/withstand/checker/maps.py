"""Linear maps between flat vectors, in numpy: what affine layers are made of.

Each counts its roundings, by which `rounding` bounds the errors of what it computes.
"""

import itertools
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

Array = np.ndarray

CACHED = 2**19
"""Numbers that a convolution unfolds at once: 4 MB."""


class Map(Protocol):
    """A linear map."""

    @property
    def inputs(self) -> int:
        """Coordinates of what it takes."""
        ...

    @property
    def outputs(self) -> int:
        """Coordinates of what it gives."""
        ...

    @property
    def roundings_forward(self) -> int:
        """Terms of the longest sum of `forward`, and roundings in the weights."""
        ...

    @property
    def roundings_backward(self) -> int:
        """Terms of the longest sum of `backward`, and roundings in the weights."""
        ...

    @property
    def mixes(self) -> bool:
        """Whether an output adds up several inputs."""
        ...

    def forward(self, x: Array) -> Array:
        """[K, inputs] to [K, outputs]."""
        ...

    def backward(self, rows: Array) -> Array:
        """[K, outputs] to [K, inputs], by the transpose."""
        ...

    def magnitude(self) -> "Map":
        """The map of the absolute weights."""
        ...


@dataclass(frozen=True)
class Identity:
    """x itself."""

    inputs: int
    roundings_forward = roundings_backward = 0
    mixes = False

    @property
    def outputs(self) -> int:
        return self.inputs

    def forward(self, x: Array) -> Array:
        return x

    def backward(self, rows: Array) -> Array:
        return rows

    def magnitude(self) -> "Identity":
        return self


@dataclass(frozen=True, eq=False)
class Scale:
    """Each coordinate times a factor [inputs], which is itself known up to so many roundings."""

    factor: Array
    roundings: int = 0
    mixes = False

    @property
    def inputs(self) -> int:
        return len(self.factor)

    outputs = inputs

    @property
    def roundings_forward(self) -> int:
        return 1 + self.roundings

    roundings_backward = roundings_forward

    def forward(self, x: Array) -> Array:
        return x * self.factor

    def backward(self, rows: Array) -> Array:
        return rows * self.factor

    def magnitude(self) -> "Scale":
        return replace(self, factor=np.abs(self.factor))


@dataclass(frozen=True, eq=False)
class Take:
    """Coordinate `index[i]` of the input at output i, or 0 where the index is -1."""

    index: Array
    inputs: int
    roundings_forward = 0
    mixes = False

    @property
    def outputs(self) -> int:
        return len(self.index)

    @cached_property
    def _kept(self) -> Array:
        return (self.index >= 0).nonzero()[0]

    @cached_property
    def _repeats(self) -> int:
        """How many outputs the same input has at most."""
        return int(np.bincount(self.index[self._kept], minlength=1).max())

    @property
    def roundings_backward(self) -> int:
        return self._repeats if self._repeats > 1 else 0

    def forward(self, x: Array) -> Array:
        return np.where(self.index >= 0, x[:, self.index], 0.0)

    def backward(self, rows: Array) -> Array:
        back, source = np.zeros((len(rows), self.inputs)), self.index[self._kept]
        if self.roundings_backward == 0:
            back[:, source] = rows[:, self._kept]
        else:
            np.add.at(back.T, source, rows[:, self._kept].T)
        return back

    def magnitude(self) -> "Take":
        return self


@dataclass(frozen=True, eq=False)
class Dense:
    """A matrix [m, n] on each of `blocks` stretches of n coordinates."""

    weight: Array
    blocks: int = 1
    mixes = True

    @property
    def inputs(self) -> int:
        return self.weight.shape[1] * self.blocks

    @property
    def outputs(self) -> int:
        return self.weight.shape[0] * self.blocks

    @property
    def roundings_forward(self) -> int:
        return self.weight.shape[1]

    @property
    def roundings_backward(self) -> int:
        return self.weight.shape[0]

    def forward(self, x: Array) -> Array:
        return (x.reshape(-1, self.weight.shape[1]) @ self.weight.T).reshape(len(x), self.outputs)

    def backward(self, rows: Array) -> Array:
        return (rows.reshape(-1, self.weight.shape[0]) @ self.weight).reshape(len(rows), self.inputs)

    def magnitude(self) -> "Dense":
        return replace(self, weight=np.abs(self.weight))


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution of images [channels, height, width] with a weight [out, channels / groups, kh, kw].

    pads: top, left, bottom, right.
    """

    weight: Array
    size: tuple[int, int]
    stride: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilation: tuple[int, int]
    groups: int
    mixes = True

    @cached_property
    def _padded(self) -> tuple[int, int]:
        return self.size[0] + self.pads[0] + self.pads[2], self.size[1] + self.pads[1] + self.pads[3]

    @cached_property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the outputs."""
        height, width = (
            (p - (k - 1) * d - 1) // s + 1
            for p, k, d, s in zip(self._padded, self.weight.shape[2:], self.dilation, self.stride, strict=True)
        )
        return height, width

    @property
    def channels(self) -> int:
        """Channels of the inputs."""
        return self.weight.shape[1] * self.groups

    @property
    def inputs(self) -> int:
        return self.channels * self.size[0] * self.size[1]

    @property
    def outputs(self) -> int:
        return len(self.weight) * self.out_size[0] * self.out_size[1]

    @property
    def roundings_forward(self) -> int:
        return self.weight[0].size

    @property
    def roundings_backward(self) -> int:
        return self.weight.size // (self.weight.shape[1] * self.groups)

    @cached_property
    def _matrix(self) -> Array:
        """[groups, out / groups, (channels / groups) kh kw]."""
        return self.weight.reshape(self.groups, len(self.weight) // self.groups, -1)

    @cached_property
    def _shifts(self) -> list[tuple[int, int, slice, slice]]:
        """Every place of the kernel, and which of the padded inputs it reads."""
        (height, width), (sy, sx), (dy, dx) = self.out_size, self.stride, self.dilation
        return [
            (i, j, slice(i * dy, i * dy + (height - 1) * sy + 1, sy), slice(j * dx, j * dx + (width - 1) * sx + 1, sx))
            for i, j in itertools.product(range(self.weight.shape[2]), range(self.weight.shape[3]))
        ]

    def windows(self, images: Array, outside: float) -> Array:
        """The numbers of images [channels, height, width] that each output of a map of one group a channel reads:
        [outputs, kernel], `outside` beyond the edges."""
        top, left, bottom, right = self.pads
        padded = np.pad(images, ((0, 0), (top, bottom), (left, right)), constant_values=outside)
        return np.stack([padded[:, rows, columns].ravel() for _, _, rows, columns in self._shifts], 1)

    def _pieces(self, vectors: Array) -> list[Array]:
        unfolded = self.groups * self._matrix.shape[2] * self.out_size[0] * self.out_size[1]
        count = max(1, CACHED // unfolded)
        return [vectors[start : start + count] for start in range(0, max(1, len(vectors)), count)]

    def forward(self, x: Array) -> Array:
        return np.concatenate([self._forward(part) for part in self._pieces(x)])

    def _forward(self, x: Array) -> Array:
        top, left, bottom, right = self.pads
        images = x.reshape(len(x), self.channels, *self.size)
        images = np.pad(images, ((0, 0), (0, 0), (top, bottom), (left, right)))
        unfolded = np.empty((len(x), self.channels, *self.weight.shape[2:], *self.out_size))
        for i, j, rows, columns in self._shifts:
            unfolded[:, :, i, j] = images[:, :, rows, columns]
        return (self._matrix @ unfolded.reshape(len(x), *self._unfolded)).reshape(len(x), self.outputs)

    @property
    def _unfolded(self) -> tuple[int, int, int]:
        return self.groups, self._matrix.shape[2], self.out_size[0] * self.out_size[1]

    def backward(self, rows: Array) -> Array:
        return np.concatenate([self._backward(part) for part in self._pieces(rows)])

    def _backward(self, rows: Array) -> Array:
        given = rows.reshape(len(rows), self.groups, self._matrix.shape[1], self._unfolded[2])
        unfolded = self._matrix.transpose(0, 2, 1) @ given
        unfolded = unfolded.reshape(len(rows), self.channels, *self.weight.shape[2:], *self.out_size)
        images = np.zeros((len(rows), self.channels, *self._padded))
        for i, j, down, across in self._shifts:
            images[:, :, down, across] += unfolded[:, :, i, j]
        top, left, _, _ = self.pads
        inner = images[:, :, top : top + self.size[0], left : left + self.size[1]]
        return inner.reshape(len(rows), self.inputs)

    def magnitude(self) -> "Convolution":
        return replace(self, weight=np.abs(self.weight))


@dataclass(frozen=True, eq=False)
class Transposed:
    """The transpose of a map."""

    of: Map

    @property
    def inputs(self) -> int:
        return self.of.outputs

    @property
    def outputs(self) -> int:
        return self.of.inputs

    @property
    def roundings_forward(self) -> int:
        return self.of.roundings_backward

    @property
    def roundings_backward(self) -> int:
        return self.of.roundings_forward

    @property
    def mixes(self) -> bool:
        return self.of.mixes

    def forward(self, x: Array) -> Array:
        return self.of.backward(x)

    def backward(self, rows: Array) -> Array:
        return self.of.forward(rows)

    def magnitude(self) -> "Transposed":
        return Transposed(self.of.magnitude())
