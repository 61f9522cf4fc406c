"""A network whose exact robust error is published: the jaws must hold it."""

from pathlib import Path

import pytest
from measured import measured

import withstand
from withstand.auditing.audit import Audit
from withstand.core.records import Plan

PUBLISHED = 1 - 0.0438
"""Robust share of all 10,000 MNIST test images at linf 0.1, by exact solvers."""


def run(shared: Path, out: Path, limit: int, plan: Plan | None = None) -> Audit:
    model, data = shared / "models" / "mnist-wk17a-0.1.onnx", f"{shared / 'data' / 'mnist.npz'}[x_test,y_test]"
    return withstand.audit(str(model), data, threat="linf:0.1", limit=limit, out=out, plan=plan)


def test_wk17a_first_images(shared: Path, tmp_path: Path) -> None:
    """On the first 20 images all but one are provably robust, and the one is refuted or left open."""
    quick = Plan(model="", data="", threat="", attacks=["pgd"], verifiers=["crown"], curve=[])
    result = run(shared, tmp_path, 20, quick)
    assert result.certified_accuracy == 0.95
    assert result.attacked_accuracy in (0.95, 1.0)
    assert result.population_interval.low < PUBLISHED < measured(result.population_interval.high)


@pytest.mark.slow
def test_wk17a_closes_the_jaws(shared: Path, tmp_path: Path) -> None:
    """Of the first 1,000 images exactly 943 are robust: with enough work for each search none is left open."""
    patient = Plan(
        model="",
        data="",
        threat="",
        attacks=["fgsm", "pgd:steps=20", "worst:queries=0"],
        verifiers=["ibp", "crown", "branch-and-bound:effort=100"],
        curve=[],
    )
    result = run(shared, tmp_path, 1000, patient)
    assert result.certified_accuracy == result.attacked_accuracy == 0.943
    assert result.population_interval.low < PUBLISHED < measured(result.population_interval.high)
    assert result.alarms == []
    assert withstand.check(tmp_path).ok
