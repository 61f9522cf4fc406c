"""Threats as text: `linf:8/255`, `linf:8/255@u8`, `l2:2`, `l1:8[-1,1]`, `l0:10`, `patch:5x5`, `flow:0.3`,
`spatial:30,3`."""

import math
import re

from withstand.core.balls import L1, L2, Linf
from withstand.core.errors import InputError
from withstand.core.flow_linf import FlowLinf
from withstand.core.patch import Patch
from withstand.core.sparse import L0
from withstand.core.spatial import Flow, Spatial
from withstand.core.threat import Threat
from withstand.core.tolerance import bytes_in, grid

NORMS: dict[str, type[Threat]] = {kind.norm: kind for kind in (Linf, L2, L1, L0, Patch, Flow, FlowLinf, Spatial)}
PAIRS = {
    Spatial.norm: (Spatial, "spatial:DEGREES,PIXELS, as in spatial:30,3"),
    FlowLinf.norm: (FlowLinf, "flow+linf:TAU,EPS, as in flow+linf:0.1,0.03"),
}
"""Threats of two numbers, and how they are written."""

_FORM = re.compile(r"(?P<norm>[\w+]+):(?P<radius>[^\[\]@]+)(?:\[(?P<low>[^,\]]+),(?P<high>[^,\]]+)\])?(?P<u8>@u8)?")
_HELP = (
    "write it as NORM:RADIUS with NORM one of linf, l2, l1, l0, flow, for example linf:8/255, l2:0.5[-1,1], l0:10, "
    "linf:8/255@u8 or flow:0.3, as patch:HEIGHTxWIDTH, as spatial:DEGREES,PIXELS or as flow+linf:TAU,EPS"
)


def _number(text: str, threat: str) -> float:
    try:
        top, _, bottom = text.partition("/")
        value = float(top) / float(bottom) if bottom else float(top)
    except (ValueError, ZeroDivisionError):
        raise InputError(f"Threat {threat!r} holds {text!r}, which is not a number; {_HELP}.") from None
    if math.isnan(value):
        raise InputError(f"Threat {threat!r} holds a NaN; {_HELP}.")
    return value


def parse_threat(text: str) -> Threat:
    """A threat from its text: norm, radius (a number or a fraction), optional [low,high] domain, optional @u8.

    Raises InputError with the form to write when it does not parse.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None or found["norm"] not in NORMS:
        raise InputError(f"Threat {text!r} is not understood; {_HELP}.")
    low, high = (_number(found[k], text) if found[k] else d for k, d in (("low", 0.0), ("high", 1.0)))
    if low >= high:
        raise InputError(f"Threat {text!r} has the domain [{low:g}, {high:g}]; the first number must be the smaller.")
    levels = 255 if found["u8"] else None
    if levels and bytes_in((low, high)) != grid((low, high), 255):
        raise InputError(
            f"Threat {text!r} has inputs of 8 bits on [{low:g}, {high:g}], a domain that does not say on what scale; "
            "choose [0,1], [0,255] or a symmetric one such as [-1,1], or leave out @u8."
        )
    if found["norm"] in PAIRS:
        first, comma, second = found["radius"].partition(",")
        if not comma:
            raise InputError(f"Threat {text!r} holds one number; write {PAIRS[found['norm']][1]}.")
        return PAIRS[found["norm"]][0](1.0, (low, high), levels, None, _size(first, text), _size(second, text))
    if found["norm"] == Patch.norm:
        sides = re.fullmatch(r"\s*(\d+)\s*x\s*(\d+)\s*", found["radius"])
        if sides is None:
            raise InputError(f"Threat {text!r} has no height and width; write patch:HEIGHTxWIDTH, as in patch:5x5.")
        return Patch(1.0, (low, high), levels, window=(int(sides[1]), int(sides[2])))
    return NORMS[found["norm"]](_size(found["radius"], text), (low, high), levels)


def _size(text: str, threat: str) -> float:
    size = _number(text, threat)
    if size < 0 or math.isinf(size):
        raise InputError(f"Threat {threat!r} has the radius {size:g}; it must be zero or a positive number.")
    return size
