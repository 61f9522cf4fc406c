"""One training on its way: the audit before, the epochs, the weights kept, the audit after."""

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

from torch import Tensor, nn

from withstand.auditing.figures import peak_memory
from withstand.auditing.harden_before import beside, copy_audit
from withstand.auditing.harden_folder import HardenFolder
from withstand.auditing.harden_talk import Talk
from withstand.auditing.masking.check import SAMPLES, masking
from withstand.auditing.origin import origin_of
from withstand.auditing.question import Question
from withstand.auditing.standing import alone, stand
from withstand.core.harden_records import EpochRecord, HardenRecord, Split, Standing
from withstand.core.threat import Threat
from withstand.graph.agreement import BATCH
from withstand.graph.capture import from_module
from withstand.graph.model import Model
from withstand.hardening.augment import mirrored, shifted
from withstand.hardening.loader import Loader
from withstand.hardening.loggers import logger
from withstand.hardening.objective import base_of
from withstand.hardening.recipe import Recipe
from withstand.hardening.renew import renew
from withstand.hardening.results import BEST, LAST
from withstand.hardening.schedules import WarmUp
from withstand.hardening.state import State
from withstand.hardening.step import Diverged, Precision
from withstand.hardening.trainable import trainable
from withstand.hardening.trainer import Trainer
from withstand.hardening.validate import Validation
from withstand.io.data import Data
from withstand.reporting.card import write_card

AUGMENT = {
    "none": (),
    "shift": (partial(shifted, pixels=1, share=0.5),),
    "shift-flip": (partial(shifted, pixels=4), mirrored),
}
"""The functions behind a recipe's word for augmentation."""


@dataclass(frozen=True)
class Samples:
    """What a training sees. sentence: how the data was divided. unlabelled: more inputs, for those who use them. held:
    the DATA string of the held-out samples, where there is one."""

    train: Data
    validation: Data
    sentence: str
    unlabelled: Data | None = None
    held: str | None = None


@dataclass(frozen=True)
class Task:
    """What a training was asked for. names: of model and data as the user wrote them. question: the model and the
    held-out samples, of which `limit` are audited. scratch: start from new weights. command: the command line that asks
    for the same, where there is one. loggers: names of what else is told of each epoch. audits: audit the weights
    before and after, else PGD alone judges them."""

    names: tuple[str, str]
    question: Question
    samples: Samples
    recipe: Recipe
    precision: Precision
    scratch: bool
    seed: int
    limit: int
    command: str | None = None
    loggers: tuple[str, ...] = ()
    audits: bool = True


