"""Results as values that JSON knows."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any


def json_values(result: Any, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of a result, a dataclass, by name; records become objects and paths text. without: fields left out."""
    return {field.name: _plain(getattr(result, field.name)) for field in fields(result) if field.name not in without}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if hasattr(value, "model_dump_json"):
        return json.loads(value.model_dump_json())
    return str(value) if isinstance(value, Path) else value
