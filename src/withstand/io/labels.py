"""Labels of data as a property reads them: classes, sets of labels, sides, or numbers as they were given."""

from dataclasses import replace

import torch

from withstand.core.errors import InputError
from withstand.io.data import ONE_HOT, Data, by


def as_given(data: Data) -> Data:
    """The data with one-hot rows as they were, where class numbers were made of them: what a regression reads."""
    if data.counted != ONE_HOT:
        return data
    notes = tuple(note for note in data.notes if not note.startswith("Labels were one-hot"))
    rows = torch.nn.functional.one_hot(data.y, data.width).to(data.x.dtype)
    return replace(data, y=rows, notes=notes, counted=None)


def check_first_class(data: Data, classes: int) -> None:
    """Raise InputError where the labels of all the data show that classes were counted from 1."""
    y = data.y
    if y.ndim == 1 and len(y) and data.labelled and int(y.min()) == 1 and int(y.max()) == classes:
        raise InputError(
            f"{data.name}: labels go from 1 to {classes}, and the model has {classes} outputs; count classes from 0."
        )


def check_labels(data: Data, classes: int) -> None:
    """Raise InputError unless every label is a whole number from 0 to classes - 1, as a classifier needs."""
    y = data.y
    if y.is_floating_point() or y.ndim != 1:
        what = f"have the shape {by(y.shape)}" if y.ndim != 1 else "are not whole numbers"
        raise InputError(
            f"{data.name}: labels {what}; a classifier needs class numbers from 0 to {classes - 1}, "
            "a regression the property band:WIDTH."
        )
    off = (y < 0) | (y >= classes)
    if off.any():
        row = int(off.nonzero()[0])
        hint = "count classes from 0" if int(y.min()) >= 1 and int(y.max()) == classes else "check model and data"
        raise InputError(
            f"{data.name}: label {int(y[row])} (row {data.ids[row]}) is outside 0 to {classes - 1}, "
            f"the model has {classes} outputs; {hint}."
        )


def label_sets(data: Data, labels: int) -> Data:
    """The data with y as int64 [N, labels] of 0 and 1. A class number, as one-hot rows have become, is one label.

    Raises InputError when y holds no such sets.
    """
    y = data.y[:, None] if labels == 1 and data.y.ndim == 1 else data.y
    if data.counted == ONE_HOT and data.width != labels:
        y = torch.nn.functional.one_hot(y, data.width)
    elif y.ndim == 1 and not y.is_floating_point() and bool(((y >= 0) & (y < labels)).all()):
        y = torch.nn.functional.one_hot(y, labels)
    if tuple(y.shape[1:]) != (labels,) or not bool(((y == 0) | (y == 1)).all()):
        what = f"y has the shape {by(y.shape)}" if tuple(y.shape[1:]) != (labels,) else "y holds other numbers"
        raise InputError(
            f"{data.name}: {what}; several labels are a row of 0 and 1 a sample, one for each of the {labels} outputs."
        )
    return replace(data, y=y.long())


def sides_of(data: Data) -> Data:
    """The data with y as int64 [N] of 0 and 1; labels of -1 and 1 become 0 and 1, which is noted.

    Raises InputError when y holds anything else.
    """
    y = data.y
    held = sorted(set(y.tolist())) if y.ndim == 1 else []
    if not held or not (set(held) <= {0, 1} or set(held) <= {-1, 1}):
        what = f"have the shape {by(y.shape)}" if y.ndim != 1 else "are " + ", ".join(f"{v:g}" for v in held[:5])
        hint = "; count them from 0" if held == [1, 2] else ""
        raise InputError(
            f"{data.name}: labels {what}; the property binary needs one label a sample, 0 or 1 (or -1 or 1){hint}."
        )
    if -1 in held:
        note = "Labels of -1 and 1 became 0 and 1."
        return replace(data, y=(y > 0).long(), notes=(*data.notes, note))
    return replace(data, y=y.long())
