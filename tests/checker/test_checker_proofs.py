"""Certificates of a naive search: they hold when true, never when false, and agree with exact enumeration."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from checker.nets import KINDS, File, affine, chain, network
from checker.producer import prove, question
from checker.randoms import random_certificate, random_region, random_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from verification.tiny import exact_least_margin, relu_net

from withstand.checker.builder import Builder
from withstand.checker.certificate import Rows
from withstand.checker.check import GRADE, check, claim_bounds
from withstand.checker.file import load, save
from withstand.checker.network import Affine
from withstand.checker.reading import read_network
from withstand.checker.region import Region
from withstand.checker.visit import Visit
from withstand.core.evidence import Grade
from withstand.core.property import Linear


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", ["box", "l2"])
def test_a_search_proves_what_is_true(kind, norm, tmp_path):
    for seed in range(2):
        net, region, rows, least = question(kind, seed, norm, gap=2.0 if kind in ("mixed", "pooled") else 0.4)
        certificate = prove(net, region, rows)
        assert certificate is not None
        save(certificate, tmp_path / "proof.safetensors")
        report = check(load(tmp_path / "proof.safetensors"), net)
        assert report.holds
        assert report.failure == ""
        assert report.grade == GRADE == Grade.LEAVES
        assert rows.threshold < min(report.least) <= least
        assert report.claims == len(certificate.claims)


@pytest.mark.parametrize("anchors", [True, False])
def test_splits_of_inputs_alone_and_without_anchors(anchors):
    net, region, rows, _ = question("fc", 1, gap=0.3)
    certificate = prove(net, region, rows, neurons=not anchors, anchors=anchors, rounds=16)
    assert certificate is not None
    assert check(certificate, net).holds


@given(st.integers(0, 10**6))
@settings(max_examples=5, deadline=None)
def test_exact_minima_lie_between_what_is_proved_and_what_is_not(seed):
    """One hidden layer of six neurons: a threshold just below the exact minimum is proved, one just above never."""
    net = read_network(chain([2, 6, 2], seed))
    random = np.random.default_rng(seed)
    region, rows = random_region(2, random, "box"), random_rows(2, random, 2)
    maps = [step for step in net.steps if isinstance(step, Affine)]
    weights = [torch.from_numpy(m.maps[0].weight) for m in maps]  # type: ignore[attr-defined]
    graph = relu_net(weights, [torch.from_numpy(m.bias) for m in maps])  # type: ignore[arg-type]
    linear = Linear(
        *(torch.from_numpy(np.asarray(part)) for part in (rows.weight, rows.offset, rows.group.astype(int)))
    )
    exact = exact_least_margin(graph, linear, torch.from_numpy(region.low), torch.from_numpy(region.high))
    sure = prove(net, region, replace(rows, threshold=exact - 0.1))
    assert sure is None or min(check(sure, net).least) <= exact + 1e-9
    assert prove(net, region, replace(rows, threshold=exact + 1e-7), rounds=5) is None
    single = Rows(rows.weight[:1], rows.offset[:1], np.zeros(1, np.int32))
    one = Linear(torch.from_numpy(single.weight), torch.from_numpy(single.offset), torch.zeros(1, dtype=torch.long))
    exact = exact_least_margin(graph, one, torch.from_numpy(region.low), torch.from_numpy(region.high))
    assert prove(net, region, replace(single, threshold=exact - 0.1), neurons=False) is not None


def test_a_network_without_neurons_needs_no_splits():
    net = read_network(affine(0))
    region, random = random_region(3, np.random.default_rng(0), "box"), np.random.default_rng(0)
    rows = random_rows(3, random, 2)
    low, high = region.low, region.high
    step = net.steps[0]
    assert isinstance(step, Affine)
    assert step.bias is not None
    slope = rows.weight @ step.maps[0].weight  # type: ignore[attr-defined]
    least = np.minimum(slope * low, slope * high).sum(1) + rows.weight @ step.bias + rows.offset
    exact = [float(least[rows.group == g].max()) for g in range(2)]
    certificate = prove(net, region, replace(rows, threshold=min(exact) - 1e-9), rounds=1)
    assert certificate is not None
    found = check(certificate, net).least
    assert min(found) == pytest.approx(min(exact), abs=1e-12)


def test_stored_slopes_of_neurons_bounds_are_used():
    """On two layers whose second is bounded through the first, a search over slopes tightens the root's bounds."""
    net, region, rows, _ = question("fc", 18, gap=0.08, stretch=3)
    random, found = np.random.default_rng(0), []
    first, second = (a.neurons for a in net.activations)
    listed, neurons = np.arange(first.start, first.stop), np.arange(second.start, second.stop)
    for _ in range(60):
        builder = Builder(net, region, rows)
        root = np.full(2 * len(neurons), builder.root())
        stored = builder.slopes(listed, random.uniform(0, 1, (2 * len(neurons), len(listed))))
        builder.bound(root, np.tile(neurons, 2), np.repeat([False, True], len(neurons)), stored)
        builder.claim(np.zeros(1, int), np.zeros(1, int))
        found.append(float(claim_bounds(builder.certificate(), net)[0]))
    builder = Builder(net, region, rows)
    builder.claim(np.array([builder.root()]), np.zeros(1, int))
    adaptive = float(claim_bounds(builder.certificate(), net)[0])
    assert len(set(found)) > 30
    assert max(found) > adaptive > min(found)


