"""VNN-LIB (www.vnnlib.org): questions about a network read from text, written as text, and witnesses of answers.

1.0, the form of VNN-COMP, is read and written here; 2.0 is read with the package `vnnlib`. Reading a file's text loads
no torch; only what makes tensors of it does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from withstand.io.vnnlib.reader import read_vnnlib
    from withstand.io.vnnlib.regions import Region
    from withstand.io.vnnlib.writer import write_vnnlib, write_witness

__all__ = ["Region", "read_vnnlib", "write_vnnlib", "write_witness"]

_HOME = {"Region": "regions", "read_vnnlib": "reader", "write_vnnlib": "writer", "write_witness": "writer"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
