"""Write docs/commands.md and docs/methods/: verbs, attacks, verifiers, training objectives, additions to them and
operators, from their own docstrings.

Usage: python scripts/make_docs.py [--check]. With --check nothing is written, and the exit code is 1 when a page on
disk differs from what would be written.
"""

import dataclasses
import inspect
import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from annotated_types import Ge, Gt, Le, Lt

from withstand.bounds.rule import rules
from withstand.cli.app import app
from withstand.core.registry import components
from withstand.graph.ops import OPS

FOLDER = Path(__file__).resolve().parents[1] / "docs"
RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "attacks.json"
KINDS = {
    "attack": "attacks",
    "universal": "universal",
    "verifier": "verifiers",
    "objective": "objectives",
    "addition": "additions",
}
HEADINGS = {
    "attack": "Attacks",
    "universal": "Universal attacks",
    "verifier": "Verifiers",
    "objective": "Training objectives",
    "addition": "Additions to objectives",
}
OPTION = {
    "attack": "--attack",
    "universal": "--attack",
    "verifier": "--method",
    "objective": "--recipe",
    "addition": "--recipe pgd --with",
}
VERB = {"attack": "attack", "universal": "attack", "verifier": "verify", "objective": "harden", "addition": "harden"}
THREATS = {
    "linf": "linf:0.1",
    "l2": "l2:0.5",
    "l1": "l1:1",
    "l0": "l0:5",
    "patch": "patch:3x3",
    "flow": "flow:0.3",
    "spatial": "spatial:30,2",
    "flow+linf": "flow+linf:0.1,0.1",
}
"""The threat of an example, by the first norm that a method declares."""

NEEDS = {
    "gradient": "gradients of the model",
    "scores": "the model's outputs only (black box)",
    "labels": "the class that the model names, and no more (black box, decision-based)",
}
ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
DOI = re.compile(r"doi:(10\.[^\s,;)]+[^\s,;).])")


def linked(text: str) -> str:
    """The text with arXiv and DOI numbers as links."""
    text = ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    return DOI.sub(r"[doi:\1](https://doi.org/\1)", text)


def prose(thing: object) -> tuple[str, str]:
    """A docstring's first sentence and the rest, with links."""
    first, *others = (" ".join(p.split()) for p in re.split(r"\n\s*\n", inspect.getdoc(thing) or ""))
    ends = (m.end() for m in re.finditer(r"\.(?: |$)", first) if balanced(first[: m.end()]))
    end = next(ends, len(first))
    return linked(first[:end].strip()), linked("\n\n".join(filter(None, [first[end:], *others])))


def balanced(text: str) -> bool:
    """Whether every bracket that opens in the text closes in it, so that a full stop may end a sentence."""
    return text.count("(") == text.count(")") and not text.endswith(("et al. ", "e.g. "))


def cell(text: object) -> str:
    """Text that is safe in a table."""
    return str(text).replace("|", "\\|").replace("\n", " ")


def parameter_table(cls: type) -> list[str]:
    """The parameters with types and defaults."""
    fields = dataclasses.fields(cls)
    if not fields:
        return ["It has no parameters."]
    lines = ["| parameter | type | default |", "|---|---|---|"]
    for field in fields:
        default = field.default if field.default is not dataclasses.MISSING else "made for each use"
        lines.append(f"| `{field.name}` | {cell(kind_of(field.type))} | `{cell(default)}` |")
    return lines


def kind_of(hint: Any) -> str:
    """A parameter's type in words: `int, at least 1`."""
    base, *limits = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if get_origin(base) is Literal:
        return " or ".join(f"`{word}`" for word in get_args(base))
    words = {Ge: "at least", Gt: "above", Le: "at most", Lt: "below"}
    told = [f"{words[type(limit)]} {dataclasses.astuple(limit)[0]}" for limit in limits]
    return ", ".join([base if isinstance(base, str) else base.__name__, *told])


def example(kind: str, name: str, cls: type) -> str:
    """A command that uses the method on a built-in model."""
    threat = THREATS[(getattr(cls, "norms", ()) or ("linf",))[0]]
    numbers = (f for f in dataclasses.fields(cls) if type(f.default) is int)
    number = next(numbers, None) if kind in ("attack", "universal", "verifier") else None
    text = f"{name}:{number.name}={number.default}" if number else name
    return f"withstand {VERB[kind]} digits-cnn --data digits --threat {threat} {OPTION[kind]} {text}"


def method_page(kind: str, name: str, cls: type) -> str:
    """The page of one method."""
    first, rest = prose(cls)
    lines = [f"# {name}", "", first, ""]
    lines += [rest, ""] if rest else []
    if norms := getattr(cls, "norms", None):
        lines += ["Threats: " + ", ".join(f"`{norm}`" for norm in norms) + ".", ""]
    if getattr(cls, "unlabelled", False):
        lines += ["Rows without a label (class -1) may be among the training data.", ""]
    if access := getattr(cls, "access", None):
        lines += [f"Needs: {NEEDS[str(access)]}.", ""]
    lines += ["## Parameters", "", *parameter_table(cls), "", "## On the command line", ""]
    lines += ["```console", "$ " + example(kind, name, cls), "```", ""]
    lines += measured(name)
    lines += [f"Source: `src/{cls.__module__.replace('.', '/')}.py`.", ""]
    return "\n".join(lines)


