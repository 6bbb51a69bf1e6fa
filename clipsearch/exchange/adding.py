"""Adding what a reader gives to an index: gathered to blocks, and nothing twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import UsageError
from clipsearch.exchange.rows import IndexRows
from clipsearch.ingest import Progress
from clipsearch.store.lookup import Lookup, parse_columns
from clipsearch.store.store import Store
from clipsearch.store.vectors import BLOCK_ROWS, VectorBlock, blocks_of
from clipsearch.store.writer import Writer
from clipsearch.types import UNIT_KINDS, VECTOR_KINDS, Failure

if TYPE_CHECKING:
    from clipsearch.exchange.parts import Part

SIDE_BY_SIDE = ("kind", "start_seconds", "end_seconds", "frame_number")


def _ignore(*_: object) -> None:
    """The listener that does not listen."""


@dataclass(frozen=True, slots=True)
class ImportListener:
    """What an import tells while it runs, from the calling thread."""

    on_failure: Callable[[Failure], None] = _ignore
    on_progress: Callable[[Progress], None] = _ignore
    on_wait: Callable[[str], None] = _ignore


@dataclass(slots=True)
class ImportReport:
    """Rows that were added, that were there already, and that have no vector or no path; files that
    could not be read.
    """

    added: int = 0
    known: int = 0
    unusable: int = 0
    failures: list[Failure] = field(default_factory=list)


def add_parts(
    store: Store,
    parts: Iterator[Part | Failure],
    *,
    wait: bool = True,
    listener: ImportListener | None = None,
) -> ImportReport:
    """Add vectors that a reader gives to an index, published every 131,072 rows.

    Rows that are in the index with the same path, kind, times and vector are not added again, so
    that what was interrupted goes on where it was. Raises UsageError, or IndexLockedError when
    another process writes and `wait` is false.
    """
    listener = listener or ImportListener()
    with store.writing(wait=wait, on_wait=listener.on_wait) as writer:
        run = _Import(store, writer, listener)
        for part in parts:
            if isinstance(part, Failure):
                run.fail(part)
            else:
                run.take(part)
        run.publish()
    return run.report


class _Import:
    """One import: gathers rows to blocks and publishes them."""

    def __init__(self, store: Store, writer: Writer, listener: ImportListener) -> None:
        self.report = ImportReport()
        self._dim = store.manifest.dim
        self._writer, self._listener = writer, listener
        self._known = _known_rows(store)
        self._held: list[VectorBlock] = []
        self._seen = 0
        self._path: Path | None = None  # of the file that is read, and its next row
        self._next = 0

    def fail(self, failure: Failure) -> None:
        """Note and tell a file that could not be read."""
        if failure in self.report.failures[-1:]:  # of more rows of that file
            return
        self.report.failures.append(failure)
        self._listener.on_failure(failure)

    def take(self, part: Part) -> None:
        """Hold the rows that can be added and are new; publish them when they are many."""
        import pyarrow as pa

        from clipsearch.exchange.incoming import as_ours, unit_halves

        if not part.vectors.shape[1]:  # of a table whose rows here have none
            self.report.unusable += len(part.vectors)
            return
        if part.vectors.shape[1] != self._dim:
            self.fail(
                Failure(part.path, f"its vectors have {part.vectors.shape[1]} dimensions, those of "
                        f"the index {self._dim}")
            )  # fmt: skip
            return
        first = self._next if part.path == self._path else 0
        self._path, self._next = part.path, first + len(part.vectors)
        vectors, usable = unit_halves(part.vectors)
        try:
            table = as_ours(part.table)
            usable &= ~np.asarray(table["path"].is_null())
            rows = table.filter(usable)
            blocks = list(blocks_of([vectors[usable]], [rows], dim=self._dim, normalize=False))
        except (UsageError, pa.ArrowException) as error:
            some = f"{len(part.vectors)} rows from row {first} on"
            self.fail(Failure(part.path, f"{some}: {error}"))
            return
        self.report.unusable += int(len(usable) - usable.sum())
        self._held += [self._new(block) for block in blocks]
        self._seen += len(vectors)
        if sum(len(block.columns) for block in self._held) >= BLOCK_ROWS:
            self.publish()
        self._listener.on_progress(Progress(self._seen, None, self._seen))

    def publish(self) -> None:
        """Make what is held searchable."""
        columns = [content for block in self._held for content in block.columns]
        if columns:
            vectors = np.concatenate([block.vectors for block in self._held])
            rows = np.concatenate([block.rows for block in self._held])
            self._writer.publish_vectors(vectors, rows, columns)
            self._writer.maintain()
            self.report.added += len(columns)
        self._held = []

    def _new(self, block: VectorBlock) -> VectorBlock:
        """The rows of a block that the index had not before."""
        if not len(self._known):
            return block
        paths = [str(values["path"]) for values in parse_columns(block.columns)]
        keys = _keys(block.vectors, block.rows, paths)
        at = np.minimum(np.searchsorted(self._known, keys), len(self._known) - 1)
        new = np.flatnonzero(self._known[at] != keys)
        self.report.known += len(keys) - len(new)
        columns = [block.columns[row] for row in new.tolist()]
        return VectorBlock(block.vectors[new], block.rows[new], columns)


def _known_rows(store: Store) -> NDArray[np.uint64]:
    """Keys of the rows that an index has, in order: eight bytes for each."""
    store.refresh()
    found = [np.empty(0, np.uint64)]
    for block in IndexRows(store, VECTOR_KINDS).blocks():
        rows = np.zeros(len(block.records), [(name, "<f8") for name in SIDE_BY_SIDE])
        for at, record in enumerate(block.records):
            times = (record["start"], record["end"])
            frame = -1 if record["frame_number"] is None else record["frame_number"]
            kind = UNIT_KINDS.index(record["kind"])
            rows[at] = (kind, *(np.nan if time is None else time for time in times), frame)
        found.append(_keys(block.vectors, rows, [str(r["path"]) for r in block.records]))
    return np.sort(np.concatenate(found))


def _keys(vectors: NDArray[np.float16], rows: Lookup, paths: list[str]) -> NDArray[np.uint64]:
    """(n,) what tells a row from any other: its path, kind, times and vector."""
    places = np.stack([rows[name].astype("<f8") for name in SIDE_BY_SIDE], axis=1)
    places = np.nan_to_num(places, nan=-1)
    keys = np.empty(len(paths), np.uint64)
    for at, path in enumerate(paths):
        digest = hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8)
        digest.update(places[at].tobytes())
        digest.update(vectors[at].tobytes())
        keys[at] = int.from_bytes(digest.digest())
    return keys
