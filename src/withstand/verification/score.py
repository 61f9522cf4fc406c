"""What a list of answers is worth: solved, wrong, and the competition's penalised time."""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from withstand.io.instances import Instance
from withstand.io.results import Result

VERDICTS = ("sat", "unsat")


@dataclass(frozen=True)
class Score:
    """Totals over instances. words: how many got each result. solved: sat or unsat and not wrong. wrong: contradict the
    known verdict. par2: the mean of seconds, an instance that is not solved counting twice its time limit (NaN where
    one has no limit).
    """

    count: int
    words: dict[str, int]
    solved: int
    wrong: int
    seconds: float
    cpu_seconds: float
    par2: float


def is_wrong(instance: Instance, result: Result) -> bool:
    """Whether the answer is a verdict and contradicts the known one."""
    return instance.known is not None and result.result in VERDICTS and result.result != instance.known


def score(answered: Iterable[tuple[Instance, Result]]) -> Score:
    """The totals of instances with their results."""
    pairs = list(answered)
    wrong = sum(is_wrong(*pair) for pair in pairs)
    times = [_penalised(*pair) for pair in pairs]
    words = Counter(result.result for _, result in pairs)
    return Score(
        len(pairs),
        {word: words[word] for word in ("sat", "unsat", "timeout", "unknown", "error")},
        words["sat"] + words["unsat"] - wrong,
        wrong,
        sum(result.seconds for _, result in pairs),
        sum(result.cpu_seconds for _, result in pairs),
        sum(times) / len(times) if times else math.nan,
    )


def _penalised(instance: Instance, result: Result) -> float:
    if result.result in VERDICTS and not is_wrong(instance, result):
        return result.seconds
    return math.nan if instance.timeout is None else 2 * instance.timeout
