"""The attacks of withstand as contenders."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from contest.task import SHARED, Counting, Points, Task
from withstand.core.budget import Budget
from withstand.core.closest import closest
from withstand.core.registry import build, build_attack, components
from withstand.core.rng import RowRandom, row_seeds
from withstand.core.runner import run
from withstand.core.universal import Fitted

Work = Callable[[], Points]


@dataclass(frozen=True)
class Own:
    """An attack of withstand from its text; `nearest` asks for the nearest violation, `queries` limits an image's."""

    text: str
    nearest: bool = False
    queries: int | None = None
    library = "withstand"

    @property
    def name(self) -> str:
        """As users write it."""
        return self.text

    def prepare(self, task: Task, seed: int) -> Work:
        """Everything but the attack itself."""
        if self.text.partition(":")[0] in components("universal"):
            return lambda: universal(task, self.text, seed)
        attack, search = build_attack(self.text), closest if self.nearest else run

        def work() -> Points:
            budget = Budget(queries=self.queries)
            found = search(attack, task.model, task.x, task.y, task.threat, seed=seed, budget=budget)
            queries = int(found.queries.sum())
            if task.threat.rendered:
                return Points(task.threat.render(task.x, found.x), queries, found.refuted, found.distance)
            return Points(found.x, queries)

        return work


def universal(task: Task, text: str, seed: int) -> Points:
    """Fitted on training images, applied to the task's."""
    method, net, state = build("universal", text), Counting(task.model.module), None
    for reached in method.fit(net, task.fitted, task.threat, seed, None):
        state = reached
    assert state is not None
    attack = Fitted(text, method, state)
    rng = RowRandom(row_seeds(seed, range(len(task.x)), text))
    moved = task.threat.deploy(task.x, attack.method.apply(attack.state, task.x, task.threat, rng))
    return Points(moved, net.rows)


@dataclass(frozen=True)
class Audited:
    """The audit as users run it, but for the curve over radii: doctor, proofs and attacks on what is left."""

    model: str
    name = "audit"
    library = "withstand"

    def prepare(self, task: Task, seed: int) -> Work:
        """Everything but the audit itself."""
        from withstand import audit
        from withstand.auditing.plan import make_plan
        from withstand.core.records import SampleRecord
        from withstand.io.witness import load_witness

        source = SHARED / f"models/{self.model}.onnx"
        plan = make_plan(str(source), "benchmark", task.threat.text(), seed=seed).model_copy(update={"curve": []})

        def work() -> Points:
            with tempfile.TemporaryDirectory() as folder:
                result = audit(
                    source, (task.x.numpy(), task.y.numpy()), threat=task.threat, plan=plan, out=Path(folder) / "run"
                )
                lines = (result.run_dir / "samples.jsonl").read_text("utf-8").splitlines()
                records = sorted(map(SampleRecord.model_validate_json, lines), key=lambda record: record.id)
                x = task.x.clone()
                for record in records:
                    if record.witness is not None:
                        x[record.id] = torch.as_tensor(load_witness(result.run_dir / record.witness).x)
            return Points(x, result.queries)

        return work
