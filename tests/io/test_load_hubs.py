"""Models of timm and transformers, by stand-ins of these packages."""

import sys
from types import SimpleNamespace

import pytest
import torch
from loading import sentence
from torch import nn

from withstand.core.errors import InputError
from withstand.io.models import load_model


@pytest.fixture
def fake_timm(monkeypatch):
    """A package timm that knows one model; the list of what it was asked and gave."""
    asked = []

    def create_model(name, pretrained, **given):
        if name != "tiny":
            raise RuntimeError(f"Unknown model ({name})")
        net = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
        asked.append((net, pretrained, given))
        return net

    config = {"mean": (0.5, 0.0, 0.0), "std": (0.5, 1.0, 2.0), "input_size": (3, 2, 2)}
    data = SimpleNamespace(resolve_data_config=lambda args, model: config)
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model, data=data))
    monkeypatch.setitem(sys.modules, "timm.data", data)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return asked


def test_timm_models_get_their_normalisation_inside(fake_timm):
    model = load_model("timm:tiny?num_classes=2")
    network, *given = fake_timm[0]
    assert given == [True, {"num_classes": 2}]
    x = torch.rand(3, 3, 2, 2)
    shifted = torch.stack([(x[:, 0] - 0.5) / 0.5, x[:, 1], x[:, 2] / 2], 1)
    assert torch.allclose(model(x), network(shifted), atol=1e-6)
    assert model.input_shape == (3, 2, 2)
    with pytest.raises(InputError, match=r"timm has no model 'tinny' in your cache .* HF_HUB_OFFLINE=0") as caught:
        load_model("timm:tinny")
    sentence(caught)


def test_hugging_face_classifiers_give_logits(monkeypatch):
    class Network(nn.Module):
        def forward(self, x):
            return SimpleNamespace(logits=x.flatten(1)[:, :4])

    processor = SimpleNamespace(
        do_normalize=True, image_mean=[0.5] * 3, image_std=[0.25] * 3, size={"height": 2, "width": 5}
    )
    transformers = SimpleNamespace(
        AutoModelForImageClassification=SimpleNamespace(from_pretrained=lambda name, trust_remote_code: Network()),
        AutoImageProcessor=SimpleNamespace(from_pretrained=lambda name, trust_remote_code: processor),
    )
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = load_model("hf:someone/net")
    assert model.input_shape == (3, 2, 5)
    x = torch.rand(2, 3, 2, 5)
    assert torch.allclose(model(x), ((x - 0.5) / 0.25).flatten(1)[:, :4], atol=1e-6)
    processor.size = {"shortest_edge": 6}
    assert load_model("hf:someone/net").input_shape == (3, 6, 6)


@pytest.mark.parametrize(("text", "package"), [("timm:resnet18", "timm"), ("hf:a/b", "transformers")])
def test_a_missing_package_gets_its_install_line(monkeypatch, text, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=f"pip install {package}"):
        load_model(text)


@pytest.mark.parametrize(
    ("content", "words"),
    [("import no_such_package_at_all", "pip install no_such_package_at_all"), ("1 / 0", "division by zero")],
)
def test_a_package_that_cannot_be_imported_says_why(monkeypatch, tmp_path, content, words):
    (tmp_path / "timm.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=words) as caught:
        load_model("timm:resnet18")
    sentence(caught)
