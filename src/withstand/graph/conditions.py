"""Conditions by which a module's forward refuses inputs, told from branches by which it computes something else."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_ASKED = (torch.Tensor.__bool__, torch._assert)


class Conditions(TorchFunctionMode):
    """Within it, the truth of tensors is told by `answers`, in the order in which it is asked, and by their values
    after the last; `asked` are the answers given so far."""

    def __init__(self, answers: Sequence[bool] = ()) -> None:
        super().__init__()
        self.answers, self.asked = tuple(answers), list[bool]()

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _ASKED or not isinstance(args[0], Tensor):
            return func(*args, **(kwargs or {}))
        place = len(self.asked)
        self.asked.append(self.answers[place] if place < len(self.answers) else bool(args[0]))
        if func is torch.Tensor.__bool__:
            return self.asked[-1]
        if not self.asked[-1]:
            raise AssertionError(*args[1:])
        return None


def conditions(module: Callable[[Tensor], Any], x: Tensor) -> tuple[bool, ...]:
    """The answers with which `module` can be followed whatever x it is given, as far as it does not refuse x.

    Every truth that the module asks about x has to be a condition: were the answer another one, the module would raise
    at once, before it asked anything else. Empty where it asks nothing, or where an answer decides what is computed.
    """
    with torch.no_grad():
        with Conditions() as seen:
            module(x.clone())
        for place, answer in enumerate(seen.asked):
            with Conditions([*seen.asked[:place], not answer]) as turned:
                try:
                    module(x.clone())
                except Exception:
                    if len(turned.asked) == place + 1:
                        continue
            return ()
    return tuple(seen.asked)
