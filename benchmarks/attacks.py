"""The attacks beside those of torchattacks, foolbox, ART, adv-lib and CleverHans: figures and process CPU seconds, on
one thread.

    python benchmarks/attacks.py [--rows worst-plain,nearest-l2] [--repeats 3] [--json benchmarks/results/attacks.json]

Install the other packages with `pip install withstand[peers]`; the cell of one that is missing says so. Everybody gets
the same network, images and judge; contenders of a row take turns, and figures are medians over the repeats, whose
numbers are the seeds. `--limit 10` is a quick trial, which meets no target.
"""

import argparse
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contest.rows import Contender, Row
    from contest.table import Entry, Outcome
    from contest.task import Score

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")  # libraries read these when they load


def main() -> int:
    """Run the rows and print the table."""
    given = arguments()
    import torch
    from contest.rows import ROWS
    from contest.table import keep, markdown
    from contest.task import SHARED

    from withstand.core.errors import InputError

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if not (SHARED / "models").is_dir():
        print(f"There are no models and data in {SHARED}; put the folder there and run again.", file=sys.stderr)
        return 2
    try:
        rows = chosen(list(ROWS), given.rows, given.ours)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    outcomes: list[Outcome] = []
    known: dict[tuple[object, ...], Entry] = {}
    for row in rows:
        outcome = measure(row, given.repeats, given.limit, given.alone, known)
        outcomes.append(outcome)
        print(f"{row.key}: {outcome.verdict()}", file=sys.stderr, flush=True)
        if given.json is not None:
            keep(given.json, outcomes)
    print(markdown(outcomes))
    return 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", help="keys of rows, by commas (default: all)")
    parser.add_argument("--repeats", type=int, default=1, help="runs of every contender (default 1)")
    parser.add_argument("--limit", type=int, help="only the first images of every row")
    parser.add_argument("--ours", action="append", default=[], metavar="ROW=ATTACK", help="another attack of ours")
    parser.add_argument("--alone", action="store_true", help="leave the other packages out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results; rows in it that do not run stay")
    return parser.parse_args()


def chosen(rows: "list[Row]", keys: str, ours: list[str]) -> "list[Row]":
    """The rows asked for, with other attacks of ours where they are named. Raises InputError for what is unknown."""
    from withstand.core.errors import InputError
    from withstand.core.registry import build_attack, suggest

    table = {row.key: row for row in rows}
    for part in ours:
        key, _, text = part.partition("=")
        if key not in table:
            raise InputError(f"There is no row {key!r}; {suggest(key, list(table))}")
        build_attack(text)
        if not hasattr(table[key].ours, "text"):
            raise InputError(f"The row {key!r} does not take another attack; leave it out.")
        table[key] = replace(table[key], ours=replace(table[key].ours, text=text))  # type: ignore[type-var]
    wanted = [key.strip() for key in keys.split(",")] if keys else list(table)
    for key in wanted:
        if key not in table:
            raise InputError(f"There is no row {key!r}; {suggest(key, list(table))}")
    return [table[key] for key in wanted]


def measure(
    row: "Row", repeats: int, limit: int | None, alone: bool, known: "dict[tuple[object, ...], Entry]"
) -> "Outcome":
    """Run a row's contenders in turn. known: entries of contenders that have run on the same work before."""
    from contest.table import Entry, Outcome, median

    count = min(row.count, limit or row.count)
    others = [other for other in row.others if not alone or other.library == "withstand"]
    keys = {contender: (contender, row.model, row.threat, count, repeats) for contender in (row.ours, *others)}
    scores: dict[Contender, list[Score]] = {c: [] for c, key in keys.items() if key not in known}
    for seed in range(repeats):
        for contender in list(scores):
            score = attempt(contender, row, count, seed)
            if isinstance(score, str):
                known[keys[contender]] = Entry(contender.library, contender.name, why=score)
                del scores[contender]
            else:
                scores[contender].append(score)
    for contender, held in scores.items():
        known[keys[contender]] = Entry(contender.library, contender.name, median(held))
    entries = [known[keys[contender]] for contender in (row.ours, *others)]
    return Outcome(row, count, entries[0], entries[1:])


def attempt(contender: "Contender", row: "Row", count: int, seed: int) -> "Score | str":
    """A contender's score, or why there is none: another package's fault is no fault of the benchmark."""
    from contest.task import cpu_seconds, judge, pose

    from withstand.core.errors import InputError

    task = pose(row.model, row.threat, count)
    try:
        work = contender.prepare(task, seed)
        return judge(task, *cpu_seconds(work))
    except ImportError:
        return "not installed"
    except InputError as error:
        return str(error).partition(";")[0]
    except Exception as error:
        if contender.library == "withstand":
            raise
        return f"raised {type(error).__name__}"


if __name__ == "__main__":
    sys.exit(main())
