"""New weights for a module that has some."""

from torch import nn

from withstand.core.errors import InputError


def renew(module: nn.Module) -> None:
    """Draw all weights anew from torch's random numbers, each layer by its own `reset_parameters`.

    Raises InputError when a part holds weights and has no such function.
    """
    for name, part in module.named_modules():
        own = next(part.parameters(recurse=False), None)
        reset = getattr(part, "reset_parameters", None)
        if own is None and not callable(reset):
            continue
        if not callable(reset):
            raise InputError(
                f"The part {name or type(part).__name__!r} cannot be given new weights; let its class define "
                "reset_parameters(), or give a fresh model in place of --scratch."
            )
        reset()
