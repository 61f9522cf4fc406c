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
    module: what the user gave (for ONNX of float32 or float64 the graph itself). It is what is judged; searches may
    walk along the graph. differs: the sentence that says why the graph is another function than the module, so that
    nothing proved of it holds for the module (None: they agree up to rounding). takes: the type of the module's inputs.
    source: the ONNX file it was read from. notes: what was changed on the way in, one sentence each.
    """

    name: str
    graph: Graph | None
    module: torch.nn.Module
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    why_no_graph: str | None = None
    source: Path | None = None
    notes: tuple[str, ...] = ()
    differs: str | None = None
    takes: torch.dtype = torch.float32

    @property
    def dtype(self) -> torch.dtype:
        """The type in which inputs are kept and bounds computed: float64 for a network of float64, else float32."""
        own = self.takes if self.graph is None else self.graph.dtype
        return torch.float64 if own == torch.float64 else torch.float32

    @cached_property
    def passes(self) -> bool:
        """Whether the module has layers that are passed backward through a stand-in, which the graph does not know."""
        return any(isinstance(part, Bpda) for part in self.module.modules())

    @property
    def opaque(self) -> bool:
        """Whether the user's own module answers where a gradient is wanted too, and not the graph."""
        return self.graph is None or self.passes

    @property
    def foreign(self) -> bool:
        """Whether the user's own module answers, and not the graph: each row that reaches it may be counted."""
        return self.module is not self.graph

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs [B, *output_shape] of a batch x [B, *input_shape]: the module's own, or, where x wants a gradient,
        the graph's, which has one."""
        if self.graph is not None and x.requires_grad and torch.is_grad_enabled() and not self.passes and len(x):
            return self.graph(x)
        return self.given(x)

    def given(self, x: Tensor) -> Tensor:
        """What the module itself answers, in x's type; it is never asked about an empty batch, nor given x to change.

        A number alone a sample is one output.
        """
        if not len(x):
            return x.new_zeros(0, *self.output_shape)
        if self.module is self.graph:
            return self.module(x)
        answer = self.module(x.clone() if x.dtype == self.takes else x.to(self.takes))
        answer = (answer if x.requires_grad else answer.detach()).to(x.dtype)
        return answer.reshape(-1, 1) if answer.dim() < 2 else answer

    def check_weights(self) -> None:
        """Raise InputError where a weight is NaN."""
        held = weights(self.module) if self.graph is None else self.graph.constants
        broken = [name for name, value in held.items() if value.is_floating_point() and bool(value.isnan().any())]
        if broken:
            raise InputError(f"{self.name} holds NaN in {broken[0]!r}, so it computes nothing; give trained weights.")

    @property
    def why_no_onnx(self) -> str | None:
        """Why there is no ONNX file of this very function (None: there is one)."""
        return None if self.source is not None else self.why_no_graph or self.differs

    def onnx_bytes(self) -> bytes:
        """The network as ONNX: the file it came from, else written from the graph."""
        if self.source is not None:
            return with_weights_inside(self.source)
        if self.graph is None or self.differs is not None:
            raise InputError(f"{self.name} cannot be written as ONNX: {self.why_no_onnx}")
        from withstand.graph.onnx_writer import write_onnx

        return write_onnx(self.graph)

    def digest(self) -> str:
        """A hash of structure and weights (weights alone where there is no graph)."""
        if self.graph is not None and self.differs is None:
            return self.graph.digest()
        h = hashlib.sha256(b"" if self.graph is None else f"{self.graph.digest()} {self.differs}".encode())
        for name, value in sorted(weights(self.module).items()):
            h.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            h.update(value.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return h.hexdigest()[:16]

    def to(self, device: torch.device | str) -> Self:
        """The same model with its weights on a device."""
        self.module.to(device)
        if self.graph is not None:
            self.graph.to(device)
        return self


def weights(module: torch.nn.Module) -> dict[str, Tensor]:
    """All that a module holds by name, on the CPU: packed weights of int8 layers are unpacked, scales and zero points
    become tensors, and what is no number is left out."""
    found: dict[str, Tensor] = {}
    for name, value in module.state_dict().items():
        for place, part in enumerate(value if isinstance(value, tuple) else (value,)):
            if isinstance(part, Tensor):
                part = part.detach().cpu()
                for key, piece in _plain(name if part is value else f"{name}.{place}", part):
                    found[key] = piece
            elif isinstance(part, int | float):
                found[name] = torch.tensor(float(part), dtype=torch.float64)
    return found


def _plain(name: str, value: Tensor) -> list[tuple[str, Tensor]]:
    """A tensor as plain ones: of a quantised tensor its whole numbers and what these stand for."""
    if not value.is_quantized:
        return [(name, value)]
    return [(name, value.int_repr()), (f"{name}.values", value.dequantize())]


def with_weights_inside(path: Path) -> bytes:
    """A file's bytes; weights that lie in other files are brought in."""
    import onnx
    from onnx.external_data_helper import uses_external_data

    from withstand.graph.onnx_file import tensors

    bare = onnx.load(str(path), load_external_data=False)
    if not any(uses_external_data(tensor) for tensor in tensors(bare.graph)):
        return path.read_bytes()
    return onnx.load(str(path)).SerializeToString()
