"""Write the table of README.md from the run folders of `make audit`, and the file of figures that a test holds it to.

Usage: python scripts/make_readme.py runs        (after `make audit`; without a folder, from the stored figures)
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
STORED = ROOT / "docs" / "audit.json"
MODELS = {
    "digits-cnn": "trained plainly",
    "digits-cnn-pgd": "trained against PGD",
    "digits-cnn-cert": "trained for certification",
}
BEGIN, END = "<!-- written by scripts/make_readme.py -->\n", "<!-- end -->"


def read(folder: Path) -> dict[str, dict[str, int]]:
    """The counts of each model's audit: n, proved, refuted, unknown, invalid."""
    found = {}
    for model in MODELS:
        summary = json.loads((folder / model / "run.json").read_text("utf-8"))["summary"]
        found[model] = {"n": summary["n"], **summary["counts"]}
    return found


def table(found: dict[str, dict[str, int]]) -> str:
    """The table in Markdown."""
    lines = [
        "| network | right when clean | surely survive (certified) | survive at most (attacked) | open |",
        "|---|---|---|---|---|",
    ]
    for model, told in MODELS.items():
        c = found[model]
        right, high = c["n"] - c["invalid"], c["proved"] + c["unknown"]
        lines.append(f"| `{model}`, {told} | {right} | {c['proved']} | {high} | {c['unknown']} |")
    return "\n".join(lines) + "\n"


def fill(text: str, rows: str) -> str:
    """The README with the table in its place."""
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}{rows}{END}", text, flags=re.DOTALL)


def main(arguments: list[str]) -> None:
    """Store the figures of the runs named, and write the table."""
    if arguments:
        STORED.write_text(json.dumps(read(Path(arguments[0])), indent=1) + "\n", "utf-8")
    README.write_text(fill(README.read_text("utf-8"), table(json.loads(STORED.read_text("utf-8")))), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
