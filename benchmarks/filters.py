"""What do filters cost, and what does a search find among what they leave?

    python -m benchmarks.filters [ROWS] [--folder FOLDER]

builds an index of ROWS images (a million) with vectors as CLIP makes them (vectors.py). Each file's
size is its place in a random order, its date its place in an order of content: by the cosine to one
direction. So `size < n` and `date < n` leave n files at random, or those that look alike. For
filters that leave some share of the files it prints, as JSON lines, what the database takes for one
that was not asked before, the CPU time of a search, and how many of the true ten nearest it finds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import report
from benchmarks.vectors import ClusteredVectors, Floats
from clipsearch.store.manifest import Manifest
from clipsearch.store.recipes import AUTO
from clipsearch.store.selection import Selection
from clipsearch.store.store import Store
from clipsearch.types import EmbeddingBatch, EncodedMedia, FoundFile, MediaInfo, Unit
from clipsearch.where import Test

DIM = 512
NEIGHBOURS = 10
QUERIES = 200
SHARES = (0.001, 0.01, 0.03, 0.1, 0.3, 0.8, 1.0)
ROOT = Path("/media")
MEMORY = 16 << 30  # as if the machine had so much
STILL = (Unit("image"),)


def build(folder: Path, rows: int) -> None:
    """The index, compacted; nothing if it is there."""
    if (folder / "manifest.json").exists():
        return
    source = ClusteredVectors(DIM)
    direction = next(source.images(1))[0]
    random_order = np.random.default_rng(1).permutation(rows)
    likeness = np.concatenate([block @ direction for block in source.images(rows)])
    content_order = np.empty(rows, np.int64)
    content_order[np.argsort(-likeness)] = np.arange(rows)
    store = Store.create(folder, Manifest("fake", "fingerprint", DIM, AUTO, {}))
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        first = 0
        for block in source.images(rows):
            part = slice(first, first + len(block))
            writer.publish(_files(block, first, random_order[part], content_order[part]))
            first += len(block)
        writer.compact(memory=MEMORY)
    store.close()


def _files(
    block: Floats, first: int, sizes: NDArray[np.int64], dates: NDArray[np.int64]
) -> list[EncodedMedia]:
    files = []
    for at, (size, date) in enumerate(zip(sizes.tolist(), dates.tolist(), strict=True)):
        file = FoundFile(ROOT, f"{first // 1000:05}/{first + at}.jpg", "image", size, date)
        batch = EmbeddingBatch(block[at : at + 1], STILL)
        files.append(EncodedMedia(file, f"{first + at}", MediaInfo(640, 480), {"visual": batch}))
    return files


def measure(folder: Path, rows: int) -> None:
    """One line for each filter and kind of query."""
    source = ClusteredVectors(DIM)
    queries = {"text": source.text_queries(QUERIES), "image": source.image_queries(QUERIES)}
    store = Store.open(folder)
    for field, order in (("size", "random"), ("date", "content")):
        for share in SHARES:
            where = Test(field, "<", round(rows * share)) if share < 1 else None
            selection = Selection(where)
            start = time.process_time()
            store.search(queries["text"][:1], k=1, selection=selection)
            first_ms = (time.process_time() - start) * 1000
            for kind, vectors in queries.items():
                recall, p50 = _searched(store, vectors, selection)
                report(
                    filter=order, share=share, queries=kind, recall=recall,
                    first_ms=first_ms, cpu_ms_p50=p50,
                )  # fmt: skip


def _searched(store: Store, vectors: Floats, selection: Selection) -> tuple[float, float]:
    """Recall of the nearest, and the median CPU time of a query."""
    truth = store.search(vectors, k=NEIGHBOURS, exact=True, selection=selection)
    found, times = 0, []
    for number, units in enumerate(truth):
        query = vectors[number : number + 1]
        start = time.process_time()
        [own] = store.search(query, k=NEIGHBOURS, selection=selection)
        times.append(time.process_time() - start)
        found += len({unit.id for unit in own} & {unit.id for unit in units})
    return found / sum(map(len, truth)), float(np.median(times)) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="keep the index here, and use one that is")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary) / "index"
        build(folder, arguments.rows)
        measure(folder, arguments.rows)


if __name__ == "__main__":
    main()
