"""The documentation: its Python runs, its generated pages are up to date, its links lead somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:    |\$ )(withstand .*)$", re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code_of(page: Path) -> str:
    return "\n".join(PYTHON.findall(page.read_text("utf-8")))


def run_python(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("page", [page for page in PAGES if code_of(page)], ids=name_of)
def test_python_in_the_pages_runs(page: Path, tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text(code_of(page), "utf-8")
    done = run_python("page.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_pages_hold_python() -> None:
    assert sum(len(PYTHON.findall(page.read_text("utf-8"))) for page in PAGES) >= 8


def test_generated_pages_are_up_to_date() -> None:
    done = run_python("scripts/make_docs.py", "--check", folder=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        assert (page.parent / target).exists(), f"{name_of(page)} links to {target}, which is not there"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_use_known_verbs_and_options(page: Path) -> None:
    known = (ROOT / "docs" / "commands.md").read_text("utf-8")
    for line in COMMAND.findall(page.read_text("utf-8")):
        verb = line.split()[1]
        assert f"## {verb}\n" in known, f"{name_of(page)}: {line}"
        section = known.split(f"## {verb}\n")[1].split("\n## ")[0]
        for option in re.findall(r"\s(--[a-z-]+)", line):
            assert f"`{option}" in section, f"{name_of(page)}: {verb} has no {option}"


def test_the_example_runs(tmp_path: Path) -> None:
    done = run_python(str(ROOT / "examples" / "audit_own_model.py"), "run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "<= robust <=" in done.stdout
    assert (tmp_path / "run" / "report.html").is_file()
