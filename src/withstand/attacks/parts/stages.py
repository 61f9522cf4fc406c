"""Attacks in a row: each sees the rows that those before have left."""

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from torch import Tensor

from withstand.core.evidence import Ask, Told
from withstand.core.runner import Search


def staged(search: Generator[Ask, Told, Any], stage: int, rows: Tensor | None = None) -> Search:
    """A search whose asks carry the number of their stage and, where given, are about some rows [B] only."""
    told = None
    while True:
        try:
            ask = next(search) if told is None else search.send(told)
        except StopIteration:
            return
        if rows is not None:
            ask = replace(ask, rows=rows if ask.rows is None else ask.rows & rows)
        told = yield replace(ask, stage=stage)
        if not bool((told.live if rows is None else told.live & rows).any()):
            search.close()
            return
