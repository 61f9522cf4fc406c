"""Both jaws of whole audits around truths found by other means, on random networks."""

import tempfile

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from measured import measured
from torch import nn

import withstand
from withstand.auditing.runfolder import RunFolder
from withstand.core.records import Plan
from withstand.core.rng import RowRandom, row_seeds
from withstand.core.threat_text import parse_threat
from withstand.io.witness import load_witness

ROWS, SIZE, CLASSES = 16, 4, 3
PLAN = Plan(
    model="",
    data="",
    threat="",
    attacks=["noise:draws=5", "pgd:steps=10,step=0.25", "apgd:steps=10,loss=ce"],
    verifiers=["ibp", "crown", "zonotope"],
    curve=[0.5, 1.0, 2.0],
)


def network(seed: int) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    """A random network, inputs, and labels that it gives to all but two of them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(SIZE, 12), nn.ReLU(), nn.Linear(12, 12), nn.Tanh(), nn.Linear(12, CLASSES))
        x = torch.rand(ROWS, SIZE)
    y = net(x).argmax(1)
    y[:2] = (y[:2] + 1) % CLASSES
    return net.eval().requires_grad_(False), x, y


def violated(net: nn.Module, x: torch.Tensor, y: torch.Tensor, threat_text: str, draws: int = 3000) -> torch.Tensor:
    """Whether any of many random points of the threat changes the class: bool [B]."""
    threat = parse_threat(threat_text)
    many = x.repeat_interleave(draws, 0)
    points = threat.sample(many, RowRandom(row_seeds(1, range(len(many)), "truth")))
    return (net(points).argmax(1).reshape(len(x), draws) != y[:, None]).any(1)


def test_with_time_to_spare_the_last_verifier_goes_on_until_the_jaws_meet() -> None:
    """Its limit of work leaves samples open; where a budget was given, what is left of it is spent on them."""
    net, x, y = network(5)
    plan = PLAN.model_copy(update={"verifiers": ["ibp", "branch-and-bound:effort=0.00000001"]})
    with tempfile.TemporaryDirectory() as out:
        short = withstand.audit(net, (x, y), threat="linf:0.35", plan=plan, out=f"{out}/short")
        long = withstand.audit(net, (x, y), threat="linf:0.35", plan=plan, out=f"{out}/long", budget=600)
        samples = {sample.id: sample for sample in RunFolder(f"{out}/long").read_samples()}
        checked = withstand.check(f"{out}/long", net, (x, y))
    assert short.counts.unknown > 0
    assert long.counts.unknown == 0
    assert long.certified_accuracy == long.attacked_accuracy
    assert long.seconds.total < 300
    late = [sample for sample in samples.values() if sample.method == "branch-and-bound"]
    assert len(late) == short.counts.unknown
    for sample in late:
        assert (sample.certified_radius if sample.status == "proved" else sample.attacked_radius) == 0.35
    assert checked.ok, checked.failures


@settings(max_examples=4, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    norm=st.sampled_from([("linf", 1.0), ("l2", 1.6), ("l1", 2.5)]),
    radius=st.floats(0.005, 0.15),
)
def test_no_proof_meets_a_violation_and_every_witness_is_one(seed: int, norm: tuple[str, float], radius: float) -> None:
    net, x, y = network(seed)
    threat = f"{norm[0]}:{radius * norm[1]:.4f}"
    with tempfile.TemporaryDirectory() as out:
        result = withstand.audit(net, (x, y), threat=threat, plan=PLAN, out=out)
        samples = {sample.id: sample for sample in RunFolder(out).read_samples()}
        points = {i: load_witness(f"{out}/{s.witness}").x for i, s in samples.items() if s.witness}
    assert [samples[i].status for i in (0, 1)] == ["invalid", "invalid"]
    assert result.certified_accuracy <= measured(result.attacked_accuracy) <= result.clean_accuracy == (ROWS - 2) / ROWS
    assert all(point.certified <= measured(point.attacked) for point in result.curve)
    broken = violated(net, x, y, threat)
    for i, sample in samples.items():
        assert not (sample.status == "proved" and bool(broken[i]))
        assert (sample.status == "refuted") == (i in points)
        if sample.certified_radius is not None and sample.attacked_radius is not None:
            assert sample.certified_radius < sample.attacked_radius
    for i, point in points.items():
        moved = torch.from_numpy(point)[None]
        assert parse_threat(threat).contains(x[i : i + 1], moved).all()
        assert net(moved).argmax(1).item() != y[i]
