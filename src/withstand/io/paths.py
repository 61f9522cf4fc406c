"""Sentences about files that are not there."""

import difflib
from pathlib import Path

from withstand.core.errors import InputError


def must_exist(path: Path, what: str, *, extra: list[str], forms: str) -> None:
    """Raise InputError when nothing is at `path`.

    what: `model` or `data`, for the sentence. extra: names that are no files, for the near miss. forms: the end of the
    sentence where nothing is near.
    """
    if path.exists():
        return
    folder = path.parent
    beside = {item.name: str(folder / item.name) for item in folder.iterdir()} if folder.is_dir() else {}
    near = difflib.get_close_matches(path.name, [*beside, *extra], n=1)
    if near:
        raise InputError(f"There is no {what} {str(path)!r}; did you mean {beside.get(near[0], near[0])!r}?")
    if not folder.is_dir():
        raise InputError(
            f"There is no {what} {str(path)!r}: the folder {str(folder)!r} does not exist; correct the path."
        )
    raise InputError(f"There is no {what} {str(path)!r}; {forms}")
