"""VNN-LIB 1.0 as text: questions, and witnesses in the form of VNN-COMP."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from withstand.io.vnnlib.regions import Region


def write_witness(inputs: Sequence[str], outputs: Tensor) -> str:
    """A witness in VNN-COMP's form: `sat`, then ((X_0 v) ... (Y_0 v) ...), for one input, as decimals, and its
    outputs."""
    pairs = [f"(X_{i} {v})" for i, v in enumerate(inputs)]
    pairs += [f"(Y_{j} {v!r})" for j, v in enumerate(outputs.flatten().tolist())]
    return "sat\n(" + "\n".join(pairs) + ")\n"


def write_vnnlib(region: Region, comment: str = "") -> str:
    """A region as a file that `read_vnnlib` reads back: the same edges and rows, to the last bit."""
    assert region.threat.lower is not None
    assert region.threat.upper is not None
    lower, upper = (edge.double().flatten().tolist() for edge in (region.threat.lower, region.threat.upper))
    lines = [f"; {line}" for line in comment.splitlines()]
    lines += [f"(declare-const X_{i} Real)" for i in range(len(lower))]
    lines += [f"(declare-const Y_{j} Real)" for j in range(region.property.weight.shape[1])]
    for i, (low, high) in enumerate(zip(lower, upper, strict=True)):
        lines += [f"(assert (>= X_{i} {_decimal(low)}))", f"(assert (<= X_{i} {_decimal(high)}))"]
    groups = list(_groups(region))
    lines.append(f"(assert {groups[0]})" if len(groups) == 1 else "(assert (or\n  " + "\n  ".join(groups) + "))")
    return "\n".join(lines) + "\n"


def _groups(region: Region) -> Iterator[str]:
    """Every group of rows as the conjunction of what violates them."""
    group, weight, offset = (getattr(region.property, name) for name in ("group", "weight", "offset"))
    strict = torch.zeros(len(group), dtype=torch.bool) if region.strict is None else region.strict
    for number in range(int(group.max()) + 1):
        rows = (group == number).nonzero().squeeze(1).tolist()
        texts = (_row(weight[r].double().tolist(), float(offset[r]), "<" if strict[r] else "<=") for r in rows)
        yield f"(and {' '.join(texts)})"


def _row(weights: list[float], offset: float, sign: str) -> str:
    terms = [_scaled(w, f"Y_{j}") for j, w in enumerate(weights) if w] or ["0.0"]
    return f"({sign} {terms[0] if len(terms) == 1 else '(+ ' + ' '.join(terms) + ')'} {_decimal(-offset)})"


def _scaled(weight: float, name: str) -> str:
    return name if weight == 1 else f"(* {_decimal(weight)} {name})"


def _decimal(value: float) -> str:
    """The shortest decimal that is read as the same double, without an exponent, which some readers do not know."""
    return np.format_float_positional(value, trim="0")
