"""Questions written as VNN-LIB are read back as the same boxes and rows, and answered as the original ones are."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import Lab

import withstand
from withstand.auditing.export import edges, export
from withstand.core.balls import Linf
from withstand.core.box import Box
from withstand.core.errors import InputError
from withstand.core.property import Linear
from withstand.graph.onnx_reader import read_onnx
from withstand.io.instances import read_instances
from withstand.io.vnnlib import Region, read_vnnlib, write_vnnlib
from withstand.verification.vnncomp import decide

floats = st.floats(-1e3, 1e3, allow_subnormal=False)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_regions_are_read_back_to_the_last_bit(tmp_path_factory, data: st.DataObject) -> None:
    inputs, outputs = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    low = torch.tensor(data.draw(st.lists(floats, min_size=inputs, max_size=inputs)), dtype=torch.float64)
    width = torch.tensor(data.draw(st.lists(st.floats(1e-3, 1e3), min_size=inputs, max_size=inputs)))
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    values = st.lists(floats.filter(bool), min_size=outputs, max_size=outputs)
    weight = torch.tensor([data.draw(values) for _ in range(sum(sizes))], dtype=torch.float64)
    offset = torch.tensor([data.draw(floats) for _ in range(sum(sizes))], dtype=torch.float64)
    group = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    strict = torch.tensor([data.draw(st.booleans()) for _ in range(sum(sizes))])
    region = Region(Box(lower=low, upper=low + width.double()), Linear(weight, offset, group), strict)
    path = tmp_path_factory.mktemp("export") / "one.vnnlib"
    path.write_text(write_vnnlib(region, "a comment\nof two lines"))
    (found,) = read_vnnlib(path, (inputs,), outputs)
    for mine, read in (
        (region.threat.lower, found.threat.lower),
        (region.threat.upper, found.threat.upper),
        (weight, found.property.weight),
        (offset, found.property.offset),
        (group, found.property.group),
        (strict, torch.zeros_like(strict) if found.strict is None else found.strict),
    ):
        assert mine is not None
        assert read is not None
        assert torch.equal(mine, read)


@pytest.mark.parametrize("property", ["argmax", "not-class:3", "top-k:2", "out[0] > out[other] | out[1] < 4"])
def test_a_folder_of_instances(lab: Lab, tmp_path: Path, property: str) -> None:
    done = export(lab.onnx, lab.npz, "linf:0.01", tmp_path, property=property, limit=12, timeout=20)
    instances = read_instances(done.path)
    proved = withstand.verify(lab.onnx, lab.npz, "linf:0.01", property=property, method="crown", limit=12)
    assert (done.questions, done.left_out) == (len(instances), proved.counts["invalid"])
    assert done.questions > 0
    right = [i for i, status in enumerate(proved.status) if status != "invalid"]
    network = read_onnx(tmp_path / "model.onnx")
    for number, one in list(zip(right, instances, strict=True))[:3]:
        assert (one.onnx, one.timeout) == ("model.onnx", 20)
        (region,) = read_vnnlib(one.question, network.input_shape, 10)
        assert region.threat.lower is not None
        x = lab.x[number].double()
        assert torch.equal(region.threat.lower, (x - 0.01).clamp(0, 1))
        answer = decide(one.network, one.question, 20, verifiers=("crown",))
        assert (answer.result == "unsat") == (proved.status[number] == "proved")
        assert answer.bound == pytest.approx(proved.bounds[number], abs=1e-4)


def test_edges_are_exact_and_stay_in_the_domain() -> None:
    x = torch.tensor([[0.05, 0.5, 1.0]])
    low, high = edges(Linf(0.1), x)
    wide = x.double()
    assert low[0].tolist() == [0.0, wide[0, 1].item() - 0.1, wide[0, 2].item() - 0.1]
    assert high[0].tolist() == [wide[0, 0].item() + 0.1, wide[0, 1].item() + 0.1, 1.0]
    box = Box(lower=torch.zeros(3), upper=torch.ones(3))
    assert [edge.tolist() for edge in edges(box, x)] == [[[0.0] * 3], [[1.0] * 3]]


@pytest.mark.parametrize(("threat", "sentence"), [("l2:0.5", "holds a box"), ("linf:8/255@u8", "8 bits")])
def test_other_threats_get_one_sentence(lab: Lab, tmp_path: Path, threat: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        export(lab.onnx, lab.npz, threat, tmp_path / "none", limit=2)
    assert not (tmp_path / "none").exists()
