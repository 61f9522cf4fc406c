"""How labelled data is divided: what trains, what chooses the weights to keep, and what is held out to judge them."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from withstand.core.errors import InputError
from withstand.io.data import Data, DataLike, load_data

TEST = 0.2
"""Share of the data that is held out where no test data is given."""

VALIDATION, MOST = 0.1, 1000
"""Share of the training data that validates, and the most samples that do."""

KNOWN = {"digits": ("digits:train", "digits:test")}
"""Data whose training and test parts the package knows."""

PARTS = ("x_train", "y_train", "x_test", "y_test")
"""Arrays of an npz file that holds both parts."""


@dataclass(frozen=True)
class Division:
    """Three sets of samples that share none. sentence: how they came about. held: the DATA string of the test samples
    (None: they have none)."""

    train: Data
    validation: Data
    test: Data
    sentence: str
    held: str | None = None


def divide(data: DataLike, test: "DataLike | None" = None) -> Division:
    """The division of data for a training run.

    Without `test`, built-in data and npz files with the arrays x_train, y_train, x_test and y_test give both parts, and
    other data has a fifth of its samples held out. A tenth of the rest, at most 1,000 samples, validates. Rows are
    chosen by the hashes of their numbers: the same ones every time.

    Raises InputError as `withstand.io.data.load_data` does, when test data has samples of another shape, or too few
    samples are left to train.
    """
    given = test is not None
    whole, held = _parts(data, test)
    how = "The test data was given apart" if given else "Training and test samples are those of the data itself"
    apart = held is None
    if held is None:
        whole, held = _apart(whole, round(TEST * len(whole)))
        how = (
            f"No test data was given, so a fifth of the samples ({len(held)}) was held out, by the hashes of their rows"
        )
    elif held.shape != whole.shape:
        raise InputError(
            f"The samples of {whole.name} have the shape {whole.shape} and those of {held.name} {held.shape}; "
            "give test data of the same shape."
        )
    train, validation = _apart(whole, min(MOST, round(VALIDATION * len(whole))))
    if len(validation) == 0 or len(held) == 0 or len(train) < 2:
        raise InputError(f"{whole.name} holds {len(whole)} samples, too few to train, choose and test; give more.")
    sentence = f"{how}; {len(validation)} of the others, chosen by the hashes of their rows, validate."
    named = not apart and (test is None or isinstance(test, str | Path))
    return Division(train, validation, held, sentence, held.name if named else None)


def _parts(data: DataLike, test: "DataLike | None") -> tuple[Data, Data | None]:
    if test is not None:
        return load_data(data), load_data(test)
    text = str(data).strip() if isinstance(data, str | Path) else ""
    if text in KNOWN:
        first, second = KNOWN[text]
        return load_data(first), load_data(second)
    if text.endswith(".npz") and _holds_both(Path(text)):
        x, y, x_test, y_test = PARTS
        return load_data(f"{text}[{x},{y}]"), load_data(f"{text}[{x_test},{y_test}]")
    return load_data(data), None


def _holds_both(path: Path) -> bool:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = {Path(name).stem for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return False
    return set(PARTS) <= names


def _apart(data: Data, count: int) -> tuple[Data, Data]:
    """The data without so many of its samples, and those, in the order of the hashes of their rows."""
    order = sorted(range(len(data)), key=lambda row: hashlib.sha256(f"part/{row}".encode()).digest())
    return _rows(data, sorted(order[count:])), _rows(data, order[:count])


def _rows(data: Data, rows: list[int]) -> Data:
    index = torch.tensor(rows, dtype=torch.int64)
    return replace(data, x=data.x[index], y=data.y[index], ids=tuple(data.ids[row] for row in rows))
