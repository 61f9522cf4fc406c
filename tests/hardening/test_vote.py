"""The vote under noise, which chooses the best epoch of training for it, against closed forms."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from training import ROWS, digits, plain

from withstand.core.balls import L2, Linf
from withstand.hardening.objective import build_objective
from withstand.hardening.validate import Validation, count
from withstand.hardening.vote import DRAWS, needed, vote
from withstand.smoothing.smoothed import Smoothing

SIGMA = 0.5


def two_classes(margins: Tensor) -> tuple[nn.Linear, Tensor, Tensor]:
    """A linear model of two classes in 4 dimensions, and points of class 1 so far inside it in l2."""
    model = nn.Linear(4, 2).double()
    way = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.stack([torch.zeros(4), way]))
        model.bias.copy_(torch.tensor([0.0, 0.7]))
    unit = way / way.norm()
    foot = -0.7 / way.norm() * unit
    return model.eval(), foot + margins[:, None].double() * unit, torch.ones(len(margins), dtype=torch.int64)


def expected(margins: Tensor, threat: L2 | Linf) -> Tensor:
    """The chance [B] that a sample counts: its class has the probability Phi(margin / sigma) in every draw."""
    p = torch.special.ndtr(margins.double() / SIGMA)
    least = min(DRAWS, math.floor(needed(threat, SIGMA) * DRAWS) + 1)
    draws = torch.arange(least, DRAWS + 1, dtype=torch.float64)
    log = torch.lgamma(torch.tensor(DRAWS + 1.0)) - torch.lgamma(draws + 1) - torch.lgamma(DRAWS - draws + 1)
    return (log + draws * p.log()[:, None] + (DRAWS - draws) * (1 - p).log()[:, None]).exp().sum(1)


@pytest.mark.parametrize("threat", [L2(0.0), L2(0.4), L2(1.0), L2(100.0), Linf(0.3)], ids=str)
def test_the_vote_of_a_linear_model_is_that_of_the_binomial_distribution(threat: L2 | Linf) -> None:
    margins = torch.linspace(-0.5, 2.0, 40).repeat(100)
    found = vote(*two_classes(margins), threat, SIGMA, range(len(margins)))
    chance = expected(margins, threat)
    error = float((chance * (1 - chance)).sum().sqrt())
    assert float(found.double().sum()) == pytest.approx(float(chance.sum()), abs=4 * error)
    assert 0 < int(found.sum()) < len(found)


@pytest.mark.parametrize("radius", [0.0, 0.4, 0.8])
def test_it_says_the_distance_of_the_boundary_save_near_it(radius: float) -> None:
    """The smoothed linear model is the model, and its certified radius the distance of the boundary."""
    margins = torch.cat([torch.linspace(-1, radius - 0.45, 50), torch.linspace(radius + 0.45, 3, 50)])
    found = vote(*two_classes(margins), L2(radius), SIGMA, range(100))
    assert torch.equal(found, margins > radius)


def test_it_agrees_with_the_certificates_of_many_draws() -> None:
    x, y = digits()
    made = plain("gaussian:sigma=0.25", "l2:0.2", epochs=20, validation=None)
    made.fit()
    x, y = x[ROWS : ROWS + 60], y[ROWS : ROWS + 60]
    model = made.last_module()
    told = Smoothing(0.25, draws=500).certify(model, x, range(60))
    certified = (told.answer == y) & (told.radius > 0.2)
    seems = vote(model, x, y, L2(0.2), 0.25, range(60))
    assert 0.2 < float(certified.float().mean()) < 0.9
    assert float((certified == seems).float().mean()) > 0.85
    assert float(seems.float().mean()) == pytest.approx(float(certified.float().mean()), abs=0.1)


def test_copies_belong_to_the_sample() -> None:
    model, x, y = two_classes(torch.linspace(-0.3, 0.3, 60))
    whole = vote(model, x, y, L2(0.0), SIGMA, range(60))
    odd = torch.arange(1, 60, 2)
    assert torch.equal(vote(model, x[odd], y[odd], L2(0.0), SIGMA, odd.tolist()), whole[odd])
    assert len(vote(model, x[:0], y[:0], L2(0.0), SIGMA, [])) == 0


def test_validation_counts_the_vote_once_over_all_processes() -> None:
    x, y = digits()
    model = plain("natural").module
    validation = Validation(x[:90], y[:90], limit=80)
    found = count(model, validation, L2(0.1), sigma=0.2)
    assert found.smoothed == int(vote(model.eval(), x[:80], y[:80], L2(0.1), 0.2, range(80)).sum())
    halves = [count(model, validation, L2(0.1), i, 2, sigma=0.2) for i in (0, 1)]
    assert tuple(map(sum, zip(*halves))) == found
    assert count(model, validation, L2(0.1)).smoothed == 0


@pytest.mark.parametrize("text", ["gaussian:sigma=0.3", "smooth-adv:sigma=0.3,steps=1,step=1"])
def test_the_best_epoch_for_a_vote_is_the_best_one_by_the_vote(text: str, tmp_path: Path) -> None:
    """The learning rate spoils the weights after the fourth of six epochs."""
    made = plain(text, "l2:0.2", folder=tmp_path, epochs=6, guard=None)
    made.callbacks = [lambda record: made.optimiser.param_groups[0].update(lr=3.0 if record.epoch == 4 else 0.1)]
    made.fit()
    history = made.progress.history
    scores = [record.smoothed or 0.0 for record in history]
    epoch = made.progress.best_epoch
    assert epoch is not None
    assert epoch < 6
    assert scores[epoch - 1] == max(scores)
    assert made.progress.best_score == max(scores) > scores[-1]
    assert made.validation is not None
    x, y = made.validation.x, made.validation.y
    best = made.best_module()
    assert float(vote(best, x, y, made.state.threat, 0.3, range(len(x))).double().mean()) == max(scores)
    stored = load_file(tmp_path / "best.safetensors")
    assert all(torch.equal(value, stored[key]) for key, value in best.state_dict().items())


@pytest.mark.parametrize(
    ("text", "best"), [("gaussian", 2), ("stability", 2), ("smooth-adv:steps=1", 2), ("pgd:steps=1", 3)]
)
def test_where_the_vote_and_pgd_disagree_the_objective_decides(
    text: str, best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = iter([(0.5, 0.3, 0.4), (0.6, 0.4, 0.6), (0.7, 0.5, 0.5)])

    def figures(*_: object) -> dict[str, float]:
        return dict(zip(("clean", "pgd", "smoothed"), next(table), strict=True))

    monkeypatch.setattr("withstand.hardening.trainer.shares", figures)
    made = plain(text, "l2:0.2")
    made.fit()
    assert made.progress.best_epoch == best


def test_without_noise_there_is_no_vote() -> None:
    assert build_objective("gaussian:sigma=0").judged_by == "clean"
    made = plain("gaussian:sigma=0", "l2:0.2", epochs=1)
    made.fit()
    assert made.progress.history[0].smoothed is None
    assert made.progress.best_score == made.progress.history[0].clean
