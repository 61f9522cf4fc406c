"""The folder of certificates of `withstand verify` on samples."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from withstand.auditing.question import Question
from withstand.auditing.witnesses import make_witness
from withstand.checker.file import save
from withstand.checker.network import Network
from withstand.checker.reading import read_network
from withstand.core.budget import Budget
from withstand.core.errors import InputError
from withstand.core.judge import Judge, Status, Verdict
from withstand.verification.certificates import ENDING, certify_row
from withstand.verification.proof import Proof, proofs_of


class Shelf:
    """A folder with the model, one certificate a proved sample and one witness a refuted one.

    files: of every sample so far, its file ("": none). Raises InputError when the model or the threat has no
    certificates.
    """

    def __init__(self, question: Question, folder: Path, budget: Budget) -> None:
        if question.model.differs is not None:
            raise InputError(f"There are no certificates: {question.model.differs}")
        if question.onnx is None:
            raise InputError(f"{question.model.name} cannot be written as ONNX: {question.model.why_no_graph}")
        self.question, self.folder, self.budget = question, folder, budget
        self.network: Network = read_network(question.onnx)
        self.files: list[str] = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "model.onnx").write_bytes(question.onnx)
        except OSError as error:
            raise InputError(f"The folder {folder} cannot be written ({error.strerror}); choose another.") from None

    def proofs(self, judge: Judge) -> list[Proof]:
        """Empty certificates of the judge's questions."""
        return proofs_of(self.network, judge.threat, judge.property, judge.x0, judge.y)

    def keep(self, judge: Judge, verdicts: list[Verdict], proofs: Sequence[Proof] | None, start: int) -> list[Verdict]:
        """Store what is known of the judge's rows, the first of which is sample `start`; the verdicts after it."""
        assert proofs is not None
        return [self._keep(judge, row, verdict, proofs[row], start + row) for row, verdict in enumerate(verdicts)]

    def _keep(self, judge: Judge, row: int, verdict: Verdict, proof: Proof, sample: int) -> Verdict:
        file, reason = "", verdict.reason
        name = self.folder / str(self.question.data.ids[sample])
        if verdict.status is Status.PROVED:
            with self.budget.enforced():
                found = certify_row(judge, row, proof)
            if found.certificate is None:
                reason = f"no certificate was stored: {found.reason}"
            else:
                save(found.certificate, name.with_name(name.name + ENDING))
                file = name.name + ENDING
        elif verdict.status is Status.REFUTED and not self.question.threat.rendered:
            file = self._witness(judge, row, verdict, sample, name)
        self.files.append(file)
        return replace(judge.verdict(row), reason=reason)

    def _witness(self, judge: Judge, row: int, verdict: Verdict, sample: int, name: Path) -> str:
        question = self.question
        assert verdict.witness is not None
        assert verdict.output is not None
        make_witness(
            question.threat,
            question.property,
            (question.data.ids[sample], question.x[sample], question.y[sample]),
            verdict.witness.to(question.x.dtype),
            None,
            answer=float(question.property.answer(verdict.output[None])[0]),
            margin=verdict.margin,
            method=verdict.method or "",
            model=question.model.digest(),
        ).save(name.with_name(name.name + ".npz"))
        return name.name + ".npz"
