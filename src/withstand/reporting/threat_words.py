"""What a threat lets happen to an input, in words for people who do not read norms."""

import math
from collections.abc import Sequence

from withstand.reporting.run import Ball


def threat_in_words(ball: Ball | None, shape: Sequence[int]) -> str:
    """One sentence without its full stop, or nothing for a threat that has no form of its own (a box of a question).

    shape: of one input. A size is told as a share of the range of values, where that is finite.
    """
    if ball is None:
        return ""
    value = "pixel" if len(shape) == 3 and shape[0] == 1 else "value"
    low, high = ball.domain
    within = "" if not math.isfinite(high - low) else f", within [{low:g}, {high:g}]"
    match ball.norm:
        case "linf":
            return f"each {value} may change by at most {_size(ball.radius, ball)}{within}"
        case "l2":
            each = _size(ball.radius / math.sqrt(math.prod(shape)), ball)
            return (
                f"the changes of all {value}s, squared and summed, may reach the square of {ball.radius:.4g}: one "
                f"{value} alone by {_size(ball.radius, ball)}, or each by {each}{within}"
            )
        case "l1":
            each = _size(ball.radius / math.prod(shape), ball)
            return f"the changes of all {value}s may add up to {ball.radius:.4g}, such as each by {each}{within}"
        case "l0":
            count = math.floor(ball.radius + 1e-9)
            return f"at most {count:,} {'pixel' if count == 1 else 'pixels'} may change, to any value{within}"
        case "patch":
            return f"the pixels of one rectangle of {ball.two.replace('x', ' by ')} anywhere may take any value{within}"
    return _moved(ball)


def _moved(ball: Ball) -> str:
    if ball.norm == "flow":
        return (
            "pixels may change places, neighbours alike: the moves of neighbouring pixels differ by at most "
            f"{ball.radius:.4g} of a pixel in the root of the mean square"
        )
    first, _, second = ball.two.partition(",")
    if ball.norm == "spatial":
        return f"the picture may be turned by at most {first} degrees and shifted by at most {second} pixels each way"
    if ball.norm == "flow+linf":
        noise = _size(_number(second), ball)
        return f"pixels may change places smoothly (flow of size {first}), then each value by at most {noise}"
    return ""


def _number(text: str) -> float:
    top, _, bottom = text.partition("/")
    return float(top) / float(bottom or 1)


def _size(size: float, ball: Ball) -> str:
    """A size of change, as a share of the range where that is finite."""
    width = ball.domain[1] - ball.domain[0]
    return f"{size:.4g}" if not math.isfinite(width) else f"{100 * min(1.0, size / width):.3g} % of its range"
