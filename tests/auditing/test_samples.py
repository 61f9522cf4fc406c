"""What the verbs hand back of each sample: inputs as tensors, records, and tables where pandas is installed."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from lab import PLAN, THREAT, Lab, N

import withstand
from withstand.auditing.attacked import Attacked
from withstand.auditing.frames import row
from withstand.core.errors import InputError
from withstand.core.records import AttackRecord, SampleRecord

RADIUS = 0.15
ATTACK = ["pgd:steps=10", "noise:draws=5"]


def attacked(lab: Lab, **options: Any) -> Attacked:
    return withstand.attack(lab.module, (lab.x[:20], lab.y[:20]), f"linf:{RADIUS}", ATTACK, **options)


def check(lab: Lab, found: Any) -> None:
    """Every refuted row lies in the threat and is answered wrongly by the module; all other rows are the clean ones."""
    assert found.x.shape == (20, 64)
    assert found.x.dtype == lab.x.dtype
    struck = torch.tensor([sample.status == "refuted" for sample in found.samples])
    assert struck.tolist() == found.refuted
    assert 0 < int(struck.sum()) < 20
    assert torch.equal(found.x[~struck], lab.x[:20][~struck])
    assert float((found.x - lab.x[:20]).abs().max()) <= RADIUS + 1e-6
    assert found.x.min() >= 0
    assert found.x.max() <= 1
    assert bool((lab.module(found.x[struck]).argmax(1) != lab.y[:20][struck]).all())
    assert sorted(found.witnesses) == [sample.id for sample in found.samples if sample.status == "refuted"]


def test_attack_hands_back_adversarial_tensors(lab: Lab) -> None:
    check(lab, attacked(lab))


def test_a_folder_hands_back_the_same_tensors_when_nothing_is_left_to_do(lab: Lab, tmp_path: Path) -> None:
    first = attacked(lab, out=tmp_path / "run")
    again = attacked(lab, out=tmp_path / "run")
    check(lab, again)
    assert torch.equal(first.x, again.x)


def test_every_class_as_a_target_hands_back_one_input_a_sample(lab: Lab, tmp_path: Path) -> None:
    found = attacked(lab, property="all-targets", out=tmp_path)
    check(lab, found)
    assert all((tmp_path / s.witness).is_file() for s in found.samples if s.witness)
    right = lab.module(lab.x[:20]).argmax(1) == lab.y[:20]
    assert [s.status != "invalid" for s in found.samples] == right.tolist()


def test_moves_hand_back_pictures() -> None:
    found = withstand.attack("digits-cnn", "digits", "spatial:30,2", ["rotate-translate"], limit=6)
    assert found.x.shape == (6, 1, 8, 8)
    with torch.no_grad():
        answers = withstand_model()(found.x).argmax(1)
    for sample, answer in zip(found.samples, answers.tolist(), strict=True):
        assert (answer == sample.adversarial) if sample.status == "refuted" else (answer == sample.predicted)


def withstand_model() -> torch.nn.Module:
    from withstand.builtin.models import builtin_model

    return builtin_model("digits-cnn")


def test_an_audit_hands_back_its_records(lab: Lab, tmp_path: Path) -> None:
    found = withstand.audit(lab.onnx, lab.npz, threat=THREAT, limit=12, plan=PLAN, out=tmp_path)
    assert [sample.id for sample in found.samples] == list(range(12))
    counted = [sample.status for sample in found.samples]
    assert found.counts.model_dump() == {name: counted.count(name) for name in found.counts.model_dump()}
    assert "samples" not in found.to_json()
    assert N > 12


def sample(**other: Any) -> SampleRecord:
    return SampleRecord(id=4, label=1, predicted=1, status="refuted", clean_margin=1, margin=-1, **other)


def test_a_row_is_flat() -> None:
    cells = row(sample(flags=["a", "b"], attacks={"pgd:steps=3": AttackRecord(refuted=True, margin=-1.0)}))
    assert (cells["id"], cells["status"], cells["flags"]) == (4, "refuted", "a b")
    assert (cells["pgd:steps=3.refuted"], cells["pgd:steps=3.margin"]) == (True, -1.0)
    assert not any(isinstance(cell, list | dict) for cell in cells.values())


def results(lab: Lab, tmp_path: Path) -> list[Any]:
    model, data = lab.module, (lab.x[:3], lab.y[:3])
    return [
        withstand.audit(model, data, threat=THREAT, plan=PLAN, out=tmp_path),
        withstand.attack(model, data, THREAT, ["noise:draws=2"]),
        withstand.verify(model, data, THREAT, method="ibp"),
        withstand.radius(model, data, THREAT, "ibp"),
        withstand.smooth(model, data, sigma=0.1, n=20, n0=5, alpha=0.1),
    ]


def test_tables_have_a_row_a_sample(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class DataFrame:
        def __init__(self, rows: list[dict[str, Any]]) -> None:
            self.rows = rows

        def set_index(self, name: str) -> list[Any]:
            return [row[name] for row in self.rows if len(row) > 3]

    stub = ModuleType("pandas")
    stub.DataFrame = DataFrame  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pandas", stub)
    for result in results(lab, tmp_path):
        assert result.to_frame() == [0, 1, 2], type(result)


def test_a_table_of_pandas(lab: Lab) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed (extra `frames`)")
    found = withstand.attack(lab.module, (lab.x[:3], lab.y[:3]), THREAT, ["noise:draws=2"])
    assert list(found.to_frame().index) == [0, 1, 2]
    assert list(found.to_frame()["status"]) == [sample.status for sample in found.samples]


def test_without_pandas_a_sentence_names_the_line_that_installs_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    found = withstand.attack(lab.module, (lab.x[:3], lab.y[:3]), THREAT, ["noise:draws=2"])
    with pytest.raises(InputError, match=r"pip install 'withstand\[frames\]'"):
        found.to_frame()
