"""How the command line starts: quickly, because it loads little; and what it says of itself."""

import subprocess
import sys

import pytest
from commands import Command

HEAVY = ("torch", "numpy", "scipy", "onnx", "onnxruntime", "sklearn", "matplotlib", "pandas", "jinja2")
VERBS = (
    *("audit", "attack", "verify", "radius", "smooth", "harden", "masking", "risk", "theory"),
    *("doctor", "replay", "check", "report", "ls"),
)

LOADED = """
import sys
from withstand.cli import main
code = main(sys.argv[1:])
print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}))
raise SystemExit(code)
"""


@pytest.mark.parametrize("argv", [["--help"], ["--version"], ["audit", "--help"], ["adit"]], ids=" ".join)
def test_nothing_heavy_is_loaded_for_help_and_usage_errors(argv: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", LOADED, *argv], capture_output=True, text=True, check=False)
    loaded = done.stdout.partition("loaded:")[2].split()
    assert "withstand" in loaded
    assert not set(loaded) & set(HEAVY)


def test_python_runs_the_package() -> None:
    import withstand

    for argv, code, told in ((["--version"], 0, f"withstand {withstand.__version__}\n"), (["ls", "absent"], 2, "")):
        command = [sys.executable, "-m", "withstand", *argv]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (code, told), done.stderr
    assert done.stderr == "withstand: There is no folder absent; name the folder that holds your runs.\n"


def test_help_names_every_verb(withstand: Command) -> None:
    done = withstand("--help")
    assert done.code == 0
    assert all(f"\n  {verb} " in done.out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_and_option_is_explained(verb: str, withstand: Command) -> None:
    from withstand.cli.app import app

    done = withstand(verb, "--help")
    assert done.code == 0
    command = next(c for c in app.registered_commands if c.callback and c.callback.__name__ == verb)
    assert command.callback is not None
    for annotation in command.callback.__annotations__.values():
        info = getattr(annotation, "__metadata__", [None])[0]
        if info is not None:
            assert info.help


def test_every_verb_is_a_function_of_the_library() -> None:
    import withstand

    assert set(withstand.__all__) == {*VERBS, "closest", "lipschitz_constants", "bpda", "factory", "out", "other"}
    assert all(callable(getattr(withstand, verb)) for verb in VERBS)


def test_version(withstand: Command) -> None:
    import withstand as package

    assert withstand("--version").out == f"withstand {package.__version__}\n"


def test_the_console_script_is_installed() -> None:
    from importlib.metadata import entry_points

    (point,) = entry_points(group="console_scripts", name="withstand")
    assert point.value == "withstand.cli:main"
