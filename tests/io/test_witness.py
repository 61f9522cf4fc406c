"""Witness files and their replay in onnxruntime, without torch."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from withstand.core.errors import InputError
from withstand.io import margins
from withstand.io.properties import load_property
from withstand.io.witness import Witness, load_witness, replay
from withstand.io.written import Written

X0 = np.array([0.5, 0.5], dtype=np.float32)


def witness(**changes: object) -> Witness:
    """At x0 the classes of the `net` fixture are 0.1 apart; at x the other one wins."""
    held = Witness(
        x0=X0,
        x=np.array([0.4, 0.6], dtype=np.float32),
        y=np.array(0),
        id=7,
        property="argmax",
        norm="linf",
        radius=0.1,
        domain=(0.0, 1.0),
        levels=0,
        adversarial=1.0,
        margin=-0.1,
        method="pgd",
        model="digest",
    )
    return replace(held, **changes)  # type: ignore[arg-type]


@pytest.fixture
def net(tmp_path: Path) -> str:
    """outputs = x + (0.1, 0), as ONNX."""
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 2]) for name in ("x", "z")]
    bias = onnx.numpy_helper.from_array(np.array([0.1, 0.0], dtype=np.float32), "b")
    node = onnx.helper.make_node("Add", ["x", "b"], ["z"])
    graph = onnx.helper.make_graph([node], "net", ends[:1], ends[1:], [bias])
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8),
        str(tmp_path / "net.onnx"),
    )
    return str(tmp_path / "net.onnx")


def test_a_witness_reads_back_equal(tmp_path: Path) -> None:
    held = witness(domain=(-1.0, 2.0), levels=255)
    held.save(tmp_path / "deep" / "w.npz")
    back = load_witness(tmp_path / "deep" / "w.npz")
    for name in held.__dataclass_fields__:
        assert np.array_equal(getattr(back, name), getattr(held, name)), name
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["w.npz"]


def test_pixels_and_patches_are_judged_without_torch() -> None:
    x0 = np.zeros((3, 6, 5), np.float32)
    x = x0.copy()
    x[0, 1, 2] = x[2, 1, 2] = x[1, 3, 3] = 1e-6
    held = witness(x0=x0, x=x, norm="l0", radius=2.0)
    assert (held.distance, held.inside, replace(held, radius=1.0).inside) == (2, True, False)
    assert replace(held, x0=x0.transpose(1, 2, 0), x=x.transpose(1, 2, 0)).distance == 2
    assert replace(held, x0=x0.ravel(), x=x.ravel()).distance == 3
    patch = replace(held, norm="patch", radius=1.0, limits=(3.0, 2.0))
    assert (patch.distance, patch.inside, replace(patch, limits=(2.0, 3.0)).inside) == (1, True, False)
    assert replace(patch, x0=x0.transpose(1, 2, 0), x=x.transpose(1, 2, 0)).inside
    assert replace(patch, x=x0).distance == 0


def test_replay_confirms_and_tells(net: str, tmp_path: Path) -> None:
    witness().save(tmp_path / "w.npz")
    told = replay(tmp_path / "w.npz", net)
    assert told.reproduced
    assert (told.label, told.clean, told.adversarial) == (0.0, 0.0, 1.0)
    assert told.margin == pytest.approx(-0.1, abs=1e-6)
    assert told.distance == pytest.approx(0.1, abs=1e-7)
    assert "label 0, the model says 1" in told.sentence


@pytest.mark.parametrize(
    ("changes", "reproduced", "word"),
    [
        ({"x": X0}, False, "Not reproduced"),
        ({"radius": 0.09}, False, "outside its threat"),
        ({"domain": (0.45, 1.0)}, False, "outside its threat"),
        ({"radius": 0.1 - 1e-5}, False, "outside its threat"),
        ({"radius": 0.1 - 1e-5, "domain": (0.0, 255.0)}, True, "Reproduced"),
        ({"levels": 255, "x": np.array([0.402, 0.598], dtype=np.float32)}, False, "outside its threat"),
        ({"levels": 255, "x": np.array([102, 153], dtype=np.float32) / np.float32(255)}, True, "Reproduced"),
        ({"norm": "l1"}, False, "outside its threat"),
        ({"norm": "l1", "radius": 0.2}, True, "Reproduced"),
        ({"norm": "l2", "radius": 0.1415}, True, "Reproduced"),
        ({"norm": "l2", "radius": 0.1413}, False, "outside its threat"),
        ({"property": "not-class:1"}, True, "Reproduced"),
        ({"property": "not-class:0"}, False, "Not reproduced"),
        ({"property": "band:0.05", "y": np.array([0.6, 0.5])}, True, "Reproduced"),
        ({"property": "band:0.2", "y": np.array([0.6, 0.5])}, False, "Not reproduced"),
    ],
)
def test_membership_and_margin_are_judged_again(
    net: str, tmp_path: Path, changes: dict, reproduced: bool, word: str
) -> None:
    witness(**changes).save(tmp_path / "w.npz")
    told = replay(tmp_path / "w.npz", net)
    assert told.reproduced is reproduced
    assert word in told.sentence


@pytest.mark.parametrize("domain", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-300.0, 2.0), (-np.inf, np.inf)])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_membership_is_that_of_the_threats(norm: str, domain: tuple[float, float]) -> None:
    import torch

    from withstand.core.threat_text import NORMS

    threat = NORMS[norm](0.1, domain, fine=True)
    verdicts = set()
    for excess in (0.5, 0.999, 1.001, 2.0):
        x = np.array([threat.radius + excess * (threat.reach - threat.radius), 0.0])
        held = witness(x0=np.zeros(2), x=x, norm=norm, radius=0.1, domain=domain)
        assert held.inside == bool(threat.contains(torch.zeros(1, 2), torch.tensor(x[None])))
        verdicts.add(held.inside)
    assert verdicts == {True, False}


def test_the_model_of_the_run_is_the_default(net: str, tmp_path: Path) -> None:
    witness().save(tmp_path / "run" / "witnesses" / "7.npz")
    with pytest.raises(InputError, match="lies in no run folder"):
        replay(tmp_path / "run" / "witnesses" / "7.npz")
    (tmp_path / "run" / "model.onnx").write_bytes(Path(net).read_bytes())
    assert replay(tmp_path / "run" / "witnesses" / "7.npz").reproduced


def test_replay_loads_no_torch(net: str, tmp_path: Path) -> None:
    witness().save(tmp_path / "w.npz")
    code = (
        "import sys, withstand\n"
        f"print(withstand.replay({str(tmp_path / 'w.npz')!r}, {net!r}).reproduced, 'torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.split() == ["True", "False"]


def test_a_module_is_exported_first(tmp_path: Path) -> None:
    import torch

    witness().save(tmp_path / "w.npz")
    linear = torch.nn.Linear(2, 2)
    linear.weight.data, linear.bias.data = torch.eye(2), torch.tensor([0.1, 0.0])
    assert replay(tmp_path / "w.npz", linear.eval()).reproduced


def test_files_that_are_no_witness(net: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no witness file"):
        replay(tmp_path / "none.npz", net)
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", a=1)
    np.savez(tmp_path / "objects.npz", form=np.array([object()], dtype=object))
    for name in ("text.npz", "other.npz", "objects.npz"):
        with pytest.raises(InputError, match="is not a witness file"):
            replay(tmp_path / name, net)
    witness().save(tmp_path / "w.npz")
    with pytest.raises(InputError, match="no model file"):
        replay(tmp_path / "w.npz", "missing.onnx")


def test_a_label_the_model_does_not_have(net: str, tmp_path: Path) -> None:
    witness(y=np.array(5)).save(tmp_path / "w.npz")
    with pytest.raises(InputError, match="label 5, the model 2 outputs"):
        replay(tmp_path / "w.npz", net)


@pytest.mark.parametrize("shape", [(1, 2, 3), (3, 4, 2)])
def test_a_witness_of_8_bits_is_a_picture_too(shape: tuple[int, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x0, x = (rng.integers(0, 256, shape).astype(np.float32) / np.float32(255) for _ in range(2))
    held = witness(x0=x0, x=x, levels=255, radius=1.0)
    held.save(tmp_path / "w.npz")
    back = load_witness(tmp_path / "w.png")
    assert np.array_equal(back.x, x)
    assert np.array_equal(back.x0, x0)
    (tmp_path / "alone").mkdir()
    (tmp_path / "w.png").rename(tmp_path / "alone" / "w.png")
    with pytest.raises(InputError, match=r"put the witness w\.npz of its run beside it"):
        load_witness(tmp_path / "alone" / "w.png")


def test_other_inputs_are_no_pictures(tmp_path: Path) -> None:
    x = np.zeros((2, 4, 4), np.float32)
    witness(x0=x, x=x, levels=255).save(tmp_path / "channels.npz")
    witness(x0=x[:1], x=x[:1]).save(tmp_path / "floats.npz")
    witness(x0=x[:1], x=x[:1], levels=255).save(tmp_path / "w.npz")
    assert [file.name for file in tmp_path.glob("*.png")] == ["w.png"]
    (tmp_path / "w.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot be read as an image"):
        load_witness(tmp_path / "w.png")
    witness(x0=x[:1, 1:], x=x[:1, 1:], levels=255).save(tmp_path / "small.npz")
    (tmp_path / "small.png").replace(tmp_path / "w.png")
    with pytest.raises(InputError, match="does not hold the 8-bit pixels of 1 x 4 x 4"):
        load_witness(tmp_path / "w.png")


OUTPUTS = torch.randn(30, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("text", ["argmax", "not-class:2", "top-k:1", "top-k:3", "multi-label", "band:0.4"])
def test_margins_in_numpy_are_those_of_the_properties(text: str) -> None:
    property = load_property(text)
    y = {"labels": (OUTPUTS > 0.2).long(), "class": torch.arange(30) % 5, "values": OUTPUTS + 0.1}[property.reads]
    for row in range(30):
        outputs, target = OUTPUTS[row].numpy(), y[row].numpy()
        assert margins.margin(Written(text, "w.npz"), outputs, target) == pytest.approx(
            float(property.margin(OUTPUTS, y)[row])
        )
        assert margins.answer(text, outputs) == float(property.answer(OUTPUTS)[row])
        assert margins.label(text, target) == float(property.label(y)[row])


def test_a_model_without_a_deployed_form_replays_in_torch(tmp_path: Path) -> None:
    def noisy(x: torch.Tensor) -> torch.Tensor:
        return x + torch.tensor([0.1, 0.0]) + 0.01 * torch.randn(len(x), 2)

    witness().save(tmp_path / "w.npz")
    told = replay(tmp_path / "w.npz", noisy)
    assert told.reproduced
    assert told.model == "noisy (in torch)"
