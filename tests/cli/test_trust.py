"""Text runs no code: not out of files without the user's word, and on the command line only what makes a model."""

import json
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from commands import Command, Done

import withstand as library
from withstand.core.errors import InputError
from withstand.core.records import Origin, Plan, RunRecord
from withstand.io.witness import Witness

DATA, THREAT = ("--data", "digits", "--limit", "2"), ("--threat", "linf:0.1")

OWN = """
import builtins, ctypes, importlib, operator, os, pickle, runpy, subprocess
from functools import lru_cache, partial, wraps
from pathlib import Path

import joblib, torch
import withstand
from withstand.core.property import Argmax, Property

Path("imported").touch()
load = torch.load
system = partial(os.system, "touch marker")
unpickle = partial(torch.load, "evil.pt", weights_only=False)
cached = lru_cache(joblib.load)
popen = subprocess.Popen
method = operator.methodcaller("system", "touch marker")
bound = "{}".format
touch = Path("marker").touch


@wraps(os.system)
def disguised(command):
    return os.system(command)


class Net(torch.nn.Linear):
    def __init__(self, width: int = 10):
        super().__init__(64, width)

    def forward(self, x):
        return super().forward(x.flatten(1))

    @classmethod
    def wide(cls):
        return cls()


class Builder:
    def __call__(self):
        return Net()


class Law(Argmax):
    pass


def plain():
    return Net()


@torch.no_grad()
def decorated(width=10):
    return Net(width)


@withstand.factory
def marked():
    return Net()


def plain_law():
    return Law()


@withstand.factory
def marked_law():
    return Law()


def nothing() -> None:
    Path("marker").touch()


def number() -> int:
    Path("marker").touch()
    return 3


short, ready, law, builder = partial(decorated, width=10), Net(), Law(), Builder()
"""

SHELL = "touch marker"
CALLS = [
    f"os:system?command={SHELL}",
    f"posix:system?command={SHELL}",
    f"subprocess:run?args={SHELL}&shell=true",
    f"subprocess:getoutput?cmd={SHELL}",
    "subprocess:Popen?args=['touch','marker']",
    "runpy:run_path?path_name=evil.py",
    "runpy:run_module?mod_name=evil",
    "importlib:import_module?name=evil",
    "importlib:__import__?name=evil",
    "builtins:exec?source=import evil",
    "builtins:__import__?name=evil",
    "builtins:eval?source=__import__('evil')",
    "code:interact",
    "ctypes:CDLL?name=evil.so",
    "joblib:load?filename=evil.joblib",
    "cloudpickle:load?file=evil.pkl",
    "dill:load?file=evil.pkl",
    "pandas:read_pickle?filepath_or_buffer=evil.pkl",
    "sklearn.utils:Bunch.fromkeys?iterable=ab",
    "numpy:load?file=evil.npy&allow_pickle=true",
    "numpy.lib.npyio:load?file=evil.npy&allow_pickle=true",
    "torch:load?f=evil.pt&weights_only=False",
    "torch.serialization:load?f=evil.pt&weights_only=False",
    "torch.hub:load?repo_or_dir=.&model=net&source=local",
    "torch.jit:load?f=evil.pt",
    "torch:compile?model=evil",
    "torch:os.system?command=touch marker",
    "torch.nn:Linear.__init__.__globals__",
    "torch:sys.modules",
    "yaml:unsafe_load?stream=!!python/object/apply:os.system ['touch marker']",
    "sympy:sympify?a=__import__('evil')",
    "pip:main?args=['--version']",
    "pytest:main",
    "withstand:audit",
    "withstand.cli:main?argv=['ls']",
    "withstand.io.weights:load_weights?path=evil.pt",
    "own:load?f=evil.pt&weights_only=False",
    "own:torch.load?f=evil.pt&weights_only=False",
    f"own:os.system?command={SHELL}",
    "own:builtins.eval?source=__import__('evil')",
    "own:pickle.loads?data=x",
    "own:joblib.load?filename=evil.joblib",
    "own:importlib.import_module?name=evil",
    "own:runpy.run_path?path_name=evil.py",
    "own:ctypes.CDLL?name=evil.so",
    "own:system",
    "own:unpickle",
    "own:cached?filename=evil.joblib",
    "own:popen?args=['touch','marker']",
    "own:method",
    "own:bound",
    "own:touch",
    f"own:disguised?command={SHELL}",
    "own:Net.__init__.__globals__",
    "own:plain.__globals__",
    "own:ready.__class__.__subclasses__",
    "own:nothing",
    "own:number",
]
"""Texts that would run something, or look into Python's insides, where the name before the colon is called."""

