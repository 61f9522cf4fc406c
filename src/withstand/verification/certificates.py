"""Certificates of what was proved: checked, heard by the judge, and stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from withstand.checker.check import holds_as_run
from withstand.checker.file import save
from withstand.core.evidence import Grade, Lower
from withstand.core.judge import Judge
from withstand.verification.mend import Certified, certify
from withstand.verification.proof import Proof

ENDING = ".safetensors"

LEAST = 1e-300
"""What the judge is told where the checker's bound is zero: the rows are above it, by it knows not how much."""


@dataclass(frozen=True)
class Stored:
    """Where a certificate lies, or why there is none."""

    path: Path | None
    reason: str = ""


def certify_row(judge: Judge, row: int, proof: Proof) -> Certified:
    """The certificate of a row that the judge holds for proved, made in the time of the budget inside which this is
    called (see `Budget.enforced`); if it holds, the row's proof gets the higher grade."""
    found = certify(proof)
    if found.certificate is not None and found.report is not None:
        bound = max(min(found.report.least) - proof.rows.threshold, LEAST)
        method = judge.method[row] or ""
        judge.hear(Lower(torch.tensor([row]), torch.tensor([bound], dtype=torch.float64), Grade.LEAVES), method)
        if judge.executed(row) is False and holds_as_run(found.certificate, proof.network):
            judge.holds_as_run(row)
    return found


def store_rows(judge: Judge, rows: Sequence[int], proofs: Sequence[Proof], path: Path) -> Stored:
    """Certificates of proved rows in the file `path` less its ending, or where there are several in a folder of that
    name: all of them, or none and the reason. The time is that of `certify_row`."""
    found = []
    for row in rows:
        one = certify_row(judge, row, proofs[row])
        if one.certificate is None:
            where = f"of region {row + 1} " if len(rows) > 1 else ""
            return Stored(None, f"no certificate {where}was stored: {one.reason}")
        found.append(one.certificate)
    if len(found) == 1:
        file = path.with_name(path.name + ENDING)
        save(found[0], file)
        return Stored(file)
    for number, certificate in enumerate(found, 1):
        save(certificate, path / f"{number}{ENDING}")
    return Stored(path)