def test_slopes_and_multipliers_tighten_claims():
    """A leaf that needs its split: |x| >= 0 is proved on [-1, 1] only by multipliers (or by both phases at once)."""
    file = File((1, 1), 0)
    y = file.add("Relu", file.add("MatMul", "x", file.constant([[1.0, -1.0]])))
    net = read_network(file.bytes(file.add("MatMul", y, file.constant([[1.0], [1.0]]))))
    rows = Rows(np.ones((1, 1)), np.array([1e-6]), np.zeros(1, np.int32))

    def bounds(slope: float, multiplier: float) -> np.ndarray:
        builder = Builder(net, Region(-np.ones(1), np.ones(1)), rows)
        leaves = np.concatenate(builder.split_neuron(np.array([builder.root()]), np.zeros(1, int), np.zeros(1)))
        slopes = builder.slopes(np.arange(2), np.full((2, 2), slope))
        builder.claim(leaves, np.zeros(2, int), None, slopes, np.full((2, 1), multiplier))
        return claim_bounds(builder.certificate(), net)

    assert bounds(0.0, 0.0) == pytest.approx([1e-6, -1 + 1e-6], abs=1e-12)
    assert bounds(0.0, 1.0)[1] == pytest.approx(1e-6, abs=1e-12)
    assert bounds(1.0, 0.0)[0] == pytest.approx(-1 + 1e-6, abs=1e-12)
    assert bounds(1.0, 1.0)[0] == pytest.approx(1e-6, abs=1e-12)


def test_a_point_is_proved_to_the_last_digits():
    net = network("residual", 3)
    x = np.random.default_rng(0).normal(size=3)
    value = float(net(x[None])[0, 0])
    rows = Rows(np.array([[1.0, 0, 0]]), np.zeros(1), np.zeros(1, np.int32))
    for below, holds in ((1e-12, True), (0.0, False)):
        certificate = prove(net, Region(x, x), replace(rows, threshold=value - below), rounds=1)
        assert (certificate is not None) == holds


@pytest.mark.parametrize("kind", ["fc", "residual", "mixed", "pooled"])
def test_layers_that_no_split_has_changed_need_not_be_bounded_again(kind, monkeypatch):
    net, certificates = network(kind, 0), [random_certificate(network(kind, 0), seed) for seed in range(6)]
    bounds = [claim_bounds(certificate, net) for certificate in certificates]
    age = Visit._age

    def old(*all) -> np.ndarray:
        return np.full_like(age(*all), -1)

    monkeypatch.setattr(Visit, "_age", old)
    for certificate, bound in zip(certificates, bounds, strict=True):
        assert np.array_equal(bound, claim_bounds(certificate, net))


def test_targets_are_in_force_at_anchors_below():
    """Slopes that decide a bound only after a split: stored at the root they count at the anchor of the child."""
    net = network("fc", 0)
    region, rows = random_region(3, np.random.default_rng(1), "box"), random_rows(3, np.random.default_rng(2), 1)
    first, second = (a.neurons for a in net.activations)
    neurons, found = np.arange(second.start, second.stop), []
    for stored in (None, 0.0, 1.0):
        builder = Builder(net, region, rows)
        root = builder.root()
        if stored is not None:
            slopes = builder.slopes(np.arange(first.start, first.stop), np.full((1, first.stop), stored))
            both = np.tile(neurons, 2), np.repeat([False, True], len(neurons))
            builder.bound(np.full(2 * len(neurons), root), *both, np.repeat(slopes, 2 * len(neurons)))
        left, right = builder.split_neuron(np.array([root]), np.zeros(1, int), np.zeros(1))
        builder.anchor(left)
        builder.claim(np.concatenate([left, right]), np.zeros(2, int))
        found.append(claim_bounds(builder.certificate(), net))
    assert len({tuple(bounds) for bounds in found}) == 3
