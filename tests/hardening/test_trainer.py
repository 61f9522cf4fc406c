"""The loop: what it must equal, what it keeps, when it stops, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from training import ROWS, Replaying, adam, digits, network, plain, replayed

from withstand.core.errors import InputError
from withstand.core.harden_records import EpochRecord
from withstand.core.spatial import Flow
from withstand.hardening.loader import Loader
from withstand.hardening.objective import Loss, Model, Objective, build_objective
from withstand.hardening.progress import Progress, Tick
from withstand.hardening.schedules import WarmUp
from withstand.hardening.state import State
from withstand.hardening.step import Diverged, Precision
from withstand.hardening.trainer import Trainer
from withstand.hardening.validate import Validation, count


def weights(made: Trainer) -> list[Tensor]:
    made.fit()
    return list(made.module.state_dict().values())


@pytest.mark.parametrize("objective", ["pgd", "fast", "fgsm:clean=0", "trades", "trades:beta=0"])
def test_a_radius_of_zero_is_natural_training_bit_for_bit(objective: str) -> None:
    threat = "linf:0.1" if "beta=0" in objective else "linf:0"
    ours, natural = weights(plain(objective, threat, epochs=2)), weights(plain("natural", "linf:0", epochs=2))
    assert all(torch.equal(a, b) for a, b in zip(ours, natural))


def test_natural_training_is_the_plain_loop_bit_for_bit() -> None:
    module = network()
    optimiser = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
    x, y = digits()
    loader = Loader(x[:ROWS], y[:ROWS], 64)
    for epoch in range(2):
        for index in range(len(loader)):
            batch = loader.at(epoch, index)
            optimiser.zero_grad()
            F.cross_entropy(module(batch.x), batch.y).backward()
            optimiser.step()
    ours = weights(plain("natural", epochs=2))
    assert all(torch.equal(a, b) for a, b in zip(ours, module.state_dict().values()))


def test_two_halves_of_a_batch_are_the_batch() -> None:
    whole, halves = weights(plain("pgd:steps=2", epochs=2)), weights(plain("pgd:steps=2", epochs=2, accumulate=2))
    for one, other in zip(whole, halves):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_radius_grows_and_the_share_done_is_told() -> None:
    seen: list[tuple[float, float]] = []
    made = plain("pgd:steps=1", epochs=2, ramp=WarmUp(1.5, begin=0.5))
    made.on_step = lambda tick: seen.append((made.state.ramp, made.state.done))
    made.fit()
    assert [ramp for ramp, _ in seen] == [0.0, 0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert [done for _, done in seen] == [step / 8 for step in range(1, 9)]
    assert [record.radius for record in made.progress.history] == [0.025, 0.1]


def test_replays_show_each_batch_again_with_a_step_each() -> None:
    ticks: list[Tick] = []
    made = replayed(epochs=1)
    made.on_step = ticks.append
    made.fit()
    assert made.state.step == 9
    assert [tick.batch for tick in ticks] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert isinstance(made.objective, Replaying)


def test_the_best_epoch_by_pgd_is_kept_beside_the_last(tmp_path: Path) -> None:
    made = plain("pgd:steps=3,step=0.5", folder=tmp_path, epochs=8, guard=None)
    made.callbacks = [lambda record: made.optimiser.param_groups[0].update(lr=2.0 if record.epoch == 6 else 0.1)]
    made.fit()
    history = made.progress.history
    best = max(history, key=lambda record: record.pgd or 0.0)
    assert made.progress.best_epoch == best.epoch < 8
    assert best.pgd is not None
    assert history[-1].pgd is not None
    assert best.pgd > history[-1].pgd
    assert made.validation is not None
    for module, record, name in ((made.best_module(), best, "best"), (made.last_module(), history[-1], "last")):
        found = count(module, made.validation, made.state.threat)
        assert (found.pgd / 100, found.clean / 100, found.fgsm / 100) == (record.pgd, record.clean, record.fgsm)
        stored = load_file(tmp_path / f"{name}.safetensors")
        assert all(torch.equal(value, stored[key]) for key, value in module.state_dict().items())


def test_without_validation_the_last_epoch_is_the_best() -> None:
    made = plain("natural", validation=None)
    made.fit()
    assert made.progress.best_epoch == 3
    assert made.progress.history[-1].pgd is None


def test_records_hold_the_epoch_and_go_to_every_callback() -> None:
    told: list[EpochRecord] = []
    made = plain("trades:steps=1", epochs=2, callbacks=[told.append])
    made.fit()
    assert told == made.progress.history
    assert [record.step for record in told] == [4, 8]
    assert set(told[0].logs) == {"clean", "divergence"}
    beta = 6.0
    assert told[0].loss == pytest.approx(told[0].logs["clean"] + beta * told[0].logs["divergence"])
    assert all(record.cpu_seconds >= 0 for record in told)


def test_validation_agrees_with_a_loop_of_our_own_on_clean_images_and_leaves_the_module() -> None:
    x, y = digits()
    module = network(norm=True).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = count(module, Validation(x[:90], y[:90], limit=80), State("linf:0.05").threat)
    halves = [count(module, Validation(x[:90], y[:90], limit=80), State("linf:0.05").threat, i, 2) for i in (0, 1)]
    assert tuple(map(sum, zip(*halves))) == found
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with torch.no_grad():
        assert found.clean == int((module.eval()(x[:80]).argmax(1) == y[:80]).sum())
    assert found.pgd <= found.clean
    assert found.total == 80


class Breaks(Objective):
    """Cross-entropy until a step, then something that is no number."""

    norms = ("linf",)

    def __init__(self, step: int, value: float) -> None:
        self.step, self.value = step, value

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        value = F.cross_entropy(model(x), y)
        return Loss(value * self.value if state.step == self.step else value)


class Spoils(Objective):
    """A loss that is a number and has a gradient that is none: the root of zero."""

    def loss(self, model: Model, x: Tensor, at: Tensor, y: Tensor, state: State) -> Loss:
        value = model(x).mean() * 0
        return Loss(value.sqrt() if state.step == 5 else value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_with_the_last_good_checkpoint(value: float, tmp_path: Path) -> None:
    made = plain("natural", folder=tmp_path)
    made = Trainer(made.module, Breaks(6, value), made.state, made.optimiser, made.loader, 3, folder=tmp_path, clip=1.0)
    with pytest.raises(Diverged) as caught:
        made.fit()
    sentence = str(caught.value)
    assert sentence.startswith(
        f"In epoch 2, batch 3, the loss became {value}: lower the learning rate (it is 0.1), or "
    )
    assert sentence.endswith(f"the last good checkpoint is {tmp_path / 'checkpoint.pt'}.")
    assert "clip the gradients below 1" in sentence
    assert isinstance(caught.value, InputError)
    held = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert held["state"]["step"] == 4
    assert all(bool(value.isfinite().all()) for value in held["module"].values())
    assert all(bool(value.isfinite().all()) for value in made.module.state_dict().values())


def test_weights_that_are_no_numbers_never_reach_a_checkpoint(tmp_path: Path) -> None:
    made = plain("natural")
    made = Trainer(
        made.module, Spoils(), made.state, made.optimiser, made.loader, 3, folder=tmp_path, checkpoint_every=2
    )
    with pytest.raises(Diverged, match="a weight became NaN or infinite"):
        made.fit()
    held = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert held["state"]["step"] == 4
    assert all(bool(value.isfinite().all()) for value in held["module"].values())


class Watches(nn.Module):
    """Remembers the types in which it was called with gradients by the inputs, and without."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.attacked: set[torch.dtype] = set()
        self.trained: set[torch.dtype] = set()

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.inner(x)
        if self.training:
            self.trained.add(outputs.dtype)
        elif x.requires_grad:
            self.attacked.add(outputs.dtype)
        return outputs


