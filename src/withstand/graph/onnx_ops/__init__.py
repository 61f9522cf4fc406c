"""Lowerings of ONNX operators: one function an operator, registered by its ONNX name in any file of this folder."""

from withstand.graph.lowerings import Lowerings
from withstand.graph.onnx_call import Call

__all__ = ["Call", "lowers", "table"]

_LOWERINGS = Lowerings(__name__)
lowers = _LOWERINGS.register
"""Register a function as the lowering of these ONNX operators."""
table = _LOWERINGS.table
"""All lowerings by ONNX operator name."""
