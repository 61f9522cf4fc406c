"""A network as proofs want it: the graph that is bounded, and onnxruntime, in which witnesses are replayed."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from withstand.checker.network import Network as CheckedNetwork
from withstand.checker.reading import read_network as read_onnx
from withstand.core.errors import InputError
from withstand.graph.ir import Graph
from withstand.graph.model import Model
from withstand.graph.replay import OnnxSession
from withstand.io.models import READERS


@dataclass(frozen=True)
class Network:
    """A model with its graph, and its deployed form."""

    model: Model
    graph: Graph
    session: OnnxSession

    @cached_property
    def checked(self) -> CheckedNetwork:
        """The network as the checker of certificates reads it.

        Raises InputError when it has an operator that the checker does not know.
        """
        return read_onnx(self.model.onnx_bytes())

    def replay(self, x: Tensor) -> Tensor:
        """Outputs [B, *outputs] of a batch x [B, *sample] in onnxruntime."""
        return torch.from_numpy(self.session(x.numpy()))


def read_network(path: str | Path) -> Network:
    """The network of an ONNX file, or of another file for which `withstand.io.models` has a reader.

    Raises InputError when it cannot be read or holds weights that are NaN.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"'{path}' is no network that is read here; give a file ending in {', '.join(READERS)}.")
    if not path.is_file():
        raise InputError(f"There is no file '{path}'; correct the path of the network.")
    model = reader(path)
    if model.graph is None:
        raise InputError(f"{model.name} cannot be verified: {model.why_no_graph}")
    model.check_weights()
    return Network(model, model.graph, OnnxSession(path if path.suffix == ".onnx" else model.onnx_bytes()))
