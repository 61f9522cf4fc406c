"""Labelled data as tensors, from DATA strings or from arrays in memory, arranged to a model's input."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.core.shapes import flattened
from withstand.io.data_files import FORMS, WORDS, RawData, read_array, read_csv, read_folder, read_npz, words
from withstand.io.paths import must_exist


@dataclass(frozen=True)
class Data:
    """Labelled samples.

    name: as the user wrote it. x: float32 [N, *shape], or float64 where the source is. y: int64 [N], or floats of x's
    type [N] or [N, O] for a regression, or int64 [N, L] of 0 and 1 for several labels.
    ids: the samples' numbers in the file. notes: a sentence for each change made on the way in. quantised: the inputs
    were whole numbers from 0 to 255. classes: the classes' names by label, where the data has names. labelled: y was
    given; where it was not, y is 0 and only properties in which it plays no part can be asked about. counted: of what
    (sub-folders, words, ...) a label is the place, where it is one, and width: how many there are. numbered: the names
    are whole numbers, which are the labels; classes then holds the names in the order of the labels that there are.
    """

    name: str
    x: Tensor
    y: Tensor
    ids: tuple[int, ...]
    notes: tuple[str, ...] = ()
    quantised: bool = False
    classes: tuple[str, ...] | None = None
    labelled: bool = True
    counted: str | None = None
    width: int = 0
    numbered: bool = False

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.x.shape[1:])

    def head(self, limit: int | None) -> "Data":
        """The first `limit` samples (all for None). Raises InputError when the limit is below 1."""
        if limit is None:
            return self
        if limit < 1:
            raise InputError(f"The limit {limit} leaves no sample; give 1 or more.")
        return replace(self, x=self.x[:limit], y=self.y[:limit], ids=self.ids[:limit])

    def of_type(self, dtype: torch.dtype) -> "Data":
        """The data with its floats in a type; a note tells where that changes inputs by more than it rounds them.

        Raises InputError where inputs are beyond the type's largest number.
        """
        if self.x.dtype == dtype and (self.y.dtype == dtype or not self.y.is_floating_point()):
            return self
        x, y = self.x.to(dtype), self.y.to(dtype) if self.y.is_floating_point() else self.y
        _check_finite(self.name, x)
        off = (x.double() - self.x.double()).abs() > torch.finfo(dtype).eps * self.x.double().abs()
        lost = int(off.sum())
        note = f"{lost} numbers of the inputs are too small for the model's {dtype} and became others, mostly 0."
        return replace(self, x=x, y=y, notes=(*self.notes, note) if lost else self.notes)

    def digest(self) -> str:
        """A hash of inputs, targets and ids: equal for equal data, whatever file it came from."""
        h = hashlib.sha256(repr((self.shape, tuple(self.y.shape), self.y.dtype, self.ids)).encode())
        for part in (self.x, self.y):
            h.update(part.contiguous().cpu().numpy().tobytes())
        return h.hexdigest()


DataLike: TypeAlias = "str | PathLike[str] | Data | Tensor | np.ndarray | tuple[Any, Any] | list[Any]"


def load_data(source: DataLike, dtype: torch.dtype | None = torch.float32) -> Data:
    """The data that a DATA string names, or that a pair (x, y) of numpy arrays, tensors or lists holds, or an array or
    tensor x without targets. The first axis of x counts samples.

    DATA is `file.npz`, `file.npz[x_test,y_test]`, a folder with one sub-folder of images a class, `file.csv` with a
    header, or the built-in `digits` (500 held-out images) and `digits:train` (1,297).

    dtype: the type of the floats (None: float64 stays, all else becomes float32). uint8 inputs become floats in [0, 1],
    which `withstand.io.domains` brings to the scale of a threat's domain. Raises InputError, one sentence with the fix,
    when there is no such file, it cannot be read without unpickling, x and y differ in length, or x holds a NaN or an
    infinity.
    """
    found = _load(source)
    return found if dtype is None else found.of_type(dtype)


def _load(source: DataLike) -> Data:
    if isinstance(source, Data):
        return source
    if isinstance(source, Tensor | np.ndarray):
        x = _array(source, "x")
        alone = _finish("arrays in memory", RawData(x, np.zeros(x.shape[:1], np.int64)))
        return replace(alone, labelled=False)
    if isinstance(source, tuple | list):
        if len(source) != 2:
            raise InputError(
                f"Data in memory is a pair (x, y); this {type(source).__name__} holds {len(source)} items."
            )
        return _finish("arrays in memory", RawData(_array(source[0], "x"), _array(source[1], "y")))
    if not isinstance(source, str | PathLike):
        raise InputError(f"Data must be a DATA string or a pair (x, y), not {type(source).__name__}; {FORMS}")
    text = str(source).strip()
    if text in BUILTIN_DATA:
        return _finish(text, BUILTIN_DATA[text]())
    return _finish(text, _read(text))


def load_inputs(source: DataLike) -> Data:
    """The inputs that DATA names or that an array in memory holds, where labels play no part: an npz file may hold a
    single array x, and `file.npz[x]` names one; labels that are there are not used. See `load_data`."""
    text = str(source).strip() if isinstance(source, str | PathLike) else ""
    file, bracket, key = text.partition("[")
    if file.endswith(".npz") and "," not in key:
        must_exist(Path(file), "data", extra=list(BUILTIN_DATA), forms=FORMS)
        x = read_array(Path(file), key.removesuffix("]").strip() if bracket else None)
        if x is not None:
            return replace(_finish(text, RawData(x, np.zeros(x.shape[:1], np.int64))), labelled=False)
    return load_data(source)


def _digits(held_out: bool) -> Callable[[], RawData]:
    def read() -> RawData:
        from withstand.builtin.digits import digits_split

        images = digits_split()[held_out]
        return RawData(images.x.numpy(), images.y.numpy(), classes=tuple("0123456789"))

    return read


BUILTIN_DATA = {"digits": _digits(True), "digits:test": _digits(True), "digits:train": _digits(False)}
"""Name of each built-in data set to its reader."""


def _read(text: str) -> RawData:
    file, bracket, keys = text.partition("[")
    path = Path(file)
    if bracket and not (path.suffix == ".npz" and keys.endswith("]")):
        raise InputError(f"Data {text!r} is not understood; arrays are chosen as in 'file.npz[x_test,y_test]'.")
    must_exist(path, "data", extra=list(BUILTIN_DATA), forms=FORMS)
    if path.is_dir():
        return read_folder(path)
    if path.suffix == ".npz":
        return read_npz(path, [key.strip() for key in keys[:-1].split(",")] if bracket else None)
    if path.suffix == ".csv":
        return read_csv(path)
    raise InputError(f"Data {text!r} has the unknown ending {path.suffix!r}; {FORMS}")


def _array(value: Any, name: str) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    try:
        array = np.asarray(value)
    except ValueError:
        array = np.empty(0, dtype=object)
    if array.dtype == object:
        raise InputError(f"{name} is not a rectangular array of numbers; give a numpy array or a tensor.")
    return array


def _finish(name: str, raw: RawData) -> Data:
    notes = list(raw.notes)
    x, y = raw.x, raw.y
    if x.ndim < 2:
        raise InputError(
            f"{name}: x has the shape {by(x.shape)}; its first axis must count samples, as in N x features."
        )
    if y.ndim == 0 or len(x) != len(y):
        count = len(y) if y.ndim else "a single value"
        raise InputError(
            f"{name}: there are {len(x)} inputs but the labels are {count}; give one label for each input."
        )
    if len(x) == 0:
        raise InputError(f"{name} holds no samples; give at least one.")
    quantised = x.dtype == np.uint8 and (raw.images or x.max() != 1)
    inputs = torch.from_numpy(np.ascontiguousarray(_floats(name, x, quantised, notes)))
    _check_finite(name, inputs)
    counted, width, classes = raw.counted, 0 if raw.classes is None else len(raw.classes), raw.classes
    if y.dtype.kind in "US" and y.ndim == 1:
        y, classes = words(name, y)
        counted, width = (None, 0) if classes is None else (WORDS, len(classes))
    if _is_one_hot(y):
        notes.append(f"Labels were one-hot rows of {y.shape[1]}; they became class numbers.")
        counted, width, y = ONE_HOT, y.shape[1], y.argmax(1)
    targets = _targets(name, y)
    ids = tuple(range(len(inputs)))
    return Data(
        name, inputs, targets, ids, tuple(notes), quantised, classes, True, counted, width, numbered=raw.numbered
    )


def _check_finite(name: str, x: Tensor) -> None:
    finite = flattened(x).isfinite().all(1)
    if not finite.all():
        rows = (~finite).nonzero().flatten().tolist()
        shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        raise InputError(f"{name}: {len(rows)} inputs hold a NaN or an infinity (rows {shown}); repair or remove them.")


DIVIDED = "Inputs were whole numbers from 0 to 255 (uint8); they were divided by 255 into [0, 1]."
"""The note on inputs of 8 bits."""

ONE_HOT = "columns of one-hot labels"
"""What a label is the place of, where labels were one-hot rows."""


def _floats(name: str, x: np.ndarray, quantised: bool, notes: list[str]) -> np.ndarray:
    if quantised:
        notes.append(DIVIDED)
        return x.astype(np.float32) / np.float32(255)
    if x.dtype.kind in "biu":
        notes.append(f"Inputs were {x.dtype}; they became floats with the same values.")
    elif x.dtype.kind != "f":
        raise InputError(f"{name}: x holds {x.dtype}, not numbers; give floats or uint8.")
    with np.errstate(over="ignore"):
        return x.astype(np.float64 if x.dtype.kind == "f" and x.dtype.itemsize >= 8 else np.float32)


def _is_one_hot(y: np.ndarray) -> bool:
    return (
        y.ndim == 2
        and y.shape[1] > 1
        and y.dtype.kind in "biuf"
        and bool(((y == 0) | (y == 1)).all())
        and bool((y.sum(1) == 1).all())
    )


def _targets(name: str, y: np.ndarray) -> Tensor:
    if y.dtype.kind not in "biuf":
        what = "words" if y.dtype.kind in "US" else str(y.dtype)
        raise InputError(f"{name}: labels are {what}, not numbers; give class numbers counted from 0.")
    if not np.isfinite(y).all():
        raise InputError(f"{name}: labels hold a NaN or an infinity; repair or remove those rows.")
    if (np.abs(y.astype(np.float64)) > 2**53).any():
        raise InputError(f"{name}: labels reach {np.abs(y.astype(np.float64)).max():.3g}; give smaller numbers.")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.dtype.kind == "f" and (y != np.round(y)).any():
        return torch.from_numpy(y.astype(np.float64 if y.dtype.itemsize >= 8 else np.float32))
    return torch.from_numpy(y.astype(np.int64))


def arrange(data: Data, input_shape: tuple[int, ...]) -> Data:
    """The data with axes moved, added, dropped or flattened to a model's `input_shape`; each step becomes a note.

    Raises InputError when no such step fits: images are never resized, cropped or recoloured.
    """
    have, want = data.shape, tuple(input_shape)
    if have == want:
        return data
    if len(have) == 3 and (have[2], *have[:2]) == want:
        x, step = data.x.permute(0, 3, 1, 2), "the channels' axis moved to the front"
    elif len(have) == 3 and (*have[1:], have[0]) == want:
        x, step = data.x.permute(0, 2, 3, 1), "the channels' axis moved to the end"
    elif _long(have) == _long(want):
        x, step = data.x.reshape(-1, *want), "axes of length 1 added or dropped"
    elif len(want) == 1 and math.prod(have) == want[0]:
        x, step = flattened(data.x), "flattened in the order stored"
    elif len(have) == 1 and math.prod(want) == have[0]:
        x, step = data.x.reshape(-1, *want), "folded row by row"
    else:
        raise InputError(
            f"{data.name}: samples have the shape {by(have)}, the model wants {by(want)}; "
            "resize or convert the data, or choose another model."
        )
    note = f"Samples of {by(have)} were arranged to the model's {by(want)}: {step}."
    return replace(data, x=x.contiguous(), notes=(*data.notes, note))


def _long(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]


def by(shape: tuple[int, ...] | torch.Size) -> str:
    """A shape in words."""
    return " x ".join(map(str, shape)) or "a single number"
