"""Models of float64 are attacked, proved, judged, replayed and checked in float64, whatever form they come in."""

import numpy as np
import pytest
import torch
from torch import nn

import withstand
from withstand.core.errors import InputError
from withstand.graph.onnx_writer import write_onnx
from withstand.graph.replay import OnnxSession
from withstand.io.data import load_data
from withstand.io.models import load_model
from withstand.io.witness import load_witness, replay

AROUND = "linf:0.05[0,100]"


def steep(margin):
    """1e7 (x - 48.85837) against a threshold that x = 48.9 passes by `margin`, which float32 cannot tell."""
    net = nn.Linear(1, 2, dtype=torch.float64)
    with torch.no_grad():
        net.weight[:] = torch.tensor([[1e7], [0.0]])
        net.bias[:] = torch.tensor([-48.85837e7, 416300.0 - margin], dtype=torch.float64)
    return net


DATA = (np.array([[48.85]]), np.array([1]))


@pytest.fixture(params=["module", "onnx", "pt2"])
def form(request, tmp_path):
    """A module in each of the forms that a model may have."""

    def make(module):
        if request.param == "module":
            return module
        path = tmp_path / f"net.{request.param}"
        if request.param == "onnx":
            graph = load_model(module, (1,)).graph
            assert graph is not None
            path.write_bytes(write_onnx(graph))
        else:
            example = torch.zeros(2, 1, dtype=torch.float64)
            shapes = ({0: torch.export.Dim("batch")},)
            torch.export.save(torch.export.export(module, (example,), dynamic_shapes=shapes), str(path))
        return str(path)

    return make


def test_a_margin_that_float32_loses_is_settled_rightly(form):
    assert withstand.verify(form(steep(-1.0)), DATA, AROUND).status == ["proved"]
    assert withstand.verify(form(steep(1.0)), DATA, AROUND).status == ["unknown"]
    found = withstand.attack(form(steep(1.0)), DATA, AROUND)
    assert found.attacks["pgd"].attacked_accuracy == 0.0


def test_the_graph_is_of_float64(form):
    model = load_model(form(steep(1.0)), (1,))
    assert model.graph is not None
    assert (model.dtype, model.graph.dtype, model.notes) == (torch.float64, torch.float64, ())
    x = torch.tensor([[48.9]], dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(model(x), steep(1.0)(x))
    assert OnnxSession(model.onnx_bytes())(x.numpy()) == pytest.approx(steep(1.0)(x).detach().numpy(), abs=1e-6)


def test_witnesses_and_certificates_are_kept_in_float64(tmp_path):
    run = withstand.attack(steep(1.0), DATA, AROUND, out=tmp_path / "run")
    (file,) = (tmp_path / "run" / "witnesses").glob("*.npz")
    held = load_witness(file)
    assert held.x.dtype == held.x0.dtype == np.float64
    assert replay(file).reproduced
    assert run.attacks["pgd"].attacked_accuracy == 0.0
    done = withstand.verify(steep(-1.0), DATA, AROUND, certificates=tmp_path / "kept")
    assert done.grade == "leaf-checked certificate"


def test_membership_forgives_only_the_rounding_of_float64():
    """In float32 a radius of 1e-9 is forgiven a hundred times itself, and nothing so small can be proved."""
    net = nn.Linear(1, 2, dtype=torch.float64)
    with torch.no_grad():
        net.weight[:] = torch.tensor([[1.0], [0.0]])
        net.bias[:] = torch.tensor([0.0, 0.5 + 2e-9], dtype=torch.float64)
    near = (np.array([[0.5]]), np.array([1]))
    assert withstand.verify(net, near, "linf:1e-9").status == ["proved"]
    assert withstand.attack(net, near, "linf:3e-9").attacks["pgd"].attacked_accuracy == 0.0


class Conv(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3, bias=False)).double()

    def forward(self, x):
        return self.net(x)


def test_what_onnxruntime_has_in_float32_only_is_replayed_by_the_reference(tmp_path):
    x = np.random.default_rng(0).random((6, 1, 4, 4))
    y = Conv()(torch.tensor(x)).argmax(1).numpy()
    withstand.attack(Conv(), (x, y), "linf:0.9", out=tmp_path / "run")
    files = list((tmp_path / "run" / "witnesses").glob("*.npz"))
    assert files
    assert all(replay(file).reproduced for file in files)
    assert "onnx's reference implementation" in str([c.sentence for c in withstand.doctor(Conv(), (x, y), "linf:0.3")])
    told = load_model(str(tmp_path / "run" / "model.onnx")).notes
    assert "reference implementation stands in" in told[0]


def test_data_keeps_what_the_model_can_take():
    x = np.array([[0.1, 1e-60], [0.2, 0.3]])
    wide, narrow = (load_data((x, np.zeros(2, int)), dtype) for dtype in (None, torch.float32))
    assert (wide.x.dtype, narrow.x.dtype) == (torch.float64, torch.float32)
    assert torch.equal(wide.x, torch.tensor(x))
    assert wide.notes == ()
    assert "1 numbers of the inputs are too small for the model's torch.float32" in narrow.notes[0]
    with pytest.raises(InputError, match="an infinity"):
        load_data((x * 1e60, np.zeros(2, int)))
    assert load_data((x * 1e60, np.zeros(2, int)), None).x.dtype == torch.float64


class Mixed(nn.Module):
    """float64 in the middle of float32."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 2).double()

    def forward(self, x):
        return self.second(self.first(x).double()).float()


def test_a_module_of_two_types_has_no_graph_and_nothing_is_proved():
    model = load_model(Mixed(), (2,))
    assert model.why_no_graph is not None
    assert "mixes float64 with a smaller type" in model.why_no_graph
    with pytest.raises(InputError, match="mixes float64"):
        withstand.verify(Mixed(), (np.zeros((1, 2)), np.zeros(1, int)), "linf:0.1")


def test_a_surrogate_of_another_type_is_refused():
    with pytest.raises(InputError, match=r"computes in torch.float32, the model in torch.float64"):
        withstand.attack(steep(1.0), DATA, AROUND, surrogate=nn.Linear(1, 2))


def test_training_in_float64_is_refused():
    x = np.random.default_rng(0).random((40, 4))
    with pytest.raises(InputError, match="computes in float64"):
        withstand.harden(nn.Linear(4, 2).double(), (x, (x[:, 0] > 0.5).astype(int)), "linf:0.1", epochs=1)
