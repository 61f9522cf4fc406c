"""The threat's domain decides the scale of 8-bit inputs, and a domain that is proposed is accepted."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from measured import measured
from PIL import Image
from torch import nn

import withstand
from withstand.auditing.check import check
from withstand.auditing.question import pose
from withstand.core.errors import InputError
from withstand.core.threat_text import parse_threat
from withstand.io.data import load_data
from withstand.io.domains import into_domain
from withstand.io.witness import load_witness, replay

PIXELS = np.array([[0, 51, 128, 255], [7, 200, 3, 90]], np.uint8)


def files(tmp_path) -> list[str]:
    """The same pixels as an npz, as a folder of images and as a table."""
    np.savez(tmp_path / "d.npz", x=PIXELS, y=[0, 1])
    for label, row in enumerate(PIXELS):
        (tmp_path / "folder" / str(label)).mkdir(parents=True)
        Image.fromarray(row.reshape(2, 2)).save(tmp_path / "folder" / str(label) / "a.png")
    lines = [",".join(map(str, [*row, label])) for label, row in enumerate(PIXELS.tolist())]
    (tmp_path / "d.csv").write_text("\n".join(["a,b,c,d,label", *lines]))
    return [str(tmp_path / name) for name in ("d.npz", "folder", "d.csv")]


class Pixels(nn.Module):
    def forward(self, x):
        return x.flatten(1)


def posed(data, threat):
    with pose(Pixels(), data, threat, "out[0] > -1000") as question:
        return question


def test_grey_levels_of_0_to_255_stay_as_they_are(tmp_path):
    arrays = [torch.from_numpy(PIXELS), *(PIXELS.astype(kind) for kind in (np.uint8, np.float64, np.int16))]
    for data in [*files(tmp_path), *arrays]:
        assert torch.equal(posed(data, "linf:8[0,255]").x.flatten(1), torch.from_numpy(PIXELS).float())


@pytest.mark.parametrize(
    ("domain", "want"),
    [
        ("", PIXELS / 255),
        ("[0,1]", PIXELS / 255),
        ("[-inf,inf]", PIXELS / 255),
        ("[-1,1]", PIXELS / 127.5 - 1),
        ("[-0.5,0.5]", PIXELS / 255 - 0.5),
        ("[-128,127]", PIXELS - 128.0),
        ("[0,1000]", PIXELS.astype(float)),
    ],
)
def test_the_domain_decides_the_scale(domain, want):
    question = posed(PIXELS, f"linf:0.01{domain}")
    assert torch.equal(
        question.x, torch.from_numpy(np.asarray(want, np.float64)).float().clamp(*question.threat.domain)
    )
    assert sum("uint8" in note for note in question.data.notes) == 1


def test_a_domain_that_says_no_scale_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not say on what scale"):
        posed(PIXELS, "linf:0.01[0,2]")
    with pytest.raises(InputError, match="does not say on what scale"):
        parse_threat("linf:0.01[0,2]@u8")
    assert posed(PIXELS.astype(np.int64) % 3, "linf:0.01[0,2]").x.max() == 2


def test_zeros_and_ones_are_no_grey_levels():
    bits = (PIXELS > 100).astype(np.uint8)
    for data in (bits, bits.astype(bool), bits.astype(np.int16)):
        assert posed(data, "linf:0.01").x.max() == 1
    assert posed(np.zeros_like(PIXELS), "linf:0.01").x.max() == 0


@pytest.mark.parametrize(("domain", "step"), [("[0,255]", 1.0), ("[-1,1]", 2 / 255), ("", 1 / 255)])
def test_witnesses_of_8_bits_lie_on_the_grid_of_their_domain(tmp_path, domain, step):
    torch.manual_seed(0)
    low, high = parse_threat(f"linf:1{domain}").domain
    last = nn.Linear(16, 3)
    net = nn.Sequential(nn.Flatten(), last)
    x = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 4)).astype(np.uint8)
    scaled = torch.from_numpy(low + x.astype(np.float64) * step).float()
    last.weight.data /= high - low
    y = net(scaled).argmax(1)
    run = tmp_path / "run"
    threat = f"linf:{60 * step!r}{domain}@u8"
    told = withstand.attack(net, (x, y), threat, ["pgd:steps=10", "square:queries=50"], out=run)
    assert told.clean_accuracy == 1.0
    assert measured(told.attacked_accuracy) < 1.0
    for file in (run / "witnesses").glob("*.npz"):
        held = load_witness(file)
        steps = (held.x.astype(np.float64) - low) / step
        assert np.abs(steps - steps.round()).max() < 1e-4
        assert replay(file, net).reproduced
        pixels = np.asarray(Image.open(file.with_suffix(".png")))
        assert np.array_equal(pixels, steps.round()[0])
        assert replay(file.with_suffix(".png"), net).reproduced
    assert check(run, net, (x, y)).failures == []


def test_values_of_8_bits_beside_a_domain_of_0_to_1_are_named():
    with pytest.raises(InputError, match=r"grey levels of 8 bits, divide them by 255 .*\[0,255\]"):
        posed(PIXELS.astype(np.float32), "linf:0.01")


def hint_of(sentence: str) -> str:
    found = re.search(r"as in (\S+), or bring", sentence)
    assert found, sentence
    return found[1]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=4),
    st.sampled_from(["linf:0.1", "l2:8/255", "linf:0.1[-0.8571429,0.3]", "l1:2[-inf,0]", "patch:1x1[0,1e-3]"]),
)
def test_the_domain_that_is_proposed_is_accepted(values, threat):
    data = load_data((torch.tensor(values)[:, None], torch.zeros(len(values))))
    asked = parse_threat(threat)
    try:
        into_domain(data, asked)
    except InputError as error:
        again = parse_threat(hint_of(str(error)))
        assert torch.equal(into_domain(data, again).x, data.x)
        assert (again.norm, again.radius) == (asked.norm, asked.radius)


@pytest.mark.parametrize("x", [[-0.8571429, 2.0], [3.0, 3.0], [-0.0, 1.1754944e-38], [1.0000001, 123456.7]])
def test_hints_are_rounded_outwards(x):
    try:
        posed(torch.tensor([x, x]), "linf:0.1")
    except InputError as error:
        posed(torch.tensor([x, x]), hint_of(str(error)))


def test_rounding_errors_at_an_edge_are_no_inputs_outside():
    x = torch.tensor([[1.0000001, -1e-8, 0.5, 0.2]])
    question = posed(x, "linf:0.1")
    assert question.x.tolist() == [[1.0, 0.0, 0.5, pytest.approx(0.2)]]
    assert any("rounding error" in note for note in question.data.notes)
    data = torch.tensor([[-0.8571429, 0.0, 0.1, 0.2]])
    assert float(posed(data, "linf:0.1[-0.857142857142857,1]").x.min()) == pytest.approx(-0.8571428, abs=1e-6)
    with pytest.raises(InputError, match="outside the threat's domain"):
        posed(torch.tensor([[1.001, 0.0, 0.1, 0.2]]), "linf:0.1")


def test_the_proposed_form_of_8_bits_is_accepted():
    x = np.arange(32, dtype=np.uint8).reshape(2, 16)
    checks = withstand.doctor(Pixels(), x, "linf:0.0313725490196[-0.8571429,0.8571429]", "out[0] > -1000")
    found = re.search(r"as in (\S+)\.$", next(c.sentence for c in checks if c.name == "8-bit input"))
    assert found is not None
    again = withstand.doctor(Pixels(), x, found[1], "out[0] > -1000")
    assert "8-bit input" not in [c.name for c in again]
