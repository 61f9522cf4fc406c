"""A folder that one process at a time writes, so that a kill at any moment loses nothing that was finished."""

import os
import time
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import IO, Self

from withstand.core.errors import InputError
from withstand.core.run_files import LOCK, replacing


class Folder:
    """A run on disk: whole files are replaced at once, others only grow by lines. Opening it takes a lock that ends
    with the process."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Make the folder and lock it. Raises InputError when it cannot be written or another run writes to it."""
        import fcntl

        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / LOCK).open("w")
        except OSError as error:
            raise InputError(
                f"The folder {self.path} cannot be written ({error.strerror}); choose another with --out."
            ) from None
        for wait in (0.01, 0.02, 0.04, 0.08, None):  # a reader that asks who writes holds it for a moment
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                if wait is not None:
                    time.sleep(wait)
                    continue
            self._lock.close()
            raise InputError(
                f"Another run is writing to {self.path}; wait for it, or choose another folder with --out."
            ) from None

    def close(self) -> None:
        """Give up the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write_text(self, name: str, text: str) -> None:
        """Write a file of the folder so that a reader sees the old text or the new one."""
        self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file of the folder so that a reader sees the old content or the new one."""
        with replacing(self.path / name) as file:
            file.write(content)

    def mend_lines(self, name: str) -> None:
        """Cut off a last line that a kill has torn, so that the next line starts at the margin."""
        path = self.path / name
        if not path.is_file():
            return
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            with path.open("r+b") as file:
                file.truncate(len(whole))

    def append_lines(self, name: str, lines: Iterable[str]) -> None:
        """Add lines to a file; when this returns they are on the disk."""
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.write("".join(line + "\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())
