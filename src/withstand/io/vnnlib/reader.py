"""VNN-LIB files of both versions as regions."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from withstand.core.errors import InputError
from withstand.io.vnnlib import version_1, version_2
from withstand.io.vnnlib.formula import Asserted

if TYPE_CHECKING:
    from withstand.io.vnnlib.regions import Region


def read_vnnlib(
    path: str | Path, input_shape: tuple[int, ...] | None = None, outputs: int | None = None, type: str = "float32"
) -> "list[Region]":
    """The regions of a VNN-LIB file; the property holds on all of them just when the file is `unsat`.

    input_shape: the shape the inputs fill in C order (flat unless given). outputs: how many the network has, which must
    be as many as the file declares. type: of the network's inputs, `float32` or `float64`. Conjunctions whose box is
    the same share a region; those with an empty box are dropped, so the list may be empty.

    Raises InputError with the line for text that is not VNN-LIB, for a constraint between several inputs or between
    inputs and outputs, for an unbounded input, for numbers beyond the type's, and for another number of inputs or
    outputs.
    """
    return regions_in(path, read_asserted(path, type), input_shape, outputs, type)


def read_asserted(path: str | Path, type: str = "float32") -> Asserted:
    """What a file asserts, before anything is known of the network. Loads no torch. Raises InputError as above."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The VNN-LIB file {str(path)!r} cannot be read ({error}); check the path.") from None
    try:
        return version_2.read(text) if version_2.is_version_2(text) else version_1.read(text, type)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def regions_in(
    path: str | Path, asserted: Asserted, input_shape: tuple[int, ...] | None, outputs: int | None, type: str
) -> "list[Region]":
    """The regions of what the file `path` asserts, as `read_vnnlib` gives them."""
    from withstand.io.vnnlib.regions import regions_of

    shape = (asserted.inputs,) if input_shape is None else input_shape
    try:
        if math.prod(shape) != asserted.inputs:
            found = f"the file declares {asserted.inputs} inputs, the network takes {list(shape)}"
            raise InputError(f"{found}; use its own file.")
        if outputs not in (None, asserted.outputs):
            found = f"the file speaks of {asserted.outputs} outputs, the network has {outputs}"
            raise InputError(f"{found}; use its own file.")
        return regions_of(asserted, shape, type)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
