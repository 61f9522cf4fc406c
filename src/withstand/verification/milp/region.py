"""The inputs of one question as columns and rows: box and linf exactly, l1 by auxiliary columns, l2 by outer cuts."""

import numpy as np
from torch import Tensor

from withstand.core.threat import Threat
from withstand.verification.milp.program import Array, Form, Program, constants, stacked, summed

CLOSE = 1e-6
"""By what share of the squared radius a point may leave an l2 ball before more cuts are worth it."""


class Region:
    """The threat around one input x0 [1, *shape] (float64), as columns of a program.

    inputs: the flat input as a form of the columns. A threat without a linear form of its own (l0, a patch) is relaxed
    to the box around it, and the program is not exact then.
    """

    def __init__(self, program: Program, threat: Threat, x0: Tensor) -> None:
        self.program, self.threat = program, threat
        self.start = x0.flatten().double().numpy()
        self.low, self.high = (end.flatten().double().numpy() for end in threat.box(x0))
        self.radius = float(threat.reaches(x0).max()) if threat.norm in ("l1", "l2") else np.inf
        self._parts: Form | None = None
        self._squares: Form | None = None
        program.exact = threat.norm in ("linf", "box", "l1", "l2")
        if threat.norm == "l1":
            self.inputs = self._by_parts()
        else:
            self.inputs = program.add(self.low, self.high, lambda x: x)
        if threat.norm == "l2":
            self._square()

    def _by_parts(self) -> Form:
        """x = x0 + rises - falls, whose sum is at most the radius."""
        start, size = self.start, len(self.start)
        room = np.concatenate([self.high - start, start - self.low]).clip(min=0)

        def parts(x: Array) -> Array:
            return np.concatenate([x - start, start - x]).clip(min=0)

        self._parts = self.program.add(np.zeros(2 * size), room, parts)
        self.program.constrain(summed(self._parts), -np.inf, self.radius)
        return self._parts[np.arange(size)] - self._parts[size + np.arange(size)] + constants(start)

    def _square(self) -> None:
        """A column above the square of each move, whose sum is at most the radius squared."""
        moves, size = self.moves, len(self.start)
        most = np.maximum((self.high - self.start) ** 2, (self.start - self.low) ** 2)
        self._squares = self.program.add(np.zeros(size), most, lambda columns: moves.value(columns) ** 2)
        self.program.constrain(summed(self._squares), -np.inf, self.radius**2)
        even = np.full(size, self.radius / np.sqrt(size))
        for touch in (even, -even, 2 * even, -2 * even):
            self._touch(self.program, np.arange(size), touch)

    def _touch(self, program: Program, index: Array, touch: Array) -> None:
        """Tangents below the squares of some moves: square >= 2 * touch * move - touch ** 2."""
        assert self._squares is not None
        below = self._squares[index] - self.moves[index].scaled(2 * touch)
        program.constrain(below, -(touch**2), np.inf)

    @property
    def moves(self) -> Form:
        """x - x0."""
        return self.inputs.shifted(-self.start)

    def cut(self, program: Program, columns: Array) -> bool:
        """Add to the program, the region's own or a copy, the cuts of an l2 ball that a solution breaks. Whether it
        left the ball, or its own length, by enough to make another solution worth it."""
        if self._squares is None:
            return False
        moves, squares = self.moves.value(columns), self._squares.value(columns)
        over = moves**2 - squares
        off = (over > CLOSE * self.radius**2 / len(over)).nonzero()[0]
        self._touch(program, off, moves[off])
        return bool(len(off)) and float(over[off].sum()) > CLOSE * self.radius**2

    def distance(self) -> Form:
        """The distance |x - x0| as one form, squared for l2. Raises ValueError for other threats."""
        if self._parts is not None:
            return summed(self._parts)
        if self._squares is not None:
            return summed(self._squares)
        if self.threat.norm != "linf":
            raise ValueError(f"there is no distance of a threat {self.threat.norm}")
        moves = self.moves
        reach = np.maximum(self.high - self.start, self.start - self.low).max(keepdims=True)
        far = self.program.add(np.zeros(1), reach, lambda columns: np.abs(moves.value(columns)).max(keepdims=True))
        every = far[np.zeros(len(self.start), dtype=int)]
        self.program.constrain(stacked([every - moves, every + moves]), 0.0, np.inf)
        return far
