"""How a command ended, for the tests of the command line."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

QUESTION = ("digits-cnn", "--data", "digits", "--threat", "linf:0.03", "--limit", "3")
"""A question that takes a second or two."""

HARD = ("digits-cnn", "--data", "digits", "--threat", "linf:0.2", "--limit", "4")
"""A question at whose radius the plain network is broken."""


@dataclass(frozen=True)
class Done:
    """The exit code, and what was printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON object on stdout, and nothing else there."""
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """The last line of stderr, where the one sentence of an error stands."""
        assert "Traceback" not in self.err + self.out
        return self.err.strip().splitlines()[-1]


Command = Callable[..., Done]


def write_question(limit: float) -> tuple[str, str]:
    """The network y = (x0 - x1, 0) on the unit square, and the question whether y0 reaches `limit`."""
    import torch

    from withstand.graph.capture import capture
    from withstand.graph.onnx_writer import write_onnx

    layer = torch.nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -1.0], [0.0, 0.0]]))
    Path("net.onnx").write_bytes(write_onnx(capture(layer, (2,))))
    names = ("X_0", "X_1", "Y_0", "Y_1")
    lines = [f"(declare-const {name} Real)" for name in names]
    lines += [f"(assert ({sign} {name} {edge}))" for name in names[:2] for sign, edge in ((">=", 0.0), ("<=", 1.0))]
    Path("prop.vnnlib").write_text("\n".join([*lines, f"(assert (>= Y_0 {limit}))"]))
    return "net.onnx", "prop.vnnlib"
