"""A directory of immutable segments and the catalog that says which of them count.

    manifest.json   the specs it was built with
    catalog.sqlite  media, segments, row ranges
    lock, lock.json held by the one writer, who it is
    segments/NAME/  see segment.py; NAME.tmp is unfinished, a NAME unknown to the catalog is debris
    quantisers/     trained empty ANN indexes, by name

Publishing writes NAME.tmp, syncs it, renames it and commits one catalog transaction; readers see
a segment from that commit on, and keep what they opened until they ask again.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from clipsearch.errors import IndexDamagedError, IndexExistsError, UsageError
from clipsearch.store.arrays import PageBudget
from clipsearch.store.catalog import Catalog
from clipsearch.store.database import CATALOG_FILES, create_database, open_database
from clipsearch.store.holder import LOCK_FILE, NOTE_FILE, locked
from clipsearch.store.lookup import LOOKUP_TYPE, Curve, Lookup, norms_of, scored_units
from clipsearch.store.manifest import (
    FORMAT_VERSION,
    MANIFEST_FILE,
    SEGMENTS,
    Manifest,
    holds_segments,
    load_manifest,
)
from clipsearch.store.pooling import PoolingFacts
from clipsearch.store.quantiser import Quantiser, QuantiserFacts
from clipsearch.store.segment import Segment, open_segment
from clipsearch.store.snapshot import Snapshot, View
from clipsearch.store.statements import SegmentEntry
from clipsearch.store.writer import TEMPORARY, Writer
from clipsearch.types import (
    SOURCE_OF,
    SOURCES,
    UNIT_KINDS,
    VISUAL_KINDS,
    ScoredUnit,
    Source,
    UnitKind,
    Vectors,
    VideoFrames,
    check_unit_rows,
)

SNAPSHOT_TRIES = 5  # a merge may delete a segment between reading the catalog and opening it
OUR_FILES = {*CATALOG_FILES, SEGMENTS, LOCK_FILE, NOTE_FILE, MANIFEST_FILE + TEMPORARY}


class Store:
    """Vectors and what is known of them. Safe to share between threads for reading."""

    def __init__(self, folder: Path, manifest: Manifest, catalog: Catalog) -> None:
        self.folder = folder
        self.manifest = manifest
        self.catalog = catalog
        self._snapshots: dict[Source, Snapshot] = {}  # all of one generation, or none
        self._stamp: object = None  # what the catalog's files looked like then
        self._budget = PageBudget()
        self._guard = threading.Lock()
        self._manifest_guard = threading.Lock()

    @classmethod
    def create(cls, folder: Path, manifest: Manifest, pooling: PoolingFacts | None = None) -> Store:
        """A new empty store in `folder`, which must be absent or empty. `pooling`: the head whose
        rows it will have.

        Raises IndexExistsError, or UsageError when the folder holds something else.
        """
        _check_usable(folder)
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with locked(folder):
                _check_usable(folder)  # again: another process may have been first
                (folder / SEGMENTS).mkdir(exist_ok=True)
                if manifest.catalog is None:
                    for name in CATALOG_FILES:  # of a creation that was interrupted
                        (folder / name).unlink(missing_ok=True)
                catalog = Catalog(create_database(manifest.catalog, folder), folder)
                if pooling is not None:
                    catalog.replace_pooled(pooling)
                manifest.save(folder)
        except BaseException:
            if made and not (folder / MANIFEST_FILE).exists():
                shutil.rmtree(folder, ignore_errors=True)
            raise
        return cls(folder, manifest, catalog)

    @classmethod
    def open(cls, folder: Path) -> Store:
        """An existing store. Raises IndexMissingError or IndexDamagedError."""
        manifest = load_manifest(folder)
        return cls(folder, manifest, Catalog(open_database(manifest.catalog, folder), folder))

    def close(self) -> None:
        """Release files and connections."""
        self._snapshots = {}
        self.catalog.close()

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

    @contextmanager
    def writing(
        self,
        *,
        wait: bool = True,
        on_wait: Callable[[str], None] | None = None,
        sweep: bool = True,
    ) -> Iterator[Writer]:
        """The one writer of this store. `on_wait` is told once who else writes, if one does.

        sweep: first mend what an interrupted writer left behind.

        Raises IndexLockedError when another process writes and `wait` is false.
        """
        with locked(self.folder, wait=wait, on_wait=on_wait):
            self._load_manifest()  # another writer may have changed it
            if self.manifest.format_version < FORMAT_VERSION:
                self.update_manifest(format_version=FORMAT_VERSION)
            writer = Writer(self.folder, self.manifest, self.catalog)
            if sweep:
                writer.sweep()
            try:
                yield writer
            finally:
                self.refresh()

    def refresh(self) -> None:
        """Look at the catalog before the next search, whatever its files' times say."""
        self._stamp = None

    def forget_snapshot(self) -> None:
        """Open everything anew before the next search."""
        with self._guard:
            self._snapshots, self._stamp = {}, None

    def search(
        self,
        queries: Vectors,
        *,
        k: int,
        kinds: Sequence[UnitKind] = VISUAL_KINDS,
        exact: bool = False,
    ) -> list[list[ScoredUnit]]:
        """For each query (m, dim) of unit rows the `k` best live units of `kinds`, best first.

        `kinds` are of one source. Fewer than `k` come back only when there are no more. Scores are
        exact cosines.
        """
        source = _source_of(kinds)
        self.check_queries(queries, source)
        snapshot = self.snapshot(source)
        results = []
        for scores, places in snapshot.nearest(queries, k=k, kinds=kinds, exact=exact):
            units = scored_units(snapshot.rows(places), scores)
            results.append(sorted(units, key=lambda unit: (-unit.score, unit.id)))
        return results

    def search_ids(
        self, queries: Vectors, *, k: int, kinds: Sequence[UnitKind], exact: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """(m, k) exact cosines and (m, k) ids, best first; -inf and -1 where there are no more."""
        source = _source_of(kinds)
        self.check_queries(queries, source)
        snapshot = self.snapshot(source)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), -1, np.int64)
        found = snapshot.nearest(queries, k=k, kinds=kinds, exact=exact)
        rows = snapshot.rows(np.concatenate([places for _, places in found] or [ids[:0, 0]]))
        cursor = 0
        for number, (own, places) in enumerate(found):
            scores[number, : len(own)] = own
            ids[number, : len(own)] = rows["id"][cursor : cursor + len(places)]
            cursor += len(places)
        return scores, ids

    def nearest_media(
        self, query: Vectors, *, k: int, kinds: Sequence[UnitKind]
    ) -> tuple[list[int], list[float]]:
        """The files of the k units nearest to a (1, dim) unit row, and their exact cosines."""
        snapshot = self.snapshot(_source_of(kinds))
        [(scores, places)] = snapshot.nearest(query, k=k, kinds=kinds)
        return snapshot.rows(places)["media_id"].tolist(), scores.tolist()

    def rows(self, ids: np.ndarray) -> tuple[Lookup, list[bytes], np.ndarray]:
        """Rows of LOOKUP_TYPE and JSON of the columns that were added with them, of those `ids`
        that are live; and (len(ids),) which these are.
        """
        ids = np.asarray(ids, np.int64)
        there = np.zeros(len(ids), np.bool_)
        found, contents = np.empty(len(ids), LOOKUP_TYPE), [b""] * len(ids)
        for snapshot in self._all_snapshots().values():
            places = snapshot.find(ids)
            mine = np.flatnonzero(places >= 0)
            if not len(mine):
                continue
            there[mine] = True
            found[mine], columns = snapshot.rows_with_columns(places[mine])
            for at, content in zip(mine.tolist(), columns, strict=True):
                contents[at] = content
        return found[there], [contents[at] for at in np.flatnonzero(there).tolist()], there

    def check_queries(self, queries: Vectors, source: Source = "visual") -> None:
        """Raise UsageError unless `queries` are (m, dim) float32 unit rows of a source."""
        check_unit_rows(queries)
        dim = self.manifest.dim_of(source)
        if queries.shape[1] != dim:
            raise UsageError(f"queries have {queries.shape[1]} dimensions, not {dim}")

    def curve(self, query: Vectors, media_id: int, kind: UnitKind = "frame") -> Curve:
        """Every frame, or window of sound, of one file in order of time, scored against a (1, dim)
        query.
        """
        rows, vectors = self._rows_of(media_id, kind)
        return Curve.of(rows, vectors @ query[0])

    def frames(self, media_id: int) -> VideoFrames:
        """Every frame of one video in order of time; none for a file that is no video."""
        rows, vectors = self._rows_of(media_id, "frame")
        starts, ends = rows["start_seconds"].copy(), rows["end_seconds"].copy()
        return VideoFrames(vectors, starts, ends, norms_of(rows))

    def windows(self, media_id: int, kind: UnitKind = "video") -> VideoFrames:
        """The pooled windows of one video in order of time, as if each were a frame; `kind` says
        whether they are pooled by the mean ("video") or by a head ("pooled").
        """
        rows, vectors = self._rows_of(media_id, kind)
        return VideoFrames(vectors, rows["start_seconds"].copy(), rows["end_seconds"].copy())

    def _rows_of(self, media_id: int, kind: UnitKind) -> tuple[Lookup, Vectors]:
        for _ in range(SNAPSHOT_TRIES):
            views = self.snapshot(SOURCE_OF[kind]).views
            segments = {view.entry.id: view.segment for view in views}
            parts = [p for p in self.catalog.ranges_of(media_id) if p.kind == kind]
            if all(part.segment_id in segments for part in parts):
                break  # else a merge came between the two
            self.refresh()
        else:
            raise IndexDamagedError(f"{self.folder} changes faster than it can be read")
        if not parts:
            dim = self.manifest.dim_of(SOURCE_OF[kind])
            return np.empty(0, LOOKUP_TYPE), np.empty((0, dim), np.float32)
        [part] = parts
        segment = segments[part.segment_id]
        if part.first_row + part.row_count > segment.row_count:
            raise IndexDamagedError(f"the catalog {self.catalog.path} has a wrong value: {part}")
        vectors = segment.vectors(part.first_row, part.row_count).astype(np.float32)
        return segment.rows(part.first_row, part.row_count), vectors

    def mean_score(self, query: Vectors, kinds: Sequence[UnitKind]) -> float:
        """The mean cosine of a (1, dim) query to all stored units of `kinds`; 0 if none."""
        wanted = [UNIT_KINDS.index(kind) for kind in kinds]
        total, count = 0.0, 0
        for view in self.snapshot(_source_of(kinds)).views:
            segment = view.segment
            total += float(segment.sums[wanted].sum(axis=0) @ query[0])
            count += sum(segment.blocks[kind][1] - segment.blocks[kind][0] for kind in kinds)
        return total / count if count else 0.0

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


def _source_of(kinds: Sequence[UnitKind]) -> Source:
    """The source that kinds belong to. Raises UsageError for kinds of several."""
    found = {SOURCE_OF[kind] for kind in kinds}
    if len(found) > 1:
        raise UsageError(f"kinds {', '.join(kinds)} lie in several spaces: ask for each alone")
    return found.pop() if found else "visual"


def _check_usable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: an index is a folder, name another with --index")
    if (folder / MANIFEST_FILE).exists():
        raise IndexExistsError(f"{folder} is an index already: open it, or choose another")
    if holds_segments(folder):
        load_manifest(folder)  # says that it is missing
    if folder.exists() and any(entry.name not in OUR_FILES for entry in folder.iterdir()):
        raise UsageError(f"{folder} is not empty and not an index: choose another folder")
