"""Hits that are the same as a better one, by the vectors that are stored for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipsearch.search.alike import SLACK
from clipsearch.store.store import Store
from clipsearch.types import ScoredUnit, Source

ROWS_AT_ONCE = 64

Row = NDArray[np.float32]  # (dim,)


class Distinct:
    """What was let through so far, best first, and what is too much like it."""

    def __init__(self, least: float) -> None:
        """least: the cosine from which on two are the same."""
        self._least = least
        self._kept: list[Row] = []

    def admit(self, row: Row | None) -> bool:
        """Whether a unit row is none of those before; then it is one of them. None is a vector that
        is not known, and like no other.
        """
        if row is None:
            return True
        if self._kept and max(np.stack(self._kept) @ row) >= self._least - SLACK:
            return False
        self._kept.append(row)
        return True


class StoredRows:
    """The stored vectors of ranked units, read some at a time, each once."""

    def __init__(self, store: Store, source: Source) -> None:
        self._store, self._source = store, source
        self._rows: dict[int, Row] = {}

    def row(self, units: Sequence[ScoredUnit], at: int) -> Row | None:
        """(dim,) unit row of units[at]; None if it was removed. Those behind it are read, too."""
        if units[at].id not in self._rows:
            ids = [unit.id for unit in units[at : at + ROWS_AT_ONCE]]
            self._rows.update(stored_rows(self._store, ids, self._source))
        return self._rows.get(units[at].id)


def stored_rows(store: Store, ids: Sequence[int], source: Source) -> dict[int, Row]:
    """(dim,) unit rows by the ids of stored vectors; without those that were removed."""
    wanted = np.array(ids, np.int64)
    snapshot = store.snapshot(source)
    places = snapshot.find(wanted)
    there = places >= 0
    rows = snapshot.vectors(places[there]).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return dict(zip(wanted[there].tolist(), rows, strict=True))
