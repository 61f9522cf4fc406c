"""The judge: what counts as a witness, what counts as a proof, and what is a fault of the tool."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from withstand.core.balls import Linf
from withstand.core.box import Box
from withstand.core.evidence import Candidate, Grade, Lower, Sampled
from withstand.core.judge import GUARD, Contradiction, Judge, Status, needed
from withstand.core.property import Argmax, Linear


def logits(x):
    """Two classes; the margin of class 0 is 2 * x0 - 1 at x = (x0, ...)."""
    return torch.stack([x[:, 0], 1 - x[:, 0]], 1)


def make(x0=(0.7, 0.6, 0.2), radius=0.15, replay=None):
    points = torch.tensor(x0)[:, None]
    return Judge(logits, replay, points, torch.zeros(len(points), dtype=torch.long), Linf(radius), Argmax())


def at(*rows):
    return torch.tensor(rows)


def test_violations_at_the_clean_input_are_invalid():
    judge = make()
    assert judge.status == [Status.UNKNOWN, Status.UNKNOWN, Status.INVALID]
    assert judge.open.tolist() == [True, True, False]


def test_a_witness_inside_the_threat_refutes():
    judge = make()
    judge.hear(Candidate(at(1), torch.tensor([[0.48]])), "pgd")
    verdict = judge.verdict(1)
    assert verdict.status is Status.REFUTED
    assert verdict.method == "pgd"
    assert verdict.margin == pytest.approx(-0.04, abs=1e-6)
    assert verdict.witness is not None
    assert verdict.witness.tolist() == pytest.approx([0.48])
    assert verdict.output is not None
    assert verdict.output.tolist() == pytest.approx([0.48, 0.52])


def test_a_candidate_outside_the_threat_is_no_witness():
    judge = make()
    judge.hear(Candidate(at(0, 1), torch.tensor([[0.4], [0.3]])), "far")
    assert judge.status[:2] == [Status.UNKNOWN, Status.UNKNOWN]
    assert judge.margin.tolist() == judge.clean.tolist()
    assert judge.disagreements == []


def test_a_candidate_with_nan_is_no_witness():
    judge = make()
    judge.hear(Candidate(at(1), torch.tensor([[math.nan]])), "nan")
    assert judge.status[1] is Status.UNKNOWN
    assert not math.isnan(judge.verdict(1).margin)


def test_a_candidate_that_does_not_replay_is_noted_and_no_witness():
    judge = make(replay=lambda x: logits(x + 0.1))
    judge.hear(Candidate(at(1), torch.tensor([[0.48]])), "pgd")
    assert judge.status[1] is Status.UNKNOWN
    assert judge.disagreements == [(1, "pgd")]
    assert judge.margin[1] == judge.clean[1]


def test_the_lowest_admissible_margin_is_kept_whatever_the_order():
    judge = make()
    judge.hear(Candidate(at(1, 1, 1), torch.tensor([[0.55], [0.46], [0.49]])), "many")
    assert judge.verdict(1).margin == pytest.approx(-0.08, abs=1e-6)


def test_invalid_rows_stay_invalid():
    judge = make()
    judge.hear(Candidate(at(2), torch.tensor([[0.1]])), "pgd")
    judge.hear(Lower(at(2), torch.tensor([1.0]), Grade.FLOAT64), "crown")
    assert judge.verdict(2).status is Status.INVALID
    assert judge.verdict(2).witness is None
    assert judge.verdict(2).bound == -math.inf


def test_bounds_prove_and_keep_their_grade():
    judge = make()
    judge.hear(Lower(at(0, 1), torch.tensor([0.1, -0.1]), Grade.FLOAT32), "crown")
    assert (judge.status[0], judge.grade[0], judge.method[0]) == (Status.PROVED, Grade.FLOAT32, "crown")
    assert judge.status[1] is Status.UNKNOWN
    assert judge.verdict(1).bound == pytest.approx(-0.1)


@pytest.mark.parametrize("grade", list(Grade))
def test_a_bound_within_its_own_rounding_error_proves_nothing(grade):
    judge = make()
    judge.hear(Lower(at(0), torch.tensor([GUARD[grade] / 2], dtype=torch.float64), grade), "tight")
    assert judge.status[0] is Status.UNKNOWN
    judge.hear(Lower(at(0), torch.tensor([GUARD[grade] * 2 + 1e-12], dtype=torch.float64), grade), "clear")
    assert judge.status[0] is Status.PROVED


def test_the_guard_grows_with_the_outputs():
    need = needed(Grade.FLOAT32, torch.tensor([[1.0, -1000.0], [0.1, 0.2]]))
    assert need.tolist() == pytest.approx([1e-2, 1e-5])


def test_nan_bounds_prove_nothing():
    judge = make()
    judge.hear(Lower(at(0), torch.tensor([math.nan]), Grade.FLOAT32), "broken")
    assert judge.status[0] is Status.UNKNOWN
    assert judge.verdict(0).bound == -math.inf


def test_weaker_bounds_do_not_replace_better_ones():
    judge = make()
    for bound in (-0.5, -0.1, -0.3):
        judge.hear(Lower(at(0), torch.tensor([bound]), Grade.FLOAT32), "any")
    assert judge.verdict(0).bound == pytest.approx(-0.1)


def test_statistics_settle_nothing():
    judge = make()
    judge.hear(Sampled(at(0, 1), at(0, 50), 100), "noise")
    assert judge.status[:2] == [Status.UNKNOWN, Status.UNKNOWN]


def test_refuted_then_proved_raises_with_both_evidences():
    judge = make()
    judge.hear(Candidate(at(1), torch.tensor([[0.48]])), "pgd")
    with pytest.raises(Contradiction, match="refuted by pgd and proved by ibp") as caught:
        judge.hear(Lower(at(1), torch.tensor([0.3]), Grade.FLOAT32), "ibp")
    assert caught.value.x.tolist() == pytest.approx([0.48])
    assert caught.value.bound == pytest.approx(0.3)


def test_proved_then_refuted_raises_with_both_evidences():
    judge = make()
    judge.hear(Lower(at(1), torch.tensor([0.1]), Grade.FLOAT32), "ibp")
    with pytest.raises(Contradiction) as caught:
        judge.hear(Candidate(at(1), torch.tensor([[0.48]])), "pgd")
    assert (caught.value.row, caught.value.found_by, caught.value.proved_by) == (1, "pgd", "ibp")
    assert caught.value.bound == pytest.approx(0.1)


def test_a_bound_above_a_margin_seen_is_a_fault_in_either_order():
    """The clean margin of row 0 is 0.4: no sound bound lies above it, though nothing is refuted."""
    with pytest.raises(Contradiction, match=r"margin 0.4 at a point found by the clean input, below the bound 0.5 of"):
        make().hear(Lower(at(0), torch.tensor([0.5]), Grade.FLOAT32), "broken")
    judge = make()
    judge.hear(Lower(at(0), torch.tensor([0.3]), Grade.FLOAT32), "broken")
    with pytest.raises(Contradiction) as caught:
        judge.hear(Candidate(at(0), torch.tensor([[0.6]])), "pgd")
    assert (caught.value.found_by, caught.value.proved_by) == ("pgd", "broken")
    assert caught.value.x.tolist() == pytest.approx([0.6])
    assert caught.value.threat == judge.threat


def test_a_bound_within_rounding_of_a_margin_seen_is_none():
    judge = make()
    judge.hear(Lower(at(0), judge.clean[:1] + 5e-4, Grade.FLOAT32), "ibp")
    assert judge.status[0] is Status.PROVED


def test_the_middle_of_a_box_is_a_candidate_like_any_other():
    threat = Box(lower=torch.tensor([[0.0], [0.6]]), upper=torch.tensor([[0.4], [1.0]]))
    x0 = torch.tensor([[0.2], [0.8]])
    property = Linear(torch.tensor([[1.0, -1.0]]), torch.zeros(1), torch.zeros(1, dtype=torch.long))
    judge = Judge(logits, None, x0, torch.zeros(2), threat, property)
    assert judge.status == [Status.UNKNOWN, Status.UNKNOWN]
    judge.hear(Candidate(at(1, 0), x0.flip(0)), "middle")
    assert judge.status == [Status.REFUTED, Status.UNKNOWN]
    judge.hear(Candidate(at(1), torch.tensor([[0.1]])), "the other question's box")
    assert judge.status == [Status.REFUTED, Status.UNKNOWN]


def test_quantised_candidates_are_rounded_before_they_count():
    x0, threat = torch.tensor([[128 / 255]]), Linf(3.5 / 255, levels=255)
    judge = Judge(logits, None, x0, torch.zeros(1, dtype=torch.long), threat, Argmax())
    judge.hear(Candidate(at(0), torch.tensor([[127.4 / 255]])), "fine")
    assert judge.verdict(0).status is Status.UNKNOWN  # 127.4 rounds back to 128
    judge.hear(Candidate(at(0), torch.tensor([[124.6 / 255]])), "coarse")
    witness = judge.verdict(0).witness
    assert witness is not None
    assert witness.item() * 255 == pytest.approx(125)


events = st.one_of(
    st.tuples(st.just("point"), st.integers(0, 2), st.floats(0, 1, width=32)),
    st.tuples(st.just("bound"), st.integers(0, 2), st.floats(-2, 2, width=32)),
)


def fault_of(judge, evidence):
    try:
        judge.hear(evidence, "any")
    except Contradiction as fault:
        return fault


@given(st.lists(events, max_size=12))
def test_no_stream_of_evidence_proves_and_refutes_one_question(stream):
    judge = make()
    settled: dict[int, Status] = {}
    lowest, highest = judge.clean.tolist(), [-math.inf] * 3
    for kind, row, value in stream:
        evidence = (
            Candidate(at(row), torch.tensor([[value]]))
            if kind == "point"
            else Lower(at(row), torch.tensor([value]), Grade.FLOAT32)
        )
        if judge.status[row] is not Status.INVALID:
            if kind == "bound":
                highest[row] = max(highest[row], value)
            elif judge.threat.contains(judge.x0[row : row + 1], torch.tensor([[value]])).all():
                lowest[row] = min(lowest[row], 2 * value - 1)
        apart = [high - low for high, low in zip(highest, lowest)]
        fault = fault_of(judge, evidence)
        if fault is not None:
            assert fault.row == row
            assert apart[row] > 0
            break
        assert max(apart) < 2e-3  # more than rounding is a fault
        for i, status in enumerate(judge.status):
            assert settled.get(i, status) is status  # a verdict never changes
            if status is not Status.UNKNOWN:
                settled[i] = status
    for row in range(3):
        verdict = judge.verdict(row)
        assert (verdict.witness is not None) == (verdict.status is Status.REFUTED)
        assert (verdict.grade is not None) == (verdict.status is Status.PROVED)
        if verdict.status is Status.REFUTED:
            assert verdict.margin <= 0
            assert verdict.witness is not None
            assert judge.threat.contains(judge.x0[row : row + 1], verdict.witness[None]).all()
        if verdict.status is Status.PROVED:
            assert verdict.bound > 0


class Rounded:
    """Margins may lie `radius` from the real ones; `real`: whether that explains contradictions."""

    def __init__(self, radius, real):
        self.radius, self.real, self.asked = radius, real, []

    def radii(self, x0, y, threat, enough):
        self.asked.append(enough.tolist())
        return torch.full((len(x0),), self.radius, dtype=torch.float64)

    def explains(self, x, y, margin, bound, radius):
        return self.real


def rounded(radius, real=True):
    x0 = torch.tensor([[0.7], [0.6]])
    return Judge(
        logits, None, x0, torch.zeros(2, dtype=torch.long), Linf(0.15), Argmax(), arithmetic=Rounded(radius, real)
    )


def lower(row, bound):
    return Lower(at(row), torch.tensor([bound]), Grade.FLOAT64)


def test_a_proof_says_whether_it_holds_for_the_network_as_it_is_run():
    judge = rounded(0.05)
    judge.hear(lower(0, 0.1), "crown")
    judge.hear(lower(1, 0.01), "crown")
    assert [judge.executed(row) for row in (0, 1)] == [True, False]
    assert judge.verdict(1).status is Status.PROVED
    assert isinstance(judge.arithmetic, Rounded)
    assert judge.arithmetic.asked == [pytest.approx([0.1, 0.01])]
    assert make().executed(0) is None


def test_a_witness_that_rounding_explains_stands_and_the_proof_falls():
    judge = rounded(0.2)
    judge.hear(lower(1, 0.1), "crown")
    judge.hear(Candidate(at(1), torch.tensor([[0.48]])), "pgd")
    verdict = judge.verdict(1)
    assert (verdict.status, verdict.method, verdict.grade, judge.executed(1)) == (Status.REFUTED, "pgd", None, None)
    assert verdict.bound <= verdict.margin
    late = rounded(0.2)
    late.hear(Candidate(at(1), torch.tensor([[0.48]])), "pgd")
    late.hear(lower(1, 0.1), "crown")
    assert late.verdict(1).status is Status.REFUTED
    assert late.verdict(1).bound <= late.verdict(1).margin


@pytest.mark.parametrize("order", [1, -1])
def test_a_contradiction_that_rounding_does_not_explain_is_a_fault(order):
    judge = rounded(0.2, real=False)
    told = [(lower(1, 0.1), "crown"), (Candidate(at(1), torch.tensor([[0.48]])), "pgd")][::order]
    judge.hear(*told[0])
    with pytest.raises(Contradiction):
        judge.hear(*told[1])
