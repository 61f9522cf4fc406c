"""Verifiers that run out of memory: smaller batches first, then a sentence."""

from dataclasses import dataclass

import pytest
import torch
from tiny import distance_net, random_net

from withstand.checker.check import check
from withstand.checker.reading import read_network
from withstand.core.balls import Linf
from withstand.core.evidence import Grade, Lower
from withstand.core.judge import Judge, Status
from withstand.core.property import Linear
from withstand.graph.onnx_writer import write_onnx
from withstand.verification import phases
from withstand.verification.memory import is_out_of_memory
from withstand.verification.methods.branch_and_bound import BranchAndBound
from withstand.verification.proof import proofs_of
from withstand.verification.search import search

REFUSED = (MemoryError(), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."))


@dataclass(frozen=True)
class Hungry:
    """Proves one question a step, if its batch is small enough, and remembers what it tried."""

    error: BaseException
    log: list
    entries: int = 160_000
    fits: int = 40_000

    def prove(self, problem):
        for row in problem.open.nonzero().squeeze(1):
            self.log.append((self.entries, int(row)))
            if self.entries > self.fits and int(row) > 0:
                raise self.error
            yield Lower(row[None], torch.ones(1), Grade.FLOAT64)


def judge():
    graph = distance_net()
    x0 = torch.rand(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = Linear(torch.tensor([[-1.0]]), torch.tensor([2.0]), torch.tensor([0]))
    return graph, Judge(graph, None, x0, torch.zeros(3), Linf(0.1), rows)


@pytest.mark.parametrize("error", REFUSED, ids=["python", "torch"])
def test_it_goes_on_with_half_the_batch_and_keeps_what_was_proved(error):
    graph, jury = judge()
    log = []
    verdicts = search(jury, graph, [Hungry(error, log)])
    assert [v.status for v in verdicts] == [Status.PROVED] * 3
    assert log == [(160_000, 0), (160_000, 1), (80_000, 1), (40_000, 1), (40_000, 2)]


def test_at_the_least_batch_a_sentence_says_so():
    graph, jury = judge()
    log = []
    verdicts = search(jury, graph, [Hungry(MemoryError(), log, fits=0)])
    assert [v.status for v in verdicts] == [Status.PROVED, Status.UNKNOWN, Status.UNKNOWN]
    assert log[-1][0] == 10_000
    assert verdicts[1].reason.startswith("memory ran out")


def test_branch_and_bound_halves_its_batch_and_keeps_its_search(monkeypatch):
    """Splits that fail for want of memory go back into the pool, and smaller batches of them come to the same end."""
    graph = random_net([5, 20, 20, 3], 6)
    x0 = torch.rand(1, 5, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    hard = Linear(torch.tensor([[1.0, -1.0, 0.0]]).double(), torch.tensor([1.9]).double(), torch.tensor([0]))

    def verdict():
        return search(Judge(graph, None, x0, torch.zeros(1), Linf(0.5), hard), graph, [BranchAndBound()])[0]

    plain, sizes, real = verdict(), [], phases.choose

    def choose(network, found, *rest):
        sizes.append(len(found))
        if len(found) > 3:
            raise MemoryError
        return real(network, found, *rest)

    monkeypatch.setattr(phases, "choose", choose)
    small = verdict()
    assert max(sizes) > 3
    assert sum(size > 3 for size in sizes) <= 8
    assert plain.status is small.status is Status.PROVED
    assert small.domains > 100
    monkeypatch.setattr(phases, "choose", lambda *args: (_ for _ in ()).throw(MemoryError()))
    assert verdict().reason.startswith("memory ran out")


def test_domains_whose_children_did_not_fit_are_split_once_in_the_certificate(monkeypatch):
    graph = random_net([5, 20, 20, 3], 6)
    x0, y = torch.rand(1, 5, generator=torch.Generator().manual_seed(6), dtype=torch.float64), torch.zeros(1)
    hard = Linear(torch.tensor([[1.0, -1.0, 0.0]]).double(), torch.tensor([2.0]).double(), torch.tensor([0]))
    network, jury, real, failed = (
        read_network(write_onnx(graph)),
        Judge(graph, None, x0, y, Linf(0.5), hard),
        phases.bound,
        [],
    )

    def bound(network, dual, *rest):
        if len(dual) > 2 and len(failed) < 2:
            failed.append(len(dual))
            raise MemoryError
        return real(network, dual, *rest)

    (proof,) = proofs_of(network, Linf(0.5), hard, x0, y)
    monkeypatch.setattr(phases, "bound", bound)
    assert search(jury, graph, [BranchAndBound()], proofs=[proof])[0].status is Status.PROVED
    assert failed
    proof.finish()
    assert check(proof.builder.certificate(), network).holds


def test_other_errors_are_not_swallowed():
    graph, jury = judge()
    with pytest.raises(RuntimeError, match="shapes do not match"):
        search(jury, graph, [Hungry(RuntimeError("shapes do not match"), [])])


def test_what_torch_really_says_is_understood():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    assert is_out_of_memory(caught.value)
