"""One immutable segment: a folder with fp16 vectors, their rows, and maybe an ANN index.

    vectors.npy    (rows, dim) float16, the truth that every score is computed from
    rows.parquet   id, media_id, kind, start_seconds, end_seconds, frame_number
    sums.npy       (unit kinds, dim) float32, the sum of the vectors of each kind
    ann.faiss      optional: candidates for the rows above
    segment.json   row count, dimension, the block of rows of each kind, size and hash of each file

Rows are sorted by kind, then by media, then by time, so that a kind and a media's share of it are
ranges of rows.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clipsearch.errors import IndexDamagedError
from clipsearch.store import ann
from clipsearch.store.manifest import sync_folder
from clipsearch.store.recipes import IndexRecipe
from clipsearch.types import UNIT_KINDS, ScoredUnit, Unit, UnitKind, Vectors

ROW_SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("media_id", pa.int64()),
        ("kind", pa.string()),
        ("start_seconds", pa.float64()),
        ("end_seconds", pa.float64()),
        ("frame_number", pa.int64()),
    ]
)
ROW_GROUP_ROWS = 4096  # a hit reads one group: small enough to decode in about a millisecond
VECTORS, ROWS, SUMS, ANN, FACTS = (
    "vectors.npy",
    "rows.parquet",
    "sums.npy",
    "ann.faiss",
    "segment.json",
)

Mask = NDArray[np.bool_]  # (rows,) True where a row may be found
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring rows of one kind: (n, dim) float16 vectors and their n rows of ROW_SCHEMA."""

    kind: UnitKind
    vectors: NDArray[np.float16]
    rows: pa.Table


def write_segment(
    folder: Path,
    pieces: Iterable[Piece],
    *,
    shape: tuple[int, int],
    quantiser: Path | None = None,
) -> None:
    """Write a whole segment of `shape` (rows, dim) into the new `folder`, durably.

    `pieces` come in the order of UNIT_KINDS. With `quantiser`, a trained empty ANN index, the
    segment gets its own filled copy.
    """
    folder.mkdir(parents=True)
    sums = np.zeros((len(UNIT_KINDS), shape[1]), np.float32)
    blocks = {kind: [0, 0] for kind in UNIT_KINDS}
    cursor = 0
    with (
        (folder / VECTORS).open("wb") as vectors_file,
        pq.ParquetWriter(folder / ROWS, ROW_SCHEMA, compression="zstd") as rows_file,
    ):
        header = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(vectors_file, header)
        for piece in pieces:
            vectors_file.write(np.ascontiguousarray(piece.vectors, ann.VECTOR_TYPE).tobytes())
            rows_file.write_table(piece.rows, row_group_size=ROW_GROUP_ROWS)
            sums[UNIT_KINDS.index(piece.kind)] += piece.vectors.sum(axis=0, dtype=np.float32)
            if blocks[piece.kind][1] == 0:
                blocks[piece.kind] = [cursor, cursor]
            cursor += len(piece.vectors)
            blocks[piece.kind][1] = cursor
    assert cursor == shape[0], "the pieces do not add up to the announced rows"
    np.save(folder / SUMS, sums)
    if quantiser is not None:
        vectors = np.load(folder / VECTORS, mmap_mode="r")
        ann.fill(quantiser, vectors, folder / ANN)
    _write_facts(folder, shape, blocks)


def _write_facts(folder: Path, shape: tuple[int, int], blocks: dict[UnitKind, list[int]]) -> None:
    files = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        files[path.name] = {"bytes": path.stat().st_size, "sha256": digest}
    facts = {"rows": shape[0], "dim": shape[1], "kinds": blocks, "files": files}
    with (folder / FACTS).open("w", encoding="utf-8") as file:
        json.dump(facts, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder)


