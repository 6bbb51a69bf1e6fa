"""A directory of immutable segments and the catalog that says which of them count.

    manifest.json   the specs it was built with
    catalog.sqlite  media, segments, row ranges
    lock            held by the one writer; the system releases it when the process dies
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
from dataclasses import dataclass, replace
from pathlib import Path

import filelock
import numpy as np

from clipsearch.errors import (
    IndexDamagedError,
    IndexExistsError,
    IndexLockedError,
    UsageError,
)
from clipsearch.store.catalog import Catalog
from clipsearch.store.database import SQLITE_FILE, create_database, open_database
from clipsearch.store.lookup import LOOKUP_TYPE, Curve
from clipsearch.store.manifest import MANIFEST_FILE, Manifest, load_manifest
from clipsearch.store.segment import Segment
from clipsearch.store.statements import SegmentEntry
from clipsearch.store.writer import SEGMENTS, TEMPORARY, Writer
from clipsearch.types import UNIT_KINDS, ScoredUnit, UnitKind, Vectors, check_unit_rows

SNAPSHOT_TRIES = 5  # a merge may delete a segment between reading the catalog and opening it
LOCK_FILE = "lock"
CATALOG_FILES = tuple(SQLITE_FILE + end for end in ("", "-wal", "-shm", "-journal"))
OUR_FILES = {*CATALOG_FILES, SEGMENTS, LOCK_FILE, MANIFEST_FILE + TEMPORARY}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The segments of one generation, opened, with their dead rows."""

    generation: int
    segments: tuple[tuple[SegmentEntry, Segment], ...]


