"""Networks as the checker sees them: affine maps and element-wise activations between flat vectors of float64.

What is proved is a statement about the function of *real* numbers that the ONNX file describes: its weights are the
numbers stored in the file, taken exactly, and its sums, products, exponentials and square roots have no rounding. Where
the checker has to compute a weight itself (a batch normalisation's scale / sqrt(variance + epsilon), a division), the
map counts the roundings of doing so and they become slack like all others. A runtime that computes the network in
float32 rounds, and may differ from that function in the last digits: `Network.as_run` bounds what it computes.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from withstand.checker.functions import Function
from withstand.checker.machine import REAL, Machine
from withstand.checker.maps import Map

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Affine:
    """Value `out` is the sum of maps of earlier values, plus a bias [size]."""

    out: int
    sources: tuple[int, ...]
    maps: tuple[Map, ...]
    bias: Array | None = None

    @cached_property
    def absolute(self) -> tuple[Map, ...]:
        """The maps of the absolute weights."""
        return tuple(map.magnitude() for map in self.maps)


@dataclass(frozen=True, eq=False)
class Activation:
    """Value `out` is a function of each coordinate of the value `source`, or the maximum of some of them.

    neurons: the numbers of the source's coordinates among all neurons of the network.
    """

    out: int
    source: int
    function: Function
    neurons: slice


Step = Affine | Activation


@dataclass(frozen=True, eq=False)
class Network:
    """A network as steps in order. Values are flat vectors, numbered: 0 is the input.

    sizes: coordinates of each value. A *neuron* is a coordinate of an activation's source; neurons are numbered through
    all activations in the order of the file, each activation's in row-major order of the ONNX tensor without its batch.
    machine: the arithmetic that bounds are to hold for. own: that of the float type of the file's values; None where
    they have several.
    """

    steps: tuple[Step, ...]
    sizes: tuple[int, ...]
    output: int
    input_name: str
    input_shape: tuple[int, ...]
    digest: str
    machine: Machine = REAL
    own: Machine | None = None

    @property
    def as_run(self) -> "Network | None":
        """The network in its own arithmetic, where it has one."""
        return None if self.own is None else replace(self, machine=self.own)

    @property
    def inputs(self) -> int:
        """How many inputs there are."""
        return self.sizes[0]

    @property
    def outputs(self) -> int:
        """How many outputs there are."""
        return self.sizes[self.output]

    @cached_property
    def activations(self) -> tuple[Activation, ...]:
        """The activations in order."""
        return tuple(step for step in self.steps if isinstance(step, Activation))

    @cached_property
    def neurons(self) -> int:
        """How many neurons there are."""
        return self.activations[-1].neurons.stop if self.activations else 0

    @cached_property
    def layer_of(self) -> Array:
        """The activation's ordinal of every neuron: int [neurons]."""
        return np.repeat(np.arange(len(self.activations)), [self.sizes[a.source] for a in self.activations])

    @cached_property
    def curved(self) -> Array:
        """Which neurons have slopes that are numbers, not shares between two slopes: bool [neurons]."""
        kinds = [np.full(self.sizes[a.source], a.function.curved) for a in self.activations]
        return np.concatenate([*kinds, np.zeros(0, bool)])

    def neuron(self, layer: int, index: Array) -> Array:
        """Numbers of neurons from the ordinal of their activation and their flat index in it."""
        return np.asarray(index) + self.activations[layer].neurons.start

    @cached_property
    def makers(self) -> dict[int, int]:
        """The number of the step that makes each value but the input."""
        return {step.out: number for number, step in enumerate(self.steps)}

    @cached_property
    def images(self) -> frozenset[int]:
        """Values made by activations: their bounds follow from those of the neurons before."""
        return frozenset(step.out for step in self.activations)

    @cached_property
    def unmixed(self) -> frozenset[int]:
        """Values whose interval over a box is exact: at most one map on their way from the input adds up inputs."""
        plain, exact = {0}, {0}
        for step in self.steps:
            if isinstance(step, Affine) and len(step.sources) == 1 and step.sources[0] in plain:
                exact.add(step.out)
                if not step.maps[0].mixes:
                    plain.add(step.out)
        return frozenset(exact)

    def __call__(self, x: Array) -> Array:
        """Outputs [K, outputs] of inputs [K, inputs], in plain float64 without slack."""
        values = {0: np.asarray(x, np.float64)}
        for step in self.steps:
            if isinstance(step, Activation):
                values[step.out] = step.function.value(values[step.source])
                continue
            parts = [m.forward(values[s]) for s, m in zip(step.sources, step.maps, strict=True)]
            values[step.out] = sum(parts[1:], parts[0]) + (0.0 if step.bias is None else step.bias)
        return values[self.output]


def digest_of(file: bytes) -> str:
    """The name by which certificates know an ONNX file: sha256 of its bytes, in hexadecimal."""
    return hashlib.sha256(file).hexdigest()
