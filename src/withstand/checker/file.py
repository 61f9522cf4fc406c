"""Certificates as files: safetensors, which is a header in JSON and the arrays' bytes, written and read here.

A file from anywhere is safe to read: it is checked before anything is believed, nothing in it is run, and the memory
used stays in proportion to the file's size.
"""

import json
import math
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from withstand.checker.certificate import Certificate, Claims, Nodes, Rows, Slopes, Targets
from withstand.checker.region import Region
from withstand.core.errors import InputError

Array = np.ndarray

FORM = "withstand certificate"
VERSION = 1
LONGEST_HEADER = 1 << 20
LARGEST = 1 << 48

TYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
"""Types of safetensors that certificates use, and numpy's words for them."""

NAMES = {np.dtype(numpy): name for name, numpy in TYPES.items()}

FORMS = {
    "region.low": ("F64", 1),
    "region.high": ("F64", 1),
    "region.centre": ("F64", 1),
    "region.radius": ("F64", 1),
    "rows.weight": ("F64", 2),
    "rows.offset": ("F64", 1),
    "rows.threshold": ("F64", 1),
    "nodes.point": ("F64", 1),
    "slopes.start": ("I64", 1),
    "rows.group": ("I32", 1),
    "root": ("I32", 1),
    "tree": ("I32", 1),
    "nodes.place": ("I32", 1),
    "nodes.child": ("I32", 2),
    "claims.node": ("I32", 1),
    "claims.group": ("I32", 1),
    "claims.weight": ("F32", 1),
    "claims.slopes": ("I32", 1),
    "claims.multipliers": ("F32", 1),
    "claims.count": ("I32", 1),
    "targets.node": ("I32", 1),
    "targets.neuron": ("I32", 1),
    "targets.slopes": ("I32", 1),
    "slopes.list": ("I32", 1),
    "slopes.numbers": ("F32", 1),
    "slopes.neuron": ("I32", 1),
    "nodes.kind": ("U8", 1),
    "nodes.anchor": ("U8", 1),
    "targets.upper": ("BOOL", 1),
    "slopes.shares": ("U8", 1),
}
"""Every array of the file: its type and how many axes it has. Wide types come first, so that all lie aligned."""

PARTS = {"nodes": Nodes, "claims": Claims, "targets": Targets, "slopes": Slopes}


def save(certificate: Certificate, path: str | PathLike[str]) -> None:
    """Write a certificate; a reader sees all of it or nothing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    beside.write_bytes(to_bytes(certificate))
    beside.replace(path)


def to_bytes(certificate: Certificate) -> bytes:
    """The certificate as the bytes of its file."""
    c, region, rows = certificate, certificate.region, certificate.rows
    held: dict[str, Any] = {
        "region.low": region.low,
        "region.high": region.high,
        "region.centre": np.zeros(0) if region.centre is None else region.centre,
        "region.radius": [region.radius],
        "rows.weight": rows.weight,
        "rows.offset": rows.offset,
        "rows.group": rows.group,
        "rows.threshold": [rows.threshold],
        "root": c.root,
        "tree": c.tree,
    }
    for name in PARTS:
        part = getattr(c, name)
        held |= {f"{name}.{f.name}": getattr(part, f.name) for f in fields(part)}
    about = {
        "format": FORM,
        "version": str(VERSION),
        "model": c.digest,
        "input": json.dumps({"name": c.input_name, "shape": list(c.input_shape)}),
        "norm": region.norm,
    }
    header: dict[str, Any] = {"__metadata__": about}
    pieces, place = [], 0
    for name, (kind, _) in FORMS.items():
        array = np.ascontiguousarray(held[name], TYPES[kind])
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [place, place + array.nbytes]}
        pieces.append(array.tobytes())
        place += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *pieces])


def load(path: str | PathLike[str]) -> Certificate:
    """Read a certificate.

    Raises InputError when the file is not there, is no certificate, or is damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no certificate file {path}; certificates lie in the folder named when proving.")
    try:
        return from_bytes(path.read_bytes())
    except _Damaged as damage:
        raise InputError(f"{path} cannot be used as a certificate: {damage}") from None


