"""What the tests of models and data share."""

import pytest

from withstand.core.errors import InputError


def sentence(caught: pytest.ExceptionInfo[InputError]) -> str:
    """The message of an error, which must be one sentence."""
    text = str(caught.value)
    assert text.endswith((".", "?"))
    assert "\n" not in text
    return text
