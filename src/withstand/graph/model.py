"""A network as the rest of withstand holds it, wherever it came from."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from withstand.core.errors import InputError
from withstand.graph.bpda import Bpda
from withstand.graph.ir import Graph


@dataclass
class Model:
    """A network from a batch of inputs [B, *input_shape] to outputs [B, *output_shape].

    graph: the op graph, or None where it could not be captured (`why_no_graph` is the sentence that says why).
    module: what the user gave (for ONNX the graph itself). source: the ONNX file it was read from. notes: what was
    changed on the way in, one sentence each.
    """

    name: str
    graph: Graph | None
    module: torch.nn.Module
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    why_no_graph: str | None = None
    source: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def dtype(self) -> torch.dtype:
        """The type in which inputs are kept and bounds computed: float64 for a network of float64, else float32."""
        held = [*self.module.parameters(), *self.module.buffers()] if self.graph is None else []
        types = [t.dtype for t in held if t.is_floating_point()] if self.graph is None else [self.graph.dtype]
        return torch.float64 if types[:1] == [torch.float64] else torch.float32

    @cached_property
    def passes(self) -> bool:
        """Whether the module has layers that are passed backward through a stand-in, which the graph does not know."""
        return any(isinstance(part, Bpda) for part in self.module.modules())

    @property
    def opaque(self) -> bool:
        """Whether the user's own module answers, and not the graph: each row that reaches it may be counted."""
        return self.graph is None or self.passes

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs [B, *output_shape] of a batch x [B, *input_shape]; a number alone a sample is one output."""
        if self.graph is None or (self.passes and x.requires_grad):
            answer = self.module(x)
            return answer[:, None] if answer.dim() == 1 else answer
        return self.graph(x)

    def check_weights(self) -> None:
        """Raise InputError where a weight is NaN."""
        held = self.module.state_dict() if self.graph is None else self.graph.constants
        broken = [name for name, value in held.items() if value.is_floating_point() and bool(value.isnan().any())]
        if broken:
            raise InputError(f"{self.name} holds NaN in {broken[0]!r}, so it computes nothing; give trained weights.")

    def onnx_bytes(self) -> bytes:
        """The network as ONNX: the file it came from, else written from the graph."""
        if self.source is not None:
            return _with_weights_inside(self.source)
        if self.graph is None:
            raise InputError(f"{self.name} cannot be written as ONNX: {self.why_no_graph}")
        from withstand.graph.onnx_writer import write_onnx

        return write_onnx(self.graph)

    def digest(self) -> str:
        """A hash of structure and weights (weights alone where there is no graph)."""
        if self.graph is not None:
            return self.graph.digest()
        h = hashlib.sha256()
        for name, value in sorted(self.module.state_dict().items()):
            if isinstance(value, Tensor):
                h.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
                h.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return h.hexdigest()[:16]

    def to(self, device: torch.device | str) -> Self:
        """The same model with its weights on a device."""
        self.module.to(device)
        if self.graph is not None:
            self.graph.to(device)
        return self


def _with_weights_inside(path: Path) -> bytes:
    """A file's bytes; weights that lie in other files are brought in."""
    import onnx
    from onnx.external_data_helper import uses_external_data

    bare = onnx.load(str(path), load_external_data=False)
    if not any(uses_external_data(tensor) for tensor in bare.graph.initializer):
        return path.read_bytes()
    return onnx.load(str(path)).SerializeToString()
