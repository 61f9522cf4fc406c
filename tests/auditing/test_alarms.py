"""Each alarm has a model that sets it off; a plain network sets off none."""

import numpy as np
import pytest
import torch
from lab import PLAN, THREAT, Lab
from torch import Tensor, nn

import withstand
from withstand.auditing.alarms import raise_alarms
from withstand.core.records import Alarm, Check, Plan, SampleRecord
from withstand.graph.model import Model
from withstand.graph.onnx_reader import read_onnx

LONG = PLAN.model_copy(update={"attacks": ["noise:draws=5", "pgd", "apgd:steps=50", "square:queries=200"], "curve": []})


class Wrapped(nn.Module):
    """A network between two functions."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def before(self, x: Tensor) -> Tensor:
        return x

    def after(self, z: Tensor) -> Tensor:
        return z

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.net(self.before(x)))


class Softmax(Wrapped):
    def after(self, z: Tensor) -> Tensor:
        return z.softmax(1)


class Saturated(Wrapped):
    """Logits through a sigmoid so steep that its gradient is zero; small logits keep the order of classes."""

    def after(self, z: Tensor) -> Tensor:
        gap = z - z.topk(2, dim=1).values.mean(1, keepdim=True)
        return torch.sigmoid(1e6 * gap)


class Quantised(Wrapped):
    """Inputs rounded to 17 levels, as the digits have."""

    def before(self, x: Tensor) -> Tensor:
        return torch.round(x * 16) / 16


class Noisy(Wrapped):
    def after(self, z: Tensor) -> Tensor:
        return z + 0.01 * torch.randn_like(z)


class NotANumber(Wrapped):
    """Finite outputs whose gradient is NaN: the root of zero."""

    def after(self, z: Tensor) -> Tensor:
        return z + torch.sqrt(z * 0)


def names(
    module: nn.Module | Model | str, lab: Lab, tmp_path, threat: str = THREAT, plan: Plan = LONG, n: int = 30
) -> list:
    result = withstand.audit(module, (lab.x[:n], lab.y[:n]), threat=threat, plan=plan, out=tmp_path / "run")
    assert result.alarms == raise_alarms_of(tmp_path / "run")
    return [alarm.name for alarm in result.alarms]


def raise_alarms_of(folder) -> list[Alarm]:
    from withstand.auditing.runfolder import RunFolder

    record = RunFolder(folder).read_run()
    assert record is not None
    samples = sorted(RunFolder(folder).read_samples(), key=lambda s: s.id)
    return raise_alarms(samples, record.checks)


def test_a_plain_network_sets_off_none(lab: Lab, tmp_path) -> None:
    assert names(lab.onnx, lab, tmp_path, n=60) == []


def test_softmax(lab: Lab, tmp_path) -> None:
    assert "softmax before the loss" in names(Softmax(lab.module), lab, tmp_path)


def test_saturation_gives_zero_gradients_and_fails_even_in_the_whole_domain(lab: Lab, tmp_path) -> None:
    found = names(Saturated(lab.module), lab, tmp_path, threat="linf:0.15")
    assert {"zero gradients", "larger radius does not hurt", "black box beats white box"} <= set(found)


def test_quantised_input(lab: Lab, tmp_path) -> None:
    found = names(Quantised(lab.module), lab, tmp_path)
    assert {"quantised input", "zero gradients"} <= set(found)


def test_nan_gradients(lab: Lab, tmp_path) -> None:
    assert "NaN gradients" in names(NotANumber(lab.module), lab, tmp_path)


def test_random_layer(lab: Lab, tmp_path) -> None:
    torch.manual_seed(0)
    assert "non-determinism" in names(Noisy(lab.module), lab, tmp_path)


def test_loss_still_falling(lab: Lab, tmp_path) -> None:
    short = LONG.model_copy(update={"attacks": ["pgd:steps=20,step=0.02,start=false"], "verifiers": []})
    assert "loss not flat" in names(lab.onnx, lab, tmp_path, plan=short)


def test_one_step_beats_many(lab: Lab, tmp_path) -> None:
    """An attack that walks nowhere is beaten by one step."""
    weak = LONG.model_copy(update={"attacks": ["pgd:steps=2,step=0.001,start=false"], "verifiers": []})
    assert "one step beats many" in names(lab.onnx, lab, tmp_path, plan=weak)


def test_torch_and_onnxruntime_that_disagree(lab: Lab, tmp_path) -> None:
    """A file whose logits lie a little beside those of its graph in torch: clean inputs keep their classes."""
    model = read_onnx(lab.onnx)
    assert model.graph is not None
    bias = next(value for value in model.graph.constants.values() if value.shape == (10,))
    bias += 0.3 * torch.sign(torch.arange(10) - 4.5)
    assert names(model, lab, tmp_path).count("torch and onnxruntime disagree") == 2  # clean inputs, and witnesses


def test_too_many_unknown(lab: Lab, tmp_path) -> None:
    alone = LONG.model_copy(update={"attacks": ["noise:draws=2"], "verifiers": []})
    assert names(lab.onnx, lab, tmp_path, plan=alone) == ["too many unknown"]


def sample(i: int, *flags: str) -> SampleRecord:
    return SampleRecord(id=i, label=0, predicted=0, status="proved", clean_margin=1.0, margin=0.5, flags=list(flags))


def test_disagreement_in_the_replay_counts_from_one_in_a_hundred() -> None:
    def alarms(bad: int, n: int) -> list[Alarm]:
        return raise_alarms([sample(i, *(["replay-disagrees"] if i < bad else [])) for i in range(n)], [])

    assert alarms(1, 100) == []
    (alarm,) = alarms(2, 100)
    assert (alarm.name, alarm.share, alarm.samples) == ("torch and onnxruntime disagree", 0.02, [0, 1])


def test_the_doctors_warnings_are_alarms() -> None:
    check = Check(name="torch against onnxruntime", outcome="warn", sentence="They disagree.")
    assert raise_alarms([], [check]) == [Alarm(name="torch and onnxruntime disagree", sentence="They disagree.")]


def test_the_share_is_of_the_samples_looked_at() -> None:
    samples = [sample(0, "wide-miss"), sample(1, "wide-hit"), sample(2), sample(3)]
    (alarm,) = raise_alarms(samples, [])
    assert (alarm.name, alarm.share) == ("larger radius does not hurt", 0.5)
    assert np.isclose(alarm.share or 0, 0.5)


def test_one_broken_gradient_is_an_alarm() -> None:
    assert len(raise_alarms([sample(0, "non-finite"), *(sample(i) for i in range(1, 500))], [])) == 1


@pytest.mark.parametrize("flag", ["black-box", "one-step"])
@pytest.mark.parametrize(("hits", "looked", "raised"), [(3, 50, True), (2, 4, False), (3, 60, False), (0, 50, False)])
def test_another_attack_may_have_some_luck(flag: str, hits: int, looked: int, raised: bool) -> None:
    seen = [sample(i, flag if i < hits else f"{flag}-miss") for i in range(looked)]
    alarms = raise_alarms([*seen, *(sample(i) for i in range(looked, 500))], [])
    assert len(alarms) == raised
