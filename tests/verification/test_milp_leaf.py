"""Exact leaves: linear programs of single domains, against another formulation and against sampling."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import random_net

from withstand.verification.milp.leaf import Choices, Domain, Leaf, ReluState, Rows, backward

SIZES = st.lists(st.integers(1, 6), min_size=1, max_size=3)


def chain(sizes, seed):
    """The matrices of a random network, the last ones rows of a question."""
    graph = random_net(sizes, seed)
    depth = len(sizes) - 1
    return [tuple(graph.constant(f"{kind}{i}").numpy() for kind in "wb") for i in range(depth)]


def rows_of(maps, network):
    """The last map as rows over the state."""
    weight, offset = maps[-1]
    state = network.inputs + sum(len(bias) for _, bias in network.blocks)
    return Rows(np.hstack([np.zeros((len(offset), state - weight.shape[1])), weight]), offset)


def interval(maps, low, high):
    """Bounds of all pre-activations, by intervals."""
    below, above = [], []
    for weight, bias in maps[:-1]:
        middle, half = weight @ (low + high) / 2 + bias, np.abs(weight) @ (high - low) / 2
        below.append(middle - half)
        above.append(middle + half)
        low, high = below[-1].clip(min=0), above[-1].clip(min=0)
    return np.concatenate(below), np.concatenate(above)


def before(maps, x):
    """All pre-activations [K, U] and the rows [K, R] of points [K, n]."""
    found = []
    for weight, bias in maps[:-1]:
        found.append(x @ weight.T + bias)
        x = found[-1].clip(min=0)
    return np.hstack(found), x @ maps[-1][0].T + maps[-1][1]


def by_equalities(maps, domain):
    """The same program with a column for every pre-activation and activation, solved by scipy."""
    from scipy.optimize import linprog

    sizes = [len(bias) for _, bias in maps[:-1]]
    inputs, neurons = len(domain.low), sum(sizes)
    columns = inputs + 2 * neurons + 1
    same, same_to, less, less_to = [], [], [], []
    ends = np.cumsum([0, *sizes])
    last = np.eye(columns)[:inputs]
    for i, (weight, bias) in enumerate(maps[:-1]):
        z = np.eye(columns)[inputs + ends[i] : inputs + ends[i + 1]]
        a = np.eye(columns)[inputs + neurons + ends[i] : inputs + neurons + ends[i + 1]]
        same.append(z - weight @ last)
        same_to.append(bias)
        for k, (low, high) in enumerate(zip(domain.below[ends[i] : ends[i + 1]], domain.above[ends[i] : ends[i + 1]])):
            if low >= 0 or high <= 0:
                same.append((a[k] - (low >= 0) * z[k])[None])
                same_to.append([0.0])
            else:
                less += [-a[k], z[k] - a[k], a[k] - high / (high - low) * z[k]]
                less_to += [0.0, 0.0, -low * high / (high - low)]
            sign = domain.phase[ends[i] + k]
            if sign:
                less.append(-sign * z[k])
                less_to.append(-sign * (low if sign > 0 else high))
        last = a
    weight, bias = maps[-1]
    for row, constant in zip(weight @ last, bias):
        row = row.copy()
        row[-1] = -1.0
        less.append(row)
        less_to.append(-constant)
    bounds = [*zip(domain.low, domain.high), *[(None, None)] * (2 * neurons + 1)]
    found = linprog(
        np.eye(columns)[-1], np.array(less), np.array(less_to), np.concatenate(same), np.concatenate(same_to), bounds
    )
    assert found.status in (0, 2)
    return found.fun if found.success else np.inf


def a_domain(maps, seed, fixed):
    """A random box, with about a share `fixed` of the bent neurons cut at 0, or somewhere else in their range."""
    rng = np.random.default_rng(seed)
    inputs = maps[0][0].shape[1]
    middle, half = rng.uniform(-1, 1, inputs), rng.uniform(0.1, 1, inputs)
    below, above = interval(maps, middle - half, middle + half)
    phase = np.zeros(len(below))
    for i in ((below < 0) & (above > 0) & (rng.random(len(below)) < fixed)).nonzero()[0]:
        phase[i] = rng.choice([-1, 1])
        edge = 0.0 if rng.random() < 0.7 else rng.uniform(below[i], above[i])
        if phase[i] > 0:
            below[i] = edge
        else:
            above[i] = edge
    return Domain(middle - half, middle + half, below, above, phase)


def check(sizes, seed, fixed, outputs):
    maps = chain([3, *sizes, outputs], seed)
    network = ReluState.chain([w for w, _ in maps], [b for _, b in maps])
    rows, domain = rows_of(maps, network), a_domain(maps, seed, fixed)
    answer = Leaf(network).least(domain, rows)
    truth = by_equalities(maps, domain)
    choices = answer.choices
    assert choices.mix.sum() == pytest.approx(1)
    assert (choices.mix >= 0).all()
    assert (choices.prices >= 0).all()
    assert ((choices.slopes >= 0) & (choices.slopes <= 1)).all()
    assert answer.bound == backward(network, domain, rows, choices)
    if np.isinf(truth):
        assert answer.x is None
        assert answer.bound > 0
        return
    assert answer.x is not None
    assert ((answer.x >= domain.low) & (answer.x <= domain.high)).all()
    assert answer.bound == pytest.approx(truth, abs=1e-7)
    if not domain.bent.any():
        assert before(maps, answer.x[None])[1].max() == pytest.approx(truth, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(0, 10**6), st.sampled_from([0.0, 0.4, 1.0]), st.integers(1, 4))
def test_a_domain_is_solved_as_by_another_formulation(sizes, seed, fixed, outputs):
    check(sizes, seed, fixed, outputs)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None)
@given(SIZES, st.integers(0, 10**6), st.sampled_from([0.0, 0.4, 1.0]), st.integers(1, 4))
def test_thousands_of_domains_are_solved_as_by_another_formulation(sizes, seed, fixed, outputs):
    check(sizes, seed, fixed, outputs)


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(0, 10**6))
def test_any_choices_give_a_sound_bound(sizes, seed):
    rng = np.random.default_rng(seed)
    maps = chain([3, *sizes, 2], seed)
    network = ReluState.chain([w for w, _ in maps], [b for _, b in maps])
    domain = a_domain(maps, seed, 0.3)
    neurons = len(domain.phase)
    mix = rng.dirichlet(np.ones(2))
    choices = Choices(mix, rng.random(neurons), rng.random(neurons) * 2)
    bound = backward(network, domain, rows_of(maps, network), choices)
    z, value = before(maps, rng.uniform(domain.low, domain.high, (4000, 3)))
    inside = ((z >= domain.below - 1e-9) & (z <= domain.above + 1e-9)).all(1)
    assert (value[inside].max(1) >= bound - 1e-9).all()


def test_the_distance_network_is_exact_once_its_phase_is_known():
    weight = np.array([[1.0, -1.0], [-1.0, 1.0]])
    network = ReluState.chain([weight, np.ones((1, 2))], [np.zeros(2), np.zeros(1)])
    rows = Rows(np.array([[0.0, 0.0, -1.0, -1.0]]), np.array([1.5]))  # 1.5 - |x0 - x1|
    box = (np.zeros(2), np.ones(2))
    leaf = Leaf(network)
    whole = leaf.least(Domain(*box, -np.ones(2), np.ones(2), np.zeros(2)), rows)
    assert whole.bound == pytest.approx(0.5)  # the chords add up to 1: |x0 - x1| <= 1
    left = Domain(*box, np.array([0.0, -1.0]), np.array([1.0, 0.0]), np.array([1.0, -1.0]))
    found = leaf.least(left, rows)
    assert found.bound == pytest.approx(0.5)
    assert found.x == pytest.approx([1.0, 0.0])


def test_a_neuron_cannot_be_positive_and_its_opposite_too():
    weight = np.array([[1.0, -1.0], [-1.0, 1.0]])
    network = ReluState.chain([weight, np.ones((1, 2))], [-np.full(2, 0.1), np.zeros(1)])
    rows = Rows(np.array([[0.0, 0.0, 1.0, 1.0]]), np.array([-9.0]))
    both = Domain(np.zeros(2), np.ones(2), np.zeros(2), np.full(2, 0.9), np.ones(2))
    answer = Leaf(network).least(both, rows)
    assert answer.x is None
    assert answer.bound > 0
    assert answer.choices.prices.min() > 0


def test_blocks_may_read_the_whole_state():
    """A residual network: z1 = x0 + relu(x0) - 1 on [-1, 1] is least at -1, most at 1."""
    blocks = [(np.array([[1.0]]), np.zeros(1)), (np.array([[1.0, 1.0]]), -np.ones(1))]
    network = ReluState(1, blocks)
    domain = Domain(-np.ones(1), np.ones(1), np.array([-1.0, -2.0]), np.array([1.0, 1.0]), np.zeros(2))
    answer = Leaf(network).least(domain, Rows(np.array([[0.0, 0.0, -1.0]]), np.zeros(1)))
    assert answer.bound == pytest.approx(-1.0)
    assert answer.x == pytest.approx([1.0])


def test_states_of_a_chain():
    maps = chain([2, 3, 4, 1], 0)
    network = ReluState.chain([w for w, _ in maps], [b for _, b in maps])
    assert [w.shape for w, _ in network.blocks] == [(3, 2), (4, 5)]
    assert all((w[:, : w.shape[1] - m.shape[1]] == 0).all() for (w, _), (m, _) in zip(network.blocks, maps))
