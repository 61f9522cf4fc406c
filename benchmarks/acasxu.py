"""All ACAS Xu instances of VNN-COMP on one thread: verdicts against the known ones, and seconds.

    python benchmarks/acasxu.py ../shared/vnncomp2021/acasxu --timeout 116

The folder holds `instances.csv` (onnx,vnnlib,timeout_s,known_verdict) and the files it names. Start-up is paid once.
Ends with exit code 1 if any verdict is wrong.
"""

import argparse
import csv
import sys
import time
from collections import defaultdict
from pathlib import Path


def main() -> int:
    """Run the instances and print a line each, then a table by property."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--timeout", type=float, default=116.0, help="seconds an instance (default 116)")
    parser.add_argument("--only", default="", help="instances whose property's name contains this")
    given = parser.parse_args()

    import torch

    from withstand.verification.vnncomp import decide

    torch.set_num_threads(1)
    rows: dict[str, list[tuple[str, str, float]]] = defaultdict(list)
    cpu = time.process_time()
    with (given.folder / "instances.csv").open() as file:
        for line in csv.DictReader(file):
            if given.only not in line["vnnlib"]:
                continue
            answer = decide(given.folder / line["onnx"], given.folder / line["vnnlib"], given.timeout)
            known = line["known_verdict"]
            rows[Path(line["vnnlib"]).stem].append((known, answer.result, answer.seconds))
            name = f"{line['onnx']:36} {line['vnnlib']:16}"
            print(f"{name} {known:6} {answer.result:8} {answer.seconds:7.2f}", flush=True)
    wrong = table(rows)
    print(f"CPU seconds of all instances: {time.process_time() - cpu:.1f}")
    return int(wrong > 0)


def table(rows: dict[str, list[tuple[str, str, float]]]) -> int:
    """Print solved, wrong, total and longest seconds by property; return how many are wrong."""
    print(f"\n{'property':10} {'count':>6} {'solved':>7} {'wrong':>6} {'seconds':>9} {'longest':>8}")
    everything = [entry for entries in rows.values() for entry in entries]
    wrong = 0
    for name, entries in [*rows.items(), ("all", everything)]:
        solved = [entry for entry in entries if entry[1] in ("sat", "unsat")]
        wrong = sum(known in ("sat", "unsat") and known != result for known, result, _ in solved)
        seconds = [entry[2] for entry in entries]
        total, longest = sum(seconds), max(seconds, default=0)
        print(f"{name:10} {len(entries):6} {len(solved):7} {wrong:6} {total:9.1f} {longest:8.1f}")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
