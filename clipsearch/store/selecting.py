"""The rows that a selection leaves, by segment; worked out once for each state of the index."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import UsageError
from clipsearch.store.exact import Mask
from clipsearch.store.filtered import RowRuns
from clipsearch.store.lookup import NO_MEDIA, lookup_columns
from clipsearch.store.segment import Segment
from clipsearch.store.selection import Selection
from clipsearch.types import Source, UnitKind
from clipsearch.where import FIELDS, Condition, columns_of, compiled, row_values

if TYPE_CHECKING:
    from clipsearch.store.catalog import Catalog
    from clipsearch.store.snapshot import Snapshot, View

T = TypeVar("T")

SELECTIONS_KEPT = 4  # each takes two bytes a row
LOOSE_KEPT = 64  # masks of one segment each
COLUMN_ROWS = 16_384  # rows with columns read at a time
NAMES_SHOWN = 20


class StaleError(Exception):
    """The catalog is of another generation than the snapshot."""


class Chosen:
    """Which rows of a snapshot a search may find: a mask for each segment, None for all rows."""

    def __init__(self, masks: Mapping[int, Mask | None]) -> None:
        self._masks = masks
        self._live: dict[tuple[int, tuple[UnitKind, ...]], tuple[Mask | None, int]] = {}

    def live(self, view: View, kinds: tuple[UnitKind, ...]) -> tuple[Mask | None, int]:
        """As `View.live`, of these rows."""
        key = view.entry.id, kinds
        if key not in self._live:
            mask, count = view.live(kinds)
            own = self._masks[view.entry.id]
            if own is not None:
                mask = own if mask is None else mask & own
                count = int(np.count_nonzero(mask))
            self._live[key] = mask, count
        return self._live[key]


class Kept(Generic[T]):
    """The values that were used last. Safe to share between threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._guard = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of a key, made if it is not there; two threads may both make it."""
        with self._guard:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._guard:
            self._values[key] = value
            while len(self._values) > self._size:
                self._values.popitem(last=False)
        return value


class Selector:
    """Makes the masks of selections for one store. Safe to share between threads."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._chosen: Kept[Chosen] = Kept(SELECTIONS_KEPT)
        self._wheres: Kept[dict[int, Mask | None]] = Kept(SELECTIONS_KEPT)
        self._loose: Kept[tuple[Mask, frozenset[str]]] = Kept(LOOSE_KEPT)
        self._loose_rows: Kept[dict[int, int]] = Kept(1)

    def chosen(
        self, snapshots: Mapping[Source, Snapshot], source: Source, selection: Selection
    ) -> Chosen:
        """What a selection leaves of a source.

        Raises UsageError for a condition that asks for what no vector has, StaleError when the
        catalog is newer than the snapshots.
        """
        snapshot = snapshots[source]
        key = snapshot.generation, source, selection
        return self._chosen.get(key, lambda: self._choose(snapshots, source, selection))

    def check_columns(self, snapshots: Mapping[Source, Snapshot], where: Condition | None) -> None:
        """Raise UsageError if a condition asks for columns that no vectors were added with, and
        StaleError as `chosen` does.
        """
        names = columns_of(where) if where is not None else set()
        if where is None or not names:
            return
        if not self._loose_in(snapshots["visual"]):  # as all vectors that are added are
            raise UsageError(f"there is no field {_listed(names)}: use {', '.join(FIELDS)}")
        self._left(snapshots["visual"], "visual", where)

    def _choose(
        self, snapshots: Mapping[Source, Snapshot], source: Source, selection: Selection
    ) -> Chosen:
        snapshot, where = snapshots[source], selection.where
        masks: dict[int, Mask | None] = dict.fromkeys(v.entry.id for v in snapshot.views)
        if where is not None:
            self.check_columns(snapshots, where)
            masks = dict(self._left(snapshot, source, where))
        if selection.without:
            runs = self._catalog.runs_of_media(tuple(selection.without), source)
            _check_same(runs.generation, snapshot)
            for view in snapshot.views:
                if view.entry.id in runs.runs:
                    gone = _mask_of(runs, view)
                    masks[view.entry.id] = _and_not(masks[view.entry.id], gone)
        if selection.without_ids:
            ids = np.array(sorted(selection.without_ids), np.int64)
            for view in snapshot.views:
                rows = view.segment.find(ids)
                gone = np.zeros(view.segment.row_count, np.bool_)
                gone[rows[rows >= 0]] = True
                if gone.any():
                    masks[view.entry.id] = _and_not(masks[view.entry.id], gone)
        return Chosen(masks)

    def _left(self, snapshot: Snapshot, source: Source, where: Condition) -> dict[int, Mask | None]:
        """The rows of a source for which a condition holds, by segment."""
        key = snapshot.generation, source, where
        return self._wheres.get(key, lambda: self._where(snapshot, source, where))

    def _where(
        self, snapshot: Snapshot, source: Source, where: Condition
    ) -> dict[int, Mask | None]:
        runs = self._catalog.runs_where(where, source)
        _check_same(runs.generation, snapshot)
        masks: dict[int, Mask | None] = {v.entry.id: _mask_of(runs, v) for v in snapshot.views}
        if source == "visual":
            seen: set[str] = set()
            loose = self._loose_in(snapshot)
            for view in snapshot.views:
                if view.entry.id in loose:
                    own, names = self._loose_mask(view.segment, view.entry.name, where)
                    masks[view.entry.id] = masks[view.entry.id] | own  # type: ignore[operator]
                    seen |= names
            missing = columns_of(where) - seen
            if missing:
                raise UsageError(
                    f"there is no field {_listed(missing)}, and no vector has such a column: use "
                    f"{', '.join(FIELDS)}" + (f", or {_listed(seen)}" if seen else "")
                )
        return masks

    def _loose_in(self, snapshot: Snapshot) -> dict[int, int]:
        """Segments with live rows that are of no file, and how many."""

        def count() -> dict[int, int]:
            generation, of_files = self._catalog.rows_of_files()
            _check_same(generation, snapshot)
            loose = {v.entry.id: v.entry.live_rows for v in snapshot.views}
            return {
                id_: n - of_files.get(id_, 0)
                for id_, n in loose.items()
                if n > of_files.get(id_, 0)
            }

        return self._loose_rows.get(snapshot.generation, count)

    def _loose_mask(
        self, segment: Segment, name: str, where: Condition
    ) -> tuple[Mask, frozenset[str]]:
        """The rows of no file for which a condition holds, and the names of their columns."""
        key = name, where
        return self._loose.get(key, lambda: _loose_mask(segment, where))


