"""Vectors, queries and their exact nearest rows, as files that contenders can share.

    python -m benchmarks.truth FOLDER ROWS

writes into FOLDER what is absent of `vectors.npy`, (ROWS, dim) float16 unit rows, and for both
kinds of query, here text, `text.npy`, (n, dim) float32, and `text_truth.npy`, (n, 10) row numbers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.vectors import ClusteredVectors, Floats

NEIGHBOURS = 10
KINDS = ("text", "image")
BLOCK_ROWS = 16_384
THREADS = 2

Rows = NDArray[np.int64]


class StoredVectors:
    """The first `count` rows of a .npy file of float16 vectors; the file stays on disk."""

    def __init__(self, path: Path, count: int | None = None) -> None:
        self.path = path
        total, self.dim = np.load(path, mmap_mode="r").shape
        self.count = total if count is None else min(total, count)
        self.complete = self.count == total

    def mapped(self) -> NDArray[np.float16]:
        """All rows, in a mapping whose pages count as memory of the process once touched."""
        rows: NDArray[np.float16] = np.load(self.path, mmap_mode="r")[: self.count]
        return rows.view(np.ndarray)

    def blocks(self) -> Iterator[tuple[int, Floats]]:
        """First row and vectors of each block; a mapping each, so that touched pages go again."""
        for first in range(0, self.count, BLOCK_ROWS):
            yield first, self.mapped()[first : first + BLOCK_ROWS].astype(np.float32)

    def sample(self, size: int) -> Floats:
        """`size` rows, or all there are, drawn uniformly."""
        size = min(self.count, size)
        chosen = np.sort(np.random.default_rng(0).choice(self.count, size, replace=False))
        sample = np.empty((size, self.dim), np.float32)
        done = 0
        for first, block in self.blocks():
            mine = chosen[(chosen >= first) & (chosen < first + len(block))] - first
            sample[done : done + len(mine)] = block[mine]
            done += len(mine)
        return sample


def nearest(vectors: StoredVectors, queries: Floats) -> Rows:
    """The exact nearest rows of every query, best first, by FAISS over the fp16 values."""
    faiss: Any = import_module("faiss")
    faiss.omp_set_num_threads(THREADS)
    heap = faiss.ResultHeap(len(queries), NEIGHBOURS, keep_max=True)
    for first, block in vectors.blocks():
        index = faiss.IndexScalarQuantizer(
            vectors.dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        index.add(block)
        scores, rows = index.search(queries, min(NEIGHBOURS, len(block)))
        heap.add_result(scores, rows + first)
    heap.finalize()
    found: Rows = heap.I
    return found


def prepare(
    folder: Path, rows: int, queries: int = 1000, dim: int = 512, seed: int = 0
) -> StoredVectors:
    """Make what is absent in `folder`; the vectors there."""
    folder.mkdir(parents=True, exist_ok=True)
    source = ClusteredVectors(dim, seed)
    path = folder / "vectors.npy"
    _write_unless_there(path, partial(_save_vectors, source, rows))
    vectors = StoredVectors(path)
    if (vectors.count, vectors.dim) != (rows, dim):
        sys.exit(f"{path} has {vectors.count} rows of {vectors.dim}: use another folder")
    for kind, make in zip(KINDS, (source.text_queries, source.image_queries), strict=True):
        _save_unless_there(folder / f"{kind}.npy", partial(make, queries))
        known = np.load(folder / f"{kind}.npy")
        _save_unless_there(folder / f"{kind}_truth.npy", partial(nearest, vectors, known))
    return vectors


def _save_unless_there(path: Path, make: Callable[[], NDArray[Any]]) -> None:
    _write_unless_there(path, lambda unfinished: np.save(unfinished, make()))


def _save_vectors(source: ClusteredVectors, rows: int, path: Path) -> None:
    shape = (rows, source.dim)
    stored = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    done = 0
    for block in source.images(rows):
        stored[done : done + len(block)] = block
        done += len(block)
    stored.flush()


def _write_unless_there(path: Path, write: Callable[[Path], None]) -> None:
    """Under another name first: a file that is there is whole."""
    if not path.exists():
        unfinished = path.with_name(f"unfinished-{path.name}")
        write(unfinished)
        unfinished.rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.truth")
    parser.add_argument("folder", type=Path)
    parser.add_argument("rows", type=int)
    parser.add_argument("--queries", type=int, default=1000, help="of each kind")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    prepare(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