class Store:
    """Vectors and what is known of them. Safe to share between threads for reading."""

    def __init__(self, folder: Path, manifest: Manifest, catalog: Catalog) -> None:
        self.folder = folder
        self.manifest = manifest
        self.catalog = catalog
        self._snapshot: Snapshot | None = None
        self._guard = threading.Lock()

    @classmethod
    def create(cls, folder: Path, manifest: Manifest) -> Store:
        """A new empty store in `folder`, which must be absent or empty.

        Raises IndexExistsError, or UsageError when the folder holds something else.
        """
        _check_usable(folder)
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with filelock.FileLock(folder / LOCK_FILE):
                _check_usable(folder)  # again: another process may have been first
                (folder / SEGMENTS).mkdir(exist_ok=True)
                if manifest.catalog is None:
                    for name in CATALOG_FILES:  # of a creation that was interrupted
                        (folder / name).unlink(missing_ok=True)
                catalog = Catalog(create_database(manifest.catalog, folder), folder)
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
        self._snapshot = None
        self.catalog.close()

    def update_manifest(self, **changes: object) -> None:
        """Replace fields of the manifest on disk and here."""
        self.manifest = replace(self.manifest, **changes)  # type: ignore[arg-type]
        self.manifest.save(self.folder)

    @contextmanager
    def writing(
        self, *, wait: bool = True, on_wait: Callable[[], None] | None = None
    ) -> Iterator[Writer]:
        """The one writer of this store. `on_wait` is called once if another process writes.

        Raises IndexLockedError when another process writes and `wait` is false.
        """
        lock = filelock.FileLock(self.folder / LOCK_FILE, thread_local=False)
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            if not wait:
                raise IndexLockedError(
                    f"another process writes to {self.folder}: try again, or leave out --no-wait"
                ) from None
            if on_wait is not None:
                on_wait()
            lock.acquire()
        try:
            self.manifest = load_manifest(self.folder)  # another writer may have changed it
            writer = Writer(self.folder, self.manifest, self.catalog)
            writer.sweep()
            yield writer
        finally:
            lock.release()

    def search(
        self,
        queries: Vectors,
        *,
        k: int,
        kinds: Sequence[UnitKind] = UNIT_KINDS,
        exact: bool = False,
    ) -> list[list[ScoredUnit]]:
        """For each query (m, dim) of unit rows the `k` best live units of `kinds`, best first.

        Fewer than `k` come back only when there are no more. Scores are exact cosines.
        """
        check_unit_rows(queries)
        if queries.shape[1] != self.manifest.dim:
            raise UsageError(f"queries have {queries.shape[1]} dimensions, not {self.manifest.dim}")
        results: list[list[ScoredUnit]] = [[] for _ in queries]
        for entry, segment in self.snapshot().segments:
            mask = segment.mask(kinds, entry.dead)
            if mask is not None and not mask.any():
                continue
            rankings = segment.search(
                queries, k, recipe=self.manifest.recipe, mask=mask, exact=exact
            )
            for result, (scores, rows) in zip(results, rankings, strict=True):
                scores, rows = _contenders(result, scores, rows, k)
                result.extend(segment.units(rows, scores))
        return [sorted(r, key=lambda unit: (-unit.score, unit.id))[:k] for r in results]

    def curve(self, query: Vectors, media_id: int) -> Curve:
        """Every frame of one video in order of time, scored against a (1, dim) query."""
        for _ in range(SNAPSHOT_TRIES):
            segments = {entry.id: segment for entry, segment in self.snapshot().segments}
            parts = [p for p in self.catalog.ranges(media_id=media_id) if p.kind == "frame"]
            if all(part.segment_id in segments for part in parts):
                break  # else a merge came between the two
        else:
            raise IndexDamagedError(f"{self.folder} changes faster than it can be read")
        if not parts:
            return Curve.of(np.empty(0, LOOKUP_TYPE), np.empty(0, np.float32))
        [part] = parts
        segment = segments[part.segment_id]
        vectors = segment.vectors(part.first_row, part.row_count).astype(np.float32)
        return Curve.of(segment.rows(part.first_row, part.row_count), vectors @ query[0])

    def mean_score(self, query: Vectors, kinds: Sequence[UnitKind]) -> float:
        """The mean cosine of a (1, dim) query to all stored units of `kinds`; 0 if none."""
        wanted = [UNIT_KINDS.index(kind) for kind in kinds]
        total, count = 0.0, 0
        for _, segment in self.snapshot().segments:
            total += float(segment.sums[wanted].sum(axis=0) @ query[0])
            count += sum(segment.blocks[kind][1] - segment.blocks[kind][0] for kind in kinds)
        return total / count if count else 0.0

    def snapshot(self) -> Snapshot:
        """The newest published state; the one from before if nothing was published since."""
        with self._guard:
            generation = self.catalog.generation()
            if self._snapshot is None or self._snapshot.generation != generation:
                self._snapshot = self._take_snapshot()
            return self._snapshot

    def _take_snapshot(self) -> Snapshot:
        opened = {}
        if self._snapshot is not None:
            opened = {entry.name: segment for entry, segment in self._snapshot.segments}
        for attempt in range(SNAPSHOT_TRIES):
            generation, entries = self.catalog.snapshot()
            try:
                pairs = tuple(
                    (
                        entry,
                        opened.get(entry.name)
                        or Segment(self.folder / SEGMENTS / entry.name, self.manifest.dim),
                    )
                    for entry in entries
                )
                return Snapshot(generation, pairs)
            except FileNotFoundError as error:
                if attempt == SNAPSHOT_TRIES - 1:
                    raise IndexDamagedError(
                        f"{error.filename} is missing: index the media again"
                    ) from error
        raise AssertionError("the loop returns or raises")


def _check_usable(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file: an index is a folder, name another with --index")
    if (folder / MANIFEST_FILE).exists():
        raise IndexExistsError(f"{folder} is an index already: open it, or choose another")
    if folder.exists() and any(entry.name not in OUR_FILES for entry in folder.iterdir()):
        raise UsageError(f"{folder} is not empty and not an index: choose another folder")


def _contenders(
    result: list[ScoredUnit], scores: np.ndarray, rows: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Drop rows that cannot enter the best `k`, so that their metadata is never read."""
    if len(result) < k:
        return scores, rows
    bar = sorted((unit.score for unit in result), reverse=True)[k - 1]
    keep = scores >= bar
    return scores[keep], rows[keep]
