"""One immutable segment: a folder with fp16 vectors, their rows, and maybe an ANN index.

    vectors.npy    (rows, dim) float16, the truth that every score is computed from
    rows.parquet   id, media_id, kind, start_seconds, end_seconds, frame_number
    lookup.npy     the same at fixed places, for looking hits up
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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import IndexDamagedError
from clipsearch.store import ann
from clipsearch.store.arrays import ArrayFile, write_header
from clipsearch.store.lookup import LOOKUP_TYPE, scored_units
from clipsearch.store.manifest import sync_folder
from clipsearch.store.recipes import IndexRecipe
from clipsearch.types import UNIT_KINDS, ScoredUnit, UnitKind, Vectors

if TYPE_CHECKING:
    import pyarrow as pa

VECTORS, ROWS, LOOKUP, SUMS, ANN, FACTS = (
    "vectors.npy",
    "rows.parquet",
    "lookup.npy",
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
    # pyarrow takes a tenth of a second to import, and searching does without it.
    from clipsearch.store.rows import ROW_GROUP_ROWS, parquet_writer, to_lookup

    folder.mkdir(parents=True)
    sums = np.zeros((len(UNIT_KINDS), shape[1]), np.float32)
    blocks = {kind: [0, 0] for kind in UNIT_KINDS}
    cursor = 0
    with (
        (folder / VECTORS).open("wb") as vectors_file,
        (folder / LOOKUP).open("wb") as lookup_file,
        parquet_writer(folder / ROWS) as rows_file,
    ):
        write_header(vectors_file, ann.VECTOR_TYPE, shape)
        write_header(lookup_file, LOOKUP_TYPE, shape[:1])
        for piece in pieces:
            vectors_file.write(np.ascontiguousarray(piece.vectors, ann.VECTOR_TYPE).data)
            lookup_file.write(to_lookup(piece.rows).data)
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
    """A segment opened for reading. Opening reads `segment.json`, `sums.npy` and file sizes; an
    ANN index is read when it is first searched.

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
        self._vectors = ArrayFile(folder / VECTORS, ann.VECTOR_TYPE, (self.row_count, dim))
        self._lookup = ArrayFile(folder / LOOKUP, LOOKUP_TYPE, (self.row_count,))

    @property
    def has_ann(self) -> bool:
        """Whether candidates come from an ANN index."""
        return self._ann is not None

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
        live = self.row_count if mask is None else int(np.count_nonzero(mask))
        if self._ann is None or exact or live < recipe.segment_rows:
            return ann.scan(self._vectors, queries, k, mask)
        candidates = self._ann.candidates(queries, max(k, recipe.candidates), recipe, mask)
        return [
            # The lists that were probed may hold fewer rows than are asked for.
            ann.rank(self._vectors, query, rows, k)
            if len(rows) >= min(k, live)
            else ann.scan(self._vectors, query[None], k, mask)[0]
            for query, rows in zip(queries, candidates, strict=True)
        ]

    def vectors(self, first: int, count: int) -> NDArray[np.float16]:
        """(count, dim) stored vectors of neighbouring rows."""
        return self._vectors.read(first, count)

    def take(self, rows: Rows) -> Vectors:
        """(len(rows), dim) float32 vectors of scattered rows."""
        return self._vectors.take(rows).astype(np.float32)

    def table(self) -> pa.Table:
        """Every row, as `rows.ROW_SCHEMA` says."""
        from clipsearch.store.rows import read_rows

        return read_rows(self.folder / ROWS, self.row_count)

    def rows(self, first: int, count: int) -> NDArray[np.void]:
        """(count,) neighbouring rows of LOOKUP_TYPE."""
        return self._lookup.read(first, count)

    def units(self, rows: Rows, scores: NDArray[np.float32]) -> list[ScoredUnit]:
        """The units at `rows`, in their order."""
        return scored_units(self._lookup.take(rows), scores)


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