class Training:
    """A task at work in an open folder."""

    def __init__(self, task: Task, folder: HardenFolder, talk: Talk, resume: bool) -> None:
        self.task, self.folder, self.talk = task, folder, talk
        self.record = folder.agree(_record(task), resume)
        self.module = trainable(task.question.model)
        if task.scratch:
            renew(self.module)
        self.objective = task.recipe.build()
        self.objective.prepare(self.module)
        self.trainer = self._trainer()
        self.best: nn.Module = self.module

    def run(self) -> None:
        """All stages; those that the folder holds are not done again."""
        self._write(state="running", ended=None)
        if self._wants(self.record.before):
            self._write(before=self._before())
        self._train()
        self.best = self.trainer.best_module().cpu()
        last = self.trainer.last_module().cpu()
        if self._wants(self.record.after):
            self.talk.say(f"{'auditing' if self.task.audits else 'attacking'} the best weights")
            after = self._stand(self._deployed(self.best, "best"), "after", self.task.question.model)
            task = self.task
            other = from_module(last, task.question.model.input_shape, "last", self._like)
            after_last = alone(other, task.question.data, self._threat, task.limit, task.seed)
            self._deployed(last, "last")
            self._write(after=after, after_last=after_last)
        state = "complete" if self.trainer.progress.ended is None else "stopped"
        self._write(state=state, ended=datetime.now(UTC), peak_memory_mb=peak_memory())
        write_card(self.folder.path)

    @property
    def _like(self) -> Tensor:
        """A few inputs, on the CPU."""
        return self.task.question.x[:BATCH].cpu()

    @property
    def _threat(self) -> Threat:
        return self.task.question.threat

    def _wants(self, known: Standing | None) -> bool:
        """Whether weights of which so much is known are to be looked at: without audits, PGD alone is enough."""
        return known is None or (self.task.audits and known.attacked_accuracy is None)

    def _before(self) -> Standing:
        """The figures of the weights as given: those of a training beside this one that had them, or new ones."""
        if self.task.audits and (found := beside(self.folder.path, self.record)) is not None:
            folder, standing = found
            copy_audit(folder, self.folder.path)
            self.talk.say(f"the audit before is that of {folder}: same weights, samples, threat and seed")
            return standing
        self.talk.say(f"{'auditing' if self.task.audits else 'attacking'} {self.task.names[0]} as it is")
        return self._stand(self.task.question.model, "before", None)

    def _stand(self, model: Model, name: str, surrogate: Model | None) -> Standing:
        """The figures of a model, with the findings on its gradients; surrogate: whose adversarial examples are tried
        on it."""
        task, question = self.task, self.task.question
        if not task.audits:
            return alone(model, question.data, question.threat, task.limit, task.seed)
        standing = stand(model, question.data, question.threat, task.limit, task.seed, self.folder.path / name)
        few = min(task.limit, SAMPLES)
        found = masking(model, question.data, question.threat, limit=few, surrogate=surrogate, seed=task.seed)
        return standing.model_copy(update={"masking": found})

    def _trainer(self) -> Trainer:
        task, recipe = self.task, self.task.recipe
        module, threat = self.module.to(task.question.device), self._threat
        begin, end = (share * recipe.epochs for share in recipe.ramp)
        loader = Loader(
            task.samples.train.x,
            task.samples.train.y,
            recipe.batch,
            seed=task.seed,
            augment=AUGMENT[recipe.augment],
            unlabelled=None if task.samples.unlabelled is None else task.samples.unlabelled.x,
        )
        optimiser, scheduler = recipe.optimise(module, recipe.epochs * len(loader) * self.objective.replays)
        return Trainer(
            module,
            self.objective,
            State(threat.at(threat.radius * recipe.widen), task.seed),
            optimiser,
            loader,
            recipe.epochs,
            scheduler=scheduler,
            validation=Validation(task.samples.validation.x, task.samples.validation.y, threat),
            ramp=WarmUp(end, begin) if end else None,
            clip=recipe.clip,
            precision=task.precision,
            average=recipe.average,
            recipe={"rate": f"{recipe.rate:g}", "epochs": str(recipe.epochs), **_digests(task.samples)},
            folder=self.folder.path,
            callbacks=(self._epoch, *(logger(name, self.folder.path) for name in task.loggers)),
            on_step=self.talk.step,
        )

    def _train(self) -> None:
        if self.record.after is None:
            self.talk.say(str(self.task.recipe))
        try:
            progress = self.trainer.fit(resume=True)
        except (KeyboardInterrupt, Diverged) as error:
            state = "partial" if isinstance(error, KeyboardInterrupt) else "stopped"
            notes = [str(error)] if isinstance(error, Diverged) else []
            self._write(state=state, ended=datetime.now(UTC), notes=[*self.trainer.progress.notes, *notes])
            raise
        for note in progress.notes:
            self.talk.say(note)
        self._write(notes=list(progress.notes), best_epoch=progress.best_epoch)

    def _epoch(self, record: EpochRecord) -> None:
        progress = self.trainer.progress
        self._write(
            epochs_done=record.epoch,
            best_epoch=progress.best_epoch,
            best=BEST,
            last=LAST,
            notes=list(progress.notes),
            seconds=math.fsum(one.seconds for one in progress.history),
            cpu_seconds=math.fsum(one.cpu_seconds for one in progress.history),
            peak_memory_mb=peak_memory(),
        )
        self.talk.epoch(record)

    def _deployed(self, module: nn.Module, name: str) -> Model:
        """The model of a trained module, written as ONNX too where it can be captured."""
        shape = self.task.question.model.input_shape
        model = from_module(module, shape, str(self.folder.path / f"{name}.onnx"), self._like)
        if model.why_no_onnx is not None:
            return replace(model, name=f"{self.task.names[0]}, {name} weights")
        self.folder.write_bytes(f"{name}.onnx", model.onnx_bytes())
        return replace(model, source=self.folder.path / f"{name}.onnx")

    def _write(self, **changes: object) -> None:
        self.record = self.record.model_copy(update=changes)
        self.folder.write_run(self.record)


CHOSEN_BY = {
    "clean": "clean accuracy on the validation samples",
    "pgd": "PGD accuracy on the validation samples",
    "interval": "the share of the validation samples that interval bounds prove",
    "smoothed": "the share of the validation samples on which the vote under noise seems to withstand the threat",
}
"""What chooses the best epoch, by the figure that the objective is judged by."""


def _digests(samples: Samples) -> dict[str, str]:
    """By which a training that goes on knows its data again: the held-out part, the record knows."""
    parts = {"training data": samples.train, "validation data": samples.validation, "unlabelled": samples.unlabelled}
    return {name: part.digest()[:16] for name, part in parts.items() if part is not None}


def _record(task: Task) -> HardenRecord:
    """The record of a training that has not begun."""
    question = task.question
    data = question.data
    module = question.model.module
    layers = [(name, part) for name, part in module.named_modules() if not list(part.children())]
    split = Split(
        train=len(task.samples.train),
        validation=len(task.samples.validation),
        test=len(data),
        unlabelled=0 if task.samples.unlabelled is None else len(task.samples.unlabelled),
        sentence=task.samples.sentence,
        held=task.samples.held,
    )
    return HardenRecord(
        model=task.names[0],
        data=task.names[1],
        threat=question.threat.text(),
        objective=task.recipe.objective,
        recipe={**task.recipe.settings(), "precision": task.precision, "start": "new" if task.scratch else "given"},
        seed=task.seed,
        limit=task.limit,
        split=split,
        origin=origin_of(question),
        architecture=[f"{name}: {part}" for name, part in layers],
        parameters=sum(p.numel() for p in module.parameters()) or None,
        command=task.command,
        epochs=task.recipe.epochs,
        chosen_by=CHOSEN_BY[base_of(task.recipe.build()).judged_by],
    )
