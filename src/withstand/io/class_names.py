"""Labels that are the place of a name among sorted names, and the names that a model has for its classes."""

import ast
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from withstand.core.errors import InputError
from withstand.graph.model import Model
from withstand.io.data import Data

ATTRIBUTES = ("class_names", "classes", "categories", "class_to_idx", "id2label", "names")
"""Under what modules and ONNX files keep the names of their classes."""

INNER = ("config", "network", "model", "module")
"""Parts of a module that are looked into as well."""


def name_classes(data: Data, model: Model, outputs: int) -> Data:
    """The data with labels that are the model's classes.

    Labels that came from names (of sub-folders, or words) are matched with the names of the model's classes where it
    has them, and numbers that came as names are labels; else the place of a name among the sorted ones is its label,
    which needs as many names as there are classes. outputs: the number of classes.

    Raises InputError where names or their count do not fit.
    """
    if data.counted is None:
        return data
    names = names_of(model, outputs)
    if names is not None and data.classes is not None and not set(names).isdisjoint(data.classes):
        return _matched(data, names)
    if data.numbered:
        return data
    if data.classes is not None and any(_is_number(name) for name in data.classes):
        odd = next((name for name in data.classes if not _is_number(name)), data.classes[0])
        raise InputError(f"The {data.counted} of {data.name} are partly numbers, partly names ({odd!r}); use one form.")
    if data.width != outputs:
        raise InputError(
            f"{data.name} has {data.width} {data.counted}, and {model.name} has {outputs} classes, so the place of one "
            "says nothing of its class; name all by their class numbers, as 0 to "
            f"{outputs - 1}, or let the model have the attribute class_names."
        )
    return data


def names_of(model: Model, outputs: int) -> tuple[str, ...] | None:
    """The names of a model's classes in their order, from its module or its ONNX file; None where it has none, or not
    as many as it has classes."""
    if model.source is not None:
        return _of_onnx(model, outputs)
    return _of_module(model.module, outputs)


def _of_module(module: Any, outputs: int) -> tuple[str, ...] | None:
    for part in (module, *(getattr(module, name, None) for name in INNER)):
        for held in (part, getattr(part, "config", None)):
            for attribute in ATTRIBUTES:
                found = _listed(getattr(held, attribute, None), outputs)
                if found is not None:
                    return found
    inner = getattr(module, "function", None)
    return None if inner is None or isinstance(module, nn.Sequential) else _of_module(inner, outputs)


def _of_onnx(model: Model, outputs: int) -> tuple[str, ...] | None:
    import onnx

    held = onnx.load(str(model.source), load_external_data=False).metadata_props
    told = {entry.key: entry.value for entry in held}
    for attribute in ATTRIBUTES:
        found = _listed(_parsed(told.get(attribute, "")), outputs)
        if found is not None:
            return found
    return None


def _parsed(text: str) -> Any:
    """A list or a dict written as JSON, as Python writes it, or with commas."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            continue
    return [word.strip() for word in text.split(",")]


def _listed(held: Any, outputs: int) -> tuple[str, ...] | None:
    """Names in the order of their classes, from a list, a mapping of number to name or of name to number."""
    if isinstance(held, Mapping):
        pairs = [(k, v) if isinstance(v, str) else (v, k) for k, v in held.items()]
        order: dict[int, str] = {}
        for number, name in pairs:
            if not _is_number(str(number)) or not isinstance(name, str):
                return None
            order[int(number)] = name
        held = [order[i] for i in sorted(order)] if sorted(order) == list(range(len(order))) else []
    if not isinstance(held, list | tuple) or len(held) != outputs or not all(isinstance(one, str) for one in held):
        return None
    return tuple(held) if len(set(held)) == outputs else None


def _matched(data: Data, names: tuple[str, ...]) -> Data:
    """The data with labels by the model's names."""
    assert data.classes is not None
    unknown = [name for name in data.classes if name not in names]
    if unknown:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise InputError(
            f"{data.name} has {data.counted} of the name {unknown[0]!r}, none of the model's classes ({shown}); "
            "name it as the model does."
        )
    place = {name: number for number, name in enumerate(names)}
    held = [int(name) for name in data.classes] if data.numbered else range(len(data.classes))
    table = {number: place[name] for number, name in zip(held, data.classes, strict=True)}
    y = torch.tensor([table[label] for label in data.y.tolist()], dtype=torch.int64)
    note = f"The {data.counted} were matched with the model's names of its classes."
    return replace(data, y=y, classes=names, counted=None, notes=(*data.notes, note))


def _is_number(name: str) -> bool:
    return name.removeprefix("-").isdecimal()
