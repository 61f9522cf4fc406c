"""Plans: defaults, files, near misses, and the match with a run folder."""

import json

import pytest
import torch
from lab import PLAN, THREAT, Lab

import withstand
from withstand.auditing.plan import load_plan, make_plan, radii_of, save_plan, threat_text
from withstand.auditing.runfolder import default_folder
from withstand.core.balls import Linf
from withstand.core.box import Box
from withstand.core.errors import InputError
from withstand.core.property import Band, Linear
from withstand.core.property_text import parse_property
from withstand.core.threat_text import parse_threat


def test_a_saved_plan_reads_back(tmp_path) -> None:
    plan = make_plan("m.onnx", "d.npz", "linf:8/255", limit=5, seed=3, budget="10m")
    save_plan(plan, tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json") == plan
    assert (plan.threat, plan.budget_seconds, plan.limit, plan.seed) == ("linf:8/255", 600.0, 5, 3)


def test_a_base_fills_what_is_left_at_its_default() -> None:
    base = make_plan("a", "b", "linf:0.1", limit=5, seed=3, budget=60)
    plan = make_plan("m", "d", "l2:1", base=base, limit=7)
    assert (plan.model, plan.threat, plan.limit, plan.seed, plan.budget_seconds) == ("m", "l2:1", 7, 3, 60.0)


def test_what_is_given_overrides_a_base_even_where_it_is_a_default() -> None:
    base = make_plan("a", "b", "linf:0.1", "not-class:3", seed=3)
    kept, changed = (
        make_plan("m", "d", "linf:0.1", base=base),
        make_plan("m", "d", "linf:0.1", "argmax", seed=0, base=base),
    )
    assert (kept.property, kept.seed) == ("not-class:3", 3)
    assert (changed.property, changed.seed) == ("argmax", 0)


def test_radii_that_are_counts_are_told_once_and_never_zero() -> None:
    for text, radii in (
        ("l0:1", (1, 2)),
        ("l0:5", (1, 2, 3, 5, 6, 7, 10)),
        ("l0:0", (0,)),
        ("patch:2x2", (0.5, 1, 1.5, 2)),
        ("linf:0.2", (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)),
    ):
        assert radii_of(make_plan("m", "d", text), parse_threat(text)) == radii, text


def test_counts_of_pixels_get_attacks_of_their_own() -> None:
    assert {"greedy-pixels", "sparse-rs:queries=1000"} <= set(make_plan("m", "d", "l0:3").attacks)
    assert "sparse-rs:queries=1000" in make_plan("m", "d", "patch:3x3", "band:0.5").attacks
    for text in ("l0:3[-1,1]@u8", "patch:3x2"):
        assert threat_text(parse_threat(text)) == text.replace("[-1,1]", "[-1.0,1.0]")
        assert parse_threat(threat_text(parse_threat(text))) == parse_threat(text)


def test_cross_entropy_serves_labels_only() -> None:
    base = make_plan("m", "d", "linf:0.1").model_copy(update={"attacks": ["pgd:loss=ce"]})
    with pytest.raises(InputError, match=r"'pgd:loss=ce' walks down ce, the property offers margin; remove it"):
        make_plan("m", "d", "linf:0.1", "band:0.5", base=base)
    for property in ("argmax", "not-class:3", "band:0.5"):  # `worst` walks down what the property offers
        assert "worst:queries=0" in make_plan("m", "d", "linf:0.1", property).attacks


def test_what_a_run_cannot_write_down_is_refused() -> None:
    """A run's question must read back from its plan, or its witnesses and proofs could not be checked."""
    box = Box(lower=torch.zeros(2), upper=torch.ones(2))
    with pytest.raises(InputError, match="ask about boxes with `withstand verify"):
        make_plan("m", "d", box)
    rows = Linear(torch.ones(1, 2), torch.zeros(1), torch.zeros(1, dtype=torch.long))
    with pytest.raises(InputError, match="'linear:1 rows' is not understood"):
        make_plan("m", "d", "linf:0.1", str(rows))
    assert parse_property(str(Band(1 / 3))) == Band(1 / 3)


def test_threats_in_memory_keep_their_exact_numbers() -> None:
    threat = Linf(8 / 255, (-1.0, 1.0), 255)
    assert parse_threat(threat_text(threat)) == threat


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"attacks": ["pdg"]}, "did you mean 'pgd'"),
        ({"attacks": ["pgd:stps=3"]}, "did you mean 'steps'"),
        ({"verifiers": ["crwn"]}, "did you mean 'crown'"),
        ({"curve": [1.0, 0.0]}, "not positive"),
        ({"sample_queries": 3}, "sample_queries 3 is too few"),
    ],
)
def test_bad_plans_are_told(tmp_path, change: dict, match: str) -> None:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps(PLAN.model_dump() | change))
    with pytest.raises(InputError, match=match):
        make_plan("m", "d", THREAT, base=file)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "not JSON"),
        ('{"model": "m", "data": "d", "threat": "linf:1", "atacks": []}', "did you mean 'attacks'"),
        ('{"model": "m", "data": "d"}', "threat: Field required"),
        ('{"model": "m", "data": "d", "threat": "t", "limit": "few"}', "limit: "),
    ],
)
def test_files_that_are_no_plan(tmp_path, text: str, match: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(InputError, match=match):
        load_plan(tmp_path / "plan.json")
    with pytest.raises(InputError, match="cannot be read"):
        load_plan(tmp_path / "none.json")


@pytest.mark.parametrize("budget", ["0s", "soon", -1])
def test_budgets_that_are_none(budget) -> None:
    with pytest.raises(InputError):
        make_plan("m", "d", THREAT, budget=budget)


QUICK = PLAN.model_copy(update={"attacks": ["noise:draws=2"], "verifiers": ["ibp"], "curve": []})


@pytest.mark.parametrize(
    ("asked", "match"),
    [
        ({"threat": "linf:0.05"}, "holds a run with threat 'linf:0.06', not 'linf:0.05'"),
        ({"seed": 1}, "with seed 0, not 1"),
        ({"limit": 3}, "with limit 4, not 3"),
        ({"plan": PLAN}, "with attacks"),
    ],
)
def test_another_plan_does_not_continue_a_run(lab: Lab, tmp_path, asked: dict, match: str) -> None:
    given = {"threat": THREAT, "limit": 4, "plan": QUICK, "out": tmp_path / "run"}
    withstand.audit(lab.onnx, lab.npz, **given)
    with pytest.raises(InputError, match=match) as told:
        withstand.audit(lab.onnx, lab.npz, **(given | asked))
    assert "--out" in str(told.value)


def test_other_weights_or_data_do_not_continue_a_run(lab: Lab, tmp_path) -> None:
    given = {"threat": THREAT, "limit": 4, "plan": QUICK, "out": tmp_path / "run"}
    withstand.audit(lab.module, (lab.x, lab.y), **given)
    with pytest.raises(InputError, match="other data"):
        withstand.audit(lab.module, (lab.x.flip(0), lab.y.flip(0)), **given)
    other = type(lab.module)(*list(lab.module), *list(lab.module)[1:2])
    with pytest.raises(InputError, match="other weights"):
        withstand.audit(other, (lab.x, lab.y), **given)


def test_a_longer_budget_continues_a_run(lab: Lab, tmp_path) -> None:
    given = {"threat": THREAT, "limit": 4, "plan": QUICK, "out": tmp_path / "run"}
    withstand.audit(lab.onnx, lab.npz, budget=100, **given)
    assert withstand.audit(lab.onnx, lab.npz, budget="1h", **given).n == 4


def test_the_default_folder_names_the_run() -> None:
    folder = default_folder("../models/net-1.onnx", "../data/mnist.npz[x_test,y_test]", "linf:8/255@u8", 0)
    assert folder.as_posix() == "runs/net_1-mnist-linf_8_255_u8-0"


def test_a_folder_that_cannot_be_written(lab: Lab, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        withstand.audit(lab.onnx, lab.npz, threat=THREAT, out=tmp_path / "file" / "run")
