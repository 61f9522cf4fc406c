"""Cuts of smooth neurons and of the inputs of products: every part holds its samples, and bounds come to the truth."""

import pytest
import torch
from curved import FUNCTIONS, attention, curved, mixed, multiplied
from hypothesis import example, given, settings
from hypothesis import strategies as st

from withstand.bounds.refine import crown
from withstand.core.box import Box
from withstand.core.budget import Budget
from withstand.core.judge import Judge, Status
from withstand.core.property import Linear
from withstand.core.registry import build
from withstand.verification.branching import Cut, losses, split
from withstand.verification.dual import Ascent, bound, descend, evaluate, start
from withstand.verification.lines import joint_planes, splittable, touching
from withstand.verification.reduced import Neurons, reduce
from withstand.verification.search import search
from withstand.verification.tighten import retighten, tighten

GRAPHS = [*FUNCTIONS, "multiplied", "mixed", "attention"]


def graph_of(name, seed):
    made = {"multiplied": multiplied, "mixed": mixed, "attention": attention}
    return made[name](seed) if name in made else curved(name, [2, 4, 3, 1], seed)


def box_of(graph, seed, width=1.0):
    low = torch.rand(graph.input_shape, generator=torch.Generator().manual_seed(seed)).double() - 0.5
    return Box(lower=low, upper=low + width)


def first_output(graph, offset=0.0):
    weight = torch.eye(1, graph.output_shape[0]).double()
    return Linear(weight, torch.tensor([offset], dtype=torch.float64), torch.zeros(1, dtype=torch.long))


def network_of(graph, threat):
    middle = (threat.lower + threat.upper)[None] / 2
    rows = first_output(graph)
    return reduce(crown(graph, threat, middle), 0, rows.weight, rows.offset)


def settled(graph, threat, offset, method="branch-and-bound", seconds=20.0):
    middle = (threat.lower + threat.upper)[None] / 2
    judge = Judge(graph, None, middle, torch.zeros(1, dtype=torch.long), threat, first_output(graph, offset))
    return search(judge, graph, [build("verifier", method)], Budget(seconds))[0]


def grid(threat, points=301):
    axes = [
        torch.linspace(float(a), float(b), points).double() for a, b in zip(threat.lower, threat.upper, strict=True)
    ]
    return torch.stack([axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")], 1)


def inside(threat, count, seed):
    share = torch.rand(count, *threat.lower.shape, generator=torch.Generator().manual_seed(seed)).double()
    return threat.lower + share * (threat.upper - threat.lower)


@pytest.mark.parametrize("name", GRAPHS)
@given(seed=st.integers(0, 10**6), steps=st.sampled_from([0, 8]))
@example(seed=1017, steps=0)
@settings(max_examples=3, deadline=None)
def test_every_part_holds_the_samples_in_it_however_it_was_cut(name, seed, steps):
    graph = graph_of(name, seed)
    threat = box_of(graph, seed)
    network, slopes = tighten(network_of(graph, threat), Ascent(steps=steps))
    x = inside(threat, 400, seed)
    state, before = evaluate(network, x)
    true = (state @ network.weight.T + network.offset).squeeze(1)
    assert torch.allclose(true, graph(x)[:, 0], atol=1e-9)
    dual = start(network)
    low, high = torch.full_like(dual.low, -torch.inf), torch.full_like(dual.low, torch.inf)
    chance = torch.Generator().manual_seed(seed)
    for _ in range(4):
        found = bound(network, dual, torch.ones(len(dual), 1).double(), Ascent(steps=steps))
        within = ((before >= low[:, None]) & (before <= high[:, None])).all(2)
        held = (before >= dual.low[:, None] - 1e-9) & (before <= dual.high[:, None] + 1e-9)
        assert held.all(2)[within].all()
        assert (found.bound[:, None] <= true + 1e-9)[within].all()
        assert within.any(0).all()
        if not len(network.low):  # every neuron is a line over the box, as one of abs can be
            assert torch.allclose(graph(found.point)[:, 0], found.bound)
            break
        wide = splittable(network, dual.low, dual.high).double() + 1e-9
        neuron = torch.multinomial(wide, 1, generator=chance).squeeze(1)
        low_end, high_end = (t.gather(1, neuron[:, None]).squeeze(1) for t in (dual.low, dual.high))
        point = torch.lerp(low_end, high_end, 0.1 + 0.8 * torch.rand(len(found), generator=chance).double())
        dual = split(network, found, Cut(neuron, point))
        low, high = low.repeat(2, 1), high.repeat(2, 1)
        low[torch.arange(len(found), len(low)), neuron] = point
        high[torch.arange(len(found)), neuron] = point
        dual, _ = retighten(network, dual, slopes, int(neuron.min()), losses(network, found)[1].repeat(2, 1))


@pytest.mark.parametrize("name", GRAPHS)
def test_gradients_of_slopes_are_those_of_automatic_differentiation(name):
    graph = graph_of(name, 1)
    network = network_of(graph, box_of(graph, 1))
    dual = start(network)
    lower, upper = (t.clone().requires_grad_() for t in (dual.lower, dual.upper))
    planes = joint_planes(network, dual.low, dual.high)
    line, beneath, over = touching(network, dual.low, dual.high, lower, upper)
    went = descend(network, network.weight, network.offset, line, planes=planes)
    (went.constant + network.region.lowest(went.rows)).sum().backward()
    found = bound(network, dual, None, Ascent(steps=0))
    curves = [torch.full((len(block),), isinstance(block, Neurons)) for block in network.neurons]
    kinked = [torch.full((len(block),), is_relu(block)) for block in network.neurons]
    below, above = torch.cat(curves), torch.cat(curves) & ~torch.cat(kinked)
    expected = found.parts.clamp(min=0) * (found.before - beneath)
    assert below.any()
    assert lower.grad is not None
    assert torch.allclose(lower.grad[:, below], expected[:, below], atol=1e-9)
    if above.any():
        assert upper.grad is not None
        expected = found.parts.clamp(max=0) * (found.before - over)
        assert torch.allclose(upper.grad[:, above], expected[:, above], atol=1e-9)


def is_relu(block):
    return isinstance(block, Neurons) and block.rule.op == "relu"


@pytest.mark.parametrize(
    ("seed", "name"),
    [
        pytest.param(seed, name, marks=[pytest.mark.slow] if seed == 0 and name in ("gelu", "multiplied") else [])
        for seed in range(2)
        for name in (*FUNCTIONS, "multiplied")
    ],
)
def test_bounds_come_to_the_least_value_of_a_grid(name, seed):
    graph = graph_of(name, seed)
    threat = box_of(graph, seed, 0.7)
    values = graph(grid(threat))[:, 0]
    share = 0.2 if name == "multiplied" else 0.03
    least, room = float(values.min()), share * float(values.max() - values.min())
    proved = settled(graph, threat, room - least)
    assert proved.status is Status.PROVED
    assert proved.bound <= room + 1e-9
    assert settled(graph, threat, -room - least).status is Status.REFUTED


def test_cuts_of_self_attention_bring_more_than_crown_and_hold_samples():
    graph = attention(0)
    threat = box_of(graph, 0, 0.4)
    least = float(graph(inside(threat, 5000, 0))[:, 0].min())
    crown_only = settled(graph, threat, 0.0, "crown").bound
    room = 0.6 * (least - crown_only)
    proved = settled(graph, threat, room - least)
    assert crown_only + room - least < 0
    assert proved.status is Status.PROVED
    assert proved.bound <= room