NAMES = ["evil:anything", "evil.deep:anything", "own:Net", "own:Law", "own:plain", "own:marked", "own:ready", "own:law"]
FROM_FILES = [*CALLS, *NAMES]
"""In a file, the user's own names run nothing either, and are not even imported."""


class Evil:
    """Unpickling it leaves a marker."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("marker"),)  # type: ignore[return-value]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with code, pickles of every kind that leave a marker, and the user's own module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    for name in ("evil", "hubconf", "sitecustomize"):
        Path(f"{name}.py").write_text('from pathlib import Path\nPath("marker").touch()\n')
    Path("own.py").write_text(OWN)
    Path("evil.pkl").write_bytes(pickle.dumps(Evil()))
    joblib.dump(Evil(), "evil.joblib")
    torch.save(Evil(), "evil.pt")
    np.save("evil.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    yield
    for name in ("evil", "own"):
        sys.modules.pop(name, None)


def nothing_ran(done: Done, *, code: int = 2) -> None:
    """One sentence, and no trace of the payload."""
    assert done.code == code, done.err
    assert done.complaint.startswith("withstand: ")
    assert done.complaint.endswith((".", "?"))
    assert not Path("marker").exists()


@pytest.mark.parametrize("text", CALLS)
def test_a_model_text_calls_nothing_but_factories(text: str, withstand: Command) -> None:
    nothing_ran(withstand("doctor", text, *DATA, *THREAT))


@pytest.mark.parametrize("text", CALLS)
def test_a_property_text_calls_nothing_but_factories(text: str, withstand: Command) -> None:
    nothing_ran(withstand("doctor", "digits-cnn", *DATA, *THREAT, "--property", text))


@pytest.mark.parametrize("text", [f"os:system?command={SHELL}", "own:load?f=evil.pt&weights_only=False", "evil.pkl"])
@pytest.mark.parametrize(
    "argv",
    [
        *((verb, "TEXT", *DATA, *THREAT) for verb in ("audit", "attack", "verify", "radius", "harden", "masking")),
        ("smooth", "TEXT", *DATA, "--sigma", "0.1"),
        ("risk", "TEXT", *DATA, "--rho", "0.1"),
        ("theory", "TEXT", *DATA),
        ("theory", "digits-cnn", *DATA, "--initial", "TEXT"),
        ("attack", "digits-cnn", *DATA, *THREAT, "--surrogate", "TEXT"),
        ("masking", "digits-cnn", *DATA, *THREAT, "--surrogate", "TEXT"),
        *((verb, "digits-cnn", *DATA, *THREAT, "--property", "TEXT") for verb in ("audit", "attack", "verify")),
        *((verb, "digits-cnn", *DATA, *THREAT, "--property", "TEXT") for verb in ("radius", "masking")),
        ("attack", "digits-cnn", *DATA, *THREAT, "--attack", "autozoom:space=autoencoder,decoder=TEXT"),
        ("audit", "digits-cnn", "--data", "TEXT", *THREAT),
        ("check", "proof.safetensors", "--model", "TEXT"),
        ("replay", "witness.npz", "--model", "TEXT"),
    ],
    ids=lambda argv: " ".join(argv[:1] + argv[-2:]),
)
def test_every_option_that_names_a_model_or_a_property(argv: tuple[str, ...], text: str, withstand: Command) -> None:
    Path("proof.safetensors").write_bytes(b"")
    witness("argmax")
    if "harden" in argv:
        argv = tuple(word for word in argv if word not in ("--limit", "2"))
    nothing_ran(withstand(*(word.replace("TEXT", text) for word in argv)))


@pytest.mark.parametrize(
    "text",
    [
        *("own:Net?width=10", "own:plain", "own:decorated?width=10", "own:marked", "own:ready", "own:short"),
        *("own:builder", "own:Net.wide"),
    ],
)
def test_factories_of_the_users_own_files_are_called(text: str, withstand: Command) -> None:
    assert withstand("doctor", text, *DATA, *THREAT).code == 0


def test_classes_and_annotated_functions_of_packages_are_called(withstand: Command, tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "installed_nets"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "from own import Net, Path\n"
        "def said() -> Net:\n    return Net()\n"
        "def silent():\n    Path('marker').touch()\n    return Net()\n"
    )
    sys.path.insert(0, str(package.parent))
    sys.path.insert(0, str(tmp_path))
    assert withstand("doctor", "installed_nets:said", *DATA, *THREAT).code == 0
    nothing_ran(withstand("doctor", "installed_nets:silent", *DATA, *THREAT))
    np.savez("flat.npz", x=np.zeros((2, 3), "f4"), y=np.array([0, 1]))
    question = ("--data", "flat.npz", *THREAT)
    assert withstand("doctor", "torch.nn:Linear?in_features=3&out_features=2", *question).code == 0
    sys.modules.pop("installed_nets")


def witness(property: str, folder: str = ".") -> str:
    x = np.zeros((1, 8, 8), np.float32)
    made = Witness(x, x, np.array(3), 0, property, "linf", 0.1, (0.0, 1.0), 0, 1.0, -1.0, "pgd", "digest")
    made.save(Path(folder) / "witness.npz")
    return str(Path(folder) / "witness.npz")


def run_folder(**plan: str) -> Path:
    folder = Path("run")
    origin = Origin(
        withstand="0", python="3", packages={}, platform="", processor="", cores=1, model_digest="", data_digest=""
    )
    told = Plan(**{"model": "digits-cnn", "data": "digits", "threat": "linf:0.1", "limit": 2} | plan)  # type: ignore[arg-type]
    (folder / "witnesses").mkdir(parents=True)
    (folder / "run.json").write_text(RunRecord(plan=told, origin=origin, input_shape=[1, 8, 8]).model_dump_json())
    return folder


def replayed(text: str, withstand: Command, *more: str) -> Done:
    return withstand("replay", witness(text), "--model", "digits-cnn", *more)


def replayed_with_its_run(text: str, withstand: Command, *more: str) -> Done:
    return withstand("replay", witness("argmax", f"{run_folder(model=text)}/witnesses"), *more)


def checked_property(text: str, withstand: Command, *more: str) -> Done:
    return withstand("check", run_folder(property=text), *more)


def checked_model(text: str, withstand: Command, *more: str) -> Done:
    return withstand("check", run_folder(model=text), *more)


def planned_property(text: str, withstand: Command, *more: str) -> Done:
    plan = Plan(model="digits-cnn", data="digits", threat="linf:0.1", property=text, limit=2)
    Path("plan.json").write_text(plan.model_dump_json())
    return withstand("audit", "--plan", "plan.json", *more)


def planned_model(text: str, withstand: Command, *more: str) -> Done:
    Path("plan.json").write_text(Plan(model=text, data="digits", threat="linf:0.1", limit=2).model_dump_json())
    return withstand("audit", "--plan", "plan.json", *more)


PROPERTIES = [replayed, checked_property, planned_property]
MODELS = [replayed_with_its_run, checked_model, planned_model]


WAYS = [(read, text) for read in (replayed, checked_model) for text in FROM_FILES]
WAYS += [
    (read, text) for read in (*PROPERTIES, *MODELS) for text in [*FROM_FILES[::12], *NAMES] if (read, text) not in WAYS
]


@pytest.mark.parametrize(("read", "text"), WAYS)
def test_a_text_in_a_file_runs_nothing(read, text: str, withstand: Command) -> None:
    before = list(sys.path)
    done = read(text, withstand)
    nothing_ran(done)
    assert not Path("imported").exists()
    assert sys.path == before
    if text.startswith(("own", "evil:")):
        assert "--trust" in done.complaint


@pytest.mark.parametrize("text", ["timm:resnet18", "hf:someone/net", "evil.pkl", "evil.pt", "evil.joblib"])
@pytest.mark.parametrize("read", MODELS)
def test_hubs_and_pickles_named_by_a_file(read, text: str, withstand: Command) -> None:
    nothing_ran(read(text, withstand))


@pytest.mark.parametrize("text", CALLS)
@pytest.mark.parametrize("read", [replayed_with_its_run])
def test_trust_calls_no_more_than_the_command_line(read, text: str, withstand: Command) -> None:
    nothing_ran(read(text, withstand, "--trust"))


@pytest.mark.parametrize(
    ("read", "text"),
    [(read, "own:plain_law") for read in PROPERTIES] + [(read, "own:plain") for read in MODELS],
)
def test_trust_calls_declared_factories_only(read, text: str, withstand: Command) -> None:
    done = read(text, withstand, "--trust")
    nothing_ran(done)
    assert "@withstand.factory" in done.complaint


@pytest.mark.parametrize("text", ["own:marked_law", "own:Law", "own:law"])
@pytest.mark.parametrize("read", PROPERTIES)
def test_trusted_properties_that_are_declared(read, text: str, withstand: Command) -> None:
    assert read(text, withstand, "--trust").code in (0, 1)


@pytest.mark.parametrize("text", ["own:marked", "own:Net", "own:ready"])
@pytest.mark.parametrize("read", MODELS)
def test_trusted_models_that_are_declared(read, text: str, withstand: Command) -> None:
    assert read(text, withstand, "--trust").code in (0, 1)


@pytest.mark.parametrize("given", [("own:ready",), ("digits-cnn", "--property", "own:plain_law")])
def test_what_the_command_line_names_is_the_users_word(given: tuple[str, ...], withstand: Command) -> None:
    Path("plan.json").write_text(Plan(model="own:Net", data="digits", threat="linf:0.1", limit=2).model_dump_json())
    assert withstand("audit", *given, "--plan", "plan.json").code == 0
    assert withstand("audit", *given, "--plan", "plan.json").code == 0


def test_a_witness_of_another_property_than_its_run_runs_nothing(run: Path, withstand: Command) -> None:
    first = sorted((run / "witnesses").glob("*.npz"))[0]
    with np.load(first) as held:
        parts = dict(held)
    np.savez(first, **{**parts, "property": np.array(f"os:system?command={SHELL}")})
    done = withstand("check", run)
    assert done.code == 1
    assert "of another question" in done.out or "cannot be replayed" in done.out
    assert not Path("marker").exists()


def test_a_plan_in_memory_is_data_too() -> None:
    plan = Plan(model="x", data="y", threat="linf:0.1", property="own:Law", limit=2)
    with pytest.raises(InputError, match="trust=True"):
        library.audit("digits-cnn", "digits", threat="linf:0.1", plan=plan, limit=2, out="run")
    assert not Path("imported").exists()
    assert library.audit("digits-cnn", "digits", threat="linf:0.1", plan=plan, limit=2, out="run", trust=True).n == 2


@pytest.mark.parametrize(
    "property", ["band:x", "band:", "top-k:x", "top-k:99", "not-class:99", "not-class:-11", "out[99] > 0", "x", "a:b?c"]
)
def test_properties_of_a_witness_that_do_not_parse(property: str, withstand: Command) -> None:
    nothing_ran(replayed(property, withstand))


def test_a_model_named_by_json_of_another_form(withstand: Command) -> None:
    folder = run_folder()
    for text in ("[]", '{"plan": 3}', json.dumps({"plan": {"model": ["os:system"]}})):
        (folder / "run.json").write_text(text)
        nothing_ran(withstand("replay", witness("argmax", f"{folder}/witnesses")))


@pytest.mark.parametrize("way", ["above", "absolute", "link"])
def test_a_record_names_no_witness_outside_its_folder(way: str, run: Path, withstand: Command) -> None:
    first = sorted((run / "witnesses").glob("*.npz"))[0]
    outside = Path("elsewhere.npz").absolute()
    first.rename(outside)
    named = {"above": "../" * 40 + str(outside)[1:], "absolute": str(outside), "link": f"witnesses/{first.name}"}[way]
    if way == "link":
        first.symlink_to(outside)
    samples = run / "samples.jsonl"
    samples.write_text(samples.read_text().replace(f"witnesses/{first.name}", named))
    done = withstand("check", run)
    assert done.code == 1
    assert "outside the run folder" in done.out
