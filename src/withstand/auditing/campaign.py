"""Attacks on all samples of a question, block by block, so that nothing finished is lost."""

from collections.abc import Iterator

import torch
from torch import Tensor

from withstand.auditing.attempts import joined
from withstand.auditing.ledger import Ledger
from withstand.auditing.progress import Listener, Progress
from withstand.auditing.question import Question
from withstand.auditing.siege import Attacks, Means, Settled, besiege
from withstand.core.records import EndedBy, SampleRecord
from withstand.core.tally import count
from withstand.io.witness import load_witness
from withstand.reporting.page import report

BLOCK = 512
"""Samples attacked together."""

KEPT_BLOCK = 128
"""The same in a run that is kept on disk: so many may be lost by a kill."""


class Campaign:
    """Attacks on the samples of a question that are not settled yet, or that time kept an attack from.

    seconds: wall time that each attack may take (None: to its end). ledger: of the run's folder (None: nothing is
    kept on disk).
    """

    def __init__(
        self,
        question: Question,
        means: Means,
        attacks: Attacks,
        seconds: float | None,
        listener: Listener | None,
        ledger: Ledger | None = None,
    ) -> None:
        self.question, self.means, self.attacks, self.seconds, self.ledger = question, means, attacks, seconds, ledger
        self.listener = listener or (lambda event: None)
        self.samples = {} if ledger is None else dict(ledger.samples)
        self.spent = dict.fromkeys(attacks, 0.0)
        self.found: dict[int, Tensor] = {}

    def go(self) -> EndedBy | None:
        """Settle every sample; what ended it before everything was done, if anything did: an interrupt (of a run that
        is kept), or the time. Raises ModelRaised when the model does, with what was finished before it in the folder.
        """
        if self.ledger is not None:
            self.ledger.write("running")
            self.ledger.store_model()
        try:
            blocks = list(self._blocks())
            for number, rows in enumerate(blocks):
                self._settle(rows, len(blocks) - number)
        except KeyboardInterrupt:
            if self.ledger is None:
                raise
            self._end("interrupt")
            return "interrupt"
        late = any(one.cut for one in self.samples.values())
        self._end("time" if late else None)
        self._tell("done")
        return "time" if late else None

    def _end(self, ended_by: EndedBy | None) -> None:
        if self.ledger is not None:
            self.ledger.write("complete" if ended_by is None else "partial", ended_by)
            report(self.ledger.folder.path)

    @property
    def ordered(self) -> list[SampleRecord]:
        """The settled samples by number."""
        return [self.samples[i] for i in sorted(self.samples)]

    @property
    def inputs(self) -> Tensor:
        """The clean inputs [n, *shape] of the settled samples, by number."""
        places = {id: row for row, id in enumerate(self.question.data.ids)}
        return self.question.x[[places[i] for i in sorted(self.samples)]].cpu()

    @property
    def witnesses(self) -> dict[int, Tensor]:
        """The witness of each refuted sample by number; those of an earlier part of the run are read from its files."""
        refuted = [sample for sample in self.ordered if sample.status == "refuted"]
        held = {sample.id: self.found[sample.id] for sample in refuted if sample.id in self.found}
        if self.ledger is not None:
            folder = self.ledger.folder.path
            files = {s.id: folder / s.witness for s in refuted if s.id not in held and s.witness}
            held |= {id: torch.from_numpy(load_witness(file).x) for id, file in files.items() if file.is_file()}
        return dict(sorted(held.items()))

    def _blocks(self) -> Iterator[list[int]]:
        """Rows of the data that are not settled or cut short by the time, in blocks of a fixed cut."""
        ids, size = self.question.data.ids, BLOCK if self.ledger is None else KEPT_BLOCK
        done = {i for i, one in self.samples.items() if not one.cut}
        for start in range(0, len(ids), size):
            rows = [row for row in range(start, min(start + size, len(ids))) if ids[row] not in done]
            if rows:
                yield rows

    def _settle(self, rows: list[int], left: int) -> None:
        parts = left * (1 + len(self.means.radii))

        def pace(text: str) -> float | None:
            return None if self.seconds is None else max(0.0, self.seconds - self.spent[text]) / parts

        for text in self.attacks:
            self._tell(text)
        settled = besiege(self.question, self.means, self.attacks, rows, pace, witnesses=self.ledger is not None)
        self._keep(settled)
        if settled.raised is not None:
            if self.ledger is not None:
                self.ledger.write("partial")
                report(self.ledger.folder.path)
            raise settled.raised
        self._tell("settled")

    def _keep(self, settled: Settled) -> None:
        for text, seconds in settled.spent.items():
            self.spent[text] += seconds
        known = self.samples
        records = [joined(known[one.id], one) if one.id in known else one for one in settled.records]
        self.samples |= {one.id: one for one in records}
        self.found |= settled.found
        if self.ledger is not None:
            self.ledger.now.attack += sum(settled.spent.values())
            self.ledger.keep(records, settled.witnesses)

    def _tell(self, stage: str) -> None:
        counts, total = count(list(self.samples.values())), len(self.question.data)
        self.listener(Progress(stage, len(self.samples), total, counts, sum(self.spent.values())))
