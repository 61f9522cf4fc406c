"""The shape of the code: who may import whom, what loads late, how long a file may be, what must be explained."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "withstand"
FILES = sorted(SOURCE.rglob("*.py"))

BASE = {"core", "graph"}
WORK = BASE | {
    "bounds",
    "lipschitz",
    "attacks",
    "builtin",
    "io",
    "verification",
    "generalisation",
    "hardening",
    "smoothing",
}
ROOMS: dict[str, set[str]] = {
    "core": {"core"},
    "graph": BASE,
    "bounds": BASE | {"bounds"},
    "lipschitz": BASE | {"bounds", "lipschitz"},
    "attacks": BASE | {"attacks"},
    "builtin": BASE | {"builtin"},
    "io": BASE | {"builtin", "io"},
    "verification": BASE | {"bounds", "lipschitz", "checker", "attacks", "io", "verification"},
    "checker": {"core.errors", "checker"},
    "hardening": BASE
    | {"bounds", "lipschitz", "attacks", "builtin", "io", "verification", "generalisation", "smoothing", "hardening"},
    "generalisation": BASE | {"generalisation"},
    "reporting": {
        "core.records",
        "core.harden_records",
        "core.smoothing_records",
        "core.smoothing_tally",
        "core.run_files",
        "core.tally",
        "core.arguments",
        "core.errors",
        "reporting",
    },
    "smoothing": {"core", "smoothing"},
    "auditing": WORK | {"checker", "reporting", "auditing"},
    "cli": WORK | {"checker", "reporting", "auditing", "cli"},
}
"""Room to the rooms (or modules) it may import, itself included."""

LATE = {"onnx", "onnxruntime", "scipy", "sklearn", "matplotlib", "pandas", "safetensors", "PIL", "highspy", "vnnlib"}
"""Packages that load only where they are used."""

LATE_IN_CLI = LATE | {"torch", "numpy", "pydantic", "jinja2", "rich"}
MACHINE_PATH = re.compile(r"/(?:home|work|root|Users)/\w")
TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".txt", ".html", ".j2", ".css", ".js", ".sh", ""}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def room_of(path: Path) -> str | None:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else None


def is_typing_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imported(nodes: list[ast.stmt] | ast.AST, *, into_functions: bool) -> Iterator[str]:
    """Dotted names imported below `nodes`; those behind TYPE_CHECKING count only with `into_functions`."""
    children = nodes if isinstance(nodes, list) else list(ast.iter_child_nodes(nodes))
    for node in children:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif into_functions or not (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or is_typing_guard(node)):
            yield from imported(node, into_functions=into_functions)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def test_every_room_is_known() -> None:
    rooms = {room_of(path) for path in FILES} - {None}
    assert rooms <= set(ROOMS), f"say in ROOMS what {rooms - set(ROOMS)} may import"


@pytest.mark.parametrize("path", [f for f in FILES if room_of(f)], ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    allowed = ROOMS[str(room_of(path))]
    for name in imported(tree_of(path), into_functions=True):
        if name.split(".")[0] != "withstand" or name == "withstand.__version__":
            continue
        if name == "withstand":  # the verbs themselves, which load lazily
            assert room_of(path) in ("auditing", "cli"), f"{name_of(path)} imports the whole package"
            continue
        inner = name.removeprefix("withstand.")
        assert any(inner == room or inner.startswith(room + ".") for room in allowed), f"{name_of(path)} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_heavy_packages_load_late(path: Path) -> None:
    late = LATE_IN_CLI if room_of(path) in ("cli", None) else LATE
    early = {name.split(".")[0] for name in imported(tree_of(path), into_functions=False)} & late
    assert not early, f"{name_of(path)} imports {sorted(early)} at its top; import inside the function that needs it"


def test_the_walk_sees_early_and_late_imports() -> None:
    tree = ast.parse("import a.b\ntry:\n    import c\nexcept E: pass\ndef f():\n    from d import e\n")
    assert list(imported(tree, into_functions=False)) == ["a.b", "c"]
    assert list(imported(tree, into_functions=True)) == ["a.b", "c", "d.e"]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_stay_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    assert lines <= 400, f"{name_of(path)} has {lines} lines"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{name_of(path)}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_public_things_are_explained(path: Path) -> None:
    tree = tree_of(path)
    assert ast.get_docstring(tree), f"{name_of(path)} does not say what it is for"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            continue  # an entry of a table, which the table explains
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name_of(path)}: {node.name} has no docstring"


def project_files() -> list[Path]:
    folders = ["src", "tests", "docs", "examples", "scripts", "benchmarks", ".ci"]
    found = [f for folder in folders for f in (ROOT / folder).rglob("*") if f.is_file()]
    found += [f for f in ROOT.iterdir() if f.is_file() and f.name != ".git"]
    return [f for f in found if f.suffix in TEXT and "__pycache__" not in f.parts]


def test_no_path_of_one_machine() -> None:
    held = [name_of(f) for f in project_files() if MACHINE_PATH.search(f.read_text(encoding="utf-8", errors="ignore"))]
    assert not held, f"{held} name a path that exists on one machine only"
