"""Attacks alone: any list of them, each one's figures and the pointwise worst case."""

from collections.abc import Sequence
from os import PathLike

from withstand.auditing.attacked import Attacked
from withstand.auditing.order import Order, carry_out
from withstand.auditing.plan import seconds_of
from withstand.auditing.progress import Listener
from withstand.auditing.targets import ALL, all_targets
from withstand.core.arguments import checked
from withstand.core.errors import InputError
from withstand.core.property import Property
from withstand.core.registry import build_attack, suggest
from withstand.core.runner import Access
from withstand.core.threat import Threat
from withstand.io.data import DataLike
from withstand.io.models import ModelLike


@checked
def attack(
    model: ModelLike,
    data: DataLike,
    threat: str | Threat,
    attacks: Sequence[str] = ("pgd",),
    *,
    property: str | Property = "argmax",
    limit: int | None = None,
    budget: float | str | None = None,
    queries: int | None = None,
    access: str = "gradient",
    eot: int = 1,
    surrogate: "ModelLike | None" = None,
    train: "DataLike | None" = None,
    closest: bool = False,
    radii: Sequence[float] = (),
    out: str | PathLike[str] | None = None,
    seed: int = 0,
    device: str = "cpu",
    progress: Listener | None = None,
) -> Attacked:
    """Run each attack on every sample that is right when clean; witnesses count once onnxruntime confirms them.

    attacks: as `pgd:steps=100,restarts=5`. budget: wall time each attack may take, in seconds or as "10m" (none: to
    its end). queries: forward passes a sample that each attack may spend. access: what attacks see of the model:
    gradient, scores (gradients are estimated from them) or labels. eot: draws of a random model that are averaged; a
    point then counts where most of fresh draws violate. surrogate: a model that the attacks see instead; what they find
    counts by what `model` says. train: data that universal attacks are fitted on; without it that is the first half of
    `data`, and all attacks are measured on the second. closest: look for the nearest violation at whatever radius; the
    threat's own then decides who is refuted. radii: of a curve; a point of a small radius counts for the larger. out: a
    run folder, as of an audit; a folder that holds samples of the same question is resumed. progress: called with each
    event.

    With `property="all-targets"` each sample is attacked once for every class that is not its own; see
    `withstand.auditing.targets`.

    Raises InputError when an input cannot be used, or an attack is unknown or does not fit the question; ModelRaised,
    which names the sample, when the model raises: samples finished before are in the folder.
    """
    order = Order(
        model,
        data,
        threat,
        {text: build_attack(text) for text in attacks},
        property,
        limit,
        None if budget is None else seconds_of(budget),
        _counted(queries),
        _access(access),
        eot,
        surrogate,
        train,
        closest,
        radii,
        out,
        seed,
        device,
        progress,
    )
    return all_targets(order) if property == ALL else carry_out(order)


def _counted(queries: int | None) -> int | None:
    if queries is not None and queries < 1:
        raise InputError(f"A budget of {queries} queries is too small; give each sample at least 1.")
    return queries


def _access(text: str) -> Access:
    try:
        return Access(text)
    except ValueError:
        raise InputError(f"Access {text!r} is not known; {suggest(text, [one.value for one in Access])}") from None
