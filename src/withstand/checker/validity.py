"""Whether a certificate's numbers fit each other and the network, before anything is computed from them."""

import numpy as np

from withstand.checker.certificate import PARALLEL, Certificate
from withstand.checker.network import Network
from withstand.checker.ragged import Ragged
from withstand.checker.tree import Trees, grow, kinds_in_range
from withstand.core.errors import InputError

Array = np.ndarray

SUM = 1e-3
"""How far from 1 the weights of a claim may add up to."""

STEEPEST = 1e30
"""No slope is larger."""


def validate(certificate: Certificate, network: Network) -> Trees:
    """The trees of a certificate that is fit to be checked.

    Raises InputError, with the first thing that is wrong, when it is not.
    """
    _question(certificate, network)
    _nodes(certificate)
    kinds_in_range(certificate, network.inputs, network.neurons)
    trees = grow(certificate)
    _slopes(certificate, network)
    _claims(certificate, trees)
    _targets(certificate, trees, network)
    return trees


def _need(holds: bool | np.bool_, sentence: str) -> None:
    if not holds:
        raise InputError(sentence)


def _within(numbers: Array, low: int, end: int, what: str) -> None:
    _need(((numbers >= low) & (numbers < end)).all(), f"The certificate names {what} that does not exist.")


def _question(certificate: Certificate, network: Network) -> None:
    rows, size = certificate.rows, len(certificate.rows.group)
    _need(
        certificate.input_name == network.input_name and certificate.input_shape == network.input_shape,
        f"The certificate is about an input {certificate.input_name!r} of shape {certificate.input_shape}, the network "
        f"has {network.input_name!r} of shape {network.input_shape}.",
    )
    _need(certificate.region.low.shape == (network.inputs,), "The certificate's region has another number of inputs.")
    fits = size > 0 and rows.weight.shape == (size, network.outputs) and rows.offset.shape == (size,)
    _need(fits, f"The certificate's rows do not fit the network's {network.outputs} outputs.")
    finite = np.isfinite(rows.weight).all() and np.isfinite(rows.offset).all() and np.isfinite(rows.threshold)
    _need(finite, "The certificate's rows hold numbers that are not finite.")
    _within(rows.group, 0, size, "a group of rows")
    groups = len(certificate.tree)
    full = rows.groups == groups and bool(np.bincount(rows.group, minlength=groups).all())
    _need(full, "The certificate does not name one tree for each group of rows.")
    _within(certificate.tree, 0, len(certificate.root), "a tree")


def _nodes(certificate: Certificate) -> None:
    nodes, size = certificate.nodes, len(certificate.nodes)
    lengths = {len(nodes.anchor), len(nodes.place), len(nodes.point), len(nodes.child), size}
    _need(size > 0 and lengths == {size}, "The certificate's trees are damaged: their arrays differ in length.")
    _need(nodes.child.shape == (size, 2), "The certificate's trees are damaged: nodes have other than two places.")


def _slopes(certificate: Certificate, network: Network) -> None:
    held = certificate.slopes
    start = held.start
    ends = len(start) > 0 and start[0] == 0 and start[-1] == len(held.neuron) and (np.diff(start) >= 0).all()
    _need(ends, "The certificate's lists of neurons are damaged.")
    _within(held.neuron, 0, network.neurons, "a neuron")
    fresh = np.zeros(len(held.neuron) + 1, bool)
    fresh[start] = True
    rising = (np.diff(held.neuron) > 0) | fresh[1 : len(held.neuron)]
    _need(rising.all(), "The certificate's lists of neurons are not in rising order.")
    _within(held.list, 0, len(start) - 1, "a list of neurons")
    curved = np.concatenate([[0], np.cumsum(network.curved[held.neuron])])
    numbers = np.diff(curved[start])[held.list].sum()
    shares = np.diff(start)[held.list].sum() - numbers
    _need(
        (len(held.shares), len(held.numbers)) == (shares, numbers),
        "The certificate has another number of slopes than its lists of neurons.",
    )
    _need((np.abs(held.numbers) <= STEEPEST).all(), "The certificate has slopes that are no finite numbers.")


def _claims(certificate: Certificate, trees: Trees) -> None:
    claims = certificate.claims
    size = len(claims)
    _need({len(claims.group), len(claims.slopes), len(claims.count)} == {size}, "The certificate's claims are damaged.")
    _within(claims.node, 0, len(certificate.nodes), "a node")
    _within(claims.group, 0, len(certificate.tree), "a group of rows")
    _within(claims.slopes, PARALLEL, len(certificate.slopes), "a row of slopes")
    _need(
        (certificate.tree[claims.group] == trees.tree[claims.node]).all(),
        "The certificate claims something of a group in another tree than the group's.",
    )
    members = np.bincount(certificate.rows.group)[claims.group]
    weight = claims.weight.astype(np.float64)
    _need(len(weight) == members.sum(), "The certificate has another number of weights than its claims need.")
    _need((weight >= 0).all() and np.isfinite(weight).all(), "The certificate has weights below zero or not finite.")
    sums = np.add.reduceat(weight, Ragged.of(members).start[:-1]) if size else np.ones(0)
    _need((np.abs(sums - 1) <= SUM).all(), "The certificate has a claim whose weights do not add up to 1.")
    fits = (claims.count == 0) | (claims.count == trees.pulls[claims.node])
    _need(
        fits.all() and claims.count.sum() == len(claims.multipliers),
        "The certificate has a claim with another number of multipliers than neurons were split above it.",
    )
    positive = (claims.multipliers >= 0).all() and np.isfinite(claims.multipliers).all()
    _need(positive, "The certificate has multipliers below zero or not finite.")


def _targets(certificate: Certificate, trees: Trees, network: Network) -> None:
    targets = certificate.targets
    lengths = {len(targets.neuron), len(targets.upper), len(targets.slopes), len(targets)}
    _need(len(lengths) == 1, "The certificate's targets are damaged.")
    _within(targets.node, 0, len(certificate.nodes), "a node")
    _within(targets.neuron, 0, network.neurons, "a neuron")
    _within(targets.slopes, 0, len(certificate.slopes), "a row of slopes")
    anchor = (certificate.nodes.anchor[targets.node] > 0) | (trees.parent[targets.node] < 0)
    _need(anchor.all(), "The certificate stores slopes of neurons' bounds at a node that is no anchor.")
