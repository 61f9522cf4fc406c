"""`worst` against `standard`, image by image: what one breaks and the other does not, with CPU seconds.

    python benchmarks/worst_against_standard.py [--models mnist-plain,cifar-base-kw] [--images 500] [--seeds 3]
        [--peer] [--json FILE]

One thread, process CPU seconds. `--peer` adds torchattacks' AutoAttack, which has to be installed.
"""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contest.rows import Contender

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # libraries read these when they load

THREATS = {
    "mnist-plain": "linf:0.1",
    "mnist-pgd-0.3": "linf:0.3",
    "mnist-wk17a-0.1": "linf:0.1",
    "mnist-cnn-a-adv": "linf:0.2",
    "mnist-conv-small-nat": "linf:0.1",
    "cifar-base-kw": "linf:8/255",
}
"""Models of the shared folder and the threats they are attacked in."""

CIFAR_IMAGES = 300
"""As many as there are."""


def main() -> int:
    """Run the comparison and print a line a model and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(THREATS), help="by commas (default: all six)")
    parser.add_argument("--images", type=int, default=500, help="the first so many (default 500; CIFAR has 300)")
    parser.add_argument("--seeds", type=int, default=3, help="0, 1, ... (default 3)")
    parser.add_argument("--peer", action="store_true", help="torchattacks' AutoAttack as well")
    parser.add_argument("--worst", default="worst", help="the attack compared (default worst)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results; other models in it stay")
    given = parser.parse_args()

    import torch
    from contest.own import Own
    from contest.rows import AUTOATTACK, STANDARD
    from contest.task import SHARED

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    unknown = [name for name in given.models.split(",") if name not in THREATS]
    if unknown or not (SHARED / "models").is_dir():
        where = f"There are no models in {SHARED}; put the folder there and run again."
        print(f"There is no model {unknown[0]!r} in {', '.join(THREATS)}." if unknown else where, file=sys.stderr)
        return 2
    contenders = [Own(given.worst), STANDARD, *([AUTOATTACK] if given.peer else [])]
    lines: list[dict[str, Any]] = []
    for model in given.models.split(","):
        for seed in range(given.seeds):
            lines.append(compare(contenders, model, given.images, seed))
            print(sentence(lines[-1]), flush=True)
            if given.json is not None:
                held = json.loads(given.json.read_text("utf-8")) if given.json.is_file() else []
                held = [line for line in held if (line["model"], line["seed"]) != (model, seed)]
                given.json.write_text(json.dumps([*held, lines[-1]], indent=1) + "\n", "utf-8")
    print(f"\n{markdown(lines)}")
    return 0


def compare(contenders: "Sequence[Contender]", model: str, images: int, seed: int) -> dict[str, Any]:
    """All contenders on the same images: who broke which, at what cost."""
    from contest.task import broken, cpu_seconds, pose

    task = pose(model, THREATS[model], min(images, CIFAR_IMAGES) if model.startswith("cifar") else images)
    held: dict[str, Any] = {"model": model, "threat": THREATS[model], "images": len(task.x), "seed": seed}
    sets: dict[str, set[int]] = {}
    held["attacks"] = {}
    for contender in contenders:
        name = contender.name if contender.library == "withstand" else f"{contender.library} {contender.name}"
        points, seconds = cpu_seconds(contender.prepare(task, seed))
        right, hit = broken(task, points)
        sets[name] = set(hit.nonzero().flatten().tolist())
        robust = float((right & ~hit).double().mean())
        held["attacks"][name] = {"robust": robust, "seconds": seconds, "queries": points.queries / len(task.x)}
    ours, *others = sets
    for other in others:
        held["attacks"][other]["broken_only_here"] = sorted(sets[other] - sets[ours])
        held["attacks"][other]["broken_only_by_" + ours] = sorted(sets[ours] - sets[other])
    return held


def sentence(line: dict[str, Any]) -> str:
    """A model and seed in one line."""
    (ours, first), *others = line["attacks"].items()
    text = f"{line['model']} {line['threat']}, {line['images']} images, seed {line['seed']}: "
    text += f"{ours} {first['robust']:.3f} in {first['seconds']:.1f} s"
    for name, other in others:
        text += f"; {name} {other['robust']:.3f} in {other['seconds']:.1f} s"
        text += f", it alone breaks {other['broken_only_here']}, {ours} alone {other['broken_only_by_' + ours]}"
    return text


def markdown(lines: Sequence[dict[str, Any]]) -> str:
    """The figures as a table: robust shares, CPU seconds and their ratio, the images that only one side breaks."""
    heads = [
        "model",
        "threat",
        "images",
        "seed",
        "ours",
        "CPU",
        "other",
        "robust",
        "CPU",
        "ratio",
        "it-alone",
        "we-alone",
    ]
    texts = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for line in lines:
        (ours, first), *others = line["attacks"].items()
        for name, other in others:
            keys = ("broken_only_here", "broken_only_by_" + ours)
            alone = [", ".join(map(str, other[key])) or "none" for key in keys]
            cells = [line["model"], line["threat"], line["images"], line["seed"], f"{first['robust']:.3f}"]
            cells += [f"{first['seconds']:.1f}", name, f"{other['robust']:.3f}", f"{other['seconds']:.1f}"]
            cells += [f"{first['seconds'] / other['seconds']:.3f}", *alone]
            texts.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(texts)


if __name__ == "__main__":
    sys.exit(main())
