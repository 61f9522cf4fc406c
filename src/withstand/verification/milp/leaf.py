"""The exact answer of one domain: a small linear program over its inputs and its bent neurons alone.

Neurons whose sign is known on the domain are composed away, so that a domain of few bent neurons is a program of few
columns, and one of none is solved exactly. The answer's bound does not rest on the solver: its multipliers are turned
into slopes, prices and convex weights, and the bound is what these give in float64 (weak duality), whatever they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

Array = np.ndarray

TRIES = 12
"""How often the prices of a domain that looks empty are raised fourfold until they prove it."""


@dataclass(frozen=True)
class ReluState:
    """A ReLU network over a growing state: the input x [n], then the activations of its blocks, one after the other.

    blocks: weight [d, S] and bias [d] of the pre-activations of each block, over the state S before it.
    """

    inputs: int
    blocks: Sequence[tuple[Array, Array]]

    @classmethod
    def chain(cls, weights: Sequence[Array], biases: Sequence[Array]) -> "ReluState":
        """The hidden layers of a chain: weights[i] [out, in] of affine maps, each but the last followed by a ReLU."""
        blocks, size = [], weights[0].shape[1]
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            blocks.append((np.hstack([np.zeros((len(bias), size - weight.shape[1])), weight]), bias))
            size += len(bias)
        return cls(weights[0].shape[1], blocks)


@dataclass(frozen=True)
class Domain:
    """Inputs between low and high [n]; all U pre-activations between below and above [U]; phase [U]: 1 where the domain
    was cut at z >= below, -1 where at z <= above, 0 where it was not cut."""

    low: Array
    high: Array
    below: Array
    above: Array
    phase: Array

    @property
    def bent(self) -> Array:
        """Neurons whose sign is not known: bool [U]."""
        return (self.below < 0) & (self.above > 0)

    @property
    def edge(self) -> Array:
        """Where each neuron was cut [U]; 0 where it was not."""
        return np.where(self.phase > 0, self.below, np.where(self.phase < 0, self.above, 0.0))


@dataclass(frozen=True)
class Rows:
    """weight [R, S] @ state + offset [R]."""

    weight: Array
    offset: Array


@dataclass(frozen=True)
class Choices:
    """What backward linear bounds are free to choose: mix [R], convex weights of the rows; slopes [U] between 0 and 1
    of the lines below bent neurons; prices [U] >= 0, the multipliers of the domain's cuts."""

    mix: Array
    slopes: Array
    prices: Array


@dataclass(frozen=True)
class Answer:
    """bound: a lower bound of the largest row over the domain, by backward linear bounds with these choices; up to the
    solver's accuracy the least value itself where no neuron is bent. x [n]: the input where the program is least; None
    where no input meets the domain's cuts, or the solver gave up (then the bound is that of plain backward bounds)."""

    bound: float
    choices: Choices
    x: Array | None


class Leaf:
    """Solves domains of one network with one solver: about a millisecond for 5 inputs and 20 bent neurons."""

    def __init__(self, network: ReluState) -> None:
        from highspy._core import _Highs

        self.network = network
        self._solver = _Highs()
        options = {"output_flag": False, "threads": 1, "solver": "simplex", "presolve": "off"}
        for name, value in {**options, "simplex_scale_strategy": 0}.items():
            self._solver.setOptionValue(name, value)

    def least(self, domain: Domain, rows: Rows) -> Answer:
        """The least value of the largest row over the domain, bent neurons relaxed to triangles."""
        program = _Program(self.network, domain, rows)
        x, choices, empty = program.solve(self._solver)
        if empty:
            return _emptied(self.network, domain, rows, choices)
        return Answer(backward(self.network, domain, rows, choices), choices, x)


