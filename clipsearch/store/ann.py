"""All contact with FAISS: exact scans of fp16 vectors, and ANN indexes for candidates.

faiss is imported when first used, and untyped: its own stubs lack what its Python layer adds.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import IndexDamagedError
from clipsearch.store.arrays import ArrayFile
from clipsearch.store.recipes import IndexRecipe, ann_description, probe_count
from clipsearch.types import Vectors

SCAN_ROWS = 8192  # rows read at a time: memory stays flat, 8 MB at 512 dimensions
SMALL_SCAN_VALUES = 2_000_000  # numpy takes 5 ms for them, importing faiss 80 ms
FILL_ROWS = 65_536
VECTOR_TYPE = np.dtype("<f2")

Ranking = tuple[NDArray[np.float32], NDArray[np.int64]]  # scores, rows; best first


def scan(
    vectors: ArrayFile, queries: Vectors, k: int, mask: NDArray[np.bool_] | None
) -> list[Ranking]:
    """Exact top `k` of every query over the fp16 rows where `mask` is True (None: all)."""
    row_count, dim = vectors.shape
    if row_count * dim <= SMALL_SCAN_VALUES:
        return _scan_small(vectors.read(0, row_count), queries, k, mask)
    faiss = _faiss()
    index = faiss.IndexScalarQuantizer(
        dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.codes.resize(SCAN_ROWS * index.code_size)
    block = faiss.rev_swig_ptr(index.codes.data(), SCAN_ROWS * index.code_size)
    best: list[list[Ranking]] = [[] for _ in queries]
    for first in range(0, row_count, SCAN_ROWS):
        count = min(SCAN_ROWS, row_count - first)
        part = None if mask is None else mask[first : first + count]
        if part is not None and not part.any():
            continue
        vectors.read_into(block, first, count)  # straight into the index: nothing is copied twice
        index.ntotal = count
        selector = _selector(part)
        parameters = None if selector is None else faiss.SearchParameters(sel=selector)
        with _threads_for(len(queries)):
            found = index.search(queries, min(k, count), params=parameters)
        for kept, scores, rows in zip(best, *found, strict=True):
            kept.append((scores[rows >= 0], rows[rows >= 0] + first))
    return [merge_rankings(parts, k) for parts in best]


def _scan_small(
    block: NDArray[np.float16], queries: Vectors, k: int, mask: NDArray[np.bool_] | None
) -> list[Ranking]:
    """By numpy: eight times slower than FAISS, but FAISS need not be loaded."""
    rows = np.arange(len(block)) if mask is None else np.flatnonzero(mask)
    kept = block if mask is None else block[rows]
    scores = queries @ kept.astype(np.float32).T
    return [merge_rankings([(own, rows)], k) for own in scores]


def rank(
    vectors: ArrayFile, query: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> Ranking:
    """Exact top `k` among `rows`: the re-ranking of ANN candidates."""
    rows = np.sort(rows)  # in file order
    return merge_rankings([(vectors.take(rows).astype(np.float32) @ query, rows)], k)


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
        self._path = path
        file = path.open("rb", buffering=0)  # stays readable when the segment is merged away
        weakref.finalize(self, file.close)
        self._read = file.read
        self._guard = threading.Lock()
        self._loaded: Any = None

    @property
    def _index(self) -> Any:
        with self._guard:
            if self._loaded is None:
                self._loaded = _read_index(_faiss().PyCallbackIOReader(self._read), self._path)
            return self._loaded

    def candidates(
        self, queries: Vectors, count: int, recipe: IndexRecipe, mask: NDArray[np.bool_] | None
    ) -> list[NDArray[np.int64]]:
        """For each query up to `count` rows worth scoring exactly, in no promised order."""
        faiss = _faiss()

        selector = _selector(mask)
        parameters = faiss.SearchParametersIVF(nprobe=probe_count(recipe, self._index.nlist))
        if selector is not None:
            parameters.sel = selector
        with _threads_for(len(queries)):
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
    with path.open("rb") as file:
        os.fsync(file.fileno())


def fill(quantiser: Path, vectors: NDArray[np.float16], path: Path) -> None:
    """Write a copy of the trained `quantiser` that holds `vectors`, row by row."""
    faiss = _faiss()

    index = _read_index(str(quantiser), quantiser)
    for first in range(0, len(vectors), FILL_ROWS):
        index.add(np.asarray(vectors[first : first + FILL_ROWS], np.float32))
    faiss.write_index(index, str(path))


def _read_index(source: Any, path: Path) -> Any:
    """From a path or a FAISS reader; `path` is for the message."""
    try:
        return _faiss().read_index(source)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1] if str(error) else "unknown reason"
        raise IndexDamagedError(f"{path} cannot be read: {reason}") from error


def _selector(mask: NDArray[np.bool_] | None) -> Any:
    faiss = _faiss()

    if mask is None:
        return None
    return faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))


@contextmanager
def _threads_for(queries: int) -> Iterator[None]:
    """One thread for one query: waiting for others costs four times the CPU of the work."""
    faiss = _faiss()
    threads = faiss.omp_get_max_threads()
    if queries == 1:
        faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _faiss() -> Any:
    import faiss

    return faiss
