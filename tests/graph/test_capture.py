"""Torch modules and exported programs as graphs."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from withstand.core.errors import InputError
from withstand.graph.aten_ops import table
from withstand.graph.capture import CaptureError, capture, from_module
from withstand.graph.onnx_writer import write_onnx
from withstand.graph.pt2 import read_pt2
from withstand.graph.replay import OnnxSession


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(2))
        self.norm, self.again = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.first(x)), inplace=True)
        y = self.again(self.second(y))
        y += x
        return F.relu(y)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        return self.head(self.block(x)[:, 0])


class Moves(nn.Module):
    """Chunk, stack, flip, roll, indexing, padding, einsum, scalar arithmetic."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        y = torch.stack([first.flip(2), second.roll(1, 2)], 1).flatten(1, 2)
        y = F.pad(y, (1, 1), mode="reflect")[:, [0, 1, 0], 1:-1:2]
        y = torch.einsum("bij,bkj->bik", y, y) * 2 - 1 / (1 + y.abs().sum(-1, keepdim=True))
        return (1 + y.clamp(-3, 3) ** 2).amax(-1).unsqueeze(-1).repeat(1, 1, 2).view(x.size(0), -1).rsqrt()


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return -x


class Noise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


class Mixing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0, keepdim=True)


class Scalar(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.line(x).squeeze()


CNN = nn.Sequential(
    nn.Conv2d(3, 4, 3, padding="same"),
    nn.BatchNorm2d(4),
    nn.SiLU(inplace=True),
    nn.MaxPool2d(2, ceil_mode=True),
    nn.AvgPool2d(2, padding=1),
    nn.AdaptiveAvgPool2d(2),
    nn.Flatten(),
    nn.Dropout(0.5),
    nn.Linear(16, 5),
    nn.LogSoftmax(-1),
)
MLP = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 8), nn.Softplus(2.0), nn.Linear(8, 2))
DECODER = nn.Sequential(
    nn.Upsample(scale_factor=2, mode="bilinear"),
    nn.AdaptiveAvgPool2d(3),
    nn.GroupNorm(1, 4),
    nn.PReLU(4),
    nn.ConvTranspose2d(4, 4, 3, 2, 1, 1),
    nn.PixelShuffle(2),
    nn.Hardswish(),
    nn.InstanceNorm2d(1),
)
WHOLE = [
    (nn.Sequential(nn.Conv2d(3, 4, 3), Residual(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), (3, 6, 6)),
    (CNN, (3, 7, 7)),
    (MLP, (6,)),
    (Attention(), (5, 8)),
    (Moves(), (2, 6)),
    (DECODER, (4, 3, 3)),
]


def warmed(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """With batch statistics that are not those of the initialisation."""
    module.train()
    with torch.no_grad():
        module(torch.randn(8, *shape))
    return module


@pytest.mark.parametrize(("module", "shape"), WHOLE)
def test_modules_become_graphs_that_run_everywhere(module, shape):
    warmed(module, shape)
    graph = capture(module, shape)
    assert module.training
    module.eval()
    session = OnnxSession(write_onnx(graph))
    for batch in (1, 5):
        x = torch.rand(batch, *shape)
        with torch.no_grad():
            theirs, ours = module(x), graph(x)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(torch.from_numpy(session(x.numpy())), theirs, rtol=1e-4, atol=1e-4)


def test_batch_norms_are_in_the_weights_of_the_convolutions():
    graph = capture(WHOLE[0][0], (3, 6, 6))
    assert [n.op for n in graph.nodes] == ["conv", "conv", "relu", "conv", "add", "relu", "mean", "reshape"]


def test_a_squeezed_scalar_output_is_one_output():
    model = from_module(Scalar(), (4,))
    assert model.output_shape == (1,)
    assert model(torch.rand(3, 4)).shape == (3, 1)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Branch(), r"decision that depends on the values of the input at test_capture\.py.*if x\.sum\(\) > 0"),
        (Noise(), "random numbers.*--eot"),
        (Mixing(), "mixes the samples"),
    ],
)
def test_what_cannot_be_captured_is_said_in_one_sentence(module, said):
    with pytest.raises(CaptureError, match=said):
        capture(module, (4,))
    model = from_module(module, (4,), "net")
    assert model.graph is None
    assert model.why_no_graph is not None
    assert "\n" not in model.why_no_graph
    assert model(torch.ones(2, 4)).shape == (2, 4)
    with pytest.raises(InputError, match="cannot be written as ONNX"):
        model.onnx_bytes()


def test_a_wrong_rule_is_noticed_where_only_negative_inputs_tell(monkeypatch):
    monkeypatch.setitem(table(), "relu", table()["abs"])
    with pytest.raises(CaptureError, match="differ by"):
        capture(nn.ReLU(), (4,))


def test_values_the_module_does_not_have_either_are_no_difference():
    class Logarithm(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.log()

    assert [node.op for node in capture(Logarithm(), (4,)).nodes] == ["log"]


def test_an_operation_without_a_rule_names_its_place_and_the_remedy():
    class Sorting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sort(x).values

    with pytest.raises(CaptureError, match=r"aten\.sort.*'0'.*@captures\('sort'\).*graph/aten_ops"):
        capture(nn.Sequential(Sorting()), (4,))


def test_a_module_of_several_outputs_is_refused():
    with pytest.raises(InputError, match="wrap it"):
        from_module(nn.LSTM(4, 4, batch_first=True), (3, 4))


def saved(tmp_path, module, shape, **options):
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(module.eval(), (torch.rand(2, *shape),), **options), path)
    return path


@pytest.mark.parametrize("options", [{}, {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}])
def test_exported_programs_of_fixed_and_open_batch(tmp_path, options):
    model = read_pt2(saved(tmp_path, CNN, (3, 7, 7), **options))
    x = torch.rand(5, 3, 7, 7)
    with torch.no_grad():
        torch.testing.assert_close(model(x), CNN(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}])
def test_exported_programs_that_mix_samples_are_refused(tmp_path, options):
    with pytest.raises(CaptureError, match="mixes the samples"):
        read_pt2(saved(tmp_path, Mixing(), (4,), **options))


def test_a_softplus_with_a_jump_is_refused():
    with pytest.raises(CaptureError, match="cut off at 5"):
        capture(nn.Softplus(threshold=5), (4,))


def test_exported_programs_are_never_unpickled(tmp_path):
    import zipfile

    path = saved(tmp_path, MLP, (6,))
    other = tmp_path / "bad.pt2"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            data = old.read(name).replace(b'"use_pickle": false', b'"use_pickle": true')
            new.writestr(name, data)
    with pytest.raises(InputError, match="as a pickle and cannot be loaded safely"):
        read_pt2(other)
    other.write_bytes(b"no archive")
    with pytest.raises(InputError, match="not a program"):
        read_pt2(other)
