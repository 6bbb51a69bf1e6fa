"""The one writer of a store: publishes segments, merges small ones, trains the quantiser."""

from __future__ import annotations

import math
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from clipsearch.errors import IndexDamagedError
from clipsearch.store import ann
from clipsearch.store.catalog import Catalog
from clipsearch.store.manifest import Manifest, sync_folder
from clipsearch.store.recipes import TRAINING_VECTORS_PER_LIST, list_count
from clipsearch.store.segment import Piece, Segment, write_segment
from clipsearch.store.statements import NewMedia, RowRange, SegmentEntry
from clipsearch.types import UNIT_KINDS, EncodedMedia, FoundFile, UnitKind

SEGMENTS = "segments"
QUANTISERS = "quantisers"
TEMPORARY = ".tmp"

# Log-structured merging: eight segments of one size class become one of the next, so a store of n
# rows has O(log n) segments and each row is copied O(log n) times.
MERGE_FACTOR = 8
SMALLEST_CLASS_ROWS = 512
COPY_ROWS = 32_768  # vectors in memory at once while merging: 32 MB at 512 dimensions


class Writer:
    """What may change a store. Made by `Store.writing`, which holds the lock."""

    def __init__(self, folder: Path, manifest: Manifest, catalog: Catalog) -> None:
        self._folder, self._manifest, self.catalog = folder, manifest, catalog
        self.lost: list[str] = []  # what `sweep` found damaged, for the user

    def sweep(self) -> None:
        """Forget segments that cannot be read any more, so that their files are read again; then
        remove what an interrupted writer left behind: folders that the catalog does not know.
        """
        (self._folder / SEGMENTS).mkdir(exist_ok=True)
        for entry in self.catalog.segments():
            try:
                self._open(entry)
            except IndexDamagedError as error:
                self._lose(entry, str(error))
            except FileNotFoundError as error:
                self._lose(entry, f"{error.filename} is missing")
        known = {entry.name for entry in self.catalog.segments()}
        for folder in (self._folder / SEGMENTS).iterdir():
            if folder.name not in known:
                shutil.rmtree(folder)
        for file in (self._folder / QUANTISERS).glob("*"):
            if file != self._quantiser():
                file.unlink()

    def _lose(self, entry: SegmentEntry, reason: str) -> None:
        self.catalog.lose_segment(entry.id)
        self.lost.append(reason)

    def publish(self, media: Sequence[EncodedMedia]) -> None:
        """Make files searchable: one new segment, one catalog transaction.

        A file that is known already is replaced. All of this is visible at once or not at all.
        """
        rows = sum(len(item.batch.units) for item in media)
        if not rows:
            return
        ids, first_unit_id = self.catalog.ids_for([item.file for item in media])
        name = self._write(_pieces(media, ids, first_unit_id), rows)
        ranges = _layout(media)
        entries = [
            NewMedia(id_, item.file, item.content_hash, item.info, None, own)
            for id_, item, own in zip(ids, media, ranges, strict=True)
        ]
        self.catalog.add_segment(name, rows, entries)

    def put_failure(self, file: FoundFile, content_hash: str, reason: str) -> None:
        """Remember that this content cannot be read; what was indexed of the file is dropped."""
        ids, _ = self.catalog.ids_for([file])
        self.catalog.put_failure(NewMedia(ids[0], file, content_hash, None, reason, {}))

    def maintain(self) -> None:
        """Train the quantiser once there are rows enough, and merge small segments."""
        if self._train_if_due():
            return
        if self._quantiser() is not None:  # a kill may have come between training and filling
            for entry in self.catalog.segments():
                if entry.row_count >= self._segment_rows and not self._open(entry).has_ann:
                    self._merge([entry])
        for group in _due_merges(self.catalog.segments()):
            self._merge(group)

    def _write(self, pieces: Iterator[Piece], rows: int) -> str:
        name = uuid.uuid4().hex
        target = self._folder / SEGMENTS / name
        temporary = target.with_name(name + TEMPORARY)
        quantiser = self._quantiser() if rows >= self._segment_rows else None
        write_segment(
            temporary,
            pieces,
            shape=(rows, self._manifest.dim),
            quantiser=quantiser,
        )
        temporary.rename(target)
        sync_folder(target.parent)
        return name

    @property
    def _segment_rows(self) -> int:
        return max(1, self._manifest.recipe.segment_rows)

    def _quantiser(self) -> Path | None:
        name = self.catalog.setting("quantiser", "")
        return self._folder / QUANTISERS / name if name else None

    def _train_if_due(self) -> bool:
        """Train on a uniform sample of all rows, then give every row an ANN index."""
        entries = self.catalog.segments()
        total = sum(entry.row_count for entry in entries)  # dead rows are as good for training
        due = self._manifest.recipe.train_rows
        if due is None or total < due or self._quantiser() is not None:
            return False
        folder = self._folder / QUANTISERS
        folder.mkdir(exist_ok=True)
        name = f"{uuid.uuid4().hex}.faiss"
        ann.train(self._sample(entries, total), total, folder / name)
        sync_folder(folder)
        sync_folder(self._folder)
        self.catalog.set_setting("quantiser", name)
        self._merge(entries)
        return True

    def _sample(self, entries: Sequence[SegmentEntry], total: int) -> np.ndarray:
        """Vectors of a uniform random sample over all segments, enough to train the lists."""
        size = min(total, list_count(total) * TRAINING_VECTORS_PER_LIST)
        chosen = np.sort(np.random.default_rng(0).choice(total, size, replace=False))
        parts, start = [], 0
        for entry in entries:
            mine = chosen[(chosen >= start) & (chosen < start + entry.row_count)] - start
            start += entry.row_count
            parts.append(self._open(entry).take(mine))
        return np.concatenate(parts)

    def _open(self, entry: SegmentEntry) -> Segment:
        return Segment(self._folder / SEGMENTS / entry.name, self._manifest.dim)

    def _merge(self, entries: Sequence[SegmentEntry]) -> None:
        """Make one segment of several, without their dead rows."""
        old_ids = [entry.id for entry in entries]
        live = self.catalog.ranges(segment_ids=old_ids)
        live.sort(key=lambda r: UNIT_KINDS.index(r.kind))  # stable: keeps segment and row order
        rows = sum(part.row_count for part in live)
        segments = {entry.id: self._open(entry) for entry in entries}
        name = self._write(_copied(live, segments), rows) if rows else ""
        moved, cursor = {}, 0
        for part in live:
            moved[part] = cursor
            cursor += part.row_count
        self.catalog.replace_segments(old_ids, name, rows, moved)
        for entry in entries:
            shutil.rmtree(self._folder / SEGMENTS / entry.name)


