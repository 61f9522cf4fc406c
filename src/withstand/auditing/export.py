"""Robustness questions written as a folder of VNN-LIB instances, for any verifier."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor

from withstand.auditing.question import Question, pose
from withstand.core.balls import Linf
from withstand.core.box import Box
from withstand.core.errors import InputError
from withstand.core.property import Linear, Property
from withstand.core.threat import Threat
from withstand.io.data import DataLike
from withstand.io.instances import Instance, write_instances
from withstand.io.models import ModelLike
from withstand.io.vnnlib import Region, write_vnnlib

MODEL, LIST = "model.onnx", "instances.csv"
"""Names of the network and of the list of questions in a folder."""


@dataclass(frozen=True)
class Exported:
    """The list of questions, how many it holds, and how many samples were left out as wrong when clean."""

    path: Path
    questions: int
    left_out: int


def export(
    model: ModelLike,
    data: DataLike,
    threat: str | Threat,
    folder: str | PathLike[str],
    *,
    property: str | Property = "argmax",
    limit: int | None = None,
    timeout: float = 60.0,
) -> Exported:
    """Write the network as ONNX, a VNN-LIB 1.0 file for every sample that is right when clean, and their list.

    threat: linf, or a box; its edges are written exactly, x - radius and x + radius within the domain. `unsat` means
    that the property holds on all of it. timeout: seconds, the third column of the list.

    Raises InputError when an input cannot be used, the threat is no box, or the property is not made of linear rows.
    """
    out = Path(folder)
    with pose(model, data, threat, property, limit=limit) as question:
        if question.onnx is None:
            raise InputError(f"{question.model.name} cannot be written as ONNX: {question.model.why_no_onnx}")
        lower, upper = edges(question.threat, question.x)
        with torch.no_grad():
            outputs = question.model(question.x)
        asked = torch.ones(len(question.x), dtype=torch.bool)
        if question.threat.anchored:
            asked = question.property.margin(outputs, question.y) > 0
        out.mkdir(parents=True, exist_ok=True)
        (out / MODEL).write_bytes(question.onnx)
        instances = []
        for row in asked.nonzero().squeeze(1).tolist():
            region = Region(Box(lower=lower[row], upper=upper[row]), _rows(question, row, outputs[0].numel()))
            name = f"sample-{question.data.ids[row]}.vnnlib"
            (out / name).write_text(write_vnnlib(region, _comment(question, row)), "utf-8")
            instances.append(Instance(MODEL, name, out, timeout))
        write_instances(out / LIST, instances)
        return Exported(out / LIST, len(instances), len(question.x) - len(instances))


def edges(threat: Threat, x0: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest inputs [B, *shape] of a threat that is a box, in float64, without slack for rounding.

    Raises InputError for other threats.
    """
    if threat.levels is not None:
        raise InputError(f"VNN-LIB cannot say that inputs are of 8 bits; leave @u8 out of the threat {threat}.")
    if isinstance(threat, Linf):
        x, low, high = x0.double(), *threat.domain
        around = threat.radii(x)
        return (x - around).clamp(low, high), (x + around).clamp(low, high)
    if isinstance(threat, Box):
        assert threat.lower is not None
        assert threat.upper is not None
        return threat.lower.double().expand(x0.shape), threat.upper.double().expand(x0.shape)
    raise InputError(f"A VNN-LIB file holds a box of inputs; the threat {threat} is none, so write linf:RADIUS.")


def _rows(question: Question, row: int, outputs: int) -> Linear:
    rows = question.property.rows(question.y[row : row + 1], outputs, torch.float64)
    return Linear(rows.weight[0], rows.offset[0], rows.group)


def _comment(question: Question, row: int) -> str:
    told = question.threat.text() if isinstance(question.threat, Linf) else str(question.threat)
    sample = f"sample {question.data.ids[row]} of {question.data.name}"
    return f"{question.model.name}, {sample}, {told}, {question.property}\nunsat: the property holds on the whole box"
