"""No bound of the checker lies above what the network does, whatever a certificate says."""

import numpy as np
import pytest
from checker.nets import KINDS, network
from checker.randoms import members, points_of, random_certificate
from hypothesis import given, settings
from hypothesis import strategies as st

from withstand.checker.check import check, claim_bounds, walk
from withstand.checker.file import from_bytes, to_bytes


def sound(kind: str, norm: str, seed: int) -> int:
    """Check one random certificate against points; gives how many claims had points and a finite bound."""
    net = network(kind, seed % 5)
    certificate = from_bytes(to_bytes(random_certificate(net, seed, norm)))
    points = points_of(net, certificate.region, certificate.rows, np.random.default_rng(seed))
    best, belongs = points.best(certificate.rows), members(certificate, points)
    told, bounds = 0, claim_bounds(certificate, net)
    for bound, node, group in zip(bounds, certificate.claims.node, certificate.claims.group):
        if belongs[node].any():
            least = best[belongs[node], group].min()
            assert bound <= least + 1e-9, f"claim at node {node} for group {group}: {bound} > {least}"
            told += bool(np.isfinite(bound))
    if (bounds > certificate.rows.threshold).all() and check(certificate, net).holds:
        assert (best > certificate.rows.threshold).all()
    return told


@pytest.mark.parametrize("norm", ["box", "l1", "l2"])
@pytest.mark.parametrize("kind", KINDS)
@given(st.integers(0, 10**6))
@settings(max_examples=5, deadline=None)
def test_bounds_of_random_certificates_hold_at_points(kind, norm, seed):
    sound(kind, norm, seed)


def test_random_certificates_say_something():
    assert sum(sound(kind, "box", seed) for kind in KINDS for seed in range(3)) > 50


@pytest.mark.parametrize("kind", ["fc", "conv", "mixed"])
def test_a_walk_over_some_claims_from_known_bounds_finds_what_a_whole_one_does(kind):
    for seed in range(6):
        net = network(kind, seed)
        certificate = random_certificate(net, seed)
        whole = walk(certificate, net)
        wanted = np.random.default_rng(seed).permutation(len(certificate.claims))[:5]
        part = walk(certificate, net, wanted, known=whole)
        assert part.bound[wanted] == pytest.approx(whole.bound[wanted], rel=1e-9, abs=1e-9)
        assert np.isneginf(part.bound).any()
