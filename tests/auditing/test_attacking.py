"""Attacks alone: run folders, what attacks may see and spend, random models, surrogates, curves and targets."""

from pathlib import Path

import numpy as np
import pytest
import torch
from lab import THREAT, Lab
from measured import measured
from torch import Tensor, nn

import withstand
from withstand.auditing import campaign
from withstand.auditing.progress import Progress
from withstand.auditing.runfolder import RunFolder
from withstand.core.errors import InputError
from withstand.core.runner import ModelRaised

ATTACKS = ["fgsm", "pgd:steps=10", "square:queries=30"]


def attacked(lab: Lab, attacks: list[str] = ATTACKS, threat: str = THREAT, limit: int = 30, **options):
    return withstand.attack(lab.onnx, lab.npz, threat, attacks, limit=limit, **options)


def test_a_run_folder_holds_all_and_resumes(lab: Lab, tmp_path: Path) -> None:
    run = tmp_path / "run"
    told = attacked(lab, out=run)
    assert told.to_json() == attacked(lab, out=run).to_json()
    assert (told.run_dir, told.state) == (run, "complete")
    assert (run / "report.html").is_file()
    samples = RunFolder(run).read_samples()
    hits = [(text, one) for s in samples for text, one in s.attacks.items() if one.refuted]
    assert len(hits) == sum(
        round((told.clean_accuracy - measured(a.attacked_accuracy)) * 30) for a in told.attacks.values()
    )
    assert withstand.replay(run / str(hits[0][1].witness)).reproduced
    rechecked = withstand.check(run)
    assert rechecked.ok, rechecked.failures
    assert rechecked.witnesses == len(hits)
    (listed,) = withstand.ls(run)
    assert listed.summary is not None
    assert listed.summary.attacked_accuracy == told.attacked_accuracy
    with pytest.raises(InputError, match="holds a run with queries None, not 50"):
        attacked(lab, out=run, queries=50)


def test_a_run_interrupted_between_blocks_goes_on_where_it_was(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "KEPT_BLOCK", 10)

    def interrupt(event: Progress) -> None:
        if event.stage == "settled" and event.done == 20:
            raise KeyboardInterrupt

    part = attacked(lab, out=tmp_path / "run", progress=interrupt)
    assert (part.state, part.n) == ("partial", 20)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run/witnesses").glob("*.npz")}
    told = attacked(lab, out=tmp_path / "run")
    whole = attacked(lab, out=tmp_path / "whole")
    assert (told.state, told.n) == ("complete", 30)
    assert told.refuted == whole.refuted
    assert [one.queries for one in told.attacks.values()] == [one.queries for one in whole.attacks.values()]
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_check_sees_a_lost_witness_of_one_attack(lab: Lab, tmp_path: Path) -> None:
    attacked(lab, out=tmp_path)
    next(tmp_path.glob("witnesses/*-2-pgd.npz")).unlink()
    (failure,) = withstand.check(tmp_path).failures
    assert "by pgd:steps=10 is missing" in failure


def test_folders_change_no_figure(lab: Lab, tmp_path: Path) -> None:
    kept, free = attacked(lab, out=tmp_path / "run"), attacked(lab)
    assert kept.refuted == free.refuted
    assert [a.queries for a in kept.attacks.values()] == [a.queries for a in free.attacks.values()]


class Raising(nn.Module):
    """Raises on samples near a bad one that are not that one itself."""

    def __init__(self, net: nn.Module, bad: Tensor) -> None:
        super().__init__()
        self.net, self.bad = net, bad

    def forward(self, x: Tensor) -> Tensor:
        far = (x - self.bad).abs().amax(1)
        if bool(((far > 0) & (far < 0.07)).any()):
            raise ValueError("no such pixel")
        return self.net(x)