class _Program:
    """Columns: the inputs, the activations of bent neurons, and the largest row t. Rows, all `>=`: two for each bent
    neuron, one for each cut, one for each row of the question."""

    def __init__(self, network: ReluState, domain: Domain, rows: Rows) -> None:
        self.domain = domain
        self.bent, self.cut = domain.bent.nonzero()[0], domain.phase.nonzero()[0]
        inputs, free = network.inputs, len(self.bent)
        columns = inputs + free
        neurons = len(domain.phase)
        state, shift = np.zeros((inputs + neurons, columns)), np.zeros(inputs + neurons)
        state[:inputs, :inputs] = np.eye(inputs)
        before, constant = np.zeros((neurons, columns)), np.zeros(neurons)
        first, column = 0, inputs
        for weight, bias in network.blocks:
            own, size = slice(first, first + len(bias)), weight.shape[1]
            before[own], constant[own] = weight @ state[:size], weight @ shift[:size] + bias
            active = (domain.below[own] >= 0).astype(float)
            state[size : size + len(bias)] = active[:, None] * before[own]
            shift[size : size + len(bias)] = active * constant[own]
            fresh = domain.bent[own].nonzero()[0]
            state[size + fresh, column + np.arange(len(fresh))] = 1.0
            first, column = first + len(bias), column + len(fresh)
        self._fill(before, constant, rows.weight @ state, rows.weight @ shift + rows.offset, inputs)

    def _fill(self, before: Array, constant: Array, rows: Array, offset: Array, inputs: int) -> None:
        domain, bent, cut = self.domain, self.bent, self.cut
        free, columns = len(bent), before.shape[1]
        below, above = domain.below[bent], domain.above[bent]
        self.chord = above / (above - below)
        own = np.zeros((free, columns))
        own[np.arange(free), inputs + np.arange(free)] = 1.0
        sign = domain.phase[cut]
        matrix = [
            own - before[bent],
            self.chord[:, None] * before[bent] - own,
            sign[:, None] * before[cut],
            -rows,
        ]
        sides = [
            constant[bent],
            self.chord * (below - constant[bent]),
            sign * (domain.edge[cut] - constant[cut]),
            offset,
        ]
        low, high = np.append(domain.low, np.zeros(free)), np.append(domain.high, above)
        floor = (np.maximum(rows, 0) @ low + np.minimum(rows, 0) @ high + offset).max() - 1
        largest = np.zeros((2 * free + len(cut) + len(rows), 1))
        largest[-len(rows) :] = 1.0
        self.matrix, self.side = np.hstack([np.concatenate(matrix), largest]), np.concatenate(sides)
        self.low, self.high = np.append(low, floor), np.append(domain.high, np.full(free + 1, np.inf))
        self.cost = np.append(np.zeros(columns), 1.0)

    def solve(self, solver) -> tuple[Array | None, Choices, bool]:
        """The least point, the choices its multipliers stand for, and whether they claim that there is no point."""
        from highspy import HighsModelStatus, HighsStatus

        count, columns = self.matrix.shape
        starts = np.arange(0, count * columns, columns, dtype=np.int32)
        index = np.tile(np.arange(columns, dtype=np.int32), count)
        infinite, kinds = np.full(count, np.inf), np.zeros(columns, dtype=np.int32)
        passed = solver.passModel(
            columns, count, self.matrix.size, 2, 1, 0.0, self.cost, self.low, self.high, self.side, infinite,
            starts, index, self.matrix.ravel(), kinds,
        )  # fmt: skip
        if passed == HighsStatus.kError:  # numbers too large for the solver, which keeps the program before
            return None, self.choices(np.zeros(count)), False
        solver.run()
        status = solver.getModelStatus()
        if status == HighsModelStatus.kOptimal:
            found = solver.getSolution()
            x = np.clip(found.col_value[: len(self.domain.low)], self.domain.low, self.domain.high)
            return x, self.choices(np.array(found.row_dual)), False
        if status == HighsModelStatus.kInfeasible:
            _, has, ray = solver.getDualRay()
            if has:
                return None, self.choices(np.array(ray)), True
        return None, self.choices(np.zeros(count)), False

    def choices(self, dual: Array) -> Choices:
        """The choices that multipliers of the rows stand for: backward bounds with these are the rows' weighted sum."""
        dual = np.maximum(dual, 0)
        free, cuts, inputs = len(self.bent), len(self.cut), len(self.domain.low)
        under, over, cut, mix = np.split(dual, [free, 2 * free, 2 * free + cuts])
        total = mix.sum()
        mix = mix / total if total > 0 else np.full(len(mix), 1 / len(mix))
        coefficient = under - over - (dual @ self.matrix)[inputs : inputs + free]
        bends = coefficient > 0
        slopes = (self.domain.above > -self.domain.below).astype(float)
        slope = (under - self.chord * over) / np.where(bends, coefficient, 1.0)
        slopes[self.bent] = np.where(bends, slope.clip(0, 1), slopes[self.bent])
        prices = np.zeros(len(self.domain.phase))
        prices[self.cut] = cut
        return Choices(mix, slopes, prices)


def backward(network: ReluState, domain: Domain, rows: Rows, choices: Choices) -> float:
    """The bound that choices give by linear bounds carried back to the inputs: sound for every choice."""
    rising = np.where(domain.below >= 0, 1.0, np.where(domain.bent, choices.slopes, 0.0))
    width = np.where(domain.bent, domain.above - domain.below, 1.0)
    falling = np.where(domain.bent, domain.above / width, rising)
    push = -domain.phase * choices.prices
    row = choices.mix @ rows.weight
    constant = choices.mix @ rows.offset - push @ domain.edge
    last = len(domain.phase)
    for weight, bias in reversed(network.blocks):
        own, size = slice(last - len(bias), last), weight.shape[1]
        last -= len(bias)
        part, row = row[size:], row[:size]
        over, under = np.minimum(part, 0), np.maximum(part, 0)
        chord = over * falling[own]
        constant -= chord @ np.where(domain.bent[own], domain.below[own], 0.0)
        back = under * rising[own] + chord + push[own]
        constant += back @ bias
        row = row + back @ weight
    return float(constant + np.maximum(row, 0) @ domain.low + np.minimum(row, 0) @ domain.high)


def _emptied(network: ReluState, domain: Domain, rows: Rows, choices: Choices) -> Answer:
    """The answer where no input meets the cuts: any bound at all can be had for prices large enough."""
    nothing = Rows(np.zeros_like(rows.weight), np.zeros_like(rows.offset))
    gain = backward(network, domain, nothing, choices)
    if gain <= 0:
        return Answer(backward(network, domain, rows, choices), choices, None)
    lost = abs(backward(network, domain, rows, replace(choices, prices=np.zeros_like(choices.prices)))) + 1
    scale = lost / gain
    for _ in range(TRIES):
        raised = replace(choices, prices=choices.prices * scale)
        bound = backward(network, domain, rows, raised)
        if bound > 0:
            return Answer(bound, raised, None)
        scale *= 4
    return Answer(bound, raised, None)
