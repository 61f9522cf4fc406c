"""Every form of MODEL and every wrong one."""

import sys

import pytest
import torch
from loading import sentence
from safetensors.torch import save_file
from torch import nn

from withstand.core.errors import InputError
from withstand.io.factories import build_module, parse_arguments
from withstand.io.models import load_model
from withstand.io.probing import probe

FACTORY = """
import torch
from torch import nn

def build(width: int = 4, bias: bool = True):
    return nn.Sequential(nn.Flatten(), nn.Linear(6, width, bias=bias))

def with_weights(weights):
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 2))
    net.note = weights
    return net

class Net(nn.Linear):
    def __init__(self):
        super().__init__(6, 3)

class Holder:
    make = staticmethod(build)

def broken():
    raise OSError("disk on fire")

def number():
    return 7

ready = nn.Linear(6, 5)
constant = 3.5
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A module file in the current folder; its name."""
    name = f"nets_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("factory", "outputs"),
    [("build", 4), ("build?width=7", 7), ("build?width=2&bias=false", 2), ("Net", 3), ("ready", 5), ("Holder.make", 4)],
)
def test_factories_build_modules(nets, factory, outputs):
    model = load_model(f"{nets}:{factory}", (6,))
    assert model.output_shape == (outputs,)
    assert model.name == f"{nets}:{factory}"
    x = torch.rand(3, 6)
    assert torch.allclose(model(x), model.module(x), atol=1e-6)


def test_weights_are_filled_in_when_the_factory_does_not_take_them(nets, tmp_path):
    save_file({"1.weight": torch.full((4, 6), 0.5), "1.bias": torch.zeros(4)}, tmp_path / "w.safetensors")
    model = load_model(f"{nets}:build?weights=w.safetensors", (6,))
    assert torch.allclose(model(torch.ones(1, 6)), torch.full((1, 4), 3.0))
    save_file({"weight": torch.zeros(5, 6), "bias": torch.ones(5)}, tmp_path / "r.safetensors")
    assert load_model(f"{nets}:ready?weights=r.safetensors", (6,))(torch.ones(1, 6)).sum() == 5
    with pytest.raises(InputError, match="do not fit the module") as caught:
        load_model(f"{nets}:build?width=5&weights=w.safetensors", (6,))
    sentence(caught)


def test_weights_go_to_the_factory_that_takes_them(nets):
    assert build_module(f"{nets}:with_weights?weights=w.safetensors").note == "w.safetensors"


def test_arguments_are_literals_or_words():
    got = parse_arguments("a=1&b=true&c=None&d=[1,2]&e=word&f='q'&g=1e-3&h={\"k\":1}&i=a/b.pt")
    assert got == {
        "a": 1,
        "b": True,
        "c": None,
        "d": [1, 2],
        "e": "word",
        "f": "q",
        "g": 1e-3,
        "h": {"k": 1},
        "i": "a/b.pt",
    }
    with pytest.raises(InputError, match="name=value"):
        parse_arguments("width")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}:bild", "has no 'bild'; did you mean 'build'"),
        ("{}x:build", "no Python module '{}x' to import; did you mean '{}'"),
        ("{}.deep:build", "no Python module"),
        ("{}:build?depth=3", "does not take these arguments"),
        ("{}:ready?width=3", "takes no arguments but weights"),
        ("{}:broken", "failed with OSError: disk on fire"),
        ("{}:number", "returned int"),
        ("{}:constant", "is float; name a function"),
        ("{}.py:build", "without slashes or .py"),
        ("./{}:build", "without slashes or .py"),
        ("{}:", "write it as package.module:factory"),
        ("digit-cnn", "did you mean 'digits-cnn'"),
        ("missing.onnx", "There is no model 'missing.onnx'"),
        ("zzzz", "write package.module:factory"),
    ],
)
def test_wrong_names_get_one_sentence(nets, text, says):
    with pytest.raises(InputError, match=says.replace("{}", nets)) as caught:
        load_model(text.replace("{}", nets), (6,))
    sentence(caught)


