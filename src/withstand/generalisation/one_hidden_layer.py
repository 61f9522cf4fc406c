"""A robust margin bound for networks with one hidden layer of ReLUs, two classes and no biases.

The class is {x -> sum_j a_j relu(<w_j, x>): ||a||_1 <= A, ||w_j||_p <= W}, the attacker moves x by up to eps in the
r-norm. The robust margin of a sample is at least the sum of |a_j| times each neuron's own worst case,

    m(x, y) = sum_j |a_j| min over ||delta||_r <= eps of sign(a_j) y relu(<w_j, x + delta>),

which has a closed form. Each summand is a 1-Lipschitz function, 0 at 0, of the worst margin of a linear classifier with
label y or -y. So by Talagrand's contraction lemma, and as the supremum over a convex hull is one over its corners, the
Rademacher complexity of these margins is at most 2 A times the adversarial one of {||w||_p <= W}; Bartlett and
Mendelson's margin bound (JMLR 3, 2002) then bounds the robust error.

This is a derivation of our own. Yin, Ramchandran and Bartlett (2019, arXiv:1810.11914) bound a surrogate by
semidefinite programming instead; the constants of their theorem could not be verified, so they are not here. As for
linear classifiers, the bound depends on the dimension through eps unless p = 1.
"""

import math

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.generalisation.bound import Bound
from withstand.generalisation.checks import check_positive, check_share
from withstand.generalisation.rademacher import dual, natural_bound, slack


def neuronwise_margin(
    x: Tensor, y: Tensor, first: Tensor, second: Tensor, *, eps: float, r: float = math.inf
) -> Tensor:
    """A lower bound on the worst margin y f(x + delta) of every sample, each neuron attacked on its own: [n].

    x [n, d], y [n] of +1 and -1, first [m, d] and second [m] the weights of f(x) = <second, relu(first x)>.
    """
    reach = eps * torch.linalg.vector_norm(first, dual(r), dim=1)
    before = x @ first.T
    helps = (y[:, None] * second[None, :]) > 0
    worst = torch.where(helps, (before - reach).relu(), -(before + reach).relu())
    return worst @ second.abs()


def complexity_bound(x: Tensor, *, outer: float, inner: float, eps: float, p: float = 2, r: float = math.inf) -> float:
    """An upper bound on the Rademacher complexity of `neuronwise_margin` over the class, in closed form.

    outer: A, the bound on ||a||_1. inner: W, the bound on every ||w_j||_p.
    """
    n, d = x.shape
    return 2 * outer * (natural_bound(x, p=p, radius=inner) + slack(n, d, eps=eps, p=p, radius=inner, r=r))


def robust_margin_bound(
    x: Tensor,
    y: Tensor,
    first: Tensor,
    second: Tensor,
    *,
    outer: float,
    inner: float,
    margin: float,
    eps: float,
    p: float = 2,
    r: float = math.inf,
    delta: float = 0.05,
) -> Bound:
    """A bound on the robust error at radius eps: the share of samples whose `neuronwise_margin` is below `margin`, plus
    2/margin times the complexity, plus 3 sqrt(ln(2 / delta) / (2 n)).

    The class (outer, inner) and the margin are fixed before the sample is seen: choosing them by the trained weights
    needs a smaller delta for each choice that was open. Raises InputError when the weights lie outside the class.
    """
    check_share("delta", delta)
    check_positive("The margin", margin)
    norms = torch.linalg.vector_norm(first, p, dim=1)
    if float(second.abs().sum()) > outer or float(norms.max()) > inner:
        raise InputError(
            f"The network lies outside the class: ||a||_1 is {float(second.abs().sum()):.4g} (at most {outer:g}) and "
            f"the largest ||w_j||_{p:g} {float(norms.max()):.4g} (at most {inner:g}); give larger limits."
        )
    low = neuronwise_margin(x, y, first, second, eps=eps, r=r) < margin
    complexity = complexity_bound(x, outer=outer, inner=inner, eps=eps, p=p, r=r)
    spread = 3 * math.sqrt(math.log(2 / delta) / (2 * len(x)))
    return Bound("robust margin", float(low.double().mean()) + 2 / margin * complexity + spread, delta)
