"""The two ways withstand stops: the user's input is wrong, or the tool itself is."""


class InputError(ValueError):
    """Something the user gave cannot be used. The message is one sentence that says what to do (exit code 2)."""


class ToolFault(RuntimeError):
    """withstand contradicted itself, for example a question both proved and refuted (exit code 3)."""