def test_a_model_that_raises_loses_no_sample_before(lab: Lab, tmp_path: Path) -> None:
    model = Raising(lab.module, lab.x[7])
    with pytest.raises(ModelRaised, match=r"raised ValueError \(no such pixel\) on sample 7;"):
        withstand.attack(model, (lab.x, lab.y), THREAT, ["fgsm", "pgd:steps=10"], limit=20, out=tmp_path)
    assert [sample.id for sample in RunFolder(tmp_path).read_samples()] == list(range(7))
    record = RunFolder(tmp_path).read_run()
    assert record is not None
    assert record.state == "partial"
    assert (tmp_path / "report.html").is_file()


@pytest.mark.parametrize("queries", [4, 7, 30])
def test_no_sample_costs_more_than_its_queries(lab: Lab, queries: int) -> None:
    for closest in (False, True):
        told = attacked(lab, limit=12, queries=queries, closest=closest)
        spent = [one.queries for s in told.samples for one in s.attacks.values()]
        assert max(spent) <= queries


def test_scores_suffice_and_labels_do_not(lab: Lab) -> None:
    told = attacked(lab, ["pgd:steps=10"], limit=10, access="scores")
    assert told.attacks["pgd:steps=10"].queries > 10 * 40
    with pytest.raises(InputError, match="needs gradients, and only labels are shown"):
        attacked(lab, ["pgd"], access="labels")
    with pytest.raises(InputError, match="Access 'score' is not known; did you mean 'scores'"):
        attacked(lab, access="score")


def test_a_random_model_is_judged_by_the_majority(lab: Lab) -> None:
    generator = torch.Generator().manual_seed(0)

    def noisy(x: Tensor) -> Tensor:
        z = lab.module(x)
        return z + 0.5 * torch.randn(z.shape, generator=generator)

    data = (lab.x, lab.y)
    sure = withstand.attack(noisy, data, THREAT, ["pgd:steps=10"], limit=20, eot=5)
    plain = withstand.attack(lab.module, data, THREAT, ["pgd:steps=10"], limit=20)
    assert abs(measured(sure.attacked_accuracy) - measured(plain.attacked_accuracy)) <= 0.25
    with pytest.raises(InputError, match="at least one draw"):
        withstand.attack(noisy, data, THREAT, eot=0)


def test_a_surrogate_is_seen_in_place_of_the_model(lab: Lab) -> None:
    same, own = attacked(lab, ["pgd:steps=10"], surrogate=lab.module), attacked(lab, ["pgd:steps=10"])
    assert same.refuted == own.refuted
    torch.manual_seed(1)
    other = attacked(lab, ["pgd:steps=10"], surrogate=nn.Linear(64, 10))
    assert measured(other.attacked_accuracy) >= measured(own.attacked_accuracy)
    with pytest.raises(InputError, match="maps 64 to 4 outputs, the model 64 to 10; give one with the same"):
        attacked(lab, surrogate=nn.Linear(64, 4))
    with pytest.raises(InputError, match="surrogate cannot be used: The model does not run on samples of 64"):
        attacked(lab, surrogate=nn.Linear(60, 10))


def test_the_nearest_violation_decides_by_its_distance() -> None:
    net = nn.Linear(12, 2)
    torch.manual_seed(3)
    net.weight.data, net.bias.data = torch.randn(2, 12), torch.zeros(2)
    x = 0.3 + 0.4 * torch.rand(40, 12)
    gap = net.weight.data[0] - net.weight.data[1]
    net.bias.data[0] = -(x @ gap).mean()
    z = net(x).detach()
    distance = (z[:, 0] - z[:, 1]).abs() / gap.abs().sum()
    radius = 1.01 * float(distance.median())  # of no sample the very distance
    threat = f"linf:{radius}"
    told = withstand.attack(net, (x, z.argmax(1)), threat, ["pgd"], closest=True, radii=[radius / 2, 2 * radius])
    (figures,) = told.attacks.values()
    assert figures.median_distance == pytest.approx(float(np.median(distance)), rel=0.05)
    assert told.attacked_accuracy == pytest.approx(float((distance > radius).double().mean()), abs=0.1)
    assert told.curve is not None
    for point in told.curve:
        assert point["attacked_accuracy"] == pytest.approx(float((distance > point["radius"]).double().mean()), abs=0.1)
    constant = nn.Linear(12, 2)
    constant.weight.data.zero_()
    never = withstand.attack(constant, (x, torch.full((40,), int(constant.bias.argmax()))), threat, closest=True)
    assert never.attacks["pgd"].median_distance == np.inf