def test_a_module_that_fails_to_import(nets, tmp_path):
    (tmp_path / f"{nets}_a.py").write_text("import a_package_nobody_has\n")
    (tmp_path / f"{nets}_b.py").write_text("1 / 0\n")
    (tmp_path / f"{nets}_c.py").write_text("def f(:\n")
    with pytest.raises(InputError, match="needs the package 'a_package_nobody_has'; install it"):
        load_model(f"{nets}_a:f", (6,))
    with pytest.raises(InputError, match="failed with ZeroDivisionError"):
        load_model(f"{nets}_b:f", (6,))
    with pytest.raises(InputError, match="failed with SyntaxError"):
        load_model(f"{nets}_c:f", (6,))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("net.pkl", "refused: it is a pickle.* run any code.* ONNX"),
        ("net.pt", "no architecture .*package.module:factory.weights=net.pt"),
        ("net.safetensors", "no architecture"),
        ("net.keras", "export the network to ONNX"),
        ("net.h5", "export the network to ONNX"),
        ("net.txt", "is no model that withstand reads; write "),
    ],
)
def test_files_that_are_no_models_get_one_sentence(tmp_path, monkeypatch, name, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(InputError, match=says) as caught:
        load_model(name)
    sentence(caught)


@pytest.mark.parametrize("name", ["net.onnx", "net.pt2"])
def test_a_damaged_file_gets_one_sentence(tmp_path, name):
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(InputError, match=name) as caught:
        load_model(tmp_path / name)
    sentence(caught)


def test_an_exported_program_is_read(tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 2)).eval()
    batch = torch.export.Dim("batch", min=1, max=1024)
    torch.export.save(
        torch.export.export(net, (torch.rand(2, 2, 3),), dynamic_shapes=({0: batch},)), tmp_path / "n.pt2"
    )
    model = load_model(tmp_path / "n.pt2")
    x = torch.rand(5, 2, 3)
    assert model.input_shape == (2, 3)
    assert torch.allclose(model(x), net(x), atol=1e-6)


def test_onnx_is_read(shared):
    model = load_model(shared / "models" / "mnist-plain.onnx")
    assert model.output_shape == (10,)
    assert model(torch.zeros(2, *model.input_shape)).shape == (2, 10)


def test_objects_are_accepted():
    net = nn.Linear(6, 2)
    model = load_model(net, (6,))
    assert model.module is net
    assert model.name == "Linear"
    assert load_model(model) is model
    doubled = load_model(lambda x: 2 * x, (6,))
    assert torch.equal(doubled(torch.ones(1, 6)), torch.full((1, 6), 2.0))
    with pytest.raises(InputError, match="not int"):
        load_model(7)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="give input_shape"):
        load_model(net)


@pytest.mark.parametrize(
    ("module", "sample", "takes"),
    [
        (nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()), (8, 9, 3), (3, 8, 9)),
        (nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()), (3, 8, 9), (3, 8, 9)),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()), (8, 9), (1, 8, 9)),
        (nn.Linear(72, 2), (8, 9), (72,)),
        (nn.Linear(72, 2), (8, 9, 1), (72,)),
        (nn.Sequential(nn.Flatten(), nn.Linear(72, 2)), (8, 9), (8, 9)),
        (nn.Conv1d(8, 2, 3), (1, 8, 9), (8, 9)),
    ],
)
def test_the_shape_a_module_takes_is_found(module, sample, takes):
    assert probe(module, sample).shape[1:] == takes


def test_a_module_that_takes_no_arrangement_says_why():
    with pytest.raises(InputError, match=r"does not run on samples of 5 \(.*; give it data of the shape it takes") as e:
        probe(nn.Linear(6, 2), (5,))
    sentence(e)
    with pytest.raises(InputError, match="gave tuple, not one row"):
        probe(nn.LSTM(6, 2), (4, 6))


def test_looking_for_the_shape_leaves_the_module_as_it_was():
    net = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 2))
    net[1].eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    probe(net, (6,))
    assert [part.training for part in net] == [True, False, True]
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
