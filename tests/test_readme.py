"""The figures of README.md are those of `make audit`: the table is the stored figures', and the command gives them."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("make_readme", ROOT / "scripts" / "make_readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stored(script: Any) -> dict[str, dict[str, int]]:
    return json.loads(script.STORED.read_text("utf-8"))


def of_make() -> str:
    """The options that `make audit` gives after the model."""
    found = re.search(r"audit \$\$model (.*?) --out", (ROOT / "Makefile").read_text("utf-8"))
    assert found is not None
    return found[1]


def test_the_table_is_that_of_the_stored_figures(script: Any) -> None:
    text = script.README.read_text("utf-8")
    assert script.BEGIN in text
    assert script.fill(text, script.table(stored(script))) == text


def test_the_readme_names_the_command_of_the_makefile(script: Any) -> None:
    assert f"withstand audit digits-cnn {of_make()}" in script.README.read_text("utf-8")


@pytest.mark.parametrize("model", ["digits-cnn", "digits-cnn-pgd", "digits-cnn-cert"])
def test_the_stored_figures_add_up(model: str, script: Any) -> None:
    counts = dict(stored(script)[model])
    n = counts.pop("n")
    assert sum(counts.values()) == n
    assert f"--limit {n}" in of_make()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["digits-cnn", "digits-cnn-pgd", "digits-cnn-cert"])
def test_the_command_gives_the_figures(model: str, script: Any, tmp_path: Path) -> None:
    """Rounding differs between processors: a sample or two may be settled otherwise."""
    command = [sys.executable, "-m", "withstand", "audit", model, *of_make().split(), "--out", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    counts, held = json.loads(done.stdout)["counts"], stored(script)[model]
    for name, number in counts.items():
        assert abs(number - held[name]) <= 2, (name, number, held[name])