def test_a_curve_falls_and_shares_its_work(lab: Lab) -> None:
    told = attacked(lab, ["pgd:steps=10"], radii=[0.03, 0.06, 0.12, 0.3])
    assert told.curve is not None
    shares = [measured(point["attacked_accuracy"]) for point in told.curve]
    assert [point["radius"] for point in told.curve] == [0.03, 0.06, 0.12, 0.3]
    assert shares == sorted(shares, reverse=True)
    assert shares[1] == told.attacked_accuracy
    alone = attacked(lab, ["pgd:steps=10"], threat="linf:0.03")
    assert shares[0] <= measured(alone.attacked_accuracy) + 0.1
    with pytest.raises(InputError, match="must be positive numbers"):
        attacked(lab, radii=[0.1, -1])


def test_every_class_in_turn_is_the_target(lab: Lab, tmp_path: Path) -> None:
    told = attacked(lab, ["pgd:steps=10"], threat="linf:0.15", limit=12, property="all-targets", out=tmp_path)
    free = attacked(lab, ["pgd:steps=10"], threat="linf:0.15", limit=12)
    assert sorted(told.targets, key=int) == [str(i) for i in range(10)]
    assert told.clean_accuracy == free.clean_accuracy
    assert abs(measured(told.attacked_accuracy) - measured(free.attacked_accuracy)) <= 0.2
    assert sum(target.n for target in told.targets.values()) == 9 * round(12 * told.clean_accuracy)
    assert len(withstand.ls(tmp_path)) == 10


def test_rows_already_of_the_target_class_are_left_out(lab: Lab) -> None:
    told = attacked(lab, ["pgd:steps=10"], property="not-class:3")
    classes = lab.module(lab.x[:30]).argmax(1).tolist()
    assert [s.status == "invalid" for s in told.samples] == [c == 3 for c in classes]


def test_several_labels_and_the_k_largest(lab: Lab) -> None:
    y = (lab.module(lab.x) > 0).long()
    told = withstand.attack(lab.module, (lab.x, y), THREAT, ["pgd:steps=10"], property="multi-label", limit=20)
    assert told.clean_accuracy == 1.0
    assert measured(told.attacked_accuracy) < 1.0
    wide = [attacked(lab, ["pgd:steps=10"], threat="linf:0.15", property=f"top-k:{k}") for k in (1, 3)]
    assert measured(wide[0].attacked_accuracy) <= measured(wide[1].attacked_accuracy)
    with pytest.raises(
        InputError, match="several labels are a row of 0 and 1 a sample, one for each of the 10 outputs"
    ):
        withstand.attack(lab.module, (lab.x, y[:, :4]), THREAT, property="multi-label")


def test_a_model_without_gradients_is_told_so(lab: Lab) -> None:
    def dead(x: Tensor) -> Tensor:
        return torch.from_numpy(lab.module(x).detach().numpy())

    with pytest.raises(InputError, match="The model has no gradient, which the attack 'pgd' needs"):
        withstand.attack(dead, (lab.x, lab.y), THREAT, ["square", "pgd"], limit=5)
    told = withstand.attack(dead, (lab.x, lab.y), THREAT, ["pgd:steps=5"], access="scores", limit=5)
    assert told.attacks["pgd:steps=5"].queries > 100


def test_8_bit_witnesses_are_pictures_that_replay(tmp_path: Path) -> None:
    told = withstand.attack("digits-cnn", "digits", "linf:40/255@u8", ["pgd:steps=10"], limit=6, out=tmp_path)
    assert measured(told.attacked_accuracy) < 1.0
    picture = next(tmp_path.glob("witnesses/*.png"))
    assert withstand.replay(picture).reproduced
    assert withstand.check(tmp_path).ok
