"""Rows of neurons before a convolution's activation, carried back as windows of images.

Such a row reads few numbers of its image. It is carried through the convolutions and activations before it as a window
for as long as that is less work than a row over whole images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from withstand.checker.descent import Rows
from withstand.checker.functions import Lines, Relaxation
from withstand.checker.maps import Convolution, Identity, Scale
from withstand.checker.network import Activation, Affine, Network
from withstand.checker.rounding import UNIT
from withstand.checker.sizes import Sizes
from withstand.checker.units import unit_rows

Array = np.ndarray


@dataclass
class Windows:
    """Lower bounds rows . value + constant - slack of P times S quantities (a neuron, and soon its negative).

    rows [P, S, channels height width]: over windows of this shape, whose upper left corners lie at top, left [P] in
    images of a size (height, width); 0 where a window reaches over the edge. constant, slack: [P, S].
    """

    rows: Array
    constant: Array
    slack: Array
    shape: tuple[int, int, int]
    size: tuple[int, int]
    top: Array
    left: Array
    place: Array = field(init=False)
    """The flat index in its image of every number of a window: [P, channels height width], -1 over the edge."""

    def __post_init__(self) -> None:
        channels, height, width = self.shape
        y = (self.top[:, None] + np.arange(height))[:, None, :, None]
        x = (self.left[:, None] + np.arange(width))[:, None, None, :]
        inside = (y >= 0) & (y < self.size[0]) & (x >= 0) & (x < self.size[1])
        flat = (np.arange(channels)[:, None, None] * self.size[0] + y) * self.size[1] + x
        self.place = np.where(inside, flat, -1).reshape(len(self.top), -1)

    def affine(self, step: Affine, errors: Array) -> None:
        """Carry the rows through a convolution, or a map that adds up nothing. errors: the step's vector of slack."""
        place, map = self.place, step.maps[0]
        self.slack += self._dot(np.abs(self.rows), errors, place)
        if step.bias is not None:
            self.constant += self._dot(self.rows, step.bias, place)
            self.slack += UNIT * np.abs(self.constant)
        if isinstance(map, Scale):
            self.rows = self.rows * _at(map.factor, place)[:, None]
        elif isinstance(map, Convolution):
            self._convolution(map)

    def _convolution(self, map: Convolution) -> None:
        (_, *shape), kernel = self.shape, map.weight.shape[2:]
        ends = zip(shape, map.stride, kernel, map.dilation, strict=True)
        height, width = ((n - 1) * s + (k - 1) * d + 1 for n, s, k, d in ends)
        inner = replace(map, size=(height, width), pads=(0, 0, 0, 0))
        rows = inner.backward(self.rows.reshape(-1, self.rows.shape[2])).reshape(*self.rows.shape[:2], -1)
        self.top, self.left = self.top * map.stride[0] - map.pads[0], self.left * map.stride[1] - map.pads[1]
        self.shape, self.size = (map.channels, height, width), map.size
        self.__post_init__()
        self.rows = rows * (self.place >= 0)[:, None]

    def activation(self, lines: Lines, part: Array) -> None:
        """Carry the rows through an element-wise activation, by the lines of the parts [P]."""
        edges = (None if edge is None else edge[part[:, None], self.place] for edge in lines)
        self.rows, constant, slack = Lines(*edges).back(self.rows, np.zeros(0))  # type: ignore[arg-type]
        self.constant += constant
        self.slack += slack + UNIT * np.abs(self.constant)

    def mirror(self) -> None:
        """Append the negatives, unless they are there."""
        if self.rows.shape[1] == 1:
            self.rows = np.concatenate([self.rows, -self.rows], 1)
            self.constant = np.concatenate([self.constant, -self.constant], 1)
            self.slack = np.concatenate([self.slack, self.slack], 1)

    def whole(self, size: int) -> Array:
        """The rows over whole images [P, S, size]."""
        found = np.zeros((*self.rows.shape[:2], size + 1))
        np.put_along_axis(found, np.where(self.place < 0, size, self.place)[:, None], self.rows, 2)
        return found[:, :, :size]

    @staticmethod
    def _dot(rows: Array, vector: Array, place: Array) -> Array:
        return (rows @ _at(vector, place)[:, :, None])[..., 0]


def _at(vector: Array, place: Array) -> Array:
    """Numbers of a vector at places, 0 where the place is -1."""
    return np.append(vector, 0.0)[place]


def windowed(
    network: Network, sizes: Sizes, step: Activation, part: Array, index: Array, lines: Mapping[int, Relaxation]
) -> tuple[Rows, int] | None:
    """Rows of neurons index [P] of an activation and of their negatives, [P, 2], and the number of the step before
    which they stand; None where they read no windows. part [P]: which of the K lines is to be used."""
    value = step.source
    map = _map(network, value)
    if not isinstance(map, Convolution):
        return None
    channel, spot = np.divmod(index, map.out_size[0] * map.out_size[1])
    unit, none = unit_rows(channel[:, None], len(map.weight)), np.zeros((len(index), 1))
    windows = Windows(unit, none, none.copy(), (len(map.weight), 1, 1), map.out_size, *np.divmod(spot, map.out_size[1]))
    while value and 2 * windows.rows.shape[2] < network.sizes[value]:
        now = network.steps[network.makers[value]]
        relaxation = lines.get(now.out)
        if isinstance(now, Affine) and isinstance(_map(network, value), Convolution | Identity | Scale):
            windows.affine(now, sizes.backward[now.out])
            value = now.sources[0]
        elif isinstance(now, Activation) and isinstance(relaxation, Lines) and value not in sizes.backward:
            windows.mirror()
            windows.activation(relaxation, part)
            value = now.source
        else:
            break
    windows.mirror()
    rows = Rows({value: windows.whole(network.sizes[value])}, windows.constant, windows.slack, sizes)
    return rows, network.makers[value] + 1 if value else 0


def reads_windows(network: Network, value: int) -> bool:
    """Whether a value is that of a convolution."""
    return isinstance(_map(network, value), Convolution)


def _map(network: Network, value: int) -> object:
    """The map that alone makes a value; None where it is made otherwise."""
    step = network.steps[network.makers[value]] if value else None
    return step.maps[0] if isinstance(step, Affine) and len(step.maps) == 1 else None