def measured(name: str) -> list[str]:
    """The rows of the benchmark that an attack ran in, with its cost a sample and the other packages' figures."""
    held = json.loads(RESULTS.read_text("utf-8")) if RESULTS.is_file() else {}
    rows = [row for row in held.values() if any(is_of(name, entry) for entry in [row["ours"], *row["others"]])]
    if not rows:
        return []
    lines = ["## In the benchmark", "", "CPU seconds of one thread; what the figures mean, and the command that prints"]
    lines += ["them, is in `benchmarks/README.md`.", ""]
    lines += ["| work | attack | figure | seconds a sample | queries a sample |", "|---|---|---|---|---|"]
    for row in rows:
        work = f"`{row['model']}` `{row['threat']}`, {row['count']} images"
        for entry in filter(lambda entry: entry["score"], [row["ours"], *row["others"]]):
            score, library = entry["score"], entry["library"]
            who = f"`{entry['name']}`" if library == "withstand" else f"{library} {entry['name']}"
            value = score[row["figure"]]
            figure = f"{row['figure']} " + ("infinite" if value is None else f"{value:.4g}")
            cells = [work, who, figure, f"{score['seconds'] / row['count']:.3g}", f"{score['queries']:.0f}"]
            lines.append("| " + " | ".join(map(cell, cells)) + " |")
            work = ""
    return [*lines, ""]


def is_of(name: str, entry: dict[str, Any]) -> bool:
    """Whether an entry of the benchmark is a measured attack of this package and this name."""
    return entry["library"] == "withstand" and entry["name"].partition(":")[0] == name and entry["score"] is not None


def own(kind: str) -> dict[str, type]:
    """The components of this package, without those of installed plugins."""
    return {name: cls for name, cls in components(kind).items() if cls.__module__.startswith("withstand.")}


def index_page(tables: dict[str, dict[str, str]]) -> str:
    """The table of all methods: heading to page to first sentence."""
    lines = ["# Methods", "", "These pages are made from the code by `python scripts/make_docs.py`.", ""]
    for heading, rows in tables.items():
        lines += [f"## {heading}", "", "| name | in one sentence |", "|---|---|"]
        lines += [f"| [{Path(page).stem}]({page}) | {cell(sentence)} |" for page, sentence in rows.items()]
        lines.append("")
    return "\n".join(lines)


def commands_page() -> str:
    """The verbs of the command line with their arguments and options."""
    lines = ["# Commands", "", "Every verb is a function of the library too, `withstand.audit(...)` for one.", ""]
    lines += [
        "Exit codes: 0 done, 1 a witness did not replay or a check failed, 2 the input cannot be used (one sentence"
    ]
    lines += ["on stderr says why and what to do), 3 a fault of withstand, 130 interrupted.", ""]
    for command in app.registered_commands:
        verb = command.callback
        assert verb is not None
        lines += [f"## {verb.__name__}", "", inspect.getdoc(verb) or "", "", "| | | default |", "|---|---|---|"]
        for parameter in inspect.signature(verb).parameters.values():
            if parameter.annotation is typer.Context:
                continue
            info = parameter.annotation.__metadata__[0]
            metavar = f" {info.metavar}" if info.metavar else ""
            name = (info.default if isinstance(info.default, str) else "") + metavar
            default = f"`{parameter.default}`" if isinstance(parameter.default, str | int | float) else ""
            lines.append(f"| `{cell(name.strip())}` | {cell(info.help)} | {default.replace('`False`', '')} |")
        lines.append("")
    return "\n".join(lines)


def operators_page() -> str:
    """The table of the operators that a graph may hold, and how each is bounded."""
    lines = ["# Operators", "", "The operators that a network may hold, and the kind of rule that bounds each one.", ""]
    lines += ["| operator | what it computes | rule | never falls |", "|---|---|---|---|"]
    known = rules()
    for name, op in sorted(OPS.items()):
        rule = type(known[name]).__name__ if name in known else "none"
        what = prose(op.run)[0] or "as in torch"
        lines.append(f"| `{name}` | {cell(what)} | {rule} | {'yes' if op.monotone else ''} |")
    lines += [
        "",
        "A network with another operator is refused or attacked only; see [how to write a rule](../howto/rule.md).",
        "",
    ]
    return "\n".join(lines)


def pages() -> dict[str, str]:
    """Every generated page's path below docs and its text."""
    made = {"commands.md": commands_page(), "methods/operators.md": operators_page()}
    tables: dict[str, dict[str, str]] = {}
    for kind, folder in KINDS.items():
        rows = tables.setdefault(HEADINGS[kind], {})
        for name, cls in own(kind).items():
            made[f"methods/{folder}/{name}.md"] = method_page(kind, name, cls)
            rows[f"{folder}/{name}.md"] = prose(cls)[0]
    tables["Bound rules"] = {"operators.md": "The operators of a graph, and how each is bounded."}
    made["methods/index.md"] = index_page(tables)
    return made


def holds(path: Path, text: str) -> bool:
    """Whether a file is there and holds just this text."""
    return path.is_file() and path.read_text("utf-8") == text


def main() -> int:
    """Write the pages, or compare them with those on disk."""
    wanted = pages()
    there = {
        str(path.relative_to(FOLDER)): path for path in [FOLDER / "commands.md", *(FOLDER / "methods").rglob("*.md")]
    }
    stale = [name for name, text in wanted.items() if not there.get(name, FOLDER / name).is_file()]
    stale += [name for name, text in wanted.items() if name not in stale and there[name].read_text("utf-8") != text]
    extra = [name for name in there if name not in wanted]
    if "--check" in sys.argv[1:]:
        for name in stale + extra:
            print(f"docs/{name} is out of date; run: python scripts/make_docs.py")
        return int(bool(stale or extra))
    for name in stale:
        (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_text(wanted[name], "utf-8")
    for name in extra:
        there[name].unlink()
    print(f"{len(wanted)} pages, {len(stale)} written, {len(extra)} removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