def _loose_mask(segment: Segment, where: Condition) -> tuple[Mask, frozenset[str]]:
    holds, wanted = compiled(where), columns_of(where)
    mask, names = np.zeros(segment.row_count, np.bool_), set[str]()
    for first in range(0, segment.row_count, COLUMN_ROWS):
        rows = segment.rows(first, min(COLUMN_ROWS, segment.row_count - first))
        mine = np.flatnonzero(rows["media_id"] == NO_MEDIA)
        found = lookup_columns(rows[mine], segment.columns(rows[mine]))
        for values in found:
            del values["media_id"]  # which is no column
        if wanted:
            names.update(*found)
        mask[first + mine] = [holds(row_values(values)) for values in found]
    return mask, frozenset(names)


def _mask_of(runs: RowRuns, view: View) -> Mask:
    """(rows,) True in the runs of a segment. Raises ValueError for rows that it does not have."""
    size = view.segment.row_count
    own = runs.runs.get(view.entry.id, np.empty((0, 2), np.int64))
    mask = np.zeros(size, np.bool_)
    firsts, counts = own[:, 0], own[:, 1]
    if not len(own):
        return mask
    if firsts.min() < 0 or counts.min() < 1 or (firsts + counts).max() > size:
        raise ValueError(f"a range of rows is outside of the {size} of its segment")
    if (counts == 1).all():
        mask[firsts] = True
        return mask
    steps: NDArray[np.int32] = np.zeros(size + 1, np.int32)
    np.add.at(steps, firsts, 1)
    np.add.at(steps, firsts + counts, -1)
    return np.cumsum(steps[:-1]) > 0


def _and_not(mask: Mask | None, gone: Mask) -> Mask:
    return ~gone if mask is None else mask & ~gone


def _check_same(generation: int, snapshot: Snapshot) -> None:
    if generation != snapshot.generation:
        raise StaleError


def _listed(names: Iterable[str]) -> str:
    shown: Sequence[str] = sorted(names)
    return ", ".join(map(repr, shown[:NAMES_SHOWN])) + (", …" if len(shown) > NAMES_SHOWN else "")
