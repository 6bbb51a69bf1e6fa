"""A directory of immutable segments and the catalog that says which of them count.

    manifest.json   the specs it was built with
    catalog.sqlite  media, segments, row ranges
    lock, lock.json held by the one writer, who it is
    segments/NAME/  see segment.py; NAME.tmp is unfinished, a NAME unknown to the catalog is debris
    quantisers/     trained empty ANN indexes, by name
    background.bin  what unrelated texts score, see backgrounds.py; made again when it is needed

Publishing writes NAME.tmp, syncs it, renames it and commits one catalog transaction; readers see
a segment from that commit on, and keep what they opened until they ask again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from clipsearch.errors import IndexDamagedError, IndexExistsError, UsageError
from clipsearch.store.backgrounds import BACKGROUND_FILE, BACKGROUND_TEMPORARY
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
from clipsearch.store.published import SNAPSHOT_TRIES, Published
from clipsearch.store.selecting import Chosen, Selector
from clipsearch.store.selection import Selection
from clipsearch.store.snapshot import Snapshot
from clipsearch.store.writer import TEMPORARY, Writer
from clipsearch.types import (
    SOURCE_OF,
    UNIT_KINDS,
    VISUAL_KINDS,
    ScoredUnit,
    Source,
    StoredMedia,
    UnitKind,
    Vectors,
    VideoFrames,
    check_unit_rows,
)

OUR_FILES = {
    *CATALOG_FILES,
    SEGMENTS,
    LOCK_FILE,
    NOTE_FILE,
    MANIFEST_FILE + TEMPORARY,
    BACKGROUND_FILE,
    BACKGROUND_TEMPORARY,
}


class Store(Published):
    """Vectors and what is known of them. Safe to share between threads for reading."""

    def __init__(self, folder: Path, manifest: Manifest, catalog: Catalog) -> None:
        super().__init__(folder, manifest, catalog)
        self._selector = Selector(catalog)

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
            writer = Writer(self.folder, self.manifest, self.catalog, self.gpu)
            if sweep:
                writer.sweep()
            try:
                yield writer
            finally:
                self.refresh()

    def search(
        self,
        queries: Vectors,
        *,
        k: int,
        kinds: Sequence[UnitKind] = VISUAL_KINDS,
        exact: bool = False,
        selection: Selection | None = None,
    ) -> list[list[ScoredUnit]]:
        """For each query (m, dim) of unit rows the `k` best live units of `kinds`, best first.

        `kinds` are of one source. Fewer than `k` come back only when there are no more among those
        that `selection` leaves. Scores are exact cosines.
        """
        source = _source_of(kinds)
        self.check_queries(queries, source)
        snapshot, chosen = self._chosen(source, selection)
        results = []
        found = snapshot.nearest(
            queries, k=k, kinds=kinds, exact=exact, chosen=chosen, gpu=self.gpu
        )
        for scores, places in found:
            units = scored_units(snapshot.rows(places), scores)
            results.append(sorted(units, key=lambda unit: (-unit.score, unit.id)))
        return results

    def search_ids(
        self,
        queries: Vectors,
        *,
        k: int,
        kinds: Sequence[UnitKind],
        exact: bool,
        selection: Selection | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """(m, k) exact cosines and (m, k) ids, best first; -inf and -1 where there are no more."""
        source = _source_of(kinds)
        self.check_queries(queries, source)
        snapshot, chosen = self._chosen(source, selection)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        ids = np.full((len(queries), k), -1, np.int64)
        found = snapshot.nearest(
            queries, k=k, kinds=kinds, exact=exact, chosen=chosen, gpu=self.gpu
        )
        rows = snapshot.rows(np.concatenate([places for _, places in found] or [ids[:0, 0]]))
        cursor = 0
        for number, (own, places) in enumerate(found):
            scores[number, : len(own)] = own
            ids[number, : len(own)] = rows["id"][cursor : cursor + len(places)]
            cursor += len(places)
        return scores, ids

    def nearest_media(
        self,
        query: Vectors,
        *,
        k: int,
        kinds: Sequence[UnitKind],
        selection: Selection | None = None,
    ) -> tuple[list[int], list[float]]:
        """The files of the k units nearest to a (1, dim) unit row, and their exact cosines."""
        snapshot, chosen = self._chosen(_source_of(kinds), selection)
        [(scores, places)] = snapshot.nearest(query, k=k, kinds=kinds, chosen=chosen, gpu=self.gpu)
        return snapshot.rows(places)["media_id"].tolist(), scores.tolist()

    def selected_media(self, selection: Selection | None = None) -> Iterator[StoredMedia]:
        """The files that can be searched and that `selection` leaves, in order of their paths: by
        root, then below it. Raises UsageError for a condition on what there is not.
        """
        selection = selection or Selection()
        self.settled(lambda now: self._selector.check_columns(now, selection.where))
        for media in self.catalog.media_where(selection.where):
            if media.id not in selection.without:
                yield media

    def live_places(
        self, kinds: Sequence[UnitKind], selection: Selection | None = None
    ) -> tuple[Snapshot, np.ndarray]:
        """The state of the source of `kinds`, and every place of it whose row is live, of `kinds`,
        and left by `selection`. Raises UsageError.
        """
        snapshot, chosen = self._chosen(_source_of(kinds), selection)
        return snapshot, snapshot.live_places(kinds, chosen=chosen)

    def _chosen(
        self, source: Source, selection: Selection | None
    ) -> tuple[Snapshot, Chosen | None]:
        """The state of a source, and the rows of it that may be found; None for all."""
        if selection is None or selection == Selection():
            return self.snapshot(source), None
        return self.settled(
            lambda now: (now[source], self._selector.chosen(now, source, selection))
        )

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
