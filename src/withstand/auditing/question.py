"""What an audit is about: model, data, threat and property, resolved from what the user gave and checked together."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from withstand.auditing.sides import settle
from withstand.core.errors import InputError
from withstand.core.property import NotClass, Property
from withstand.core.records import Check
from withstand.core.threat import Threat
from withstand.core.threat_text import parse_threat
from withstand.graph.apart import disagrees
from withstand.graph.model import Model
from withstand.graph.replay import OnnxSession
from withstand.io.class_names import name_classes
from withstand.io.data import Data, DataLike, arrange, load_data
from withstand.io.domains import into_domain
from withstand.io.labels import as_given, check_first_class, check_labels, label_sets, sides_of
from withstand.io.models import ModelLike, load_model
from withstand.io.properties import load_property
from withstand.io.written import Written

PROBES = 16
"""Samples by which a module's input is found out."""


class Replay:
    """A model's deployed form as a function from a batch of tensors to outputs: ONNX, run by onnxruntime, or by the
    `runtime` that stands in for it."""

    def __init__(self, onnx: bytes) -> None:
        self._session = OnnxSession(onnx)
        self.runtime = self._session.runtime

    def __call__(self, x: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(self._session(x.detach().cpu().numpy()))).to(x.device)


@dataclass(frozen=True)
class Question:
    """For each sample of `data`: does `property` hold for every input that `threat` allows? Tensors on `device`.

    was_training: the module came in training mode; it is in eval mode as long as the question is open. sides: the
    finding on what the outputs are, where the property has a threshold for them.
    """

    model: Model
    data: Data
    threat: Threat
    property: Property
    device: str = "cpu"
    was_training: bool = False
    sides: Check | None = None

    @cached_property
    def x(self) -> Tensor:
        """Inputs [N, *shape]."""
        return self.data.x

    @cached_property
    def y(self) -> Tensor:
        """Targets [N]."""
        return self.data.y

    @cached_property
    def onnx(self) -> bytes | None:
        """The deployed form, or None where there is none of this very function."""
        return None if self.model.why_no_onnx else self.model.onnx_bytes()

    @cached_property
    def replay(self) -> Replay | None:
        """The deployed form as a function, or None where there is none."""
        return None if self.onnx is None else Replay(self.onnx)


@contextmanager
def pose(
    model: ModelLike,
    data: DataLike,
    threat: str | Threat,
    property: str | Property | Written = "argmax",
    *,
    limit: int | None = None,
    device: str = "cpu",
) -> Iterator[Question]:
    """Resolve and check a question; a module in memory is in eval mode inside and as it was before afterwards.

    Raises InputError, one sentence with the fix, when a part cannot be used or the parts do not fit together.
    """
    where = _device(device)
    threat = parse_threat(threat) if isinstance(threat, str) else threat
    property = load_property(property)
    whole = load_data(data, None)
    samples = whole.head(limit)
    if property.needs_y and not samples.labelled:
        raise InputError(f"The property {property} compares outputs with targets; give them too, as a pair (x, y).")
    with in_eval_mode(model) as was_training:
        loaded = load_model(model, samples.shape, samples.x[:PROBES])
        loaded.check_weights()
        samples = arrange(samples.of_type(loaded.dtype), loaded.input_shape)
        _check_outputs(loaded, property)
        samples = into_domain(_targets(samples, whole, loaded, property), threat)
        if isinstance(property, NotClass) and samples.labelled:
            samples = _of_other_classes(samples, property.target)
        check_size(threat, samples.x[:1])
        threat = replace(threat, fine=loaded.dtype == torch.float64)
        loaded.module.eval()
        loaded.to(where)
        samples = replace(samples, x=samples.x.to(where), y=samples.y.to(where))
        loaded = _on_the_data(loaded, samples.x)
        property, sides = settle(property, loaded, samples.x, samples.y)
        yield Question(loaded, samples, threat, property, where, was_training, sides)


def _on_the_data(model: Model, x: Tensor) -> Model:
    """The model, knowing whether its graph answers as it does itself on inputs x [N, *shape]. Where it raises it is
    left as it is: the sample is named when it is asked about."""
    try:
        differs = disagrees(model, x)
    except Exception:
        return model
    return model if differs == model.differs else replace(model, differs=differs)


def _of_other_classes(data: Data, target: int) -> Data:
    """The samples that a class may not be told of: those of the class itself are no question."""
    rows = (data.y != target).nonzero().squeeze(1)
    if len(rows) == len(data):
        return data
    if len(rows) == 0:
        raise InputError(f"All samples are of class {target} itself; give some of other classes.")
    note = f"{len(data) - len(rows)} samples are of class {target} itself and are left out: they are to be told so."
    ids = [data.ids[row] for row in rows.tolist()]
    return replace(data, x=data.x[rows], y=data.y[rows], ids=ids, notes=(*data.notes, note))


@contextmanager
def in_eval_mode(model: object) -> Iterator[bool]:
    """Eval mode for a module in memory, every submodule's own mode given back afterwards."""
    module = model.module if isinstance(model, Model) else model
    if not isinstance(module, nn.Module):
        yield False
        return
    before = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield any(training for _, training in before)
    finally:
        for part, training in before:
            part.training = training


def _device(name: str) -> str:
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError):
        raise InputError(f"The device {name!r} cannot be used here; choose cpu or one that torch lists.") from None
    return name


def _check_outputs(model: Model, property: Property) -> None:
    """Raise InputError unless the model has outputs of the form that the property reads."""
    shape = model.output_shape
    told = f"{model.name} has the outputs {' x '.join(map(str, shape)) or 'a single number'} for a sample"
    flat = len(shape) == 1
    if property.reads == "side" and shape != (1,):
        raise InputError(
            f"{told}, and the property {property} reads one; use argmax for classes or multi-label for several labels."
        )
    if property.reads == "class" and shape == (1,):
        raise InputError(
            f"{model.name} has one output for a sample, no logits of 2 classes or more; for answers of yes or no use "
            "the property binary, for a regression band:WIDTH, with a verb that has properties."
        )
    if property.reads in ("class", "labels") and not flat:
        raise InputError(
            f"{told}, no logits of {2 if property.reads == 'class' else 1} classes or more; "
            "for a regression use the property band:WIDTH, with a verb that has properties."
        )


def _targets(data: Data, whole: Data, model: Model, property: Property) -> Data:
    """Samples of the whole data with targets as the property reads them."""
    outputs = model.output_shape[0] if model.output_shape else 1
    match property.reads:
        case "class":
            return with_classes(data, whole, model, outputs, needed=property.needs_y)
        case "labels":
            return label_sets(data, outputs)
        case "side":
            return sides_of(name_classes(data, model, 2))
    return as_given(data)


def with_classes(data: Data, whole: Data, model: Model, outputs: int, needed: bool = True) -> Data:
    """Samples of the whole data with labels that are classes of the model; `needed`: the labels play a part.

    Raises InputError where they are none.
    """
    data = name_classes(data, model, outputs) if needed else data
    if data.counted is None:
        check_first_class(whole, outputs)
    check_labels(data, outputs)
    return data


def check_size(threat: Threat, x: Tensor) -> None:
    """Raise InputError where a threat is larger than anything that inputs such as x [1, *shape] can be changed by."""
    told = threat.oversize(x) if threat.anchored else None
    if told is not None:
        raise InputError(f"The threat {threat} cannot be meant: {told}.")
