"""What does the store cost at size, and what does it find? Beside other vector indexes.

    python -m benchmarks.store [ROWS …] [--folder FOLDER] [--only NAME …]

makes vectors as CLIP does (vectors.py) with their exact answers (truth.py), builds the store and
the contenders of peers.py, each in a process of its own, and prints a JSON line for each. The store
is asked as it comes from `compact` and as `recall --target` tunes it; `faiss` is the same trained
index with the same width, so that it shows what the store adds. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import report, run
from benchmarks.peers import ENVIRONMENT, NAMES, TIMED, WARM_UP, memory_mb
from benchmarks.truth import KINDS, NEIGHBOURS, StoredVectors, prepare
from benchmarks.vectors import Floats
from clipsearch import Index

TARGETS = (0.95, 0.99)
ADD_ROWS = 131_072
APPENDED_ROWS = 10_000
APPENDED_TO = (10_000, 100_000, 1_000_000)
METADATA_ROWS = 1000
METADATA_QUERIES = 50


def build(folder: Path, vectors: StoredVectors) -> None:
    """Add every vector with a path and a number, then compact."""
    start = time.process_time()
    with Index.create(folder, model=None, dim=vectors.dim) as index:
        arrays, tables = _added(vectors, 0, vectors.count)
        index.add_vectors(arrays, tables, normalize=True)
        added = time.process_time()
        index.compact()
    report(
        name="clipsearch build",
        rows=vectors.count,
        add_cpu_s=added - start,
        compact_cpu_s=time.process_time() - added,
        build_cpu_s=time.process_time() - start,
        rss_mb=memory_mb("VmHWM"),
    )


def serve(folder: Path, vectors: StoredVectors, queries: Path) -> None:
    """Ask as the index is, then as it is tuned to each target."""
    with Index.open(folder) as index:
        _report_searches("clipsearch", index, vectors, queries)
        _report_metadata(index, vectors, queries)
    for target in TARGETS:
        with Index.open(folder) as index:
            sample = np.load(queries / "text.npy")[::-1][:200]  # not those that are timed first
            index.recall(vectors=sample, target=target)
            _report_searches(f"clipsearch --target {target}", index, vectors, queries)


def append(vectors: StoredVectors, rows: int) -> None:
    """What adding 10,000 vectors costs beside `rows` others."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Index.create(Path(folder) / "index", model=None, dim=vectors.dim) as index,
    ):
        index.add_vectors(*_added(vectors, 0, rows), normalize=True)
        times = []
        for _ in range(5):
            arrays, tables = _added(vectors, 0, APPENDED_ROWS)
            start = time.process_time()
            index.add_vectors(arrays, tables, normalize=True)
            times.append(time.process_time() - start)
    report(
        name="append",
        rows=rows,
        appended=APPENDED_ROWS,
        cpu_s_p50=float(np.median(times)),
        cpu_us_per_row=1e6 * float(np.median(times)) / APPENDED_ROWS,
    )


def _added(vectors: StoredVectors, first: int, end: int) -> tuple[Iterator[Any], Iterator[Any]]:
    starts = range(first, end, ADD_ROWS)
    arrays = (vectors.mapped()[start : min(start + ADD_ROWS, end)] for start in starts)
    tables = (_table(start, min(start + ADD_ROWS, end)) for start in starts)
    return arrays, tables


def _table(first: int, end: int) -> dict[str, list[Any]]:
    numbers = range(first, end)
    return {
        "path": [f"photos/{n // 10_000:05}/IMG_{n:09}.jpg" for n in numbers],
        "number": list(numbers),
    }


def _report_searches(name: str, index: Index, vectors: StoredVectors, queries: Path) -> None:
    recalls = {kind: _recall(index, kind, queries) for kind in KINDS}  # a warm-up as well
    text = np.load(queries / "text.npy")
    times = _times(text, lambda query: index.search_vectors(query[None], top=NEIGHBOURS))
    status = index.status()
    bytes_per_vector = status.bytes_on_disk / vectors.count
    served_mb = memory_mb("VmRSS")
    report(
        name=name,
        rows=vectors.count,
        dim=vectors.dim,
        setting={"recipe": status.recipe, "lists": status.lists, **_width(index)},
        recall10_text=recalls["text"],
        recall10_image=recalls["image"],
        cpu_ms_p50=1000 * float(np.quantile(times, 0.5)),
        cpu_ms_p99=1000 * float(np.quantile(times, 0.99)),
        bytes_per_vector=bytes_per_vector,
        rss_mb=memory_mb("VmHWM"),
        rss_served_mb=served_mb,
    )


