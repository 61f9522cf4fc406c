"""What a budget of queries counts: every row that reaches a function of the user's, whatever asks."""

import pytest
import torch
from lab import Lab
from torch import Tensor

import withstand
from withstand.core.errors import InputError
from withstand.core.registry import build
from withstand.core.runner import run
from withstand.core.threat_text import parse_threat
from withstand.io.models import load_model

LIMIT = 7


class Counting:
    """A function that no graph stands for, and the rows it was asked about; `random`: its answers are."""

    def __init__(self, lab: Lab, random: bool = False) -> None:
        self.net, self.rows, self.calls, self.random = lab.module, 0, list[int](), random
        self.generator = torch.Generator().manual_seed(0)

    def __call__(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        self.calls.append(len(x))
        z = torch.from_numpy(self.net(x.detach()).numpy().copy())
        return z + 0.1 * torch.randn(z.shape, generator=self.generator) if self.random else z


@pytest.mark.parametrize("queries", [12, 40])
@pytest.mark.parametrize("threat", ["linf:0.02", "linf:0.3"])
@pytest.mark.parametrize("attack", ["square", "nes", "noise:draws=100", "hopskipjump", "boundary"])
def test_no_row_is_asked_beyond_the_budget(lab: Lab, attack: str, threat: str, queries: int) -> None:
    f = Counting(lab)
    access = "labels" if attack in ("hopskipjump", "boundary") else "scores"
    threat = threat.replace("linf", "l2") if access == "labels" else threat
    told = withstand.attack(f, (lab.x, lab.y), threat, [attack], limit=LIMIT, queries=queries, access=access)
    assert f.rows <= LIMIT * queries
    assert all(sample.queries <= queries for sample in told.samples)
    assert sum(sample.queries for sample in told.samples) <= f.rows, "what is told was asked"


def test_several_attacks_and_radii_keep_to_their_budgets(lab: Lab) -> None:
    f, queries, attacks, radii = Counting(lab), 15, ["square", "noise:draws=50"], (0.02, 0.1)
    withstand.attack(
        f, (lab.x, lab.y), "linf:0.05", attacks, limit=LIMIT, queries=queries, access="scores", radii=radii
    )
    assert f.rows <= LIMIT * queries * len(attacks) * (1 + len(radii))


@pytest.mark.parametrize("closest", [False, True])
def test_random_functions_and_the_nearest_violation_keep_to_it(lab: Lab, closest: bool) -> None:
    f = Counting(lab, random=not closest)
    eot, queries = (1, 40) if closest else (2, 90)
    ask = {"limit": LIMIT, "queries": queries, "access": "scores", "eot": eot, "closest": closest}
    withstand.attack(f, (lab.x, lab.y), "linf:0.1", ["square"], **ask)
    assert f.rows <= LIMIT * queries


def test_nothing_is_padded_in_a_function_that_is_counted(lab: Lab) -> None:
    """One sample asks about single rows; a network whose graph is known is asked in full tiles."""
    f, threat = Counting(lab), parse_threat("linf:0.1")
    model = load_model(f, (64,))
    loading = len(f.calls)
    assert model.opaque
    found = run(build("attack", "square:queries=20"), model, lab.x[:1], lab.y[:1], threat)
    assert set(f.calls[loading:]) == {1}
    assert sum(f.calls[loading:]) == int(found.queries.sum())
    assert not load_model(lab.module, (64,)).opaque


def test_a_budget_that_the_judge_needs_itself_is_refused(lab: Lab) -> None:
    with pytest.raises(InputError, match=r"3 queries a sample leave none to 'square'.*give at least \d+\.$"):
        withstand.attack(Counting(lab), (lab.x, lab.y), "linf:0.1", ["square"], queries=3, access="scores")


def test_no_row_fills_a_batch_of_a_function_whose_graph_is_known(lab: Lab) -> None:
    rows = [0]

    def f(x: Tensor) -> Tensor:
        rows[0] += len(x)
        return lab.module(x)

    told = withstand.attack(f, (lab.x, lab.y), "linf:0.02", ["square"], limit=LIMIT, queries=60)
    assert rows[0] <= LIMIT * 60
    assert load_model(f, tuple(lab.x.shape[1:])).graph is not None
    assert all(sample.queries <= 60 for sample in told.samples)
