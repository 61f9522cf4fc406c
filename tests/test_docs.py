"""The documentation: its Python runs, its generated pages are up to date, its links lead somewhere."""

import json
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


RUNNER = """
import json, os, sys, traceback
failures = {}
for name in sys.argv[1:]:
    try:
        exec(compile(open(name).read(), name, "exec"), {"__name__": "__main__"})
    except BaseException:
        failures[name] = traceback.format_exc()
json.dump(failures, open("failures.json", "w"))
"""


def run_python(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def file_of(page: Path) -> str:
    return name_of(page).replace("/", "-") + ".py"


SCRIPTS = {page: code_of(page) for page in PAGES if code_of(page)}
EXAMPLES = {page: page.read_text("utf-8") for page in sorted((ROOT / "examples").glob("*.py"))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the Python of every page and every example has run, in a process of its own."""
    folder = tmp_path_factory.mktemp("pages")
    for page, code in {**SCRIPTS, **EXAMPLES}.items():
        (folder / file_of(page)).write_text(code, "utf-8")
    (folder / "runner.py").write_text(RUNNER, "utf-8")
    done = run_python("-W", "error", "runner.py", *map(file_of, {**SCRIPTS, **EXAMPLES}), folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("page", [*SCRIPTS, *EXAMPLES], ids=name_of)
def test_python_in_the_pages_runs(page: Path, folder: Path) -> None:
    failures = json.loads((folder / "failures.json").read_text("utf-8"))
    assert file_of(page) not in failures, failures[file_of(page)]


def test_the_example_leaves_a_report(folder: Path) -> None:
    assert (folder / "runs" / "two-rings" / "report.html").is_file()


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


def test_files_that_commands_of_a_page_read_are_made_by_the_page() -> None:
    """Weights that a page loads are written by its Python."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for file in re.findall(r"weights=([\w.-]+)", "\n".join(COMMAND.findall(text))):
            assert f'"{file}"' in code_of(page), f"{name_of(page)}: nobody makes {file}"
