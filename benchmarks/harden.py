"""Train networks for MNIST by several recipes, and tell what each withstands at linf 0.3, with time and memory.

    OMP_NUM_THREADS=1 python benchmarks/harden.py [../shared/data/mnist.npz] [--rows NAME ...] [--out runs/mnist]

Each row runs in a process of its own, so that its peak memory is its own; run folders are gone on with, and figures
kept in `--json` are replaced row by row. Attacked and certified accuracy are those of an audit on the first 1,000 test
images, clean accuracy is of all 10,000, and `others` is what intervals prove of the remaining 9,000. `--reference`
names stored networks that are audited in the same way, for comparison (two of the folder `shared`; none where no name
follows).
"""

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import withstand
from withstand.auditing.standing import plan_of
from withstand.bounds import lower_bound
from withstand.core.property import Argmax
from withstand.core.threat_text import parse_threat
from withstand.hardening.recipe import Recipe
from withstand.hardening.recipes import CERTIFIED
from withstand.io.data import load_data
from withstand.io.models import load_model

THREAT = "linf:0.3"
AUDITED = 1000
RESULTS = Path(__file__).parent / "results" / "harden.json"
SHARED = Path(__file__).resolve().parents[2] / "shared"
STORED = [str(SHARED / "models" / name) for name in ("mnist-pgd-0.3.onnx", "mnist-cnn-small-cert.onnx")]

_ATTACKED = Recipe("", epochs=10, batch=128, rate=2e-3, ramp=(0.0, 0.3), clip=10.0)
_PROVED = Recipe("", epochs=30, batch=128, rate=3e-3, peak=0.3, ramp=(0.05, 0.4), clip=10.0)
ROWS: dict[str, Recipe] = {
    "natural": replace(_ATTACKED, objective="natural"),
    "fast": replace(_ATTACKED, objective="fast:step=1", peak=0.3, ramp=(0.0, 0.6)),
    "pgd": replace(_ATTACKED, objective="pgd:steps=7"),
    "trades": replace(_ATTACKED, objective="trades:beta=3,steps=7,step=0.25"),
    "ibp": replace(_PROVED, objective="ibp:start=shi,clean=0", widen=1.12),
    "crown-ibp": replace(_PROVED, objective="crown-ibp:start=shi,clean=0", epochs=22),
    "mtl-ibp": replace(_PROVED, objective="mtl-ibp:start=shi,alpha=0.9,steps=1,step=1"),
}


DEEPER = ("crown-ibp",)
"""Rows whose network has a third convolution."""