def _report_metadata(index: Index, vectors: StoredVectors, queries: Path) -> None:
    text = np.load(queries / "text.npy")
    found = [
        index.search_vectors(query[None], top=METADATA_ROWS)[1][0]
        for query in text[: METADATA_QUERIES + WARM_UP]
    ]
    for ids in found:
        index.rows(ids)  # from then on the system has the pages in memory
    times = _times(found, index.rows, timed=METADATA_QUERIES)
    report(
        name="clipsearch metadata",
        rows=vectors.count,
        fetched=METADATA_ROWS,
        cpu_ms_p50=1000 * float(np.quantile(times, 0.5)),
        cpu_ms_p99=1000 * float(np.quantile(times, 0.99)),
    )


def _times(asked: Any, ask: Callable[[Any], object], timed: int = TIMED) -> list[float]:
    """CPU seconds of each, after a warm-up."""
    for one in asked[:WARM_UP]:
        ask(one)
    times = []
    for one in asked[WARM_UP : WARM_UP + timed]:
        start = time.process_time()
        ask(one)
        times.append(time.process_time() - start)
    return times


def _recall(index: Index, kind: str, queries: Path) -> float:
    asked: Floats = np.load(queries / f"{kind}.npy")
    truth = np.load(queries / f"{kind}_truth.npy")
    _, ids = index.search_vectors(asked, top=NEIGHBOURS)
    found = [
        len(np.intersect1d(own - 1, true)) for own, true in zip(ids, truth, strict=True)
    ]  # ids count from 1
    return sum(found) / int(truth.size)


def _width(index: Index) -> dict[str, int]:
    snapshot = index._store.snapshot()
    if not snapshot.quantisers:
        return {}
    width = snapshot.width(snapshot.quantisers[-1])
    return {"nprobe": width.nprobe, "candidates": width.candidates}


def compare(rows: int, folder: Path, only: list[str]) -> None:
    """Every stage for one number of rows, and what it comes to beside the others."""
    files = folder / f"vectors-{rows}"
    vectors = prepare(files, rows)
    lines: dict[str, dict[str, Any]] = {}
    index = folder / f"index-{rows}"
    if not only or "clipsearch" in only:
        if not (index / "manifest.json").exists():
            lines |= _stage("build", rows, folder)
        lines |= _stage("serve", rows, folder)
        for size in APPENDED_TO:
            if size <= rows and not only:
                lines |= _stage("append", rows, folder, "--size", str(size))
    for name in NAMES:
        if only and name not in only:
            continue
        lines |= _peer(name, vectors, files, index, lines)
    _report_ratios(rows, lines)
    if not only:
        shutil.rmtree(index)


def _peer(
    name: str, vectors: StoredVectors, files: Path, index: Path, lines: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    command = ["benchmarks.peers", name, str(vectors.path), "--queries", str(files)]
    quantisers = sorted((index / "quantisers").glob("*.faiss")) if index.exists() else []
    if name == "faiss" and quantisers and "clipsearch" in lines:
        setting = lines["clipsearch"]["setting"]
        command += ["--quantiser", str(quantisers[-1])]
        command += ["--nprobe", str(setting["nprobe"])]
        command += ["--candidates", str(setting["candidates"])]
    return _lines(command)


def _stage(name: str, rows: int, folder: Path, *more: str) -> dict[str, dict[str, Any]]:
    return _lines(["benchmarks.store", str(rows), "--folder", str(folder), "--stage", name, *more])


def _lines(command: list[str]) -> dict[str, dict[str, Any]]:
    os.environ.update(ENVIRONMENT)
    stdout = run(sys.executable, "-m", *command).stdout
    print(stdout, end="", flush=True)
    lines = [json.loads(line) for line in stdout.splitlines()]
    return {line["name"]: line for line in lines}


def _report_ratios(rows: int, lines: dict[str, dict[str, Any]]) -> None:
    """CPU of a search, as a share of the exact scan and of raw FAISS with re-ranking."""
    shares = {}
    for name, line in lines.items():
        if name.startswith("clipsearch") and "recall10_text" in line:
            for other in ("exact", "faiss"):
                if other in lines:
                    shares[f"{name} / {other}"] = line["cpu_ms_p50"] / lines[other]["cpu_ms_p50"]
    report(name="ratios", rows=rows, **{key: round(value, 4) for key, value in shares.items()})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.store")
    parser.add_argument("rows", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where to keep vectors and the index")
    parser.add_argument("--only", nargs="*", default=[], choices=["clipsearch", *NAMES])
    parser.add_argument("--stage", choices=["build", "serve", "append"], help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for rows in options.rows:
            files, index = folder / f"vectors-{rows}", folder / f"index-{rows}"
            if options.stage == "build":
                build(index, StoredVectors(files / "vectors.npy"))
            elif options.stage == "serve":
                serve(index, StoredVectors(files / "vectors.npy"), files)
            elif options.stage == "append":
                append(StoredVectors(files / "vectors.npy"), options.size)
            else:
                compare(rows, folder, options.only)


if __name__ == "__main__":
    main()
