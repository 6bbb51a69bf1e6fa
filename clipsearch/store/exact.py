"""Exact scores of stored vectors: whole scans, and the re-ranking of candidates.

faiss is imported when first used, and untyped: its own stubs lack what its Python layer adds.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.types import Vectors

SCAN_ROWS = 8192  # rows read at a time: memory stays flat, 8 MB at 512 dimensions
SMALL_SCAN_VALUES = 2_000_000  # numpy takes 5 ms for them, importing faiss 80 ms
VECTOR_TYPE = np.dtype("<f2")
WAIT_POLICY = "OMP_WAIT_POLICY"

Ranking = tuple[NDArray[np.float32], NDArray[np.int64]]  # scores, rows; best first
Mask = NDArray[np.bool_]
ReadInto = Callable[[NDArray[np.uint8], int, int], None]  # buffer, first row, count


def scan(
    read_into: ReadInto, shape: tuple[int, int], queries: Vectors, k: int, mask: Mask | None
) -> list[Ranking]:
    """Exact top `k` of every query over the fp16 rows where `mask` is True (None: all)."""
    row_count, dim = shape
    if row_count * dim <= SMALL_SCAN_VALUES:
        block = np.empty((row_count, dim), VECTOR_TYPE)
        read_into(block.reshape(-1).view(np.uint8), 0, row_count)
        return _scan_small(block, queries, k, mask)
    scorer = Scorer(dim, SCAN_ROWS)
    best: list[list[Ranking]] = [[] for _ in queries]
    for first in range(0, row_count, SCAN_ROWS):
        count = min(SCAN_ROWS, row_count - first)
        part = None if mask is None else mask[first : first + count]
        if part is not None and not part.any():
            continue
        read_into(scorer.buffer, first, count)  # straight into the index: nothing is copied twice
        for kept, (scores, rows) in zip(best, scorer.best(queries, count, k, part), strict=True):
            kept.append((scores, rows + first))
    return [merge_rankings(parts, k) for parts in best]


def _scan_small(
    block: NDArray[np.float16], queries: Vectors, k: int, mask: Mask | None
) -> list[Ranking]:
    """By numpy: eight times slower than FAISS, but FAISS need not be loaded."""
    rows = np.arange(len(block)) if mask is None else np.flatnonzero(mask)
    kept = block if mask is None else block[rows]
    scores = queries @ kept.astype(np.float32).T
    return [merge_rankings([(own, rows)], k) for own in scores]


def merge_rankings(parts: Sequence[Ranking], k: int) -> Ranking:
    """The best `k` of several rankings; ties go to the smaller row."""
    if not parts:
        return np.empty(0, np.float32), np.empty(0, np.int64)
    scores = np.concatenate([s for s, _ in parts])
    rows = np.concatenate([r for _, r in parts])
    if k < len(scores):
        bar = np.partition(scores, len(scores) - k)[len(scores) - k]
        kept = scores >= bar
        scores, rows = scores[kept], rows[kept]
    order = np.lexsort((rows, -scores))[:k]
    return scores[order], rows[order]


class Scorer:
    """A place for fp16 rows that FAISS scores where they are. For one thread at a time."""

    def __init__(self, dim: int, rows: int) -> None:
        faiss = load_faiss()
        self._dim = dim
        self._index = faiss.IndexScalarQuantizer(
            dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        self.capacity = 0
        self.grow(rows)

    def grow(self, rows: int) -> None:
        """Make place for at least so many rows."""
        if rows <= self.capacity:
            return
        faiss = load_faiss()
        size = rows * self._index.code_size
        self._index.codes.resize(size)
        self.buffer: NDArray[np.uint8] = faiss.rev_swig_ptr(self._index.codes.data(), size)
        self.rows: NDArray[np.float16] = self.buffer.view(VECTOR_TYPE).reshape(rows, self._dim)
        self.capacity = rows

    def best(self, queries: Vectors, count: int, k: int, mask: Mask | None = None) -> list[Ranking]:
        """The `k` best of the first `count` rows for each query."""
        faiss = load_faiss()
        self._index.ntotal = count
        selector = selector_of(mask)
        parameters = None if selector is None else faiss.SearchParameters(sel=selector)
        with threads_for(len(queries)):
            found = self._index.search(queries, min(k, count), params=parameters)
        return [(s[r >= 0], r[r >= 0]) for s, r in zip(*found, strict=True)]


class Scorers(threading.local):
    """One scorer a thread, kept between queries: making its buffer costs more than using it."""

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._scorer: Scorer | None = None

    def get(self, rows: int) -> Scorer:
        """This thread's scorer, with place for `rows`."""
        if self._scorer is None:
            self._scorer = Scorer(self._dim, max(rows, 1024))
        self._scorer.grow(rows)
        return self._scorer


def selector_of(mask: Mask | None) -> Any:
    """A FAISS selector of the rows where `mask` is True."""
    if mask is None:
        return None
    return load_faiss().IDSelectorBitmap(np.packbits(mask, bitorder="little"))


@contextmanager
def threads_for(queries: int) -> Iterator[None]:
    """One thread for one query: waiting for others costs four times the CPU of the work."""
    faiss = load_faiss()
    threads = faiss.omp_get_max_threads()
    if queries == 1:
        faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def load_faiss() -> Any:
    """The faiss module.

    Its threads wait for each other asleep: spinning, as is usual, takes up to six times the CPU of
    the work when others use the cores. FAISS has an OpenMP library of its own, which reads this
    setting when it is loaded, so that it is nobody else's.
    """
    if "faiss" in sys.modules:
        return sys.modules["faiss"]
    before = os.environ.get(WAIT_POLICY)
    os.environ.setdefault(WAIT_POLICY, "passive")
    try:
        import faiss
    finally:
        if before is None:
            del os.environ[WAIT_POLICY]
    return faiss
