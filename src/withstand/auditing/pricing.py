"""What the stages of an audit cost: each is tried on a sample first, and begun on no more samples than the time is
enough for, so that none burns time in which it cannot come to an end."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from withstand.core.budget import Budget

PILOT = 0.25
"""Of a stage's time, the most that its first sample may take."""

SLACK = 1.25
"""A stage is begun on as many samples as fit in the time if each costs so much more than those before."""

FRUITLESS = 16
"""A stage that settled none of so many samples gives way to others, where it may."""

Work = Callable[[Tensor, Budget], Tensor]
"""Works on rows within a budget; returns those on which the time ended it."""


@dataclass
class Price:
    """seconds: what a sample costs, as measured on the last group, of `size` samples (0: none came to its end). vain:
    the longest time in which a first sample did not. done, settled: samples so far, and those of them it settled."""

    seconds: float = 0.0
    size: int = 0
    vain: float = 0.0
    done: int = 0
    settled: int = 0

    def affordable(self, left: float) -> int:
        """How many samples the stage may begin in so many seconds: at most twice as many as have come to their end."""
        if left <= 0:
            return 0
        if self.size == 0:
            return int(left * PILOT >= 2 * self.vain)
        return min(2 * self.size, int(left / (SLACK * self.seconds))) if self.seconds > 0 else 2 * self.size

    def why_not(self, left: float) -> str:
        """Why the stage is not begun on another sample."""
        if left <= 0:
            return "the time ran out"
        cost = f"about {self.seconds:.2g} s" if self.size else f"more than {self.vain:.2g} s"
        return f"a sample takes {cost}, its share of the time was {left:.2g} s"


@dataclass
class Prices:
    """The prices of stages by their names, as one process has measured them."""

    held: dict[str, Price] = field(default_factory=dict)

    def learn(self, other: "Prices") -> None:
        """Take over what another process has measured."""
        self.held |= other.held

    def run(
        self, name: str, rows: Tensor, work: Work, count_open: Callable[[], int], budget: Budget, *, yields: bool
    ) -> list[tuple[Tensor, str]]:
        """Let a stage work on rows, in growing groups as far as its budget goes, or at once where there is no end.

        count_open: how many samples have no verdict. yields: the stage gives way where it settles nothing. Returns the
        rows that it did not do, and why.
        """
        if budget.seconds is None:
            if len(rows):
                work(rows, budget)
            return []
        price = self.held.setdefault(name, Price())
        while len(rows):
            left, before = budget.left, count_open()
            if yields and price.done >= FRUITLESS and price.settled == 0:
                return [(rows, f"it settled none of {price.done} samples")]
            size = min(len(rows), price.affordable(left))
            if size == 0:
                return [(rows, price.why_not(left))]
            late = work(rows[:size], budget if price.size else budget.share(PILOT))
            took = left - budget.left
            if len(late):
                price.vain = max(price.vain, took) if price.size == 0 else price.vain
                return [(late, "the time ran out"), (rows[size:], price.why_not(budget.left))]
            price.seconds, price.size = took / size, max(size, price.size)
            price.done, price.settled = price.done + size, price.settled + before - count_open()
            rows = rows[size:]
        return []
