"""What is judged is the module that was given: half precision, int8, inputs it refuses, batches it never sees."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.ao.nn.quantized import dynamic

import withstand
from withstand.auditing.export import export
from withstand.core.errors import InputError
from withstand.graph.capture import from_module
from withstand.graph.model import Model
from withstand.graph.pt2 import read_pt2
from withstand.io.models import load_model

FAST = "pgd:steps=10"


class Step(nn.Module):
    """Outputs (x, 1): of x between 1.0 and 1.0039 bfloat16 makes 1."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, torch.ones_like(x)], 1)


class Inside(Step):
    """That, in bfloat16 inside."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.bfloat16()).float()


class Autocast(nn.Module):
    """That, in an autocast region."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 2)
        self.line.weight.data = torch.tensor([[1.0], [0.0]])
        self.line.bias.data = torch.tensor([0.0, 1.0])

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.line(x).float()


def halved() -> nn.Module:
    """That, of weights in bfloat16, which takes inputs of this type."""
    return nn.Sequential(Autocast().line).bfloat16()


def of_file(folder: Path) -> Path:
    """That as an exported program."""
    path = folder / "half.pt2"
    torch.export.save(torch.export.export(halved(), (torch.rand(1, 1).bfloat16(),)), path)
    return path


X = torch.tensor([[1.005]])
"""A sample that is right. The graph in float32 is right on all of the threat, the module in bfloat16 is not."""
DATA = (X, torch.tensor([0]))
THREAT = "linf:0.002[0,2]"


@pytest.fixture(params=[Inside, Autocast, halved, of_file])
def other(request, tmp_path: Path) -> Any:
    """A model whose graph is another function."""
    return of_file(tmp_path) if request.param is of_file else request.param().eval()


def test_what_the_graph_proves_is_no_proof_of_a_module_of_another_precision(other):
    model = load_model(other, (1,), X)
    assert model.graph is not None
    near = torch.tensor([[1.0035]])
    with torch.no_grad():
        assert model.graph(near)[0, 0] > model.graph(near)[0, 1]
        assert model(near).tolist() == [[1.0, 1.0]]
    found = withstand.verify(other, DATA, THREAT)
    assert found.counts == {"proved": 0, "refuted": 0, "unknown": 1, "invalid": 0}
    assert "computes in bfloat16" in found.reasons[0]
    assert withstand.verify(other, DATA, THREAT, double=True).counts["proved"] == 0
    assert withstand.radius(other, DATA, THREAT).counts["proved"] == 0


def test_attacks_refute_the_module_where_its_graph_holds(other, tmp_path: Path):
    found = withstand.audit(other, DATA, threat=THREAT, out=tmp_path / "run", certificates=True)
    assert found.counts.refuted == 1
    assert {alarm.name for alarm in found.alarms} >= {"the graph is another function"}
    assert not list((tmp_path / "run").glob("model.onnx"))
    assert withstand.attack(other, DATA, THREAT, [FAST]).attacked_accuracy == 0.0


def test_the_doctor_says_that_nothing_is_proved(other):
    (check,) = [one for one in withstand.doctor(other, DATA, THREAT) if one.name == "module and graph"]
    assert check.outcome == "warn"
    assert "bfloat16" in check.sentence


def test_what_would_speak_of_the_graph_alone_is_refused(other, tmp_path: Path):
    with pytest.raises(InputError, match="bfloat16"):
        withstand.verify(other, DATA, THREAT, certificates=tmp_path / "proofs")
    with pytest.raises(InputError, match="bfloat16"):
        export(other, DATA, THREAT, tmp_path / "questions")
    with pytest.raises(InputError, match="bfloat16"):
        withstand.closest(other, DATA, THREAT)
    with pytest.raises(InputError, match="bfloat16"):
        withstand.lipschitz_constants(other, data=DATA)