@pytest.mark.parametrize(("precision", "kind"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_mixed_precision_trains_and_attacks_stay_in_float32(precision: Precision, kind: torch.dtype) -> None:
    made = plain("pgd:steps=2")
    module = Watches(made.module)
    made = Trainer(
        module, made.objective, made.state, made.optimiser, made.loader, 12, precision=precision, clip=5.0, guard=None
    )
    made.fit()
    assert module.trained == {kind}
    assert module.attacked == {torch.float32}
    losses = [record.loss for record in made.progress.history]
    assert losses[-1] < 0.7 * losses[0]
    assert all(p.dtype == torch.float32 for p in module.parameters())


def test_a_scaled_loss_takes_the_steps_of_an_unscaled_one() -> None:
    made = plain("natural", epochs=1)
    made.stepper.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)  # type: ignore[attr-defined]
    for one, other in zip(weights(made), weights(plain("natural", epochs=1))):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def refused(**changed: Any) -> str:
    made = plain("natural")
    settings = {
        "module": made.module,
        "objective": made.objective,
        "state": made.state,
        "optimiser": made.optimiser,
        "loader": made.loader,
        "epochs": 1,
    }
    with pytest.raises(InputError) as caught:
        Trainer(**{**settings, **changed})
    return str(caught.value)


def test_a_threat_in_which_epochs_cannot_be_judged_is_refused() -> None:
    x, y = digits()
    said = refused(state=State(Flow(0.3), seed=0), validation=Validation(x[:20], y[:20]))
    assert said.startswith("Epochs are judged by fgsm, which works for linf")
    assert "not for flow" in said


class Cut(nn.Module):
    """A network whose answer has no gradient."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).detach()


class Sign(nn.Module):
    """A step, whose gradient is zero everywhere."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sign()


@pytest.mark.parametrize(("rows", "batch", "accumulate"), [(21, 10, 1), (20, 1, 1), (20, 10, 6)])
def test_a_batch_of_one_row_is_refused_where_it_cannot_be_normalised(rows: int, batch: int, accumulate: int) -> None:
    x, y = digits()
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    own = torch.optim.SGD(module.parameters(), 0.1)
    asked: dict[str, Any] = {"module": module, "optimiser": own, "loader": Loader(x[:rows], y[:rows], batch)}
    assert "single row" in refused(**asked, accumulate=accumulate)
    assert module[2].num_batches_tracked == 0
    module[2] = nn.LayerNorm(8)
    made = plain("natural")
    asked["optimiser"] = torch.optim.SGD(module.parameters(), 0.1)
    Trainer(**asked, objective=made.objective, state=made.state, epochs=1, accumulate=accumulate).fit()


def test_what_cannot_be_trained_is_one_sentence() -> None:
    module = network()
    own = torch.optim.SGD(module.parameters(), 0.1)
    x, y = digits()
    assert "no weights that can learn" in refused(module=nn.Sequential(nn.Flatten(), nn.ReLU()))
    assert "weights that are not the model's" in refused(module=network())
    assert "passes no gradient" in refused(module=Cut(module), optimiser=own)
    assert "one row of class scores" in refused(
        module=nn.Sequential(module[0]), optimiser=torch.optim.SGD(module[0].parameters(), 0.1)
    )
    sign = nn.Sequential(module, Sign())
    assert "passes no gradient" in refused(module=sign, optimiser=torch.optim.SGD(sign.parameters(), 0.1))
    labels = y[:20].clone()
    labels[7] = 12
    assert "to 12, and the model has the classes 0 to 9" in refused(loader=Loader(x[:20], labels, 10))
    assert "trains against linf, l2, l1, not against" in refused(objective=build_objective("pgd"), state=State("l0:3"))
    assert "learns from labelled rows only" in refused(loader=Loader(x[:20], y[:20], 10, unlabelled=x[20:40]))
    assert "at least 1" in refused(epochs=0)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(own)
    assert "needs a figure to watch" in refused(scheduler=plateau, module=module, optimiser=own)


def test_unlabelled_rows_reach_an_objective_that_takes_them() -> None:
    x, y = digits()
    made = plain("trades:steps=1,step=1")
    loader = Loader(x[:100], y[:100], 40, unlabelled=x[300:400], share=0.5)
    made = Trainer(made.module, made.objective, made.state, made.optimiser, loader, 2)
    made.fit()
    assert made.state.step == 10
    assert made.progress.history[-1].loss < made.progress.history[0].loss


def test_the_average_follows_its_formula_and_measures_its_own_statistics() -> None:
    made = adam(epochs=1, accumulate=1)
    assert made.mean is not None
    expected = [p.detach().clone() for p in made.mean.module.parameters()]
    step = 0

    def follow(tick: Tick) -> None:
        nonlocal step
        keep = min(0.9, (1 + step) / (10 + step))
        for mean, now in zip(expected, made.module.parameters()):
            mean.mul_(keep).add_(now.detach(), alpha=1 - keep)
        step += 1

    made.on_step = follow
    made.fit()
    assert step == 4
    for mean, p in zip(expected, made.mean.module.parameters()):
        torch.testing.assert_close(mean, p.detach())
    features = torch.cat([made.loader.at(0, index).x for index in range(4)])
    hidden = made.mean.module[0](features)  # type: ignore[index]
    norm = made.mean.module[1]  # type: ignore[index]
    torch.testing.assert_close(norm.running_mean, hidden.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(norm.running_mean, made.module[1].running_mean)  # type: ignore[index]
    assert norm.momentum == 0.1
    assert all(torch.equal(value, made.progress.last[key]) for key, value in made.mean.module.state_dict().items())


@pytest.mark.parametrize(
    ("figures", "best"),
    [
        ([(0.0, 0.1, 0.0), (0.0, 0.5, 0.3), (0.0, 0.5, 0.2)], 2),
        ([(0.0, 0.2, 0.0), (0.0, 0.1, 0.0), (0.0, 0.9, 0.0)], 3),
        ([(0.4, 0.2, 0.1), (0.4, 0.2, 0.1), (0.3, 0.9, 0.9)], 2),
        ([(0.1, 0.2, 0.0), (None, 0.9, 0.9), (0.0, 0.9, 0.9)], 1),
        ([(None, None, None)] * 3, 3),
    ],
    ids=["pgd", "clean", "later", "missing", "nothing"],
)
def test_ties_go_to_the_next_figure(figures: list[tuple[float | None, float | None, float | None]], best: int) -> None:
    """Each epoch's interval share, clean and PGD accuracy; the best by interval bounds, then PGD, then clean."""
    at = Progress()
    for number, (interval, clean, pgd) in enumerate(figures, 1):
        record = EpochRecord(
            epoch=number, step=number, learning_rate=0.1, loss=1.0, interval=interval, clean=clean, pgd=pgd
        )
        if at.surpassed_by(record, "interval"):
            at.best_epoch = number
        at.close(record)
    assert at.best_epoch == best