class _Damaged(InputError):
    """A sentence about what is wrong with a file."""


def from_bytes(data: bytes) -> Certificate:
    """A certificate from the bytes of its file.

    Raises InputError when they are none.
    """
    header, buffer = _split(data)
    about = header.pop("__metadata__", None)
    if not isinstance(about, dict) or about.get("format") != FORM:
        raise _Damaged("it is not a certificate of withstand.")
    if about.get("version") != str(VERSION):
        raise _Damaged(f"it has version {str(about.get('version'))[:20]!r}, this withstand reads version {VERSION}.")
    digest = about.get("model")
    if not isinstance(digest, str) or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise _Damaged("it does not name its network by a sha256.")
    held = _arrays(header, buffer)
    for name in ("region.radius", "rows.threshold"):
        if len(held[name]) != 1 or not np.isfinite(held[name]).all():
            raise _Damaged(f"its {name} is not one finite number.")
    name, shape = _input(about.get("input"))
    centre = held["region.centre"] if len(held["region.centre"]) else None
    region = Region(
        held["region.low"], held["region.high"], str(about.get("norm")), centre, float(held["region.radius"][0])
    )
    weight, offset, group = (held[f"rows.{part}"] for part in ("weight", "offset", "group"))
    rows = Rows(weight, offset, group, float(held["rows.threshold"][0]))
    parts = {p: kind(**{f.name: held[f"{p}.{f.name}"] for f in fields(kind)}) for p, kind in PARTS.items()}
    return Certificate(digest, name, shape, region, rows, held["root"], held["tree"], **parts)


def _split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header, and what comes after it."""
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, LONGEST_HEADER):
        raise _Damaged("its header is missing or of impossible length.")
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError):
        raise _Damaged("its header is not JSON.") from None
    if not isinstance(header, dict):
        raise _Damaged("its header is not a JSON object.")
    return header, data[8 + length :]


def _input(text: object) -> tuple[str, tuple[int, ...]]:
    try:
        held = json.loads(str(text))
        name, shape = held["name"], held["shape"]
        if (
            isinstance(name, str)
            and len(name) < 1000
            and len(shape) < 64
            and all(type(s) is int and s > 0 for s in shape)
        ):
            return name, tuple(shape)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise _Damaged("it does not say which input it is about.")


def _arrays(header: dict[str, Any], buffer: bytes) -> dict[str, Array]:
    """The arrays by name, as read-only views of the buffer."""
    if set(header) != set(FORMS):
        odd = min(set(header) ^ set(FORMS))
        raise _Damaged(f"its array {odd[:80]!r} is {'missing' if odd in FORMS else 'not known'}.")
    held, place = {}, 0
    for name, (kind, axes) in FORMS.items():
        match header[name]:
            case {"dtype": str(given), "shape": [*shape], "data_offsets": [start, end]} if given == kind:
                numbers = (*shape, start, end)
            case _:
                numbers, shape, start, end = (-1,), [], 0, 0
        if len(shape) != axes or not all(type(i) is int and 0 <= i < LARGEST for i in numbers):
            raise _Damaged(f"its array {name} is not of type {kind} with {axes} axes.")
        size = math.prod(shape) * np.dtype(TYPES[kind]).itemsize
        if start != place or end - start != size or end > len(buffer):
            raise _Damaged(f"its array {name} does not lie where the header says.")
        held[name] = np.frombuffer(buffer, TYPES[kind], math.prod(shape), start).reshape(shape)
        place = end
    if place != len(buffer):
        raise _Damaged("there are bytes after its last array.")
    if any(array.dtype == bool and (array.view(np.uint8) > 1).any() for array in held.values()):
        raise _Damaged("it has truth values that are neither 0 nor 1.")
    return held
