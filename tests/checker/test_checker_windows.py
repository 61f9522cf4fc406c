"""Rows carried back as windows of images against the same rows over whole images."""

import numpy as np
import pytest
from checker.nets import File
from hypothesis import given, settings
from hypothesis import strategies as st

from withstand.checker import bounds
from withstand.checker.bounds import Bounder, Parts
from withstand.checker.network import Network
from withstand.checker.reading import read_network
from withstand.checker.region import Region


def images(seed: int, activation: str = "Relu") -> Network:
    """Three convolutions of random strides, pads, dilations and groups, with shifts and scales in between."""
    file = File((1, 2, 12, 11), seed)
    random, channels = file.random, 2
    y = file.add("Sub", "x", file.constant(random.normal(size=(2, 1, 1)) / 5))
    y = file.add("Div", y, file.constant(random.uniform(0.5, 2, (2, 1, 1))))
    for _ in range(3):
        groups = int(random.choice([1, 2]))
        kernel = random.integers(1, 4, 2).tolist()
        attrs = {
            "strides": random.integers(1, 3, 2).tolist(),
            "pads": random.integers(0, 2, 4).tolist(),
            "dilations": random.integers(1, 3, 2).tolist() if max(kernel) < 3 else [1, 1],
        }
        weight = file.normal(4, channels // groups, *kernel, scale=0.6)
        y = file.add("Conv", y, weight, file.normal(4, scale=0.3), group=groups, **attrs)
        y = file.add("Mul", y, file.constant(random.normal(size=(4, 1, 1))))
        y, channels = file.add(activation, file.add("Add", y, file.normal(4, 1, 1, scale=0.2))), 4
    return read_network(file.bytes(file.add("ReduceSum", y)))


def refined(network: Network, region: Region, count: int) -> Parts:
    """Bounds over the whole region, and over some boxes in it."""
    bounder = Bounder(network, region)
    whole = bounder.refine(bounder.whole())
    if count == 1:
        return whole
    several = whole[np.zeros(count, int)]
    half = (region.high - region.low) / 4
    several.low[:], several.high[:] = region.low + half * np.arange(count)[:, None] / 4, region.high - half
    return bounder.refine(several)


@pytest.mark.parametrize(("norm", "count"), [("box", 1), ("box", 3), ("l2", 1), ("l1", 1)])
@given(st.integers(0, 10**6))
@settings(max_examples=6, deadline=None)
def test_windows_and_whole_rows_agree(norm, count, seed):
    network = images(seed, "Tanh" if seed % 4 == 0 else "Relu")
    random = np.random.default_rng(seed)
    centre = random.normal(size=network.inputs)
    region = Region(centre - 0.1, centre + 0.1, norm, centre, 0.6)
    by_windows = refined(network, region, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "windowed", lambda *_: None)
        by_rows = refined(network, region, count)
    np.testing.assert_allclose(by_windows.below, by_rows.below, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(by_windows.above, by_rows.above, rtol=1e-9, atol=1e-9)


def test_windows_are_used(monkeypatch):
    calls = []
    true = bounds.windowed

    def watched(*given):
        found = true(*given)
        calls.append(found is not None and found[1])
        return found

    monkeypatch.setattr(bounds, "windowed", watched)
    network = images(3)
    centre = np.zeros(network.inputs)
    refined(network, Region(centre - 0.3, centre + 0.3), 1)
    assert 0 in calls
