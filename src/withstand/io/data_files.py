"""Readers of the kinds of data file: npz, a folder of images, csv. They return arrays as stored."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from withstand.core.errors import InputError
from withstand.core.registry import suggest
from withstand.io.images import pixels_of
from withstand.io.npz import Archive

FORMS = "write file.npz, file.npz[x_test,y_test], a folder with one sub-folder of images a class, file.csv or digits."
"""The end of a sentence that tells the forms of DATA."""

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
LABEL_COLUMNS = ("label", "y", "class", "target")
PAIRS = (("x", "y"), ("x_test", "y_test"))


@dataclass(frozen=True)
class RawData:
    """Inputs and targets as the file holds them, notes on how they were read, and the classes' names if it has any.

    images: inputs are pixels. counted, numbered: see `withstand.io.data.Data`.
    """

    x: np.ndarray
    y: np.ndarray
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    images: bool = False
    counted: str | None = None
    numbered: bool = False


def read_npz(path: Path, keys: list[str] | None) -> RawData:
    """The arrays `keys` (x, y) of an npz file; without keys x and y, x_test and y_test, or the only two it holds.

    Raises InputError when the choice is not clear, a key is not there, or an array is pickled.
    """
    with Archive(path) as archive:
        first, second = (archive.array(key) for key in _choose(path, archive.names, keys))
    labels_first = keys is None and first.ndim == 1 < second.ndim
    return RawData(second, first) if labels_first else RawData(first, second)


def read_array(path: Path, key: str | None) -> np.ndarray | None:
    """The array `key` of an npz file; without a key the only array it holds, or None where it holds several.

    Raises InputError when the key is not there or the array is pickled.
    """
    with Archive(path) as archive:
        if key is None:
            return archive.array(archive.names[0]) if len(archive.names) == 1 else None
        if key not in archive.names:
            raise InputError(f"{path} holds no array {key!r}; {suggest(key, archive.names)}")
        return archive.array(key)


def _choose(path: Path, held: list[str], keys: list[str] | None) -> tuple[str, str]:
    if keys is not None:
        if len(keys) != 2 or not all(keys):
            raise InputError(f"Name two arrays of {path}, inputs and labels, as in '{path}[x_test,y_test]'.")
        for key in keys:
            if key not in held:
                raise InputError(f"{path} holds no array {key!r}; {suggest(key, held)}")
        return keys[0], keys[1]
    pairs = [pair for pair in PAIRS if set(pair) <= set(held)]
    if len(pairs) == 1:
        return pairs[0]
    if not pairs and len(held) == 2:
        return held[0], held[1]
    example = pairs[-1] if pairs else (*held, "x", "y")[:2]
    raise InputError(
        f"{path} holds the arrays {', '.join(held) or '(none)'}; "
        f"say which are inputs and labels, as in '{path}[{example[0]},{example[1]}]'."
    )


def read_folder(path: Path) -> RawData:
    """The images of a folder with one sub-folder a class, as uint8 [N, H, W] (all grey) or [N, H, W, 3].

    Sub-folders named by whole numbers are labels; else they are numbered in the order of their sorted names, which
    `withstand.io.class_names` holds against the model's. One image of each class in turn comes first, so that the
    first N are of all classes. Raises InputError when there is no image, one cannot be read, or sizes differ.
    """
    names = sorted(item.name for item in path.iterdir() if item.is_dir() and not item.name.startswith("."))
    labels = _numbers(path, names)
    files = [sorted(item for item in (path / name).iterdir() if item.suffix.lower() in IMAGE_ENDINGS) for name in names]
    if not any(files):
        raise InputError(f"The folder {path} holds no images in sub-folders; make one sub-folder of images a class.")
    queue = sorted((turn, label) for label, of_class in enumerate(files) for turn in range(len(of_class)))
    paths = [files[label][turn] for turn, label in queue]
    modes = {_mode(file) for file in paths}
    mode = "L" if modes == {"L"} else "RGB"
    images = [pixels_of(file, mode)[0] for file in paths]
    for file, image in zip(paths, images):
        if image.shape != images[0].shape:
            (h, w), (h0, w0) = image.shape[:2], images[0].shape[:2]
            raise InputError(
                f"{file} is {w} x {h} pixels but {paths[0]} is {w0} x {h0}; bring all images to the model's size."
            )
    how = "the names of sub-folders are their labels" if labels else "sub-folders are numbered by their sorted names"
    notes = (f"{len(images)} images of {len(names)} classes were read, one of each class in turn; {how}.",)
    y = np.array([labels[place] if labels else place for _, place in queue])
    return RawData(np.stack(images), y, notes, tuple(names), True, "sub-folders", numbered=bool(labels))


def _numbers(path: Path, names: list[str]) -> list[int]:
    """The labels that names of sub-folders are, or none where one is no whole number."""
    if not all(name.removeprefix("-").isdecimal() for name in names):
        return []
    labels = [int(name) for name in names]
    for label in labels:
        same = [name for name in names if int(name) == label]
        if len(same) > 1:
            raise InputError(f"The sub-folders {' and '.join(same)} of {path} are the same label; join them.")
    return labels


def _mode(file: Path) -> str:
    """`L` for a grey image of at most 8 bits, `RGB` for one in colour."""
    mode = pixels_of(file)[1]
    if mode.startswith(("I", "F")):
        raise InputError(f"{file} has more than 8 bits a pixel; convert it to 8 bits or give an npz of floats.")
    return "L" if mode in ("1", "L") else "RGB"


def read_csv(path: Path) -> RawData:
    """Numeric features [N, F] and labels [N] of a csv file with a header.

    Labels are the column label, y, class or target, else the last. Labels that are words become class numbers in the
    order of the sorted words. Raises InputError naming the row and column that is no number.
    """
    import csv

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (UnicodeDecodeError, csv.Error, OSError):
        raise InputError(f"{path} cannot be read as csv; save it as UTF-8 text with commas and a header.") from None
    if len(rows) < 2:
        raise InputError(f"{path} holds no rows below its header; give a header line and one line a sample.")
    header, body = [name.strip() for name in rows[0]], rows[1:]
    _check_table(path, header, body)
    found = [i for i, name in enumerate(header) if name.lower() in LABEL_COLUMNS]
    if len(found) > 1:
        raise InputError(f"{path} has several label columns ({', '.join(header[i] for i in found)}); keep one of them.")
    label = found[0] if found else len(header) - 1
    notes = [f"The labels are the column {header[label]!r}."]
    told = np.array([row[label].strip() for row in body])
    x = np.array([[_number(path, header, i, row, j) for j in range(len(header)) if j != label]
                  for i, row in enumerate(body)], dtype=np.float64)  # fmt: skip
    y, classes = words(str(path), told)
    if classes is None:
        return RawData(x, y, tuple(notes))
    notes.append(f"Labels were {len(classes)} words; they were numbered in the order of the sorted words.")
    return RawData(x, y, tuple(notes), classes, counted=WORDS)


WORDS = "words as labels"
"""What a label is the place of, where labels were words."""


def words(where: str, told: np.ndarray) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """Labels [N] as numbers, from texts: the numbers that they write, or else their places among the sorted words,
    which come with them. Raises InputError where some are numbers and some are not, and where one is empty."""
    texts = np.char.strip(np.char.decode(told, "utf-8", "replace") if told.dtype.kind == "S" else told)
    empty = np.flatnonzero(texts == "")
    if len(empty):
        raise InputError(f"{where}: the label of data row {empty[0]} is empty; fill it in, or leave the row out.")
    numbers = [_is_number(text) for text in texts.tolist()]
    if all(numbers):
        return texts.astype(np.float64), None
    if any(numbers):
        odd = numbers.index(False)
        raise InputError(
            f"{where}: labels are partly numbers and partly words ({str(texts[odd])!r} in row {odd}); use one form."
        )
    classes, y = np.unique(texts, return_inverse=True)
    return y, tuple(map(str, classes))


def _check_table(path: Path, header: list[str], body: list[list[str]]) -> None:
    if len(header) < 2:
        raise InputError(f"{path} has a single column; give features and a label column, separated by commas.")
    if all(_is_number(name) for name in header):
        raise InputError(f"{path} has no header (its first line is all numbers); add a line of column names.")
    if "" in header:
        raise InputError(f"{path}: column {header.index('') + 1} has no name; name it, or drop it if it counts rows.")
    for i, row in enumerate(body):
        if len(row) != len(header):
            raise InputError(f"{path}: data row {i} has {len(row)} values, the header {len(header)}; make them agree.")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(path: Path, header: list[str], i: int, row: list[str], j: int) -> float:
    text = row[j].strip()
    if not text:
        return float("nan")
    try:
        return float(text)
    except ValueError:
        raise InputError(
            f"{path}: column {header[j]!r} of data row {i} is {row[j]!r}, not a number; encode it as numbers."
        ) from None
