"""The checker on the command line: alone, without torch, and as `withstand check`."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from checker.nets import KINDS
from checker.producer import prove, question

from withstand.checker.__main__ import main
from withstand.checker.file import load, save
from withstand.cli import main as withstand

ALONE = """
import sys
held = set(sys.modules)
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "scipy", "onnxruntime", "safetensors", "typer", "pydantic"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.argv = ["checker", *sys.argv[1:]]
import runpy
runpy.run_module("withstand.checker", run_name="__main__")
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate that holds, and its network."""
    folder: Path = tmp_path_factory.mktemp("certificate")
    network, region, rows, _ = question("fc", 18, gap=0.08, stretch=3)
    certificate = prove(network, region, rows)
    assert certificate is not None
    save(certificate, folder / "proof.safetensors")
    (folder / "net.onnx").write_bytes(KINDS["fc"](18))
    return str(folder / "proof.safetensors"), str(folder / "net.onnx")


def test_alone_it_needs_numpy_and_onnx_only(files):
    file, network = files
    command = [sys.executable, "-c", ALONE, file, "--model", network, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["holds"] is True


@pytest.mark.parametrize("command", [main, lambda argv: withstand(["check", *argv])], ids=["checker", "withstand"])
def test_exit_codes_and_sentences(command, files, tmp_path, capsys):
    file, network = files
    assert command([file, "--model", network]) == 0
    assert "The certificate holds (leaf-checked certificate)" in capsys.readouterr().out
    assert command([file, "--model", network, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["holds"] is True
    (tmp_path / "other.onnx").write_bytes(KINDS["fc"](1))
    assert command([file, "--model", str(tmp_path / "other.onnx")]) == 1
    assert "does not hold" in capsys.readouterr().out
    for bad in ([network, "--model", network], [file, "--model", "absent.onnx"], [file, "--model", file]):
        assert command(bad) == 2
        error = capsys.readouterr().err
        assert error.startswith("withstand: ")
        assert error.count("\n") == 1


def test_a_claim_that_fails_is_told(files, tmp_path, capsys):
    file, network = files
    certificate = load(file)
    save(replace(certificate, rows=replace(certificate.rows, threshold=100.0)), tmp_path / "changed")
    assert main([str(tmp_path / "changed"), "--model", network, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert "which is not above 100" in told["failure"]
    assert told["grade"] == ""


def test_a_file_without_its_network_is_bad_input(files, capsys):
    assert withstand(["check", files[0]]) == 2
    assert "--model" in capsys.readouterr().err
