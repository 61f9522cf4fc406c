"""Exported programs whose texts torch would run when it reads them: they are refused or left out, and nothing runs."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from withstand.core.errors import InputError
from withstand.graph.pt2 import read_pt2

TOUCH = "__import__('pathlib').Path('marker').touch()"
ENUM = {"__enum__": True, "fqn": "evil:Kind", "name": "x"}


def guards(program: dict[str, Any]) -> None:
    program["guards_code"] = [f"{TOUCH} is None"]


def specs(program: dict[str, Any]) -> None:
    for entry in program["graph_module"]["module_call_graph"]:
        signature = entry["signature"]
        if signature:
            for name in ("in_spec", "out_spec"):
                held = json.loads(signature[name])
                held[1]["context"] = json.dumps(ENUM)
                signature[name] = json.dumps(held).replace("__enum", "\\u005f\\u005fenum")


def sizes(program: dict[str, Any]) -> None:
    for tensor in program["graph_module"]["graph"]["tensor_values"].values():
        tensor["sizes"][0] = {"as_expr": {"expr_str": TOUCH, "hint": {"as_int": 2}}}


def operations(program: dict[str, Any]) -> None:
    for node in program["graph_module"]["graph"]["nodes"]:
        node["target"] = "torch.hub.load"


def unnoted_operations(program: dict[str, Any]) -> None:
    operations(program)
    for node in program["graph_module"]["graph"]["nodes"]:
        del node["metadata"]


def notes(program: dict[str, Any]) -> None:
    for node in program["graph_module"]["graph"]["nodes"]:
        node["metadata"]["nn_module_stack"] = f"a,b,{TOUCH}"
        node["metadata"]["source_fn_stack"] = "a,os.system"


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[dict[str, Any]], None]], Path]:
    """A program's file with a changed description, in a folder with a module that leaves a marker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("evil.py").write_text('from pathlib import Path\nPath("marker").touch()\nclass Kind: pass\n')
    batch = torch.export.Dim("batch", min=1, max=64)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 2)).eval()
    torch.export.save(torch.export.export(net, (torch.rand(2, 2, 3),), dynamic_shapes=({0: batch},)), "net.pt2")

    def change(edit: Callable[[dict[str, Any]], None]) -> Path:
        with zipfile.ZipFile("net.pt2") as held, zipfile.ZipFile("odd.pt2", "w") as made:
            for name in held.namelist():
                data = held.read(name)
                if name.endswith("models/model.json"):
                    program = json.loads(data)
                    edit(program)
                    data = json.dumps(program).encode()
                made.writestr(name, data)
        return Path("odd.pt2")

    return change


@pytest.mark.parametrize("edit", [specs, sizes, operations, unnoted_operations])
def test_what_names_code_is_refused(edit, written) -> None:
    with pytest.raises(InputError) as caught:
        read_pt2(written(edit))
    assert "\n" not in str(caught.value)
    assert not Path("marker").exists()


def test_guards_do_not_reach_torch(written, monkeypatch: pytest.MonkeyPatch) -> None:
    path, programs, load = written(guards), [], torch.export.load
    monkeypatch.setattr(torch.export, "load", lambda file: programs.append(load(file)) or programs[0])
    read_pt2(path)
    assert programs[0]._guards_code == []


@pytest.mark.parametrize("edit", [guards, notes, lambda program: None])
def test_what_no_number_hangs_on_is_left_out(edit, written) -> None:
    assert read_pt2(written(edit)).output_shape == (2,)
    assert not Path("marker").exists()


@pytest.mark.parametrize(
    ("name", "data"), [("net/models/model.json", b"{"), ("loose", b""), ("net/models/model.json", b"3")]
)
def test_archives_of_another_form_get_one_sentence(name: str, data: bytes, written) -> None:
    path = written(lambda program: None)
    with zipfile.ZipFile(path) as held:
        parts = {inner: held.read(inner) for inner in held.namelist()}
    root = next(iter(parts)).partition("/")[0]
    with zipfile.ZipFile(path, "w") as made:
        for inner, content in {**parts, name.replace("net/", f"{root}/"): data}.items():
            made.writestr(inner, content)
    with pytest.raises(InputError):
        read_pt2(path)
