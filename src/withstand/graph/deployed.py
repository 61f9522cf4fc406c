"""What was given in a file, as a module that answers as the file itself does: exported programs, and ONNX networks."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from withstand.graph.replay import OnnxSession

TYPES = {np.float32: torch.float32, np.float64: torch.float64, np.float16: torch.float32}
"""The type in which a network of ONNX's type is asked; onnxruntime rounds it to its own."""


class Program(nn.Module):
    """An exported program of one input, on any batch. rows: so many samples it takes at a time (0: any number);
    takes: the type of its input."""

    def __init__(self, program: "torch.export.ExportedProgram") -> None:
        super().__init__()
        (given,) = program.graph_signature.user_inputs
        (example,) = (node.meta["val"] for node in program.graph.nodes if node.name == given)
        self.rows = example.shape[0] if isinstance(example.shape[0], int) else 0
        self.takes = example.dtype
        self._held = [program, program.module()]

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [B, *outputs] of a batch x [B, *shape]; a last part that is too short is filled up."""
        run = self._held[1]
        if not self.rows:
            return run(x)
        missing = -len(x) % self.rows
        filled = torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) if missing else x
        return torch.cat([run(part.contiguous()) for part in filled.split(self.rows)])[: len(x)]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Program":
        self._held[1]._apply(fn)
        return super()._apply(fn, recurse)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """That of the program."""
        return self._held[1].state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        stream = io.BytesIO()
        torch.export.save(self._held[0], stream)
        return {**self.__dict__, "_held": stream.getvalue()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        program = torch.export.load(io.BytesIO(state["_held"]))  # written by __getstate__, never a user's file
        super().__setstate__({**state, "_held": [program, program.module()]})


class Runtime(nn.Module):
    """An ONNX network in onnxruntime, which has no gradient."""

    def __init__(self, onnx: bytes) -> None:
        super().__init__()
        self.onnx, self._session = onnx, OnnxSession(onnx)
        self.takes = TYPES[self._session.dtype]

    def forward(self, x: Tensor) -> Tensor:
        """Outputs [B, *outputs] of a batch x [B, *shape]."""
        return torch.from_numpy(np.asarray(self._session(x.detach().cpu().numpy()))).to(x)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_session"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._session = OnnxSession(self.onnx)
