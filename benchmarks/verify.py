"""Folders of VNN-COMP instances on one thread: verdicts, seconds, domains and totals, beside a peer's results.

    python benchmarks/verify.py ../shared/vnncomp2021/acasxu ../shared/vnncomp2021/mnistfc --timeout 60 --csv ours.csv
    python benchmarks/verify.py --csv ours.csv --compare benchmarks/results/verify-nnenum.csv

A folder (ACAS Xu unless given) holds `instances.csv` (onnx,vnnlib[,timeout_s[,known_verdict]]) and the files it names.
Instances are answered as `withstand verify --instances` answers them, in one worker process: start-up is paid once and
not counted. With `--csv` a run goes on where an earlier one ended. A peer's file has our columns onnx, vnnlib, result
and cpu_seconds (or seconds), or those of VNN-COMP without a header: category, network, property, preparation, result,
seconds. Its times are compared in CPU seconds where it has them, else in wall time. Ends with exit code 1 if a verdict
contradicts a known one or a peer's.
"""

import argparse
import csv
import json
import math
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from withstand.io.instances import WORDS, Instance, read_instances
from withstand.io.results import Result, ResultsFile, match
from withstand.verification.instances import answer_all
from withstand.verification.score import VERDICTS, is_wrong, score

LINE = "{:52} {:8} {:8} {:>9} {:>9} {:>9} {:>10}"
FOLDER = Path("../shared/vnncomp2021/acasxu")
SECONDS = 60.0
"""Time limit where neither the list nor the command states one."""

Pair = tuple[Instance, Result]


@dataclass(frozen=True)
class Peer:
    """Another tool's answers: verdict (or another word) and seconds by network and question, and what clock it used."""

    name: str
    clock: str
    answers: dict[tuple[str, str], tuple[str, float]]


def main() -> int:
    """Run the instances, print a line for each, totals by folder, and comparisons."""
    given = arguments()
    instances = chosen(given.folders, given.only, given.timeout)
    peers = [read_peer(path) for path in given.compare]
    pairs = run(instances, given.csv)
    wrong = print_totals(pairs) + sum(compare(pairs, peer) for peer in peers)
    if given.json:
        rows = [{**asdict(result), "known": one.known, "timeout": one.timeout} for one, result in pairs]
        for row in rows:
            row["bound"] = row["bound"] if math.isfinite(row["bound"]) else None
        told = {"instances": rows, "totals": asdict(score(pairs))}
        given.json.write_text(json.dumps(told, indent=1) + "\n", "utf-8")
    return int(wrong > 0)


def arguments() -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*", default=[FOLDER], metavar="FOLDER")
    parser.add_argument("--timeout", type=float, help="seconds an instance, in place of the list's")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="instances whose line holds this, as in 1_1 or prop_2"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write results, and go on where the file ends")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write results and totals")
    parser.add_argument("--compare", type=Path, action="append", default=[], metavar="PEER", help="a peer's results")
    return parser.parse_args()


def chosen(folders: Iterable[Path], only: str, timeout: float | None) -> list[Instance]:
    """The instances of all folders, their files relative to the folders' parents."""
    found = []
    for folder in folders:
        for one in read_instances(folder / "instances.csv"):
            named = replace(one, onnx=f"{folder.name}/{one.onnx}", vnnlib=f"{folder.name}/{one.vnnlib}")
            limit = timeout or one.timeout or SECONDS
            found.append(replace(named, folder=folder.resolve().parent, timeout=limit))
    return [one for one in found if only in f"{one.onnx} {one.vnnlib}"]


def run(instances: list[Instance], path: Path | None) -> list[Pair]:
    """Every instance with its result: those in the file first, then those answered now."""
    print(LINE.format("instance", "known", "result", "seconds", "CPU", "domains", "bound"))
    file = ResultsFile(path) if path else None
    found = match(instances, file.results if file else [])
    for one, result in zip(instances, found, strict=True):
        if result is not None:
            tell(one, result)
    left = [i for i, result in enumerate(found) if result is None]
    for number, outcome in answer_all([instances[i] for i in left], threads=1):
        found[left[number]] = outcome.result
        if file:
            file.append(outcome.result)
        tell(outcome.instance, outcome.result)
        if outcome.result.result == "error":
            print("   ", outcome.reason, flush=True)
    return [(one, result) for one, result in zip(instances, found, strict=True) if result is not None]