def network(row: str) -> nn.Sequential:
    """CNN-A, 166,406 weights; where bounds are trained on, with batch normalisation before each ReLU (296 more), and in
    deeper rows with a convolution of 16 channels, 3 x 3, after the first (2,352 more)."""
    layers = [
        [nn.Conv2d(1, 16, 4, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU()],
        [nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()] if row in DEEPER else [],
        [nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten()],
        [nn.Linear(1568, 100), nn.BatchNorm1d(100), nn.ReLU(), nn.Linear(100, 10)],
    ]
    normalised = ROWS[row].objective.partition(":")[0] in CERTIFIED
    parts = [part for layer in layers for part in layer]
    return nn.Sequential(*(part for part in parts if normalised or not isinstance(part, _BatchNorm)))


def clean_accuracy(module: nn.Module, x: torch.Tensor, y: torch.Tensor) -> float:
    """The share of images [N, 1, 28, 28] that are right."""
    with torch.no_grad():
        return float(torch.cat([module(part).argmax(1) for part in x.split(1000)]).eq(y).double().mean())


def interval_shares(model: str, x: torch.Tensor, y: torch.Tensor) -> dict[str, float]:
    """The shares that interval bounds prove of the images that audits take, and of the others."""
    graph = load_model(model).graph
    assert graph is not None
    proved = []
    for some, labels in zip(x.split(1000), y.split(1000), strict=True):
        rows = Argmax().rows(labels, 10)
        with torch.no_grad():
            proved.append(rows.combine(lower_bound("ibp", graph, parse_threat(THREAT), some, rows)) > 0)
    shares = torch.cat(proved).double().split([AUDITED, len(x) - AUDITED])
    return {name: float(share.mean()) for name, share in zip(("interval", "others"), shares, strict=True)}


def train(name: str, data: str, out: Path, epochs: int | None) -> dict[str, object]:
    """One row of the table."""
    recipe = ROWS[name] if epochs is None else replace(ROWS[name], epochs=epochs)
    torch.manual_seed(0)
    model = network(name)
    folder = out / name
    result = withstand.harden(
        model, data, THREAT, recipe=recipe, limit=AUDITED, out=folder, resume=(folder / "run.json").exists()
    )
    test = load_data(f"{data}[x_test,y_test]")
    x, y = test.x[:, None], test.y
    return {
        "recipe": str(recipe),
        "clean": clean_accuracy(result.module, x, y),
        "pgd": result.after.pgd_accuracy,
        "attacked": result.attacked_accuracy,
        "certified": result.certified_accuracy,
        **interval_shares(str(result.run_dir / "best.onnx"), x, y),
        "epochs": result.epochs,
        "minutes": result.seconds / 60,
        "cpu_minutes": result.cpu_seconds / 60,
        "peak_memory_mb": result.peak_memory_mb,
        "threads": torch.get_num_threads(),
    }


def reference(model: str, data: str, out: Path) -> dict[str, object]:
    """The same figures of a stored network."""
    test = load_data(f"{data}[x_test,y_test]")
    plan = plan_of(model, test, parse_threat(THREAT), AUDITED, seed=0)
    found = withstand.audit(model, test, threat=THREAT, plan=plan, out=out / Path(model).stem)
    x, y = test.x[:, None], test.y
    return {
        "recipe": f"stored as {Path(model).name}",
        "clean": clean_accuracy(load_model(model).module, x, y),
        "attacked": found.attacked_accuracy,
        "certified": found.certified_accuracy,
        **interval_shares(model, x, y),
    }


def table(held: dict[str, dict[str, object]]) -> str:
    """The rows in Markdown."""
    accuracies = ("clean", "pgd", "attacked", "certified", "interval", "others")
    columns = ("epochs", *accuracies, "minutes", "cpu_minutes", "peak_memory_mb")
    lines = ["| row | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in held.items():
        cells = [row.get(column) for column in columns]
        texts = ["" if cell is None else f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells]
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def held_in(file: Path) -> dict[str, dict[str, object]]:
    """The rows that a file holds."""
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def keep(file: Path, name: str, row: dict[str, object]) -> None:
    """Write a row to a file, which others may have added rows to meanwhile."""
    file.write_text(json.dumps({**held_in(file), name: row}, indent=1) + "\n", "utf-8")


def main() -> int:
    """Run the rows asked for, keep their figures and print all that are held."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", nargs="?", default=str(SHARED / "data" / "mnist.npz"))
    parser.add_argument("--rows", nargs="*", default=list(ROWS), choices=ROWS)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--out", type=Path, default=Path("runs/mnist"))
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--reference", nargs="*", default=STORED, metavar="ONNX")
    parser.add_argument("--alone", choices=ROWS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if not Path(asked.data).is_file():
        print(f"There is no {asked.data}; give an npz file with x_train, y_train, x_test and y_test.", file=sys.stderr)
        return 2
    if asked.alone:
        print(json.dumps(train(asked.alone, asked.data, asked.out, asked.epochs)))
        return 0
    for name in asked.rows:
        command = [sys.executable, __file__, asked.data, "--alone", name, "--out", str(asked.out)]
        command += [] if asked.epochs is None else ["--epochs", str(asked.epochs)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        keep(asked.json, name, json.loads(done.stdout.splitlines()[-1]))
    for model in asked.reference:
        keep(asked.json, Path(model).stem, reference(model, asked.data, asked.out))
    print(table(held_in(asked.json)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
