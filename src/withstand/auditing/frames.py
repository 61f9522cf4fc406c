"""Records of samples as a table of pandas, where that is installed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from withstand.core.errors import InputError


def frame(records: Sequence[Any]) -> Any:
    """A pandas.DataFrame with one row a sample, indexed by its number; records: dataclasses, records or mappings.

    A list becomes text, its parts separated by blanks, and what is kept by name (the attacks of a sample) a column each
    part: `pgd.margin`. Raises InputError where pandas is not installed.
    """
    try:
        from pandas import DataFrame  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError(
            "A table needs pandas, which is not installed: pip install 'withstand[frames]', or pip install pandas."
        ) from None
    rows = [row(record) for record in records]
    return DataFrame(rows).set_index("id") if rows else DataFrame()


def row(record: Any) -> dict[str, Any]:
    """The cells of a sample by column."""
    if isinstance(record, Mapping):
        held = dict(record)
    else:
        held = record.model_dump() if hasattr(record, "model_dump") else asdict(record)
    return _flat(held)


def _flat(held: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for name, value in held.items():
        if isinstance(value, Mapping):
            within = before if name == "attacks" else f"{before}{name}."
            cells |= _flat({str(key): part for key, part in value.items()}, within)
        else:
            cells[before + name] = " ".join(map(str, value)) if isinstance(value, list | tuple) else value
    return cells
