"""The vectors that an index has of whole files: many files with a few reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.values import unit_rows
from clipsearch.errors import IndexDamagedError
from clipsearch.ingest.pooling import SMALLEST_NORM
from clipsearch.store.lookup import Lookup
from clipsearch.store.store import Store
from clipsearch.types import UNIT_KINDS, Source, UnitKind, Vectors

ROWS_AT_ONCE = 65_536  # 128 MB of 512 dimensions
TRIES = 5  # a merge may come between asking where rows are and reading them
KINDS: dict[Source, tuple[UnitKind, ...]] = {"visual": ("image", "frame"), "audio": ("audio",)}


def stored_means(
    store: Store, media_ids: Sequence[int], source: Source
) -> dict[int, NDArray[np.float32]]:
    """Of each file, by its id, the mean of what is seen, or heard, in it: (dim,) float32 of unit
    length, the stored row itself where it is one. Files without such rows are left out.

    Memory follows the number of files, not how long they are.
    """
    wanted = [UNIT_KINDS.index(kind) for kind in KINDS[source]]
    for _ in range(TRIES):
        snapshot = store.snapshot(source)
        runs = store.catalog.runs_of_media(media_ids, source)
        if runs.generation == snapshot.generation:
            break
        store.refresh()
    else:
        raise IndexDamagedError(f"{store.folder} changes faster than it can be read")
    means = _Means()
    for view in snapshot.views:
        own = runs.runs.get(view.entry.id, np.empty((0, 2), np.int64))
        places = np.concatenate(
            [np.empty(0, np.int64), *(first + np.arange(n) for first, n in own)]
        )
        if places.size and not 0 <= places.min() <= places.max() < view.segment.row_count:
            raise IndexDamagedError(
                f"the catalog {store.catalog.path} has a wrong value: rows that are not there"
            )
        places.sort()
        for start in range(0, len(places), ROWS_AT_ONCE):
            rows = view.segment.take_rows(places[start : start + ROWS_AT_ONCE])
            right = np.isin(rows["kind"], wanted)
            vectors = view.segment.take(places[start : start + ROWS_AT_ONCE][right])
            means.add(rows[right], vectors.astype(np.float32))
    return means.rows()


class _Means:
    """Sums of rows by file."""

    def __init__(self) -> None:
        self._sums: dict[int, NDArray[np.float64]] = {}
        self._firsts: dict[int, NDArray[np.float32]] = {}
        self._counts: dict[int, int] = {}

    def add(self, rows: Lookup, vectors: Vectors) -> None:
        """Rows of LOOKUP_TYPE, those of a file together, and their vectors."""
        if not len(rows):
            return
        ids = rows["media_id"]
        starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
        sums = np.add.reduceat(vectors.astype(np.float64), starts, axis=0)
        counts = np.diff(np.r_[starts, len(ids)])
        for id_, start, total, count in zip(
            ids[starts].tolist(), starts.tolist(), sums, counts.tolist(), strict=True
        ):
            self._firsts.setdefault(id_, vectors[start])
            self._sums[id_] = self._sums.get(id_, 0.0) + total
            self._counts[id_] = self._counts.get(id_, 0) + count

    def rows(self) -> dict[int, NDArray[np.float32]]:
        """The means, of unit length; the first row where they cancel out."""
        found = {}
        for id_, total in self._sums.items():
            cancelled = np.linalg.norm(total) <= SMALLEST_NORM * self._counts[id_]
            alone = self._counts[id_] == 1 or cancelled
            found[id_] = self._firsts[id_].copy() if alone else unit_rows(total[None])[0]
        return found
