"""A question both proved and refuted stops the run, and both pieces of evidence are kept."""

import json
from collections.abc import Iterator

import pytest
import torch
from lab import PLAN, THREAT, Lab

import withstand
from withstand.auditing.runfolder import RunFolder
from withstand.core import registry
from withstand.core.errors import ToolFault
from withstand.core.evidence import Candidate, Evidence, Grade, Lower
from withstand.io.witness import load_witness
from withstand.verification.problem import Problem


class Liar:
    """Claims that everything holds. Reference: none."""

    def prove(self, problem: Problem) -> Iterator[Evidence]:
        rows = torch.arange(len(problem))
        yield Lower(rows, torch.full((len(problem),), 9.0), Grade.FLOAT32)


@pytest.fixture(scope="module", autouse=True)
def _liars():
    """Both are registered here only: elsewhere the contract suites would find them out."""
    registry.components("verifier")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_TABLE", dict(registry._TABLE))
        for cls in (Liar, Muddled):
            registry.verifier(cls)
        yield


LIES = PLAN.model_copy(update={"attacks": ["noise:draws=1"], "verifiers": ["liar"], "curve": []})


class Muddled:
    """Claims that all but the last hold, then finds witnesses by one gradient step. Reference: none."""

    def prove(self, problem: Problem) -> Iterator[Evidence]:
        rows = torch.arange(len(problem) - 1)
        yield Lower(rows, torch.full((len(rows),), 9.0), Grade.FLOAT32)
        x = problem.x0[rows].requires_grad_()
        (slope,) = torch.autograd.grad(problem.property.margin(problem.graph(x), problem.y[rows]).sum(), x)
        yield Candidate(rows, problem.threat.project(problem.x0[rows], x.detach() - slope.sign()))


def test_a_witness_after_a_proof_is_a_fault(lab: Lab, tmp_path) -> None:
    plan = LIES.model_copy(update={"verifiers": ["muddled"]})
    with pytest.raises(ToolFault, match=r"Sample \d+ was refuted by muddled and proved by muddled"):
        withstand.audit(lab.onnx, lab.npz, threat="linf:0.15", plan=plan, out=tmp_path, batch=60)
    (told,) = (tmp_path / "faults").glob("*.json")
    held = json.loads(told.read_text())
    assert (held["bound"], held["proved_by"]) == (9.0, "muddled")
    witness = load_witness(tmp_path / held["witness"])
    assert witness.method == "muddled"
    assert withstand.replay(tmp_path / held["witness"], lab.onnx).reproduced
    record = RunFolder(tmp_path).read_run()
    assert record is not None
    assert record.state == "partial"


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
    assert "proved by liar, which the plan does not hold" in failure
