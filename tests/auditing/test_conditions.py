"""Conditions on outputs as properties of whole runs, and questions without targets."""

from pathlib import Path

import pytest
import torch
from lab import PLAN, Lab
from torch import nn

import withstand
from withstand.core.errors import InputError
from withstand.core.outputs import other, out
from withstand.io.witness import load_witness


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """y = (x0 - x1, x1, x0 + x1)."""
    layer = nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 1.0], [1.0, 1.0]]))
    return layer.eval()


X = torch.tensor([[0.8, 0.2], [0.5, 0.5], [0.9, 0.6]])


@pytest.mark.parametrize("given", [X, X.numpy(), (X, torch.tensor([2, 2, 2]))], ids=["tensor", "array", "pair"])
def test_targets_are_not_needed_where_they_play_no_part(net: nn.Module, given: object) -> None:
    condition = (out[2] > out[other]) & (out[0] > 0.1)  # the second part holds where x0 - x1 > 0.1
    proved = withstand.verify(net, given, "linf:0.05", condition)  # type: ignore[arg-type]
    assert proved.status == ["proved", "invalid", "proved"]
    assert proved.bounds[2] == pytest.approx(0.3 - 0.1 - 0.1, abs=1e-4)
    attacked = withstand.attack(net, given, "linf:0.12", ["pgd"], property=str(condition))  # type: ignore[arg-type]
    assert attacked.refuted == [False, False, True]


def test_targets_are_asked_for_where_they_matter(net: nn.Module) -> None:
    with pytest.raises(InputError, match="argmax compares outputs with targets"):
        withstand.verify(net, X, "linf:0.05")
    assert withstand.verify(net, X, "linf:0.01", property="not-class:1").counts["proved"] == 3


def test_a_run_and_its_witnesses_name_the_condition(lab: Lab, tmp_path: Path) -> None:
    text = "out[0] > out[other] | out[1] > out[other]"
    held = withstand.audit(lab.onnx, lab.npz, threat="linf:0.3", property=text, limit=30, out=tmp_path, plan=PLAN)
    assert held.counts.refuted > 0
    witness = next((tmp_path / "witnesses").glob("*.npz"))
    assert load_witness(witness).property == text
    assert withstand.replay(witness).reproduced
