"""Reads torch's exported programs (.pt2) without unpickling anything."""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from withstand.core.errors import InputError, told_of
from withstand.graph.capture import from_program
from withstand.graph.model import Model

LEAST_PACKED, LEAST_SIZE = 4, 2**24
"""How many times larger, and by how many bytes, what torch leaves unpacked may be."""

PLAIN = re.compile(r"(\.data/|\.format|archive_|byteorder|data/weights/|data/constants/|extra/|version)")
SHAPE_EXPRESSION = re.compile(
    r"(\b(Symbol|Add|Mul|Pow|Integer|Rational|FloorDiv|Mod|Max|Min|Eq|Ne|Le|Lt|Ge|Gt)\("
    r"|'[us]\d+'|(positive|integer|nonnegative)=True|-?\d+|[\s,)])*"
)
TARGET = re.compile(r"(torch\.ops\.aten\.\w+\.\w+|_operator\.\w+|torch\.sym_\w+)")


def read_pt2(path: str | Path) -> Model:
    """The model of a program saved by torch.export.save.

    torch's own loader unpickles parts of such files. Here the archive is checked and packed anew first: weights must
    be plain bytes, operations must be ATen's, sizes plain arithmetic, and what may be pickled is left out. Errors:
    InputError for a file that does not meet this, or a program that cannot become a graph.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file '{path}', so give the path of a program saved by torch.export.save.")
    with told_of(f"'{path}' is not a program saved by torch.export.save, so save it again"):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > path.stat().st_size * LEAST_PACKED + LEAST_SIZE:
                raise _refused(path, f"unpacks to {unpacked:,} bytes")
            members = {name: archive.read(name) for name in archive.namelist()}
        packed = _safe_archive(members, path)
    try:
        program = torch.export.load(packed)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"'{path}' cannot be loaded by this torch ({reason}), so export it to ONNX.") from error
    return from_program(program, path.stem)


def _safe_archive(members: dict[str, bytes], path: Path) -> io.BytesIO:
    """The archive with checked members only."""
    packed = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(packed)
    roots = {name.split("/", 1)[0] for name in members}
    if len(roots) != 1 or not any(name.endswith("/models/model.json") for name in members):
        raise _refused(path, "was saved by a torch whose format needs unpickling")
    for name, data in members.items():
        inner = name.split("/", 1)[1]
        if inner.startswith("data/sample_inputs/"):
            data = b""
        elif inner.startswith("models/") and inner.endswith(".json"):
            data = json.dumps(_checked_program(_json(data, path), path)).encode()
        elif inner.endswith("_config.json"):
            _check_payloads(_json(data, path), path)
        elif not PLAIN.match(inner):
            raise _refused(path, f"holds '{inner}', which is not part of a plain program")
        if not inner.startswith((".data/", "byteorder", "version")):
            writer.write_record(inner, data, len(data))
    writer.write_end_of_file()
    packed.seek(0)
    return packed


def _json(data: bytes, path: Path) -> dict[str, Any]:
    try:
        held = json.loads(data)
    except (ValueError, RecursionError):
        held = None
    if not isinstance(held, dict):
        raise _refused(path, "holds a damaged description")
    return held


def _check_payloads(config: dict[str, Any], path: Path) -> None:
    for name, payload in config.get("config", {}).items():
        if payload.get("use_pickle") or payload.get("tensor_meta") is None:
            raise _refused(path, f"holds '{name}' as a pickle")


def _checked_program(program: dict[str, Any], path: Path) -> dict[str, Any]:
    """The program without the notes that name Python objects and the guards, which torch would run as Python; its
    operations, size expressions and forms of arguments are checked."""
    program["guards_code"] = []
    for text in _texts(program):
        _check_form(text, path)
    for part in _dicts(program):
        expression = part.get("expr_str", "")
        if not isinstance(expression, str) or not SHAPE_EXPRESSION.fullmatch(expression):
            raise _refused(path, f"holds the size expression '{expression}'")
        if isinstance(part.get("target"), str) and "inputs" in part:
            if not TARGET.fullmatch(part["target"]):
                raise _refused(path, f"holds the operation '{part['target']}'")
            part["metadata"] = {}
    return program


def _check_form(text: str, path: Path) -> None:
    """Refuse a text that is JSON, as the forms of arguments are, and names an enumeration: torch would import its
    module. Such texts lie within each other."""
    if not text.lstrip().startswith(("[", "{")):
        return
    try:
        held = json.loads(text)
    except (ValueError, RecursionError):
        return
    if any("__enum__" in part for part in _dicts(held)):
        raise _refused(path, "names a Python object in the form of its arguments")
    for inner in _texts(held):
        _check_form(inner, path)


def _texts(part: Any) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _texts(inner)


def _dicts(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        yield part
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _dicts(inner)


def _refused(path: Path, reason: str) -> InputError:
    return InputError(f"'{path}' {reason} and cannot be loaded safely, so export the model to ONNX.")
