"""Attacks alone and verifiers alone, against what a linear network is known to withstand."""

import pytest
import torch
from lab import THREAT, Lab
from measured import measured
from torch import nn

import withstand
from withstand.checker.check import check
from withstand.core.budget import check_time
from withstand.core.errors import InputError


@pytest.fixture(scope="module")
def linear() -> tuple[nn.Module, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A linear classifier of two classes, points far from the domain's edges, labels, and exact linf distances."""
    torch.manual_seed(3)
    weight = torch.randn(2, 12)
    x = 0.3 + 0.4 * torch.rand(80, 12)
    gap = weight[0] - weight[1]
    bias = torch.stack([-(x @ gap).mean(), torch.tensor(0.0)])
    net = nn.Linear(12, 2)
    net.weight.data, net.bias.data = weight, bias
    z = x @ gap + bias[0]
    return net.eval(), x, (z < 0).long(), z.abs() / gap.abs().sum()


def test_both_sides_meet_at_the_exact_distance(linear) -> None:
    net, x, y, distance = linear
    radius = float(distance.median())
    robust = (distance > radius * 1.001).tolist()
    broken = (distance < radius * 0.999).tolist()
    proved = withstand.verify(net, (x, y), f"linf:{radius}", method="crown")
    attacked = withstand.attack(net, (x, y), f"linf:{radius}", ["fgsm", "pgd"])
    for i in range(len(x)):
        assert (proved.status[i] == "proved") >= robust[i]
        assert attacked.refuted[i] >= broken[i]
        assert not (attacked.refuted[i] and proved.status[i] == "proved")
    assert proved.certified_accuracy <= measured(attacked.attacked_accuracy) <= attacked.clean_accuracy == 1.0


def test_the_worst_case_is_pointwise(lab: Lab) -> None:
    result = withstand.attack(lab.onnx, lab.npz, THREAT, ["noise:draws=3", "fgsm", "pgd"], limit=40)
    assert list(result.attacks) == ["noise:draws=3", "fgsm", "pgd"]
    assert measured(result.attacked_accuracy) <= min(measured(a.attacked_accuracy) for a in result.attacks.values())
    assert result.attacked_accuracy == result.clean_accuracy - sum(result.refuted) / 40
    told = result.to_json()
    assert set(told) == {"n", "clean_accuracy", "attacked_accuracy", "attacks"}
    assert set(told["attacks"]["pgd"]) == {
        "attacked_accuracy",
        "median_distance",
        "queries",
        "gradients",
        "cpu_seconds",
        "seconds",
    }
    assert 0 < told["attacks"]["pgd"]["median_distance"] <= 0.060001


def test_float64_proofs_carry_their_grade(lab: Lab) -> None:
    single = withstand.verify(lab.onnx, lab.npz, THREAT, limit=20)
    double = withstand.verify(lab.onnx, lab.npz, THREAT, limit=20, double=True)
    assert single.grade == "float32 without slack"
    assert double.grade == "float64 without slack"
    assert double.counts == single.counts
    assert torch.allclose(torch.tensor(single.bounds), torch.tensor(double.bounds), atol=1e-4)
    assert set(double.to_json()) >= {"n", "method", "certified_accuracy", "counts", "seconds", "cpu_seconds"}


def test_no_time_proves_nothing(lab: Lab) -> None:
    assert withstand.verify(lab.onnx, lab.npz, THREAT, budget=1e-9).counts["proved"] == 0


def test_what_cannot_be_asked(lab: Lab) -> None:
    with pytest.raises(InputError, match="did you mean 'apgd'"):
        withstand.attack(lab.onnx, lab.npz, THREAT, ["agpd"])
    with pytest.raises(InputError, match="did you mean 'crown'"):
        withstand.verify(lab.onnx, lab.npz, THREAT, method="cronw")

    class Branching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return lab.module(x) if float(x.sum()) > -1e9 else x

    with pytest.raises(InputError, match="Branching cannot be verified"):
        withstand.verify(Branching(), (lab.x, lab.y), THREAT)


def test_certificates_of_both_ends_lie_in_the_folder(tmp_path) -> None:
    """Samples on both sides of a line at 0.5: those within the radius of it are refuted, the others proved."""
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2)).eval()
    net[0].weight.data, net[0].bias.data = torch.tensor([[1.0], [-1.0]]), torch.tensor([-0.5, 0.5])
    net[2].weight.data, net[2].bias.data = torch.eye(2), torch.zeros(2)
    x, y = torch.tensor([[0.9], [0.55], [0.1]]), torch.tensor([0, 0, 1])
    folder = tmp_path / "kept"
    told = withstand.verify(net, (x, y), "linf:0.1", method="input-split", certificates=folder)
    assert told.status == ["proved", "refuted", "proved"]
    assert told.certificates == ["0.safetensors", "1.npz", "2.safetensors"]
    assert told.grade == "leaf-checked certificate"
    for file in ("0.safetensors", "2.safetensors"):
        assert check(folder / file, folder / "model.onnx").holds
    assert withstand.replay(folder / "1.npz", str(folder / "model.onnx")).reproduced
    assert "certificates" not in told.to_json()


def test_a_budget_that_is_over_leaves_proofs_without_certificates(lab: Lab, tmp_path, monkeypatch) -> None:
    def endless(*told: object) -> None:
        while True:
            check_time()

    monkeypatch.setattr("withstand.verification.mend.walk", endless)
    told = withstand.verify(
        lab.onnx, lab.npz, "linf:0.001", method="crown", limit=3, budget=3.0, certificates=tmp_path / "kept"
    )
    assert told.counts["proved"] == 3
    assert told.grade == "float32 without slack"
    assert told.certificates == ["", "", ""]
    assert all("the time was over" in reason for reason in told.reasons)
