"""The audit before a training, which trainings of the same model by other recipes share."""

import shutil
from pathlib import Path

from withstand.core.errors import InputError
from withstand.core.harden_records import HardenRecord, Standing
from withstand.core.run_files import is_harden_run, read_harden_record, read_run_record

SAME = ("data", "threat", "seed", "limit")
"""What two trainings must share, beside the digests of model and data, for their audits before to be one."""


def beside(folder: Path, record: HardenRecord) -> tuple[Path, Standing] | None:
    """A training in a folder beside this one whose complete audit before is the one that `record` asks for, and its
    figures; None where there is none."""
    for file in sorted(folder.absolute().parent.glob("*/run.json")):
        if file.parent == folder.absolute() or not is_harden_run(file):
            continue
        try:
            held = read_harden_record(file)
            audit = read_run_record(file.parent / "before" / "run.json")
        except InputError:
            continue
        if held.before is None or held.before.attacked_accuracy is None or audit.state != "complete":
            continue
        if _key(held) == _key(record):
            return file.parent, held.before
    return None


def copy_audit(source: Path, target: Path) -> None:
    """Copy the audit before from one training's folder to another's, which appears there whole or not at all."""
    part, whole = target / ".before.tmp", target / "before"
    for old in (part, whole):
        if old.exists():
            shutil.rmtree(old)
    shutil.copytree(source / "before", part, ignore=shutil.ignore_patterns(".lock"))
    part.rename(whole)


def _key(record: HardenRecord) -> tuple[object, ...]:
    origin = record.origin
    assert origin is not None
    digests = (origin.withstand, origin.model_digest, origin.data_digest, origin.device)
    return *(getattr(record, name) for name in SAME), *digests
