"""What the doctor finds, and what it leaves as it was."""

import pytest
import torch
from lab import THREAT, Lab
from torch import Tensor, nn

import withstand
from withstand.core.errors import InputError
from withstand.core.records import Check


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


class Images(nn.Module):
    """The lab's network on images of 1 x 8 x 8 that want to be normalised first."""

    def __init__(self, net: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        self.net, self.mean, self.std = net, mean, std

    def forward(self, x: Tensor) -> Tensor:
        return self.net((x * self.std + self.mean).flatten(1))


def test_a_plain_network_passes(lab: Lab) -> None:
    checks = withstand.doctor(lab.onnx, lab.npz, THREAT)
    assert {check.outcome for check in checks} == {"pass"}
    accuracy = by_name(checks)["clean accuracy"].figures
    truth = float((lab.module(lab.x).argmax(1) == lab.y).double().mean())
    assert accuracy == {"as_given": truth, "through_withstand": truth}


def test_training_mode_is_told_and_given_back(lab: Lab) -> None:
    net = nn.Sequential(lab.module, nn.Dropout(0.9)).train()
    lab.module.eval()
    checks = withstand.doctor(net, (lab.x, lab.y), THREAT)
    assert by_name(checks)["eval mode"].outcome == "note"
    assert by_name(checks)["determinism"].outcome == "pass"
    assert (net.training, net[1].training, lab.module.training) == (True, True, False)


def test_missing_normalisation_is_suspected(lab: Lab) -> None:
    net = Images(lab.module, 0.5, 0.5).eval()
    found = by_name(withstand.doctor(net, (lab.x.reshape(-1, 1, 8, 8), lab.y), THREAT))["normalisation"]
    assert found.outcome == "warn"
    assert "range -1 to 1" in found.sentence
    assert found.figures["mean and std of 0.5 (the range -1 to 1)"] > found.figures["as given"] + 0.1


def test_whole_numbers_become_floats_and_axes_move(lab: Lab) -> None:
    bytes_of = (lab.x.reshape(-1, 8, 8) * 255).round().to(torch.uint8)
    checks = withstand.doctor(lab.onnx, (bytes_of, lab.y), THREAT)
    notes = [check.sentence for check in checks if check.name == "data"]
    assert any("divided by 255" in note for note in notes)
    assert any("arranged to the model's 64" in note for note in notes)
    assert by_name(checks)["8-bit input"].outcome == "note"


def test_probabilities_are_told(lab: Lab) -> None:
    checks = by_name(withstand.doctor(nn.Sequential(lab.module, nn.Softmax(1)), (lab.x, lab.y), THREAT))
    assert checks["logits"].outcome == "warn"
    logs = by_name(withstand.doctor(nn.Sequential(lab.module, nn.LogSoftmax(1)), (lab.x, lab.y), THREAT))
    assert logs["logits"].outcome == "note"


class Counting(nn.Module):
    """Changes its mind after the first calls, which no two readings of it can agree on."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.calls = net, 0

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            self.calls += 1
        return self.net(x) * (-1 if self.calls > 4 else 1)


def test_an_audit_stops_when_the_accuracies_differ(lab: Lab, tmp_path) -> None:
    net = Counting(lab.module)
    net.calls = 5
    net.forward = lambda x: (setattr(net, "calls", net.calls + 1), lab.module(x) * (-1) ** net.calls)[1]  # type: ignore
    with pytest.raises(InputError, match=r"Clean accuracy is .* but .* through withstand"):
        withstand.audit(net, (lab.x, lab.y), threat=THREAT, out=tmp_path / "run")


@pytest.mark.parametrize("verb", [withstand.audit, withstand.doctor, withstand.verify])
def test_what_is_said_of_a_random_model_names_the_option_that_attacks_it(verb, lab: Lab, tmp_path, monkeypatch) -> None:
    class Random(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return lab.module(x) + 20 * torch.randn(len(x), 10)

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    try:
        told = " ".join(check.sentence for check in verb(Random(), (lab.x, lab.y), threat=THREAT))
    except InputError as error:
        told = str(error)
    assert "--eot" in told


def test_answers_that_are_not_finite_stop_an_audit(lab: Lab, tmp_path) -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return lab.module(x) / 0

    with pytest.raises(InputError, match="answers NaN or infinity on 60 of 60"):
        withstand.audit(Broken(), (lab.x, lab.y), threat=THREAT, out=tmp_path / "run")


def test_a_model_without_graph_is_told_to_have_no_proofs(lab: Lab) -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return lab.module(x) if float(x.sum()) > -1e9 else x

    checks = by_name(withstand.doctor(Branching(), (lab.x, lab.y), THREAT))
    assert checks["operators"].outcome == "warn"
    assert "Nothing can be proved" in checks["operators"].sentence
    assert checks["torch against onnxruntime"].outcome == "note"


@pytest.mark.parametrize(
    ("threat", "x", "match"),
    [
        (THREAT, lambda x: x * 255, "outside the threat's domain"),
        (THREAT, lambda x: x[:, :63], "the model wants 64"),
        (THREAT, lambda x: x.masked_fill(x == 0, torch.nan), "NaN"),
        ("linf:o.1", lambda x: x, "not a number"),
    ],
)
def test_what_cannot_be_asked_is_said_in_one_sentence(lab: Lab, threat: str, x, match: str) -> None:
    with pytest.raises(InputError, match=match) as told:
        withstand.doctor(lab.onnx, (x(lab.x), lab.y), threat)
    assert "\n" not in str(told.value)


def test_labels_out_of_range(lab: Lab) -> None:
    with pytest.raises(InputError, match="outside 0 to 9"):
        withstand.doctor(lab.onnx, (lab.x, lab.y + 5), THREAT)


def test_unknown_device(lab: Lab) -> None:
    with pytest.raises(InputError, match="device 'cuda:7'"):
        withstand.doctor(lab.onnx, lab.npz, THREAT, device="cuda:7")
