"""Attacks of other packages as contenders. Each factory imports its package and builds the attack; only the call of
what it returns is timed."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from contest.task import Points, Task

Attack = Callable[[], Tensor]
ORDER = {"linf": torch.inf, "l2": 2, "l1": 1}


@dataclass(frozen=True)
class Peer:
    """An attack of another package. module: what must be installed."""

    library: str
    name: str
    module: str
    make: Callable[[Task, Any], Attack]

    def prepare(self, task: Task, seed: int) -> Callable[[], Points]:
        """Everything but the attack itself. Raises ImportError where the package is missing."""
        attack = self.make(task, import_module(self.module))

        def work() -> Points:
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            rows = task.net.rows
            x = attack().detach()
            return Points(x, task.net.rows - rows)

        return work


def torchattacks(name: str, kind: str, **given: Any) -> Peer:
    """An attack of torchattacks at the task's radius; parameters are its own."""

    def make(task: Task, package: Any) -> Attack:
        held = dict(given)
        if kind != "PGD":
            held["norm"] = {"linf": "Linf", "l2": "L2"}[task.norm]
        attack = getattr(package, kind)(task.net, eps=task.threat.radius, **held)
        attack.set_device("cpu")
        return lambda: attack(task.x, task.y)

    return Peer("torchattacks", name, "torchattacks", make)


def adv_lib(name: str, function: str, normed: str | None = None, **given: Any) -> Peer:
    """A function of adv-lib; `normed` is how it calls the norm: as a number in `norm`, or as a word in `distance`."""

    def make(task: Task, package: Any) -> Attack:
        held = dict(given)
        if normed == "norm":
            held["norm"] = ORDER[task.norm]
        elif normed == "distance":
            held["distance"] = task.norm
        attack = getattr(package, function)
        return lambda: attack(task.net, task.x, task.y, **held)

    return Peer("adv-lib", name, "adv_lib.attacks", make)


def foolbox(name: str, kind: str, at_radius: bool = False, **given: Any) -> Peer:
    """An attack of foolbox, for the nearest violation unless `at_radius`."""

    def make(task: Task, package: Any) -> Attack:
        model = package.PyTorchModel(task.net, bounds=(0, 1), device="cpu")
        attack = getattr(package.attacks, kind)(**given)
        epsilon = task.threat.radius if at_radius else None
        return lambda: attack(model, task.x, task.y, epsilons=epsilon)[1]

    return Peer("foolbox", name, "foolbox", make)


def art(name: str, kind: str, **given: Any) -> Peer:
    """An evasion attack of ART, at the task's radius where it takes one (`eps=True`)."""

    def make(task: Task, package: Any) -> Attack:
        attack = getattr(package, kind)(_art_classifier(task), verbose=False, **_at_radius(given, task))
        return lambda: torch.tensor(attack.generate(task.x.numpy(), task.y.numpy()))

    return Peer("ART", name, "art.attacks.evasion", make)


def art_universal(name: str, kind: str, images: int, **given: Any) -> Peer:
    """A universal attack of ART: fitted on the first training images, added to the task's."""

    def make(task: Task, package: Any) -> Attack:
        attack = getattr(package, kind)(
            _art_classifier(task), "deepfool", {"verbose": False}, verbose=False, **_at_radius(given, task)
        )

        def work() -> Tensor:
            attack.generate(task.fitted[:images].numpy())
            return (task.x + torch.tensor(attack.noise)).clamp(0, 1)

        return work

    return Peer("ART", name, "art.attacks.evasion", make)


def cleverhans_hopskipjump(name: str, **given: Any) -> Peer:
    """HopSkipJump of CleverHans, image by image, as its documentation runs it."""

    def make(task: Task, package: Any) -> Attack:
        def work() -> Tensor:
            parts = [
                package.hop_skip_jump_attack(task.net, row[None], ORDER[task.norm], verbose=False, **given)
                for row in task.x
            ]
            return torch.cat(parts)

        return work

    return Peer("CleverHans", name, "cleverhans.torch.attacks.hop_skip_jump_attack", make)


def _art_classifier(task: Task) -> Any:
    classification = import_module("art.estimators.classification")
    return classification.PyTorchClassifier(
        model=task.net,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=tuple(task.x.shape[1:]),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )


def _at_radius(given: dict[str, Any], task: Task) -> dict[str, Any]:
    return {key: task.threat.radius if key == "eps" else value for key, value in given.items()}