def test_models_of_another_precision_have_their_own_digest():
    digests = {load_model(module, (1,), X).digest() for module in (Step(), Inside(), Autocast(), halved())}
    assert len(digests) == 4


def test_weights_that_are_only_kept_in_half_precision_are_the_graph_s_own():
    class Kept(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([[1.0], [0.25]], dtype=torch.float16))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight.float().t()

    assert load_model(Kept(), (1,), X).differs is None
    assert withstand.verify(Kept(), DATA, THREAT).counts["proved"] == 1


class Sly(nn.Module):
    """Answers otherwise about 60 than its captured graph, which never sees it."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([x, 1 - x], 1)
        return y if torch.compiler.is_compiling() else torch.where(x == 60, -y, y)


def test_a_graph_that_differs_on_the_data_proves_nothing():
    x = torch.cat([torch.linspace(1, 5, 30), torch.tensor([60.0])])[:, None]
    data = x, torch.tensor([0] * 30 + [1])
    assert from_module(Sly(), (1,)).differs is None
    found = withstand.verify(Sly(), data, "linf:0.1[0,100]")
    assert found.clean_accuracy == 1.0
    assert found.counts["proved"] == 0
    assert "differ by" in found.reasons[0]
    assert "on the data" in found.reasons[0]


def test_a_module_that_changes_its_input_in_place_does_not_change_ours():
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2))
    x = torch.tensor([[-1.0, 0.5, -0.25]])
    model = load_model(net, (3,), x)
    before = x.clone()
    model(x)
    assert x.equal(before)


def test_exported_programs_of_fixed_batch_answer_for_any(tmp_path: Path):
    net = nn.Linear(3, 2).half()
    torch.export.save(torch.export.export(net, (torch.rand(2, 3).half(),)), tmp_path / "two.pt2")
    model = read_pt2(tmp_path / "two.pt2")
    x = torch.rand(5, 3)
    assert model(x).equal(net(x.half()).float().detach())


class Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(4, 3)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            nn.init.normal_(self.line.weight)


class Strict(Line):
    """Refuses empty batches, whole numbers, and what is outside a domain."""

    def __init__(self, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 0 or not x.is_floating_point() or x.shape[1:] != (4,):
            raise ValueError("no batch of four numbers each")
        if not (x.min() >= self.low and x.max() <= self.high):
            raise ValueError("outside the domain")
        return self.line((x - self.low) / (self.high - self.low))


class Strict2(Strict):
    """The same by numbers of Python, which no graph follows."""

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 0 or x.detach().min().item() < self.low or float(x.detach().max()) > self.high:
            raise ValueError("outside the domain")
        return self.line((x - self.low) / (self.high - self.low))


def int8() -> nn.Module:
    """A network of int8 layers, which torch says it will drop."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=UserWarning)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
        return torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, dtype=torch.qint8)


def question(module: nn.Module, low: float, high: float) -> tuple[tuple[Tensor, Tensor], str]:
    """Data that a module answers rightly, the last sample aside, and a threat."""
    x = low + (high - low) * torch.rand(8, 4, generator=torch.Generator().manual_seed(1))
    y = module(x).argmax(1)
    y[-1] = (y[-1] + 1) % 3
    return (x, y), f"linf:{0.05 * (high - low):g}[{low:g},{high:g}]"


