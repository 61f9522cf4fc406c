"""Outputs of two sides: sigmoid or not, one output or several labels; nothing is taken in silence."""

import numpy as np
import pytest
import torch
from measured import measured
from torch import Tensor, nn

import withstand
from withstand.auditing.check import check
from withstand.core.errors import InputError
from withstand.core.sides import Binary, MultiLabel
from withstand.graph.capture import capture
from withstand.graph.onnx_writer import write_onnx
from withstand.io.margins import answer, margin
from withstand.io.written import Written

THREAT = "linf:0.01"


class Squeezed(nn.Module):
    """A number alone a sample, as binary classifiers often give it; `opaque` hides it from the graph."""

    def __init__(self, net: nn.Module, opaque: bool = False) -> None:
        super().__init__()
        self.net, self.opaque = net, opaque

    def forward(self, x: Tensor) -> Tensor:
        out = self.net(x).squeeze(1)
        return torch.from_numpy(out.detach().numpy().copy()) if self.opaque else out


@pytest.fixture(scope="module")
def net() -> nn.Module:
    """Four outputs, each above zero on half of the inputs."""
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
    with torch.no_grad():
        made[2].bias -= made(inputs()).median(0).values + 1e-3
    return made


def inputs() -> Tensor:
    return torch.rand(40, 6, generator=torch.Generator().manual_seed(1))


def labels(net: nn.Module) -> Tensor:
    with torch.no_grad():
        return (net(inputs()) > 0).long()


def outputs_check(model: nn.Module, y: Tensor, property: str):
    return next(c for c in withstand.doctor(model, (inputs(), y), THREAT, property) if c.name == "outputs")


def test_a_sigmoid_changes_no_figure_of_several_labels(net: nn.Module) -> None:
    x, y = inputs(), labels(net)
    told = []
    for model in (net, nn.Sequential(net, nn.Sigmoid())):
        attacked = withstand.attack(
            model, (x, y), THREAT, ["pgd:steps=10", "pgd:steps=10,loss=ce"], property="multi-label"
        )
        proved = withstand.verify(model, (x, y), THREAT, MultiLabel(), method="crown")
        told.append((attacked.clean_accuracy, attacked.attacked_accuracy, proved.certified_accuracy))
    assert told[0][0] == told[1][0] == 1.0
    assert told[0][2] <= told[0][1] < 1.0
    assert told[0] == told[1]


@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize("form", ["plain", "squeezed", "opaque"])
def test_one_output_is_a_classifier(net: nn.Module, sigmoid: bool, form: str) -> None:
    last = nn.Linear(4, 1, bias=False)
    one = nn.Sequential(net, last)
    nn.init.constant_(last.weight, 0.7)
    x = inputs()
    y = labels(one)[:, 0]
    assert 0 < int(y.sum()) < len(y)
    model: nn.Module = nn.Sequential(one, nn.Sigmoid()) if sigmoid else one
    model = model if form == "plain" else Squeezed(model, opaque=form == "opaque")
    for given in (y, 2 * y - 1, y.bool(), y[:, None].float()):
        attacks = (
            ["square:queries=20"]
            if form == "opaque"
            else ["pgd:steps=10", "pgd:steps=5,loss=ce", "apgd:steps=5,loss=dlr"]
        )
        told = withstand.attack(model, (x, given), "linf:0.05", attacks, property="binary")
        assert told.clean_accuracy == 1.0
        assert measured(told.attacked_accuracy) < 1.0
    if form != "opaque":
        proved = withstand.verify(model, (x, y), THREAT, "binary", method="crown")
        assert (
            0.3
            < proved.certified_accuracy
            <= measured(withstand.attack(model, (x, y), THREAT, property="binary").attacked_accuracy)
        )


def test_bounds_and_distances_of_one_probability_are_those_of_its_logit() -> None:
    net = nn.Linear(2, 1)
    nn.init.constant_(net.bias, -0.5)
    net.weight.data = torch.tensor([[1.0, 0.5]])
    data = (torch.tensor([[0.8, 0.4], [0.1, 0.2]]), torch.tensor([1, 0]))
    for model in (net, nn.Sequential(net, nn.Sigmoid())):
        found = withstand.radius(model, data, "linf:0.5", property="binary", method="crown", tolerance=1e-3)
        assert [s.proved for s in found.samples] == pytest.approx([0.5 / 1.5, 0.3 / 1.5], rel=2e-3)
    distances = withstand.closest(net, data, "linf:1[-1,2]", "binary")
    assert [s.distance for s in distances.samples] == pytest.approx([0.5 / 1.5, 0.3 / 1.5], rel=1e-4)


