"""Arrays of npz files, never larger than they say and than there is memory for, and never pickled."""

import math
import os
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from withstand.core.errors import InputError


class Archive:
    """An npz file open for reading. `names`: of its arrays. Raises InputError where it is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except Exception:
            what = "holds a single array" if _is_npy(path) else "cannot be read as npz"
            raise InputError(f"{path} {what}; write inputs and labels with numpy.savez(file, x=..., y=...).") from None
        self.names = [name.removesuffix(".npy") for name in self._zip.namelist()]

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()

    def array(self, name: str) -> np.ndarray:
        """An array by its name. Raises InputError where it is damaged, no array, pickled or too large."""
        damaged = f"The array {name!r} of {self.path} is damaged; write the file again."
        try:
            member = self._zip.getinfo(f"{name}.npy" if f"{name}.npy" in self._zip.namelist() else name)
            with self._zip.open(member) as file:
                shape, dtype = _header(file)
                if dtype.hasobject:
                    raise InputError(
                        f"The array {name!r} of {self.path} is pickled (it holds Python objects), which could run code "
                        "when read; save it as a plain array of numbers."
                    )
                size = math.prod(shape) * dtype.itemsize
                if min(shape, default=0) < 0 or size + file.tell() != member.file_size:
                    raise InputError(damaged)
                if size > _memory():
                    raise InputError(
                        f"The array {name!r} of {self.path} takes {size / 1e9:.1f} GB, more than there is memory for; "
                        "give a part of it."
                    )
            with self._zip.open(member) as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        except InputError:
            raise
        except Exception:
            raise InputError(damaged) from None


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type that an npy file declares. Raises ValueError where it is none."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype


def _is_npy(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(6) == b"\x93NUMPY"
    except OSError:
        return False


def _memory() -> float:
    """Bytes of memory that are free."""
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return math.inf