VERBS: dict[str, Callable[..., Any]] = {
    "doctor": lambda m, d, t, out: withstand.doctor(m, d, t),
    "attack": lambda m, d, t, out: withstand.attack(m, d, t, [FAST, "square:queries=10"], radii=[1e-4], out=out),
    "nearest": lambda m, d, t, out: withstand.attack(m, d, t, ["nearest"], closest=True),
    "audit": lambda m, d, t, out: withstand.audit(m, d, threat=t, out=out, limit=4),
    "band": lambda m, d, t, out: withstand.audit(m, (d[0], m(d[0]).detach()), threat=t, property="band:0.1", out=out),
    "verify": lambda m, d, t, out: withstand.verify(m, d, t, method="crown"),
    "radius": lambda m, d, t, out: withstand.radius(m, d, t, method="crown", tolerance=0.2),
    "closest": lambda m, d, t, out: withstand.closest(m, d, t, limit=1),
    "masking": lambda m, d, t, out: withstand.masking(m, d, t, steps=8, queries=20),
    "smooth": lambda m, d, t, out: withstand.smooth(m, d, sigma=0.001, n=40, n0=10, out=out),
    "theory": lambda m, d, t, out: withstand.theory(m, d, sigmas=[0.1]),
    "risk": lambda m, d, t, out: withstand.risk(m, d, rho=0.01),
}
"""A verb on a model, data, a threat and a folder."""

NEEDS_GRAPH = {"verify", "radius", "closest", "theory"}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("kind", [Strict, Strict2])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0), (3.0, 255.0)])
def test_every_verb_works_on_models_that_refuse_what_is_outside_their_domain(verb, kind, low, high, tmp_path):
    if verb in ("smooth", "risk"):
        pytest.skip("its very inputs leave the domain")
    module = kind(low, high).eval()
    data, threat = question(module, low, high)
    if kind is Strict2 and verb in NEEDS_GRAPH:
        with pytest.raises(InputError, match="decision that depends on the values"):
            VERBS[verb](module, data, threat, tmp_path / "run")
        return
    VERBS[verb](module, data, threat, tmp_path / "run")


def test_what_a_module_refuses_is_a_note():
    module = Strict()
    data, threat = question(module, 0.0, 1.0)
    notes = [one.sentence for one in withstand.doctor(module, data, threat) if one.outcome == "note"]
    assert any("refuses inputs outside its domain (outside the domain" in note for note in notes)
    assert withstand.verify(module, data, threat).counts["proved"] > 0


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_asks_a_model_about_an_empty_batch(verb, tmp_path, monkeypatch):
    given = Model.given

    def watched(self: Model, x: Tensor) -> Tensor:
        assert len(x) > 0, "an empty batch"
        return given(self, x)

    monkeypatch.setattr(Model, "given", watched)
    net = Line().line.eval()
    for right in (True, False):
        data, threat = question(net, 0.0, 1.0)
        data = data if right else (data[0], (net(data[0]).argmax(1) + 1) % 3)
        VERBS[verb](net, data, threat, tmp_path / str(right))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_every_verb_takes_int8_modules(verb, tmp_path):
    net = int8()
    data, threat = question(net, 0.0, 1.0)
    if verb in {"attack", "nearest"}:
        with pytest.raises(InputError, match="no gradient"):
            VERBS[verb](net, data, threat, tmp_path / "run")
        assert withstand.attack(net, data, threat, ["square:queries=10"], access="scores").n == 8
    elif verb in NEEDS_GRAPH or verb == "risk":
        with pytest.raises(InputError, match=r"quantised to whole numbers|float64"):
            VERBS[verb](net, data, threat, tmp_path / "run")
    else:
        VERBS[verb](net, data, threat, tmp_path / "run")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_weights_of_int8_layers_are_read():
    first, second = load_model(int8(), (4,)), load_model(int8(), (4,))
    assert first.digest() == second.digest()
    assert isinstance(second.module, nn.Sequential)
    layer = second.module[0]
    assert isinstance(layer, dynamic.Linear)
    with torch.no_grad():
        weight, bias = layer._weight_bias()
        layer.set_weight_bias(weight, bias * torch.nan)
    assert first.digest() != second.digest()
    with pytest.raises(InputError, match="NaN"):
        second.check_weights()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_int8_modules_are_told_to_learn_nothing():
    x = torch.rand(60, 4, generator=torch.Generator().manual_seed(1))
    with pytest.raises(InputError, match="no weights that can learn"):
        withstand.harden(int8(), (x, int8()(x).argmax(1)), "linf:0.1", epochs=1)
