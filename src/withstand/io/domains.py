"""Data in a threat's domain: its scale, and the sentence where it does not lie there."""

import math
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

import torch

from withstand.core.errors import InputError
from withstand.core.threat import Threat
from withstand.core.tolerance import EDGE, FINE, bytes_in
from withstand.io.data import DIVIDED, Data

DIGITS = 4
"""Digits of a domain that is proposed."""


def into_domain(data: Data, threat: Threat) -> Data:
    """The data in the units of the threat's domain.

    Inputs of 8 bits are scaled as the domain says (see `withstand.core.tolerance.bytes_in`); others stay as they are,
    but for values that float32 rounds beyond the domain's edge, which are brought back. Both become notes.
    Raises InputError, with a domain that would do, when an input lies outside it.
    """
    data = _scaled(data, threat) if data.quantised else data
    low, high = float(data.x.min()), float(data.x.max())
    bottom, top = threat.domain
    share = FINE if data.x.dtype == torch.float64 else 1.0
    slack = EDGE * share * max([1.0, *(abs(edge) for edge in threat.domain if math.isfinite(edge))])
    if low < bottom - slack or high > top + slack:
        raise InputError(
            f"Inputs of {data.name} range from {low:.4g} to {high:.4g}, outside the threat's domain "
            f"[{bottom:g}, {top:g}]; {_bytes(low, high, threat)}state the domain, as in "
            f"{replace(threat, domain=enclosing(low, high, threat.domain)).text(_number)}, or bring the data into it."
        )
    kept = data.x.clamp(bottom, top)
    if kept.equal(data.x):
        return data
    note = f"Inputs beyond the domain [{bottom:g}, {top:g}] by a rounding error were brought into it."
    return replace(data, x=kept, notes=(*data.notes, note))


def enclosing(low: float, high: float, domain: tuple[float, float]) -> tuple[float, float]:
    """A domain that holds all from low to high: an edge that they pass is moved out to a number of four digits."""
    bottom, top = domain
    if low < bottom:
        bottom = float(Context(prec=DIGITS, rounding=ROUND_FLOOR).create_decimal(Decimal(low)))
    if high > top:
        top = float(Context(prec=DIGITS, rounding=ROUND_CEILING).create_decimal(Decimal(high)))
    return bottom, top


def _number(value: float) -> str:
    """A number that reads back exactly, without a needless point."""
    return repr(int(value)) if value.is_integer() and abs(value) < 1e6 else repr(value)


def _bytes(low: float, high: float, threat: Threat) -> str:
    """A hint where the data look like grey levels of 8 bits beside a domain of [0, 1]."""
    if threat.domain != (0.0, 1.0) or low < 0 or not 2 < high <= 255:
        return ""
    return "if these are grey levels of 8 bits, divide them by 255 or give them as uint8; else "


def _scaled(data: Data, threat: Threat) -> Data:
    scale = bytes_in(threat.domain)
    bottom, top = threat.domain
    if scale is None:
        raise InputError(
            f"{data.name} holds whole numbers from 0 to 255 (uint8), and the domain [{bottom:g}, {top:g}] does not say "
            "on what scale the model takes them; choose [0,1], [0,255] or a symmetric one as [-1,1], or give floats."
        )
    first, per_unit = scale
    x = (first + (data.x.double() * 255).round() / per_unit).to(data.x.dtype)
    if (first, per_unit) == (0.0, 255.0):
        return replace(data, x=x)
    note = f"Inputs were whole numbers from 0 to 255 (uint8); by the threat's domain they are {_told(first, per_unit)}."
    return replace(data, x=x, notes=(note, *(kept for kept in data.notes if kept != DIVIDED)))


def _told(first: float, per_unit: float) -> str:
    if per_unit == 1:
        return "taken as they are" if first == 0 else f"shifted by {first:g}"
    return f"brought from {first:g} to {first + 255 / per_unit:g}"
