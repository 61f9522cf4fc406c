"""A question both proved and refuted stops the run, and both pieces of evidence are kept."""

import json
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import pytest
import torch
from lab import PLAN, THREAT, Lab
from torch import Tensor

import withstand
from withstand.auditing.runfolder import RunFolder
from withstand.core import registry
from withstand.core.balls import Linf
from withstand.core.errors import ToolFault
from withstand.core.evidence import Ask, Candidate, Evidence, Grade, Lower
from withstand.core.registry import build
from withstand.core.rng import RowRandom
from withstand.core.runner import Access, Search, run
from withstand.core.threat import Threat
from withstand.io.witness import load_witness
from withstand.verification.problem import Problem


class Liar:
    """Claims that everything holds. Reference: none."""

    claim: float = 9.0

    def prove(self, problem: Problem) -> Iterator[Evidence]:
        rows = torch.arange(len(problem))
        yield Lower(rows, torch.full((len(problem),), self.claim), Grade.FLOAT32)


class Cheat:
    """One step of `length` radii, which leaves the threat beyond 1. Reference: none."""

    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")
    access: ClassVar[Access] = Access.GRADIENT

    length: float = 2.0

    def search(self, x0: Tensor, threat: Threat, rng: RowRandom) -> Search:
        told = yield Ask(x0, grad=True)
        assert told.grad is not None
        yield Ask(x0 - self.length * threat.radius * told.grad.sign())


class TwoFaced:
    """Claims little, but 1000 of the last question at radii above 0.1. Reference: none."""

    def prove(self, problem: Problem) -> Iterator[Evidence]:
        bound = torch.full((len(problem),), 0.02)
        bound[-1] = 1e3 if problem.threat.radius > 0.1 else 0.02
        yield Lower(torch.arange(len(problem)), bound, Grade.FLOAT32)


class Muddled:
    """Claims that all but the last hold, then finds witnesses by one gradient step. Reference: none."""

    def prove(self, problem: Problem) -> Iterator[Evidence]:
        rows = torch.arange(len(problem) - 1)
        yield Lower(rows, torch.full((len(rows),), 0.02), Grade.FLOAT32)
        x = problem.x0[rows].requires_grad_()
        (slope,) = torch.autograd.grad(problem.property.margin(problem.graph(x), problem.y[rows]).sum(), x)
        yield Candidate(rows, problem.threat.project(problem.x0[rows], x.detach() - slope.sign()))


LIES = PLAN.model_copy(update={"attacks": ["noise:draws=1"], "verifiers": ["liar:claim=0.02"], "curve": []})


@pytest.fixture(scope="module", autouse=True)
def _liars() -> Iterator[None]:
    """They are registered here only: elsewhere the contract suites would find them out."""
    for kind in ("verifier", "attack"):
        registry.components(kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_TABLE", dict(registry._TABLE))
        for cls in (Liar, TwoFaced, Muddled):
            registry.verifier(cls)
        registry.attack(Cheat)
        yield


def test_a_witness_after_a_proof_is_a_fault(lab: Lab, tmp_path) -> None:
    plan = LIES.model_copy(update={"verifiers": ["muddled"]})
    with pytest.raises(ToolFault, match=r"Sample \d+ was refuted by muddled and proved by muddled"):
        withstand.audit(lab.onnx, lab.npz, threat="linf:0.15", plan=plan, out=tmp_path, batch=60)
    (told,) = (tmp_path / "faults").glob("*.json")
    held = json.loads(told.read_text())
    assert (held["bound"], held["proved_by"]) == (pytest.approx(0.02), "muddled")
    witness = load_witness(tmp_path / held["witness"])
    assert witness.method == "muddled"
    assert withstand.replay(tmp_path / held["witness"], lab.onnx).reproduced
    record = RunFolder(tmp_path).read_run()
    assert record is not None
    assert record.state == "partial"


def test_a_verifier_that_claims_more_than_the_clean_margin_is_a_fault(lab: Lab, tmp_path) -> None:
    """No attack is needed, and none would run on what is proved."""
    plan = LIES.model_copy(update={"verifiers": ["liar"]})
    with pytest.raises(ToolFault, match=r"found by .*, below the bound 9 of liar"):
        withstand.audit(lab.onnx, lab.npz, threat=THREAT, plan=plan, out=tmp_path)
    (told,) = (tmp_path / "faults").glob("*.json")
    point = load_witness(tmp_path / json.loads(told.read_text())["witness"])
    assert point.inside
    assert 0 < point.margin < 9


def test_a_fault_on_the_curve_names_its_sample_and_its_radius(lab: Lab, tmp_path) -> None:
    """Bounds that are honest at the threat's radius and lie at larger ones, for the last sample only."""
    plan = LIES.model_copy(update={"verifiers": ["two-faced"], "curve": [1.0, 2.0]})
    with pytest.raises(ToolFault, match=r"Sample (\d+) .* below the bound 1e\+03 of two-faced"):
        withstand.audit(lab.onnx, lab.npz, threat=THREAT, plan=plan, out=tmp_path, batch=60)
    (told,) = (tmp_path / "faults").glob("*.json")
    point = load_witness(tmp_path / json.loads(told.read_text())["witness"])
    assert point.radius == pytest.approx(0.12)
    assert np.array_equal(point.x0, lab.x[point.id].numpy())
    assert point.inside


def test_a_cheating_attack_refutes_nothing(lab: Lab, tmp_path) -> None:
    plan = LIES.model_copy(update={"attacks": ["cheat"], "verifiers": []})
    withstand.audit(lab.onnx, lab.npz, threat=THREAT, plan=plan, out=tmp_path)
    samples = RunFolder(tmp_path).read_samples()
    assert {sample.method for sample in samples} == {None, "fgsm"}  # the one step that looks for alarms
    assert all(load_witness(tmp_path / sample.witness).inside for sample in samples if sample.witness)


@pytest.mark.parametrize(("length", "works"), [(0.99, True), (1.01, False), (2.0, False), (100.0, False)])
def test_the_radius_alone_stops_a_cheat(lab: Lab, length: float, works: bool) -> None:
    cheat, wide = build("attack", f"cheat:length={length}"), Linf(0.06, (-9.0, 9.0))
    assert bool(run(cheat, lab.module, lab.x, lab.y, wide).refuted.any()) is works


def test_a_model_that_cannot_be_sent_to_workers_says_so(lab: Lab, tmp_path) -> None:
    from torch import nn

    from withstand.core.errors import InputError

    class Local(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return lab.module(x) if float(x.sum()) > -1e9 else x

    with pytest.raises(InputError, match="cannot be sent to worker processes"):
        withstand.audit(Local(), (lab.x, lab.y), threat=THREAT, plan=PLAN, out=tmp_path, workers=2)


def test_check_finds_the_lies(lab: Lab, tmp_path) -> None:
    withstand.audit(lab.onnx, lab.npz, threat=THREAT, plan=LIES, out=tmp_path)
    checked = withstand.check(tmp_path)
    assert checked.proofs > 50
    assert checked.ok  # the liar tells the same again
    honest = json.loads((tmp_path / "run.json").read_text())
    honest["plan"]["verifiers"] = ["ibp"]
    (tmp_path / "run.json").write_text(json.dumps(honest))
    (failure,) = withstand.check(tmp_path).failures
    assert "proved by liar:claim=0.02, which the plan does not hold" in failure
