"""The two ways withstand stops: the user's input is wrong, or the tool itself is."""

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Something the user gave cannot be used. The message is one sentence that says what to do (exit code 2)."""


class ToolFault(RuntimeError):
    """withstand contradicted itself, for example a question both proved and refuted (exit code 3)."""


@contextmanager
def told_of(sentence: str) -> Iterator[None]:
    """Around the reading of a file: whatever a library raises at what the file holds becomes an InputError of this
    sentence, without its full stop, and the reason. Errors of ours pass."""
    try:
        yield
    except (InputError, ToolFault):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
        raise InputError(f"{sentence} ({reason}).") from None
