"""Tables of lowerings: functions by the operation they lower, registered by the modules of one package."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

Lowering = Callable[..., Any]


class Lowerings:
    """The lowerings in the modules of `package`, which are imported when the table is first read."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._functions: dict[str, Lowering] = {}
        self._discovered = False

    def register(self, *names: str) -> Callable[[Lowering], Lowering]:
        """Decorator: make a function the lowering of these operations."""

        def add(function: Lowering) -> Lowering:
            self._functions.update(dict.fromkeys(names, function))
            return function

        return add

    def table(self) -> dict[str, Lowering]:
        """All lowerings by operation name."""
        if not self._discovered:
            for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
                importlib.import_module(f"{self.package}.{module.name}")
            self._discovered = True
        return self._functions
