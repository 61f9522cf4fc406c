"""One step of an optimiser on a batch: the objective's loss, its gradients in parts, in mixed precision and over
several processes, and the change of the weights."""

import contextlib
import inspect
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from withstand.core.errors import InputError
from withstand.core.registry import name_of
from withstand.hardening.loader import Batch
from withstand.hardening.objective import Combined, Loss, Objective
from withstand.hardening.state import State

Precision = Literal["fp32", "bf16", "fp16"]
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Diverged(InputError):
    """The loss or the weights are no longer numbers."""


class Whole(nn.Module):
    """The objective with its model as one module from a batch to a loss. Wrapped as a whole in
    DistributedDataParallel, the attacks in it, which take gradients by inputs only, cause no communication."""

    def __init__(self, objective: Objective, model: nn.Module, state: State) -> None:
        super().__init__()
        self.objective, self.model, self.state = objective, model, state

    def forward(self, x: Tensor, y: Tensor) -> Loss:
        """The loss at x [B, *shape] with classes y [B]."""
        return self.objective(self.model, x, y, self.state)


class Taken(NamedTuple):
    """The loss of a step, over this process's rows, and what the objective told."""

    loss: float
    logs: dict[str, float]


class Stepper:
    """Takes steps of an optimiser.

    accumulate: into how many parts a batch is cut, one after the other, their gradients added up; mean losses give the
    same step as the uncut batch. Batch normalisation that trains, and the penalties of certified training while the
    radius grows, couple the rows of each part in place of those of the batch. clip: the largest length of the gradient
    of all weights (None: any). precision: of the loss pass, by autocast (fp16 with a scaled loss); attacks stay in
    float32.

    Raises InputError where a batch is to be cut and the objective, or an addition, needs all of it.
    """

    def __init__(
        self, whole: Whole, optimiser: torch.optim.Optimizer, accumulate: int, clip: float | None, precision: Precision
    ) -> None:
        if accumulate > 1:
            _check_parts(whole.objective)
        self.state, self.optimiser = whole.state, optimiser
        self.accumulate, self.clip, self.precision = accumulate, clip, precision
        self.parameters = [p for group in optimiser.param_groups for p in group["params"]]
        self.device = self.parameters[0].device
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "fp16")  # type: ignore[attr-defined]
        self.processes = dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
        self.rank = dist.get_rank() if self.processes > 1 else 0
        self.whole: Callable[[Tensor, Tensor], Loss] = _shared(whole, self.device) if self.processes > 1 else whole

    def take(self, batch: Batch) -> Taken:
        """One step. Raises Diverged, the weights unchanged, when the loss is NaN or infinite in any process."""
        self.optimiser.zero_grad(set_to_none=True)
        loss, logs = 0.0, {}
        parts = batch.parts(self.accumulate)
        for number, part in enumerate(parts):
            share = len(part.x) * self.processes / batch.total
            self.state.ids = part.ids
            silent = self.processes > 1 and number < len(parts) - 1
            with self.whole.no_sync() if silent else contextlib.nullcontext():  # type: ignore[attr-defined]
                with torch.autocast(self.device.type, TYPES[self.precision], enabled=self.precision != "fp32"):
                    value, told = self.whole(part.x, part.y)
                self._check(float(value.detach()))
                self.scaler.scale(value * share).backward()
            loss += float(value.detach()) * share
            for name, figure in told.items():
                logs[name] = logs.get(name, 0.0) + float(figure) * share
        self._change()
        return Taken(loss, logs)

    def _change(self) -> None:
        if self.clip is not None:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()

    def _check(self, loss: float) -> None:
        """Raise Diverged in every process when the loss of one is no number."""
        if self.total([float(not math.isfinite(loss))])[0] == 0:
            return
        whose = f"the loss became {loss}" if not math.isfinite(loss) else "the loss of another process became no number"
        raise Diverged(whose)

    def total(self, numbers: list[float]) -> list[float]:
        """Numbers added up over all processes."""
        if self.processes == 1:
            return numbers
        held = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        dist.all_reduce(held)
        return held.tolist()

    def level(self, module: nn.Module) -> None:
        """Give the statistics of batch normalisation, which every process measures on its own rows, their mean over all
        processes."""
        norms = [part for part in module.modules() if isinstance(part, _BatchNorm)] if self.processes > 1 else []
        for statistic in (value for part in norms for value in (part.running_mean, part.running_var)):
            if statistic is not None:
                dist.all_reduce(statistic)
                statistic /= self.processes

    def gather(self, value: object) -> list[object]:
        """What every process gives, in the order of the processes."""
        if self.processes == 1:
            return [value]
        held: list[object] = [None] * self.processes
        dist.all_gather_object(held, value)
        return held


def _check_parts(objective: Objective) -> None:
    """Raise InputError unless an objective gives the step of a batch from its parts."""
    parts = [objective.base, *objective.additions] if isinstance(objective, Combined) else [objective]
    whole = next((name_of(one) for one in parts if one.coupled or getattr(one, "replays", 1) > 1), None)
    if whole is not None:
        raise InputError(
            f"A batch cannot be cut into parts for {whole!r}, which looks at all of its rows together or shows it "
            "several times; leave accumulate at 1."
        )


def _shared(whole: Whole, device: torch.device) -> DistributedDataParallel:
    """The whole in DistributedDataParallel, which leaves buffers alone in passes: an attack makes several in one step.
    Newer versions of PyTorch have another word for that."""
    known = inspect.signature(DistributedDataParallel).parameters
    word = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    quiet: dict[str, Any] = {word: False}
    return DistributedDataParallel(whole, [device] if device.type == "cuda" else None, **quiet)
