"""SMT-LIB text as nested forms."""

import re
from collections.abc import Iterator
from typing import TypeAlias

from withstand.core.errors import InputError

MAX_DEPTH = 100
_TOKEN = re.compile(r"[()]|[^\s()]+")


class Form(list):
    """A parenthesised list of words and forms, with the line it opens on."""

    line: int = 0


Term: TypeAlias = str | Form


def parse_forms(text: str) -> Iterator[Form]:
    """The top-level forms of SMT-LIB text, `;` comments left out. InputError when parentheses do not match."""
    stack: list[Form] = []
    for number, line in enumerate(text.splitlines(), 1):
        for token in _TOKEN.findall(line.partition(";")[0]):
            if token == "(":
                form = Form()
                form.line = number
                stack.append(form)
                if len(stack) > MAX_DEPTH:
                    raise InputError(f"line {number}: parentheses are nested deeper than {MAX_DEPTH}; flatten them.")
            elif not stack:
                raise InputError(f"line {number}: {token!r} stands outside parentheses; remove it.")
            elif token == ")":
                form = stack.pop()
                if stack:
                    stack[-1].append(form)
                else:
                    yield form
            else:
                stack[-1].append(token)
    if stack:
        raise InputError(f"line {stack[-1].line}: a parenthesis opened here is never closed; close it.")