class Segment:
    """A segment opened for reading. Opening reads only `segment.json` and file sizes.

    Files stay open, so a reader keeps its segment when a writer merges it away.
    Raises IndexDamagedError when a file is missing or has another size than it was written with.
    """

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder = folder
        facts = _read_facts(folder, dim)
        self.row_count: int = facts["rows"]
        self.dim = dim
        self.blocks: dict[str, list[int]] = facts["kinds"]
        self.sums = np.load(folder / SUMS)  # (unit kinds, dim) float32
        self._ann = ann.AnnIndex(folder / ANN) if ANN in facts["files"] else None
        self._vectors = ann.VectorFile(folder / VECTORS, self.row_count, dim)
        with _rows_readable(folder):
            self._rows = pq.ParquetFile(folder / ROWS)
        self._rows_lock = threading.Lock()  # a ParquetFile serves one thread at a time
        self._group_starts = _group_starts(self._rows, self.row_count, folder)

    def mask(self, kinds: Sequence[UnitKind], dead: Iterable[tuple[int, int]]) -> Mask | None:
        """(rows,) True for live rows of `kinds`; None when that is every row."""
        dead = list(dead)
        wanted = sum(self.blocks[kind][1] - self.blocks[kind][0] for kind in kinds)
        if not dead and wanted == self.row_count:
            return None
        mask = np.zeros(self.row_count, np.bool_)
        for kind in kinds:
            mask[slice(*self.blocks[kind])] = True
        for first, count in dead:
            mask[first : first + count] = False
        return mask

    def search(
        self, queries: Vectors, k: int, *, recipe: IndexRecipe, mask: Mask | None, exact: bool
    ) -> list[tuple[NDArray[np.float32], Rows]]:
        """For each query the up to `k` best (scores, rows), by exact cosine, best first."""
        if self._ann is None or exact:
            return self._vectors.scan(queries, k, mask)
        candidates = self._ann.candidates(queries, max(k, recipe.candidates), recipe, mask)
        return [
            self._vectors.rank(query, rows, k)
            for query, rows in zip(queries, candidates, strict=True)
        ]

    def vectors(self, first: int, count: int) -> NDArray[np.float16]:
        """(count, dim) stored vectors of neighbouring rows."""
        return self._vectors.read(first, count)

    def take(self, rows: Rows) -> Vectors:
        """(len(rows), dim) float32 vectors of scattered rows."""
        return self._vectors.take(rows)

    def table(self, first: int, count: int) -> pa.Table:
        """Neighbouring rows as a table of ROW_SCHEMA; only their row groups are read."""
        groups = self._groups_of(np.arange(first, first + count, dtype=np.int64))
        table = self._read_groups(groups)
        return table.slice(first - int(self._group_starts[groups[0]]), count)

    def units(self, rows: Rows, scores: NDArray[np.float32]) -> list[ScoredUnit]:
        """The units at `rows`, in their order; only the row groups that hold them are read."""
        if not len(rows):
            return []
        groups = self._groups_of(rows)
        table = self._read_groups(groups)
        sizes = np.diff(self._group_starts)[groups]
        offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        group_of_row = np.searchsorted(self._group_starts, rows, side="right") - 1
        position = rows - self._group_starts[group_of_row]
        position = position + offsets[np.searchsorted(groups, group_of_row)]
        records = table.take(pa.array(position)).to_pylist()
        return [
            _scored_unit(record, float(score))
            for record, score in zip(records, scores, strict=True)
        ]

    def _read_groups(self, groups: list[int]) -> pa.Table:
        with self._rows_lock, _rows_readable(self.folder):
            return self._rows.read_row_groups(groups)

    def _groups_of(self, rows: Rows) -> list[int]:
        return sorted({int(g) for g in np.searchsorted(self._group_starts, rows, side="right") - 1})


@contextmanager
def _rows_readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:
        raise IndexDamagedError(f"{folder / ROWS} cannot be read: {error}") from error


def _scored_unit(record: dict[str, Any], score: float) -> ScoredUnit:
    unit = Unit(
        record["kind"], record["start_seconds"], record["end_seconds"], record["frame_number"]
    )
    return ScoredUnit(score, record["id"], record["media_id"], unit)


def _group_starts(file: pq.ParquetFile, row_count: int, folder: Path) -> Rows:
    sizes = [file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups)]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    if starts[-1] != row_count:
        raise IndexDamagedError(f"{folder / ROWS} has {starts[-1]} rows, not {row_count}")
    return starts


def _read_facts(folder: Path, dim: int) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        for name, file in facts["files"].items():
            size = (folder / name).stat().st_size
            if size != file["bytes"]:
                raise IndexDamagedError(
                    f"{folder / name} has {size} bytes, not the {file['bytes']} that were written"
                )
        if facts["dim"] != dim:
            raise IndexDamagedError(f"{folder / FACTS} has dim {facts['dim']}, the index {dim}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexDamagedError(f"{folder / FACTS} cannot be read: {error}") from error
    return facts