def _due_merges(entries: Sequence[SegmentEntry]) -> Iterator[list[SegmentEntry]]:
    classes: dict[int, list[SegmentEntry]] = {}
    for entry in entries:
        live = entry.row_count - sum(count for _, count in entry.dead)
        size = max(1.0, live / SMALLEST_CLASS_ROWS)
        classes.setdefault(int(math.log(size, MERGE_FACTOR)), []).append(entry)
    return (group for group in classes.values() if len(group) >= MERGE_FACTOR)


def _copied(live: Sequence[RowRange], segments: dict[int, Segment]) -> Iterator[Piece]:
    """The rows of `live`, neighbouring ranges of one segment in one piece."""
    runs: list[RowRange] = []
    for part in live:
        last = runs[-1] if runs else None
        if (
            last is not None
            and (last.kind, last.segment_id) == (part.kind, part.segment_id)
            and last.first_row + last.row_count == part.first_row
        ):
            count = last.row_count + part.row_count
            runs[-1] = RowRange(part.media_id, part.kind, part.segment_id, last.first_row, count)
        else:
            runs.append(part)
    tables = {id_: segment.table() for id_, segment in segments.items()}
    for run in runs:
        for offset in range(0, run.row_count, COPY_ROWS):
            first, count = run.first_row + offset, min(COPY_ROWS, run.row_count - offset)
            yield Piece(
                run.kind,
                segments[run.segment_id].vectors(first, count),
                tables[run.segment_id].slice(first, count),
            )


def _layout(media: Sequence[EncodedMedia]) -> list[dict[UnitKind, tuple[int, int]]]:
    """Where each file's rows of each kind lie: sorted by kind, then by file."""
    layout: list[dict[UnitKind, tuple[int, int]]] = [{} for _ in media]
    cursor = 0
    for kind in UNIT_KINDS:
        for own, item in zip(layout, media, strict=True):
            count = sum(unit.kind == kind for unit in item.batch.units)
            if count:
                own[kind] = (cursor, count)
                cursor += count
    return layout


def _pieces(media: Sequence[EncodedMedia], ids: Sequence[int], unit_id: int) -> Iterator[Piece]:
    from clipsearch.store.rows import rows_table

    for kind in UNIT_KINDS:
        vectors, owners, units = [], [], []
        for media_id, item in zip(ids, media, strict=True):
            mine = [i for i, unit in enumerate(item.batch.units) if unit.kind == kind]
            vectors.append(item.batch.vectors[mine])
            owners += [media_id] * len(mine)
            units += [item.batch.units[i] for i in mine]
        if units:
            rows = rows_table(unit_id, owners, units)
            unit_id += len(units)
            yield Piece(kind, np.concatenate(vectors).astype(np.float16), rows)
