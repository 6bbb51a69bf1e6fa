"""Hits that are the same as a better one, by the vectors that are stored for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipsearch.search.alike import SLACK
from clipsearch.store.store import Store
from clipsearch.types import ScoredUnit, Source, Vectors

ROWS_AT_ONCE = 64
FIRST_ROOM = 16  # rows

Row = NDArray[np.float32]  # (dim,)


class Distinct:
    """What was let through so far, best first, and what is too much like it."""

    def __init__(self, least: float) -> None:
        """least: the cosine from which on two are the same."""
        self._least = least
        self._kept: Vectors | None = None  # (room, dim), of which _count rows are used
        self._count = 0

    def admit(self, row: Row | None) -> bool:
        """Whether a unit row is none of those before; then it is one of them. None is a vector that
        is not known, and like no other.
        """
        if row is None:
            return True
        if self._kept is None:
            self._kept = np.empty((FIRST_ROOM, len(row)), np.float32)
        if (self._kept[: self._count] @ row).max(initial=-1.0) >= self._least - SLACK:
            return False
        if self._count == len(self._kept):
            self._kept = np.concatenate([self._kept, np.empty_like(self._kept)])
        self._kept[self._count] = row
        self._count += 1
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
