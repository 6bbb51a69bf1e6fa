"""Several segments as one, without their dead rows; a damaged one as what is left of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from clipsearch.store.lookup import LOOKUP_TYPE, Lookup
from clipsearch.store.moves import Moves
from clipsearch.store.segment import Piece, Rows
from clipsearch.types import UNIT_KINDS, UnitKind

COPY_ROWS = 1024  # vectors in memory at once: 1 MB at 512 dimensions, so indexing stays flat


class Source(Protocol):
    """Rows that can be read. A segment is one."""

    def take(self, rows: Rows) -> NDArray[np.float16]:
        """(len(rows), dim) vectors."""

    def take_rows(self, rows: Rows) -> Lookup:
        """(len(rows),) rows of LOOKUP_TYPE."""

    def columns(self, rows: Lookup) -> list[bytes]:
        """Columns of rows that `take_rows` gave."""


@dataclass(frozen=True, slots=True)
class MergePart:
    """A segment to merge: what to read from, and which of its rows are of each kind and live."""

    segment_id: int
    source: Source
    row_count: int
    live: dict[UnitKind, Rows]


class Merge:
    """The rows of some segments in the order of kind and id."""

    def __init__(self, parts: Sequence[MergePart]) -> None:
        self._parts = parts
        self._order = {kind: self._ordered(kind) for kind in UNIT_KINDS}
        self.row_count = sum(len(owners) for owners, _ in self._order.values())
        self._places = {part.segment_id: np.full(part.row_count, -1) for part in parts}
        cursor = 0
        for owners, rows in self._order.values():
            for number, part in enumerate(parts):
                mine = np.flatnonzero(owners == number)
                self._places[part.segment_id][rows[mine]] = mine + cursor
            cursor += len(rows)

    def moves(self) -> list[Moves]:
        """Where the live rows of each segment go."""
        return [Moves.of(segment_id, places) for segment_id, places in self._places.items()]

    def pieces(self, dim: int) -> Iterator[Piece]:
        """The rows, some at a time."""
        for kind, (owners, rows) in self._order.items():
            for first in range(0, len(rows), COPY_ROWS):
                window = slice(first, first + COPY_ROWS)
                yield self._piece(kind, owners[window], rows[window], dim)

    def _piece(self, kind: UnitKind, owners: NDArray[np.int32], rows: Rows, dim: int) -> Piece:
        vectors = np.empty((len(rows), dim), np.float16)
        lookup = np.empty(len(rows), LOOKUP_TYPE)
        columns: list[bytes] = [b""] * len(rows)
        for number in np.unique(owners).tolist():
            source, mine = self._parts[number].source, np.flatnonzero(owners == number)
            vectors[mine] = source.take(rows[mine])
            lookup[mine] = source.take_rows(rows[mine])
            with_columns = mine[lookup[mine]["extra_bytes"] > 0]
            found = source.columns(lookup[with_columns])
            for at, content in zip(with_columns.tolist(), found, strict=True):
                columns[at] = content
        return Piece(kind, vectors, lookup, columns if any(columns) else ())

    def _ordered(self, kind: UnitKind) -> tuple[NDArray[np.int32], Rows]:
        """Which part each row comes from, and its row there, by id."""
        owners, rows, ids = [], [], []
        for number, part in enumerate(self._parts):
            mine = part.live[kind]
            owners.append(np.full(len(mine), number, np.int32))
            rows.append(mine)
            ids += [part.source.take_rows(r)["id"] for r in _in_blocks(mine)]
        if not rows or not sum(map(len, rows)):
            return np.empty(0, np.int32), np.empty(0, np.int64)
        order = np.argsort(np.concatenate(ids), kind="stable")
        return np.concatenate(owners)[order], np.concatenate(rows)[order]


def live_rows(
    blocks: dict[UnitKind, list[int]], row_count: int, dead: Sequence[tuple[int, int]]
) -> dict[UnitKind, Rows]:
    """The rows of each kind that are not dead."""
    alive = live_mask(row_count, dead)
    return {
        kind: np.flatnonzero(alive[slice(*blocks[kind])]) + blocks[kind][0] for kind in UNIT_KINDS
    }


def live_mask(row_count: int, dead: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """(rows,) True where a row is not dead."""
    alive = np.ones(row_count, np.bool_)
    for first, count in dead:
        alive[first : first + count] = False
    return alive


def runs_of(rows: Rows) -> list[tuple[int, int]]:
    """(first, count) of neighbouring ones among ascending rows."""
    if not len(rows):
        return []
    starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) != 1)
    counts = np.diff(starts, append=len(rows))
    return list(zip(rows[starts].tolist(), counts.tolist(), strict=True))


def _in_blocks(rows: Rows) -> Iterator[Rows]:
    for first in range(0, len(rows), COPY_ROWS):
        yield rows[first : first + COPY_ROWS]