def test_a_run_of_a_sigmoid_network_is_checked_and_replayed(net: nn.Module, tmp_path) -> None:
    (tmp_path / "net.onnx").write_bytes(write_onnx(capture(nn.Sequential(net, nn.Sigmoid()), (6,))))
    np.savez(tmp_path / "d.npz", x=inputs().numpy()[:12], y=labels(net).numpy()[:12])
    model, data, run = (str(tmp_path / name) for name in ("net.onnx", "d.npz", "run"))
    told = withstand.audit(model, data, threat="linf:0.03", property="multi-label", out=run, budget=20)
    assert told.clean_accuracy == 1.0
    assert told.counts.refuted > 0
    assert told.counts.proved > 0
    assert any(c.name == "outputs" and "ends in sigmoid" in c.sentence for c in told.checks)
    assert check(run).failures == []
    again = withstand.audit(model, data, threat="linf:0.03", property="multi-label", out=run, budget=20)
    assert again.counts == told.counts


def test_what_was_taken_is_said(net: nn.Module) -> None:
    y, sigmoid = labels(net), nn.Sequential(net, nn.Sigmoid())
    found = outputs_check(sigmoid, y, "multi-label")
    assert (found.outcome, found.figures["right as probabilities"]) == ("pass", 1.0)
    assert "read as probabilities with the threshold 0.5, because the network ends in sigmoid" in found.sentence
    found = outputs_check(net, y, "multi-label")
    assert found.outcome == "pass"
    assert "read as logits with the threshold 0, because they range from -" in found.sentence
    found = outputs_check(sigmoid, y, "multi-label:outputs=logits")
    assert found.outcome == "warn"
    assert "ends in sigmoid" in found.sentence
    found = outputs_check(net, y, "multi-label:outputs=probabilities")
    assert found.outcome == "warn"
    assert "which no probabilities do" in found.sentence


class ByHand(nn.Module):
    """A sigmoid written as arithmetic, which no last operation tells."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return 1 / (1 + torch.exp(-self.net(x)))


def test_probabilities_without_a_sigmoid_are_told_by_what_fits(net: nn.Module) -> None:
    found = outputs_check(ByHand(net), labels(net), "multi-label")
    assert found.outcome == "warn"
    assert "read as probabilities" in found.sentence
    assert "multi-label:outputs=probabilities" in found.sentence
    small = nn.Linear(6, 4)
    small.weight.data, small.bias.data = torch.full((4, 6), 0.1), torch.zeros(4)
    assert "read as logits" in outputs_check(small, torch.ones(40, 4), "multi-label").sentence


def test_a_threshold_of_the_users_own(net: nn.Module) -> None:
    sigmoid = nn.Sequential(net, nn.Sigmoid())
    with torch.no_grad():
        y = (sigmoid(inputs()) > 0.3).long()
    told = withstand.attack(sigmoid, (inputs(), y), "linf:0", property="multi-label:threshold=0.3")
    assert told.clean_accuracy == 1.0


@pytest.mark.parametrize("property", ["argmax", "top-k:1", "not-class:0"])
def test_one_output_under_a_property_of_classes_names_binary(property: str) -> None:
    with pytest.raises(InputError, match=r"one output .* property binary"):
        withstand.doctor(nn.Linear(6, 1), (inputs(), torch.zeros(40)), THREAT, property)


def test_binary_of_other_outputs_and_labels() -> None:
    with pytest.raises(InputError, match="binary reads one; use argmax"):
        withstand.doctor(nn.Linear(6, 2), (inputs(), torch.zeros(40)), THREAT, "binary")
    for y, word in (
        (torch.full((40,), 2), "are 2"),
        (1 + torch.arange(40) % 2, "count them from 0"),
        (torch.rand(40), "needs"),
    ):
        with pytest.raises(InputError, match=word):
            withstand.doctor(nn.Linear(6, 1), (inputs(), y), THREAT, "binary")


@pytest.mark.parametrize("property", [Binary("logits"), Binary("probabilities"), Binary("probabilities", 0.3)])
def test_replay_knows_both_sides(property: Binary) -> None:
    for value in (-1.0, 0.2, 0.4, 0.7):
        for y in (0, 1):
            outputs, target = torch.tensor([[value]]), torch.tensor([y])
            told = margin(Written(str(property), "a witness"), outputs[0].numpy(), target.numpy())
            assert told == pytest.approx(float(property.margin(outputs, target)[0]))
            assert answer(str(property), outputs[0].numpy()) == int(property.answer(outputs)[0])
            rows = property.rows(target, 1)
            assert float(rows.combine(rows.value(outputs))[0]) == pytest.approx(told)
