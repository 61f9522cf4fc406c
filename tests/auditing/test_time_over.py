"""Audits and attacks whose time is over before everything is done: nothing is told that was not done, and more time
goes on with it. The time is told by a clock that moves with the work, never by the machine's."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lab import PLAN, THREAT, Lab, N
from torch import Tensor

import withstand
from withstand.auditing import audit as auditing
from withstand.auditing import campaign, siege
from withstand.auditing.attempts import joined
from withstand.auditing.pricing import Prices
from withstand.auditing.runfolder import RunFolder
from withstand.cli import main
from withstand.core.budget import Budget
from withstand.core.records import SampleRecord
from withstand.core.registry import build
from withstand.core.runner import run
from withstand.reporting.run import read_run
from withstand.reporting.words import headline, incomplete, population
from withstand.verification.methods.crown import Crown


class Clock:
    """Seconds that pass only where the test says so."""

    def __init__(self) -> None:
        self.now, self.tick = 0.0, 0.0

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of every audit's budget."""
    clock = Clock()
    monkeypatch.setattr(auditing, "Budget", lambda seconds=None: Budget(seconds, clock=clock))
    return clock


def costly(monkeypatch: pytest.MonkeyPatch, clock: Clock, lab: Lab, *, search: float, crown: float) -> None:
    """Each call of an attack on a sample takes `search` seconds, each bound of crown `crown` seconds a sample."""
    attack, bounds = auditing.settle_all.__globals__["settle"].__globals__["Block"].run, Crown.prove

    def attacked(self, attack_, rows, threat, budget):
        found = attack(self, attack_, rows, threat, budget)
        clock.now += search * len(rows)
        return found

    def proved(self, problem):
        for evidence in bounds(self, problem):
            clock.now += crown * len(problem)
            yield evidence

    monkeypatch.setattr("withstand.auditing.block.Block.run", attacked)
    monkeypatch.setattr(Crown, "prove", proved)


def samples_of(folder: Path) -> list[SampleRecord]:
    return RunFolder(folder).read_samples()


