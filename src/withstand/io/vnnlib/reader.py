"""VNN-LIB files of both versions as regions."""

import math
from pathlib import Path

from withstand.core.errors import InputError
from withstand.io.vnnlib import version_1, version_2
from withstand.io.vnnlib.regions import Region, regions_of


def read_vnnlib(
    path: str | Path, input_shape: tuple[int, ...] | None = None, outputs: int | None = None
) -> list[Region]:
    """The regions of a VNN-LIB file; the property holds on all of them just when the file is `unsat`.

    input_shape: the shape the inputs fill in C order (flat unless given). outputs: how many the network has, which must
    be as many as the file declares. Conjunctions whose box is the same share a region; those with an empty box are
    dropped, so the list may be empty.

    Raises InputError with the line for text that is not VNN-LIB, for a constraint between several inputs or between
    inputs and outputs, for an unbounded input, and for another number of inputs or outputs.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"The VNN-LIB file {str(path)!r} cannot be read ({error}); check the path.") from None
    try:
        asserted = (version_2 if version_2.is_version_2(text) else version_1).read(text)
        shape = (asserted.inputs,) if input_shape is None else input_shape
        if math.prod(shape) != asserted.inputs:
            found = f"the file declares {asserted.inputs} inputs, the network takes {list(shape)}"
            raise InputError(f"{found}; use its own file.")
        if outputs not in (None, asserted.outputs):
            found = f"the file speaks of {asserted.outputs} outputs, the network has {outputs}"
            raise InputError(f"{found}; use its own file.")
        return regions_of(asserted, shape)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
