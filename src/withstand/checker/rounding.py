"""The rounding errors of float64 and how they become slack.

*The model* (Higham, Accuracy and Stability of Numerical Algorithms, 2002, sections 2.2 and 3.1). Every operation
rounds to nearest: fl(a op b) = (a op b)(1 + d) + e with |d| <= u = 2^-53, and |e| <= 2^-1022 where it underflows, even
on machines that flush small numbers to zero. A product of matrices is made of dot products that add their terms in any
order, with or without fused multiply-add (which only rounds less often); no fast algorithm such as Strassen's is used.
Then for a dot product of n terms

    |fl(a . b) - a . b| <= gamma_n |a| . |b|,      gamma_n = n u / (1 - n u),                                 (1)

and a weight known only up to k roundings, w (1 + t) with |t| <= gamma_k, makes that gamma_(n + k).

*A step backward through an affine map.* Let the quantity q satisfy q >= a . v + c at every point of the region, with
the numbers a, c that the machine holds, and v = W w + b there. The machine computes a' = fl(a W), c' = fl(c + a . b),
and by (1), with |w| <= m over the region,

    q >= a' . w + c' - gamma_n |a| . (|W| m) - gamma_(n + 1) |a| . |b| - u |c'|.                                (2)

So an affine map has one vector, gamma_n |W| m + gamma_(n + 1) |b|, and its slack is one dot product a row: the
magnitudes |a| |W| need no product of matrices of their own. m is taken over the whole region of the certificate, so
that the vector serves every node.

*A step back through an activation* multiplies each coefficient once: the error is at most u |a'| . m. Where
coefficients of two branches meet, each sum adds u |a'| . m once more.

*Slack is computed in float64 too*: it is a sum of products of numbers >= 0, so that it is wrong by a share gamma_n,
less than 2^-20 for n < 2^30; `INFLATE` makes up for it. Underflow loses at most 2^-1022 in an operation, and what is
lost is then multiplied by values of at most `LARGE`, weights below 2^150, or a coefficient that the slack multiplies by
`TINY` too: with fewer than 2^60 operations less than `TINY` in all, even after a square root. A network with larger
values, infinities or NaN gets no bound.
"""

import numpy as np

Array = np.ndarray

UNIT = 2.0**-53
"""The unit roundoff u of float64."""

INFLATE = 1 + 2.0**-20
"""What makes a computed sum of numbers >= 0 an upper bound of the exact one, and of a few operations on it."""

WIDEN = 1 + 16 * UNIT
"""What makes up for the errors of a few operations on one number."""

TINY = 2.0**-300
"""More than all underflows of one row together."""

LARGE = 2.0**200
"""Magnitudes beyond this are not bounded."""


def gamma(terms: int) -> float:
    """gamma_n = n u / (1 - n u), rounded up: the relative error of a sum of n products."""
    return terms * UNIT / (1 - terms * UNIT) * INFLATE


def up(x: Array) -> Array:
    """The next number above: an upper bound of what was rounded to x."""
    return np.nextafter(x, np.inf)


def down(x: Array) -> Array:
    """The next number below: a lower bound of what was rounded to x."""
    return np.nextafter(x, -np.inf)


def middle(low: Array, high: Array) -> tuple[Array, Array]:
    """A point of [low, high] and a radius around it that covers the interval: 0 for a point.

    The radius is widened by a share, not to the next number, which for 0 would be so small that products get slow.
    """
    centre = low / 2 + high / 2
    return centre, np.maximum(high - centre, centre - low) * WIDEN


def total(parts: Array, sizes: Array, slack: Array) -> Array:
    """A lower bound of a sum of two rounded numbers less their slack: parts + sizes - slack, rounded down.

    slack: a computed sum of numbers >= 0 that bounds the errors made so far.
    """
    errors = (slack + 4 * UNIT * (np.abs(parts) + np.abs(sizes))) * INFLATE + TINY
    bound = down(parts + sizes - errors)
    return np.where(np.isfinite(bound), bound, -np.inf)