def test_a_time_over_before_any_attack_tells_no_upper_end(
    lab: Lab, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.tick = 1.0
    monkeypatch.setattr("withstand.core.chunk.Chunk._affordable", lambda *_: pytest.fail("no attack has the time"))
    told = withstand.audit(lab.onnx, lab.npz, threat=THREAT, plan=PLAN, out=tmp_path, budget=1e-9)
    assert told.attacked_accuracy is None
    assert (told.state, told.ended_by) == ("partial", "time")
    assert told.unattacked == told.counts.unknown == told.cut > 0
    assert told.population_interval.high is None
    assert all(point.attacked is None for point in told.curve)
    open_ = [one for one in samples_of(tmp_path) if one.status == "unknown"]
    assert all("no attack has looked at it" in one.reason for one in open_)
    assert not any("attacks brought" in one.reason for one in open_)
    found = read_run(tmp_path)
    assert "the upper end is not measured: no attack looked at" in headline(found)
    assert "its upper end is not measured" in population(found)
    assert "with a larger budget" in incomplete(found)
    assert json.loads((tmp_path / "run.json").read_text())["summary"]["attacked_accuracy"] is None
    assert "not measured" in withstand.report(tmp_path).read_text()
    assert withstand.check(tmp_path).failures == []
    (listed,) = withstand.ls(tmp_path)
    assert (listed.state, listed.progress) == ("partial", f"{N} of {N}, time over")


def test_more_time_goes_on_with_what_the_time_kept_from_its_end(
    lab: Lab, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end is that of a run without a limit: all records but what the attempts cost."""
    whole = withstand.audit(lab.onnx, lab.npz, threat=THREAT, plan=PLAN, out=tmp_path / "whole", batch=16)
    costly(monkeypatch, clock, lab, search=1.0, crown=2.0)
    out, lines = tmp_path / "run", []
    told = None
    for seconds in (0.001, 100, 400, 2000, 10**6):
        before = told
        told = withstand.audit(lab.onnx, lab.npz, threat=THREAT, plan=PLAN, out=out, batch=16, budget=seconds)
        assert withstand.check(out).failures == []
        if before is not None:
            assert told.counts.unknown <= before.counts.unknown
            assert told.certified_accuracy >= before.certified_accuracy
        lines.append((out / "samples.jsonl").read_text())
        assert lines[-1].startswith(lines[-2] if len(lines) > 1 else "")
    assert told is not None
    assert (told.state, told.cut, told.unattacked) == ("complete", 0, 0)
    assert lines[1] != lines[0]
    assert told.counts == whole.counts
    assert told.curve == whole.curve
    assert told.attacked_accuracy == whole.attacked_accuracy
    again = withstand.audit(lab.onnx, lab.npz, threat=THREAT, plan=PLAN, out=out, batch=16, budget=10**6)
    assert (out / "samples.jsonl").read_text() == lines[-1]
    assert again.counts == told.counts


def test_the_clock_begins_after_loading_and_the_doctor(
    lab: Lab, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examine = auditing.examine

    def slow(question):
        clock.now += 1000
        return examine(question)

    monkeypatch.setattr(auditing, "examine", slow)
    told = withstand.audit(lab.onnx, lab.npz, threat=THREAT, plan=PLAN, out=tmp_path, budget=10)
    assert (told.state, told.cut) == ("complete", 0)


def test_a_stage_that_cannot_end_leaves_its_time_to_the_others(
    lab: Lab, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attacks on a sample take a second and bounds a thousand: of 200 seconds the bounds burn a share once."""
    costly(monkeypatch, clock, lab, search=0.01, crown=0.0)
    burnt = []
    bounds = Crown.prove

    def slow(self, problem):
        before = clock.now
        clock.now += 1000.0 if len(burnt) else 20.0
        burnt.append(clock.now - before)
        yield from bounds(self, problem)

    monkeypatch.setattr(Crown, "prove", slow)
    told = withstand.audit(lab.onnx, lab.npz, threat=THREAT, plan=PLAN, out=tmp_path, batch=16, budget=60)
    assert len(burnt) <= 2
    assert told.unattacked == 0
    assert told.attacked_accuracy is not None


def test_prices_fit_the_groups_into_the_time() -> None:
    """A sample costs 3 seconds: of 10 samples in 20 seconds, a pilot of one and then as many as fit are begun."""
    clock, groups = Clock(), []
    open_ = set(range(10))

    def work(rows: Tensor, budget: Budget) -> Tensor:
        groups.append(len(rows))
        clock.now += 3.0 * len(rows)
        open_.difference_update(rows.tolist())
        return rows[:0]

    prices = Prices()
    missed = prices.run("slow", torch.arange(10), work, lambda: len(open_), Budget(20.0, clock=clock), yields=False)
    assert groups == [1, 2, 2, 1]
    assert clock.now <= 20.0
    ((rows, why),) = missed
    assert rows.tolist() == [6, 7, 8, 9]
    assert why == "a sample takes about 3 s, its share of the time was 2 s"
    assert prices.held["slow"].settled == 6
    assert prices.run("slow", torch.arange(3), work, lambda: 0, Budget(1.0, clock=clock), yields=False)
    assert sum(groups) == 6, "what cannot end is not begun"


def test_a_first_sample_that_does_not_end_is_not_tried_again_before_there_is_more_time() -> None:
    clock, calls = Clock(), []

    def work(rows: Tensor, budget: Budget) -> Tensor:
        calls.append(budget.seconds)
        clock.now += budget.left
        return rows

    prices = Prices()
    for seconds in (40.0, 40.0, 60.0, 100.0):
        prices.run("vain", torch.arange(4), work, lambda: 4, Budget(seconds, clock=clock), yields=False)
    assert calls == [10.0, 25.0]


def test_a_stage_that_settles_nothing_gives_way_where_it_may() -> None:
    clock, done = Clock(), []

    def work(rows: Tensor, budget: Budget) -> Tensor:
        done.append(len(rows))
        clock.now += 0.1 * len(rows)
        return rows[:0]

    missed = Prices().run("idle", torch.arange(100), work, lambda: 100, Budget(1000.0, clock=clock), yields=True)
    assert sum(done) < 40
    assert missed[0][1].startswith("it settled none of")
    Prices().run("idle", torch.arange(100), work, lambda: 100, Budget(1000.0, clock=clock), yields=False)
    assert sum(done) > 100


def test_attempts_together_lose_no_verdict() -> None:
    made = {"id": 0, "label": 0, "predicted": 0, "clean_margin": 2.0, "queries": 3}
    unknown = SampleRecord(**made, status="unknown", margin=0.5, bound=-1.0, cut={"crown": "x"}, tried=[0.1])
    proved = SampleRecord(**made, status="proved", margin=0.7, bound=0.2, method="crown", tried=[0.2])
    for before, now in ((unknown, proved), (proved, unknown)):
        both = joined(before, now)
        assert (both.status, both.method, both.bound, both.queries, both.tried) == (
            *("proved", "crown", 0.2, 6),
            [0.1, 0.2],
        )
    worse = joined(unknown, unknown.model_copy(update={"margin": 0.1, "bound": None, "reason": "later", "cut": {}}))
    assert (worse.margin, worse.bound, worse.reason, worse.cut) == (0.1, -1.0, "later", {})


def test_attacks_without_time_are_no_attacks(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `withstand attack`: the upper end, the curve and each attack's figures are missing, then measured."""
    clock = Clock()
    monkeypatch.setattr(siege, "Budget", lambda seconds, queries: Budget(seconds, queries, clock=clock))
    ask = {"attacks": ["pgd:steps=5"], "radii": (0.03,), "out": tmp_path / "run"}
    monkeypatch.setattr(campaign.Campaign, "_settle", _without_time(campaign.Campaign._settle))
    told = withstand.attack(lab.onnx, lab.npz, THREAT, **ask)
    assert (told.state, told.ended_by, told.attacked_accuracy) == ("partial", "time", None)
    assert told.attacks["pgd:steps=5"].attacked_accuracy is None
    assert told.curve is not None
    assert all(point["attacked_accuracy"] is None for point in told.curve)
    why = {s.reason for s in told.samples if s.status == "unknown"}
    assert why == {"no attack has looked at it; the time ran out"}
    monkeypatch.undo()
    told = withstand.attack(lab.onnx, lab.npz, THREAT, **ask)
    fresh = withstand.attack(lab.onnx, lab.npz, THREAT, **{**ask, "out": None})
    assert told.state == "complete"
    assert told.attacked_accuracy == fresh.attacked_accuracy is not None
    assert told.curve == fresh.curve
    assert withstand.check(tmp_path / "run").ok


def _without_time(settle):
    """Settle as if no attack had any time."""

    def settled(self, rows, left):
        self.seconds = 0.0
        settle(self, rows, left)

    return settled


def test_a_budget_that_ends_an_audit_is_no_error(lab: Lab, clock: Clock, capsys: pytest.CaptureFixture[str], tmp_path):
    words = ["audit", lab.onnx, "--data", lab.npz, "--threat", THREAT, "--out", str(tmp_path / "run")]
    clock.tick = 1.0
    assert main([*words, "--budget", "0.000000001s"]) == 0
    told = capsys.readouterr().out
    assert "not measured" in told
    assert "larger budget" in told
    assert main([*words, "--budget", "0.000000001s", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["attacked_accuracy"] is None


def test_an_attack_that_was_never_begun_is_told_from_one_that_found_nothing(lab: Lab) -> None:
    x, y, threat = lab.x[:4], lab.y[:4], withstand.core.threat_text.parse_threat("linf:0.0001")
    attack = build("attack", "pgd:steps=2")
    assert run(attack, lab.module, x, y, threat).looked().all()
    over = run(attack, lab.module, x, y, threat, budget=replace(Budget(1.0), _began=-(10.0**9)))
    assert not over.looked().any()
