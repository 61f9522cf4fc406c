"""The re-check of a run folder finds what was changed in it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lab import PLAN, THREAT, Lab

import withstand
from withstand.core.errors import InputError


@pytest.fixture(scope="module")
def run(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check") / "run"
    withstand.audit(
        lab.module, (lab.x, lab.y), threat=THREAT, plan=PLAN, out=folder, property="argmax", seed=1, certificates=True
    )
    return folder


def test_an_honest_run_passes(lab: Lab, run: Path) -> None:
    checked = withstand.check(run, lab.module, (lab.x, lab.y))
    assert checked.failures == []
    assert min(checked.witnesses, checked.proofs) > 5
    assert checked.certificates == checked.proofs
    assert checked.samples == 60
    assert checked.to_json()["ok"] is True


def change_samples(folder: Path, first: str, **changes: object) -> None:
    """Rewrite the first sample of a status."""
    file = folder / "samples.jsonl"
    records = [json.loads(line) for line in file.read_text().splitlines()]
    next(r for r in records if r["status"] == first).update(changes)
    file.write_text("".join(json.dumps(r) + "\n" for r in records))


def drop_a_witness(folder: Path) -> None:
    next((folder / "witnesses").glob("*.npz")).unlink()


def move_a_witness(folder: Path) -> None:
    file = next((folder / "witnesses").glob("*.npz"))
    with np.load(file) as held:
        arrays = dict(held)
    arrays["x"] = np.clip(arrays["x"] + 0.2, 0, 1)
    np.savez(file, **arrays)


def boast(folder: Path) -> None:
    record = json.loads((folder / "run.json").read_text())
    record["summary"]["certified_accuracy"] = 1.0
    (folder / "run.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("tamper", "match"),
    [
        (boast, "says certified_accuracy is 1.0"),
        (drop_a_witness, "is missing"),
        (move_a_witness, "fails its replay"),
        (lambda f: change_samples(f, "refuted", status="proved", method="crown"), "does not hold in float64"),
        (lambda f: change_samples(f, "refuted", distance=0.01), "the record says 0.01"),
        (lambda f: change_samples(f, "proved", status="invalid"), "recorded as invalid, but its clean margin"),
        (lambda f: change_samples(f, "proved", id=999), "Sample 999 is not in the data"),
    ],
)
def test_changes_are_found(lab: Lab, run: Path, tmp_path: Path, tamper: Callable[[Path], None], match: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    tamper(folder)
    assert any(match in failure for failure in withstand.check(folder, lab.module, (lab.x, lab.y)).failures)


def test_another_model_or_data_is_found(lab: Lab, run: Path) -> None:
    from lab import train

    other = train()
    next(other.parameters()).add_(0.01)
    failures = withstand.check(run, other, (lab.x, lab.y)).failures
    assert any("is not the one of the run" in failure for failure in failures)
    failures = withstand.check(run, lab.module, (lab.x * 0.5, lab.y)).failures
    assert any("is not that of the run" in failure for failure in failures)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run folder"):
        withstand.check(tmp_path)
