"""All contact with FAISS: exact scans of fp16 vectors, and ANN indexes for candidates.

faiss is imported when first used, and untyped: its own stubs lack what its Python layer adds.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import IndexDamagedError
from clipsearch.store.recipes import IndexRecipe, ann_description, probe_count
from clipsearch.types import Vectors

SCAN_ROWS = 8192  # rows read at a time: memory stays flat, 8 MB at 512 dimensions
FILL_ROWS = 65_536
VECTOR_TYPE = np.dtype("<f2")

Ranking = tuple[NDArray[np.float32], NDArray[np.int64]]  # scores, rows; best first


class VectorFile:
    """A `(rows, dim)` float16 .npy file, read in blocks so that memory does not grow with rows."""

    def __init__(self, path: Path, rows: int, dim: int) -> None:
        self._path, self._rows, self._dim = path, rows, dim
        with path.open("rb") as file:
            try:
                np.lib.format.read_magic(file)
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            except ValueError as error:
                raise IndexDamagedError(f"{path} is not an array file: {error}") from error
            self._offset = file.tell()
            self._descriptor = os.dup(file.fileno())
        # Searches in other threads may still use the file when its segment is let go.
        weakref.finalize(self, os.close, self._descriptor)
        if shape != (rows, dim) or dtype != VECTOR_TYPE:
            raise IndexDamagedError(f"{path} holds {dtype} {shape}, not float16 {(rows, dim)}")

    def read(self, first: int, count: int) -> NDArray[np.float16]:
        """(count, dim) neighbouring rows. Positional reads: safe from several threads."""
        row_bytes = 2 * self._dim
        buffer = bytearray(count * row_bytes)
        view = memoryview(buffer)
        position = self._offset + first * row_bytes
        while view:
            got = os.preadv(self._descriptor, [view], position)
            if got == 0:
                raise IndexDamagedError(f"{self._path} ends early")
            view, position = view[got:], position + got
        return np.frombuffer(buffer, VECTOR_TYPE).reshape(count, self._dim)

    def scan(self, queries: Vectors, k: int, mask: NDArray[np.bool_] | None) -> list[Ranking]:
        """Exact top `k` of every query over the rows where `mask` is True (None: all)."""
        faiss = _faiss()

        best: list[list[Ranking]] = [[] for _ in queries]
        for first in range(0, self._rows, SCAN_ROWS):
            count = min(SCAN_ROWS, self._rows - first)
            part = None if mask is None else mask[first : first + count]
            if part is not None and not part.any():
                continue
            index = faiss.IndexScalarQuantizer(
                self._dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
            )
            faiss.copy_array_to_vector(self.read(first, count).view(np.uint8).ravel(), index.codes)
            index.ntotal = count
            selector = _selector(part)
            parameters = None if selector is None else faiss.SearchParameters(sel=selector)
            scores, rows = index.search(queries, min(k, count), params=parameters)
            for kept, s, r in zip(best, scores, rows, strict=True):
                kept.append((s[r >= 0], r[r >= 0] + first))
        return [merge_rankings(parts, k) for parts in best]

    def rank(self, query: NDArray[np.float32], rows: NDArray[np.int64], k: int) -> Ranking:
        """Exact top `k` among `rows`: the re-ranking of ANN candidates."""
        rows = np.sort(rows)  # in file order
        scores = self.take(rows) @ query
        return merge_rankings([(scores, rows)], k)

    def take(self, rows: NDArray[np.int64]) -> Vectors:
        """(len(rows), dim) float32 copies of scattered rows; only their pages are read."""
        if not len(rows):
            return np.empty((0, self._dim), np.float32)
        with mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ) as pages:
            mapped = np.frombuffer(pages, VECTOR_TYPE, self._rows * self._dim, self._offset)
            taken: Vectors = mapped.reshape(self._rows, self._dim)[rows].astype(np.float32)
            del mapped  # or the map cannot be closed
        return taken


def merge_rankings(parts: Sequence[Ranking], k: int) -> Ranking:
    """The best `k` of several rankings; ties go to the smaller row."""
    if not parts:
        return np.empty(0, np.float32), np.empty(0, np.int64)
    scores = np.concatenate([s for s, _ in parts])
    rows = np.concatenate([r for _, r in parts])
    order = np.lexsort((rows, -scores))[:k]
    return scores[order], rows[order]


class AnnIndex:
    """A segment's ANN index: gives candidate rows, never a ranking."""

    def __init__(self, path: Path) -> None:
        self._index = _read_index(path)

    def candidates(
        self, queries: Vectors, count: int, recipe: IndexRecipe, mask: NDArray[np.bool_] | None
    ) -> list[NDArray[np.int64]]:
        """For each query up to `count` rows worth scoring exactly, in no promised order."""
        faiss = _faiss()

        selector = _selector(mask)
        parameters = faiss.SearchParametersIVF(nprobe=probe_count(recipe, self._index.nlist))
        if selector is not None:
            parameters.sel = selector
        _, rows = self._index.search(queries, min(count, self._index.ntotal), params=parameters)
        return [r[r >= 0] for r in rows]


def train(sample: Vectors, total_rows: int, path: Path) -> None:
    """Train an empty ANN index for about `total_rows` vectors on a random `sample`; write it."""
    faiss = _faiss()

    index = faiss.index_factory(
        sample.shape[1],
        ann_description(min(total_rows, len(sample)), sample.shape[1]),
        faiss.METRIC_INNER_PRODUCT,  # makes the k-means of the lists spherical
    )
    index.train(np.ascontiguousarray(sample))
    faiss.write_index(index, str(path))


def fill(quantiser: Path, vectors: NDArray[np.float16], path: Path) -> None:
    """Write a copy of the trained `quantiser` that holds `vectors`, row by row."""
    faiss = _faiss()

    index = _read_index(quantiser)
    for first in range(0, len(vectors), FILL_ROWS):
        index.add(np.asarray(vectors[first : first + FILL_ROWS], np.float32))
    faiss.write_index(index, str(path))


def _read_index(path: Path) -> Any:
    faiss = _faiss()

    try:
        return faiss.read_index(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1] if str(error) else "unknown reason"
        raise IndexDamagedError(f"{path} cannot be read: {reason}") from error


def _selector(mask: NDArray[np.bool_] | None) -> Any:
    faiss = _faiss()

    if mask is None:
        return None
    return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))


def _faiss() -> Any:
    import faiss

    return faiss
