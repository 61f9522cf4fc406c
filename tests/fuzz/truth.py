"""Where a property's margin is least: by a program of our own for networks of straight pieces, by search for others.

The program is written anew here, with scipy's solver and plain big-M constraints, and shares no code with the
verifiers. Its points are evaluated in the network, so that none of its tolerances can make a bound look wrong.
"""

import numpy as np
import torch
from scipy.optimize import LinearConstraint, milp
from torch import Tensor

from withstand.core.property import Rows
from withstand.core.rng import RowRandom
from withstand.core.threat import Threat
from withstand.graph.ir import Graph, Node
from withstand.graph.ops import OPS

CUTS = 25
"""Rounds of cuts of an l2 ball at most."""


class Program:
    """The network around one input x0 [1, *shape] as columns and rows. Values are pairs of a matrix [size, columns] and
    constants [size]."""

    def __init__(self, graph: Graph, threat: Threat, x0: Tensor) -> None:
        self.graph, self.threat = graph, threat
        self.start = x0.flatten().double().numpy()
        low, high = (end.flatten().double().numpy() for end in threat.box(x0))
        self.low, self.high, self.whole = list(low), list(high), [0] * len(low)
        self.rows: list[tuple[np.ndarray, float, float]] = []
        size = len(low)
        self.values = {graph.input: (np.eye(size), np.zeros(size))}
        if threat.norm == "l1":
            self._ball_of_l1()
        self.shapes = {name: tuple(value.shape[1:]) for name, value in graph.trace(torch.zeros_like(x0)).items()}
        for node in graph.nodes:
            self.values[node.name] = self._value(node)

    def _column(self, low: float, high: float, whole: int = 0) -> np.ndarray:
        self.low.append(low)
        self.high.append(high)
        self.whole.append(whole)
        unit = np.zeros(len(self.low))
        unit[-1] = 1
        return unit

    def _row(self, *parts: np.ndarray, low: float = -np.inf, high: float = np.inf) -> None:
        """low <= the sum of coefficients of different lengths <= high."""
        total = np.zeros(len(self.low))
        for part in parts:
            total[: len(part)] += part
        self.rows.append((total, low, high))

    def _ball_of_l1(self) -> None:
        moves = []
        for i, at in enumerate(self.start):
            unit = np.eye(len(self.start))[i]
            moves.append(self._column(0.0, np.inf))
            self._row(moves[-1], -unit, low=-at)
            self._row(moves[-1], unit, low=at)
        self._row(*moves, high=self.threat.radius)

    def _value(self, node: Node) -> tuple[np.ndarray, np.ndarray]:
        active = [i for i, name in enumerate(node.inputs) if not self.graph.is_constant(name)]
        a = self.values[node.inputs[active[0]]]
        match node.op:
            case "relu":
                return self._bent(a, [(0.0, 1.0)])
            case "leaky_relu":
                return self._bent(a, [(0.0, 1 - node.attrs["slope"])], node.attrs["slope"])
            case "abs":
                return self._bent(a, [(0.0, 2.0)], -1.0)
            case "clip":
                low, high = node.attrs.get("low", -np.inf), node.attrs.get("high", np.inf)
                bends = [(at, rise) for at, rise in ((low, 1.0), (high, -1.0)) if np.isfinite(at)]
                bounded = np.isfinite(low)
                return self._bent(a, bends, 0.0 if bounded else 1.0, low if bounded else 0.0)
            case "max" | "min":
                pair = [self._shaped(node, i) for i in (0, 1)]
                first, second = pair if node.op == "max" else [(-m, -c) for m, c in pair]
                sign = 1 if node.op == "max" else -1
                total = _sum(second, self._bent(_sum(first, (-second[0], -second[1])), [(0.0, 1.0)]))
                return sign * total[0], sign * total[1]
            case "max_pool":
                return self._pooled(node, a)
        return self._affine(node, active)

    def _affine(self, node: Node, active: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """The node as an affine map, read off its values at zero and at unit inputs."""
        zero = [self._argument(name, torch.zeros(1, *self._shape(name)).double()) for name in node.inputs]
        start = OPS[node.op].run(*zero, **node.attrs).reshape(-1).numpy()
        total = (np.zeros((len(start), 0)), start)
        for i in active:
            shape = self._shape(node.inputs[i])
            size = int(np.prod(shape))
            units = [z.expand(size, *z.shape[1:]) if k in active else z for k, z in enumerate(zero)]
            units[i] = torch.eye(size).double().reshape(size, *shape)
            slope = OPS[node.op].run(*units, **node.attrs).reshape(size, -1).numpy() - start
            matrix, constant = self.values[node.inputs[i]]
            total = _sum(total, (slope.T @ matrix, slope.T @ constant))
        return total

    def _shape(self, name: str) -> tuple[int, ...]:
        return () if self.graph.is_constant(name) else self.shapes[name]

    def _argument(self, name: str, zero: Tensor) -> Tensor:
        return self.graph.constant(name) if self.graph.is_constant(name) else zero

    def _shaped(self, node: Node, position: int) -> tuple[np.ndarray, np.ndarray]:
        """An input of the node, repeated to the shape of its value."""
        shape, name = self.shapes[node.name], node.inputs[position]
        if self.graph.is_constant(name):
            constant = self.graph.constant(name).expand(1, *shape).reshape(-1).numpy()
            return np.zeros((len(constant), 0)), constant
        size = int(np.prod(self.shapes[name]))
        index = torch.arange(size).reshape(self.shapes[name]).expand(shape).reshape(-1).numpy()
        matrix, constant = self.values[name]
        return matrix[index], constant[index]

    def _pooled(self, node: Node, z: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Every window's taps, found by putting one number above the others, and their maxima one after the other."""
        shape = self.shapes[node.inputs[0]]
        size = int(np.prod(shape))
        probe = (2 * torch.eye(size) - 1).double().reshape(size, *shape)
        taps = OPS["max_pool"].run(probe, **node.attrs).reshape(size, -1).numpy() == 1
        parts = []
        for window in range(taps.shape[1]):
            best, *rest = [(z[0][[i]], z[1][[i]]) for i in np.flatnonzero(taps[:, window])]
            for other in rest:
                best = _sum(best, self._bent(_sum(other, (-best[0], -best[1])), [(0.0, 1.0)]))
            parts.append(best)
        wide = max(m.shape[1] for m, _ in parts)
        matrix = np.concatenate([np.pad(m, ((0, 0), (0, wide - m.shape[1]))) for m, _ in parts])
        return matrix, np.concatenate([c for _, c in parts])

    def _bent(self, z: tuple, bends: list[tuple[float, float]], slope: float = 0.0, constant: float = 0.0) -> tuple:
        """constant + slope * z + the sum of rise * relu(z - kink)."""
        total = (slope * z[0], slope * z[1] + constant)
        for kink, rise in bends:
            units, offsets = [], []
            for row, offset in zip(z[0], z[1] - kink):
                unit, shift = self._relu(row, float(offset))
                units.append(unit)
                offsets.append(shift)
            wide = max(map(len, units))
            matrix = np.array([np.pad(unit, (0, wide - len(unit))) for unit in units])
            total = _sum(total, (rise * matrix, rise * np.array(offsets)))
        return total

    def _relu(self, row: np.ndarray, offset: float) -> tuple[np.ndarray, float]:
        low, high = np.array(self.low[: len(row)]), np.array(self.high[: len(row)])
        used = row != 0
        row_used = row[used]
        least = offset + float(np.where(row_used > 0, row_used * low[used], row_used * high[used]).sum())
        most = offset + float(np.where(row_used > 0, row_used * high[used], row_used * low[used]).sum())
        if least >= 0 or most <= 0:
            return (row, offset) if least >= 0 else (0 * row, 0.0)
        value, on = self._column(0.0, most), self._column(0.0, 1.0, 1)
        self._row(value, -row, low=offset)
        self._row(value, -row, -least * on, high=offset - least)
        self._row(value, -most * on, high=0.0)
        return value, 0.0

    def least(self, weight: np.ndarray, offset: np.ndarray) -> tuple[float, np.ndarray | None]:
        """The least value of the largest of rows weight [R, O] . outputs + offset [R], and the input where it is."""
        matrix, constant = self.values[self.graph.output]
        top = self._column(-np.inf, np.inf)
        for row, shift in zip(weight @ matrix, weight @ constant + offset):
            self._row(top, -row, low=float(shift))
        count, size = len(self.low), len(self.start)
        for _ in range(CUTS):
            coefficients = np.array([np.pad(row, (0, count - len(row))) for row, _, _ in self.rows])
            sides = [np.array(side) for side in zip(*((low, high) for _, low, high in self.rows))]
            rows = LinearConstraint(coefficients, sides[0], sides[1])  # pyright: ignore[reportArgumentType]
            bounds = (np.array(self.low), np.array(self.high))
            found = milp(np.pad(top, (0, count - len(top))), constraints=rows, integrality=self.whole, bounds=bounds)
            if found.x is None:
                return -np.inf, None
            x = found.x[:size]
            move = x - self.start
            length = np.linalg.norm(move)
            if self.threat.norm != "l2" or length <= self.threat.radius * (1 + 1e-6):
                return float(found.fun), x
            touch = move / length
            self._row(touch, high=float(self.threat.radius + touch @ self.start))
        return -np.inf, x


def _sum(a: tuple, b: tuple) -> tuple:
    """The sum of two values over different numbers of columns."""
    wide = max(a[0].shape[1], b[0].shape[1])
    padded = [np.pad(m, ((0, 0), (0, wide - m.shape[1]))) for m, _ in (a, b)]
    return padded[0] + padded[1], a[1] + b[1]


def lowest_by_program(graph: Graph, threat: Threat, x0: Tensor, rows: Rows) -> tuple[float, Tensor]:
    """The least margin around x0 [1, *shape] as the program has it, and the points [G, *shape] of every group."""
    least, points = np.inf, [x0]
    for group in rows.group.unique().tolist():
        own = rows.group == group
        weight, offset = rows.weight[0, own].double().numpy(), rows.offset[0, own].double().numpy()
        value, x = Program(graph, threat, x0).least(weight, offset)
        least = min(least, value)
        if x is not None:
            points.append(torch.from_numpy(x).reshape(x0.shape).to(x0))
    found = torch.cat(points)
    return least, threat.project(x0.expand_as(found), found)


def lowest_by_search(graph: Graph, threat: Threat, x0: Tensor, rows: Rows, count: int = 100) -> Tensor:
    """Points [K, *shape] of the threat around x0 [1, *shape] at which the margin may be least: random ones, corners,
    and some steps down from the best of them."""
    many = x0.expand(count, *x0.shape[1:]).clone()
    rng = RowRandom(torch.arange(count))
    inner = threat.sample(many, rng)
    signs = rng.uniform(x0.shape[1:], x0.dtype) * 2 - 1
    points = torch.cat(
        [inner, threat.project(many, many + 1e3 * threat.radius * signs), threat.extreme(many, signs), x0]
    )
    for step in (0.3, 0.1, 0.03, 0.01):
        best = points[margin(graph, rows, points).topk(8, largest=False).indices].requires_grad_()
        with torch.enable_grad():
            slope = torch.autograd.grad(margin(graph, rows, best).sum(), best, allow_unused=True)[0]
        if slope is None or not bool(slope.isfinite().all()):
            break
        around, start = best.detach(), x0.expand_as(best)
        low, high = threat.box(x0)
        moved = [around - step * (high - low) * slope.sign(), threat.extreme(start, slope)]
        points = torch.cat([points, *(threat.project(start, x) for x in moved)])
    return points


def margin(graph: Graph, rows: Rows, points: Tensor) -> Tensor:
    """The margins [K] of one question at points [K, *shape]."""
    outputs = graph(points).reshape(len(points), -1)
    value = outputs @ rows.weight[0].T + rows.offset[0]
    groups = [value[:, rows.group == group].amax(1) for group in rows.group.unique().tolist()]
    return torch.stack(groups).amin(0).nan_to_num(torch.inf, torch.inf, -torch.inf)