def tell(one: Instance, result: Result) -> None:
    """The line of one instance."""
    known = f"{one.known or '-'}{' (!)' if is_wrong(one, result) else ''}"
    numbers = (f"{result.seconds:.2f}", f"{result.cpu_seconds:.2f}", result.domains, f"{result.bound:.4g}")
    print(LINE.format(one.name, known, result.result, *numbers), flush=True)


def print_totals(pairs: list[Pair]) -> int:
    """Solved, wrong, seconds and PAR-2 by folder and of all; the number of wrong verdicts."""
    print(f"\n{'folder':12} {'count':>6} {'solved':>7} {'wrong':>6} {'seconds':>9} {'CPU':>9} {'PAR-2':>8}   words")
    folders = dict.fromkeys(one.onnx.split("/")[0] for one, _ in pairs)
    groups = {name: [pair for pair in pairs if pair[0].onnx.startswith(name + "/")] for name in folders}
    for name, part in [*groups.items(), ("all", pairs)]:
        s = score(part)
        words = ", ".join(f"{number} {word}" for word, number in s.words.items() if number)
        times = f"{s.seconds:9.1f} {s.cpu_seconds:9.1f} {s.par2:8.2f}"
        print(f"{name:12} {s.count:6} {s.solved:7} {s.wrong:6} {times}   {words}")
    return score(pairs).wrong


def read_peer(path: Path) -> Peer:
    """A peer's results, in our columns or in those of VNN-COMP."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = [[cell.strip() for cell in line] for line in csv.reader(file) if line]
    columns = ["category", "onnx", "vnnlib", "prepare", "result", "seconds"]
    if {"onnx", "vnnlib", "result"} <= set(lines[0]):
        columns = lines.pop(0)
    rows = [dict(zip(columns, line)) for line in lines]
    clock = "cpu_seconds" if "cpu_seconds" in columns else "seconds"
    answers = {}
    for row in rows:
        try:
            answers[key(row["onnx"], row["vnnlib"])] = (WORDS.get(row["result"], row["result"]), float(row[clock]))
        except (KeyError, ValueError):
            continue  # a header of another kind, or an instance that was not run
    return Peer(path.stem, clock, answers)


def key(onnx: str, vnnlib: str) -> tuple[str, str]:
    """What names an instance whatever folders it lies in, packed or not."""
    network, question = (Path(text).name.removesuffix(".gz") for text in (onnx, vnnlib))
    return network, question


def compare(pairs: list[Pair], peer: Peer) -> int:
    """Both tools' answers and the ratio of their times; the number of verdicts that contradict each other."""
    print(f"\nbeside {peer.name}, in {peer.clock}\n{'instance':52} {'ours':>17} {'theirs':>17} {'ratio':>7}")
    both, ours_alone, theirs_alone, contradict = [], 0, 0, 0
    for one, result in pairs:
        if (theirs := peer.answers.get(key(one.onnx, one.vnnlib))) is None:
            continue
        seconds = result.cpu_seconds if peer.clock == "cpu_seconds" else result.seconds
        solved, their_solved = result.result in VERDICTS, theirs[0] in VERDICTS
        ratio = ""
        if solved and their_solved:
            both.append((seconds, theirs[1]))
            contradict += result.result != theirs[0]
            ratio = f"{seconds / max(theirs[1], 1e-3):.3f}"
        ours_alone += solved and not their_solved
        theirs_alone += their_solved and not solved
        cells = [f"{word[:8]:8} {time:8.2f}" for word, time in ((result.result, seconds), theirs)]
        print(f"{one.name:52} {cells[0]} {cells[1]} {ratio:>7}")
    ours, theirs = (sum(times) for times in zip(*both)) if both else (0.0, 0.0)
    print(
        f"solved by both: {len(both)}, in {ours:.1f} s against {theirs:.1f} s (ratio {ours / max(theirs, 1e-3):.3f}); "
        f"by us alone: {ours_alone}; by {peer.name} alone: {theirs_alone}; contradictions: {contradict}"
    )
    return contradict


if __name__ == "__main__":
    sys.exit(main())
