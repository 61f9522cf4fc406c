"""Arguments that several of the theory's functions take, checked in one sentence each."""

import math

from withstand.core.errors import InputError


def check_share(name: str, value: float, *, closed: bool = False) -> None:
    """Raise InputError unless the value lies in (0, 1), or in [0, 1] where `closed`."""
    if not (0 <= value <= 1 if closed else 0 < value < 1):
        where = "from 0 to 1" if closed else "between 0 and 1"
        raise InputError(f"{name} is {value:g}; give a number {where}.")


def check_positive(name: str, value: float, *, zero: bool = False) -> None:
    """Raise InputError unless the value is finite and above 0 (or 0, where `zero`)."""
    if not (math.isfinite(value) and (value > 0 or (zero and value == 0))):
        raise InputError(f"{name} is {value:g}; give a finite number {'of at least' if zero else 'above'} 0.")


def check_count(name: str, value: int) -> None:
    """Raise InputError unless the value is at least 1."""
    if value < 1:
        raise InputError(f"{name} is {value}; give 1 or more.")


def check_norm(name: str, value: float) -> None:
    """Raise InputError unless the value is the order of a norm, from 1 to infinity."""
    if not value >= 1:
        raise InputError(f"{name} is {value:g}; the order of a norm is a number from 1 to inf.")
