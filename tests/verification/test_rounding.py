"""Networks whose rounding changes the answer: a witness of the network as it is run stands, and is no fault."""

import pytest
import torch
from torch import nn

import withstand
from withstand.core.balls import Linf
from withstand.core.box import Box
from withstand.core.property import Argmax
from withstand.graph.capture import from_module
from withstand.verification.execution import SPREAD, Execution, spread
from withstand.verification.vnncomp import REAL, decide

BIG = 2.0**25
"""Next to it, numbers of float32 are 4 apart."""


class Staircase(nn.Module):
    """In float32, (x + 2^25) - 2^25 is a multiple of 4; in real arithmetic it is x. `level` less the difference, and 0:
    class 0, by a margin of `level` in real arithmetic."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, x):
        x = x[:, :1]
        y = torch.relu(x + BIG) - BIG - x
        return torch.cat([self.level - y, 0 * x], 1)


DATA = (torch.zeros(1, 2), torch.zeros(1, dtype=torch.long))
THREAT = "linf:10[-10,10]"


def question(tmp_path, level: float, **options):
    """Whether (x + 2^25) - 2^25 - x reaches a level on [-10, 10]."""
    import onnx
    from onnx import TensorProto, helper

    big = helper.make_tensor("big", TensorProto.FLOAT, [1], [BIG])
    nodes = [("Add", ["x", "big"], "a"), ("Relu", ["a"], "b"), ("Sub", ["b", "big"], "c"), ("Sub", ["c", "x"], "y")]
    made = helper.make_graph(
        [helper.make_node(op, inputs, [output]) for op, inputs, output in nodes],
        "staircase",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [big],
    )
    proto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(proto, tmp_path / "net.onnx")
    text = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 -10.0))(assert (<= X_0 10.0))"
    (tmp_path / "spec.vnnlib").write_text(f"{text}(assert (>= Y_0 {level}))")
    return decide(tmp_path / "net.onnx", tmp_path / "spec.vnnlib", 20.0, **options)


@pytest.mark.parametrize("certified", [False, True])
def test_no_unsat_where_onnxruntime_violates(tmp_path, certified):
    answer = question(tmp_path, 0.5, certificate=tmp_path / "proof" if certified else None)
    assert answer.result == "sat"
    assert answer.witness is not None
    x, y = (float(part) for part in answer.witness)
    assert abs(x) <= 10
    assert y >= 0.5
    assert not list(tmp_path.glob("proof*.safetensors"))


def test_unsat_beside_a_doubt_says_so(tmp_path):
    """2 is the most that rounding does, but the bound of it is a little more than 2."""
    answer = question(tmp_path, 2.000001)
    assert (answer.result, answer.reason) == ("unsat", REAL)
    answer = question(tmp_path, 5.0)
    assert (answer.result, answer.reason) == ("unsat", "")


@pytest.mark.parametrize("method", ["auto", "branch-and-bound", "milp", "input-split"])
def test_rounding_is_no_fault_of_the_tool(method):
    double = withstand.verify(Staircase(0.5), DATA, THREAT, method=method, double=True)
    assert double.counts["proved"] + double.counts["refuted"] + double.counts["unknown"] == 1
    if double.counts["proved"]:
        assert double.executed == 0
    single = withstand.verify(Staircase(0.5), DATA, THREAT, method=method)
    assert not single.counts["proved"] or single.executed == 0


def test_an_audit_refutes_what_only_real_arithmetic_holds(tmp_path):
    result = withstand.audit(Staircase(0.5), DATA, threat=THREAT, out=tmp_path / "run")
    assert result.counts.refuted == 1
    assert result.executed is None


def test_radii_meet_below_what_rounding_breaks():
    found = withstand.radius(Staircase(0.5), DATA, THREAT, budget=4)
    (one,) = found.samples
    assert one.proved == 0 or one.refuted is None or one.proved < one.refuted


def test_proofs_that_hold_as_run_are_counted_and_checked_again(tmp_path):
    result = withstand.audit("digits-cnn", "digits", threat="linf:0.02", limit=12, out=tmp_path / "run")
    assert result.executed == result.counts.proved > 0
    assert withstand.check(tmp_path / "run").ok


def test_a_record_that_claims_too_much_is_found(tmp_path):
    import json

    withstand.audit("digits-cnn", "digits", threat="linf:0.02", limit=4, out=tmp_path / "run")
    path = tmp_path / "run" / "samples.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    proved = next(record for record in records if record["executed"])
    proved["bound"] = 1e-9
    path.write_text("\n".join(map(json.dumps, records)) + "\n")
    failures = withstand.check(tmp_path / "run").failures
    assert any("said to hold for the network as it is run" in failure for failure in failures)


def test_radii_of_margins_hold_against_sampling():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 20), nn.Tanh(), nn.Linear(20, 4)).eval()
    graph, wider = (from_module(module, (6,)).graph for _ in range(2))
    assert graph is not None
    assert wider is not None
    x0, y, threat = torch.rand(5, 6), torch.tensor([0, 1, 2, 3, 0]), Linf(0.2)
    own, wide = Execution(graph, Argmax()), wider.double()
    rough = own.radii(x0, y, threat, torch.full((5,), torch.inf, dtype=torch.float64))
    tight = own.radii(x0, y, threat, torch.zeros(5, dtype=torch.float64))
    assert bool((tight <= rough).all())
    assert bool((tight < rough).any())
    for _ in range(50):
        x = threat.project(x0, x0 + 0.4 * torch.rand_like(x0) - 0.2)
        apart = (Argmax().margin(graph(x), y).double() - Argmax().margin(wide(x.double()), y)).abs()
        assert bool((apart <= tight).all())


def test_points_are_spread_over_a_box():
    box = Box(lower=torch.tensor([0.0, 0.1], dtype=torch.float64), upper=torch.tensor([1.0, 0.1], dtype=torch.float64))
    x = spread(box, torch.zeros(2), 50)
    assert len(x) == 0, "0.1 is no number of float32"
    x = spread(Box(lower=torch.zeros(3), upper=torch.ones(3)), torch.zeros(3), 50)
    assert len(x) == 58
    assert {tuple(point) for point in x.tolist()} >= {(0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (1.0, 0.0, 1.0)}
    assert (
        len(spread(Box(lower=torch.zeros(SPREAD + 1), upper=torch.ones(SPREAD + 1)), torch.zeros(SPREAD + 1), 5)) == 0
    )
