"""Bounds: sound lower bounds on margins over a threat, from one rule record for each operator."""

from withstand.bounds.interval import interval
from withstand.bounds.margin import Bounds, grade, lower_bound, prepare
from withstand.bounds.support import unboundable

__all__ = ["Bounds", "grade", "interval", "lower_bound", "prepare", "unboundable"]
