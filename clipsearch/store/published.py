"""What of a store is published: its manifest, and the newest state of each source, opened."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from clipsearch.errors import IndexDamagedError
from clipsearch.store.arrays import PageBudget
from clipsearch.store.catalog import Catalog
from clipsearch.store.gpu import Gpu
from clipsearch.store.manifest import SEGMENTS, Manifest, load_manifest
from clipsearch.store.quantiser import Quantiser, QuantiserFacts
from clipsearch.store.segment import Segment, open_segment
from clipsearch.store.selecting import StaleError
from clipsearch.store.snapshot import Snapshot, View
from clipsearch.store.statements import SegmentEntry
from clipsearch.types import SOURCES, Source

T = TypeVar("T")

SNAPSHOT_TRIES = 5  # a merge may delete a segment between reading the catalog and opening it


class Published:
    """The snapshots of one store, which are taken anew when something was published."""

    def __init__(self, folder: Path, manifest: Manifest, catalog: Catalog) -> None:
        self.folder = folder
        self.manifest = manifest
        self.catalog = catalog
        self.gpu: Gpu | None = None  # that may be used, if that pays
        self._snapshots: dict[Source, Snapshot] = {}  # all of one generation, or none
        self._stamp: object = None  # what the catalog's files looked like then
        self._budget = PageBudget()
        self._guard = threading.Lock()
        self._manifest_guard = threading.Lock()

    def update_manifest(self, **changes: object) -> None:
        """Replace fields of the manifest on disk and here."""
        with self._manifest_guard:
            self.manifest = replace(self.manifest, **changes)  # type: ignore[arg-type]
            self.manifest.save(self.folder)

    def _load_manifest(self) -> None:
        """Take the manifest as it is on disk: in one step, or a reader's older one would be written
        back by `update_manifest` in another thread.
        """
        with self._manifest_guard:
            self.manifest = load_manifest(self.folder)

    def refresh(self) -> None:
        """Look at the catalog before the next search, whatever its files' times say."""
        self._stamp = None

    def forget_snapshot(self) -> None:
        """Open everything anew before the next search."""
        with self._guard:
            self._snapshots, self._stamp = {}, None

    def snapshot(self, source: Source = "visual") -> Snapshot:
        """The newest published state of a source; the one from before if nothing was published
        since.
        """
        return self._all_snapshots()[source]

    def sources(self) -> tuple[Source, ...]:
        """Those with rows."""
        snapshots = self._all_snapshots()
        return tuple(source for source in SOURCES if snapshots[source].row_count)

    def _all_snapshots(self) -> dict[Source, Snapshot]:
        with self._guard:
            stamp = self.catalog.stamp()
            known = self._snapshots
            if known and stamp is not None and stamp == self._stamp:
                return known
            if not known or known["visual"].generation != self.catalog.generation():
                self._snapshots = self._take_snapshots()
            self._stamp = stamp
            return self._snapshots

    def _take_snapshots(self) -> dict[Source, Snapshot]:
        """Segments that were open stay open; those that are new are opened."""
        before = self._snapshots.values()
        opened = {v.entry.name: v.segment for snapshot in before for v in snapshot.views}
        trained = {q.facts.name: q for snapshot in before for q in snapshot.quantisers}
        for attempt in range(SNAPSHOT_TRIES):
            state = self.catalog.snapshot()
            self._load_manifest()  # after: it is written before its segments
            try:
                quantisers = self._open_quantisers(state.quantisers, trained)
                views = [
                    View(entry, opened.get(entry.name) or self._open_segment(entry, quantisers))
                    for entry in state.segments
                ]
            except FileNotFoundError as error:
                if attempt == SNAPSHOT_TRIES - 1:
                    raise IndexDamagedError(
                        f"{error.filename} is missing: run `clipsearch repair`"
                    ) from error
                continue  # a merge may have deleted it after the catalog was read
            return {
                source: Snapshot(
                    state.generation,
                    [view for view in views if view.entry.source == source],
                    [one for one in quantisers if one.facts.source == source],
                    self.manifest.dim_of(source) if source != "audio" or self.manifest.audio else 0,
                    self.manifest.tuning,
                    state.pooling,
                )
                for source in SOURCES
            }
        raise AssertionError("the loop returns or raises")

    def _open_quantisers(
        self, facts: Sequence[QuantiserFacts], trained: dict[str, Quantiser]
    ) -> list[Quantiser]:
        return [
            trained.get(item.name)
            or Quantiser(self.folder, item, self.manifest.dim_of(item.source))
            for item in facts
        ]

    def _open_segment(self, entry: SegmentEntry, quantisers: Sequence[Quantiser]) -> Segment:
        known = {quantiser.facts.name: quantiser for quantiser in quantisers}
        folder = self.folder / SEGMENTS / entry.name
        dim = self.manifest.dim_of(entry.source)
        return open_segment(folder, entry, dim, self._budget, known.get)

    def settled(self, ask: Callable[[dict[Source, Snapshot]], T]) -> T:
        """What comes of snapshots and the catalog when both are of one generation.

        ask: raises StaleError when they are not. Where others write all the time, both are read in
        one transaction.
        """
        with suppress(StaleError):
            return ask(self._all_snapshots())
        for _ in range(SNAPSHOT_TRIES - 1):
            with suppress(IndexDamagedError), self.catalog.one_state():
                return ask(self._take_snapshots())  # unless a segment was merged away just now
        with self.catalog.one_state():
            return ask(self._take_snapshots())
