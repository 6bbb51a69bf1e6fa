"""What do other vector indexes cost for the same vectors, and what do they find?

    python -m benchmarks.peers NAME VECTORS.npy --queries FOLDER

builds one of NAMES from (n, dim) float16 unit rows in a process of its own, asks it one query at a
time, and prints one JSON line. `benchmarks.truth` makes the files. Threads: two to build, one to
answer; CPU is that of all threads, for lancedb answers with some of its own.

    exact       FAISS scan of the fp16 values
    faiss       FAISS IVF,PQ4 candidates, re-ranked from the mapped file by numpy, as told
    others      with the least setting that finds 0.95 of the ten nearest of text queries, or
                their largest
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import itertools
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.measure import report
from benchmarks.truth import KINDS, NEIGHBOURS, Rows, StoredVectors, nearest
from benchmarks.vectors import Floats

BUILD_THREADS = 2
ENVIRONMENT = {  # read by libraries when they are loaded
    "OMP_WAIT_POLICY": "passive",  # or waiting threads spin: up to six times the CPU on busy cores
    "OPENBLAS_NUM_THREADS": "1",  # numpy's products
    "LANCE_CPU_THREADS": str(BUILD_THREADS),
    "TOKIO_WORKER_THREADS": "1",
    "LANCE_LOG": "error",
}
WARM_UP, TIMED = 20, 200  # text queries
WANTED_RECALL = 0.95

GRAPH_LINKS, GRAPH_BUILD_EXPANSION = 32, 200
GRAPH_EXPANSIONS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536)
TRAINING_VECTORS_PER_LIST = 64
LANCE_CODE_BYTES_SHARE = 8  # dimensions a byte: the size of FAISS's codes of 4 bits for 4 of them
LANCE_PROBES = (5, 10, 20, 40, 80)
LANCE_REFINES = (10, 15, 20, 30, 40, 60, 80, 120, 160)

Setting = dict[str, int]
Options = argparse.Namespace


class Peer(Protocol):
    """A built index."""

    @property
    def settings(self) -> Sequence[Setting]:
        """Least first."""

    def use(self, setting: Setting) -> None: ...

    def search(self, query: Floats) -> Rows:
        """The NEIGHBOURS rows it ranks best."""

    def size(self) -> int:
        """Bytes that it keeps, in memory or on disk, to answer."""


@dataclass(frozen=True, slots=True)
class Contender:
    package: str
    module: str
    build: Callable[[StoredVectors, Path, Options], Peer]
    row_limit: int | None = None
    note: str = ""


class Exact:
    settings: Sequence[Setting] = ({},)

    def __init__(self, vectors: StoredVectors, folder: Path, options: Options) -> None:
        self._faiss = _faiss()
        self._index = self._faiss.IndexScalarQuantizer(
            vectors.dim, self._faiss.ScalarQuantizer.QT_fp16, self._faiss.METRIC_INNER_PRODUCT
        )
        self._index.codes.resize(vectors.count * self._index.code_size)  # grows by copying
        self._index.codes.resize(0)
        for _, block in vectors.blocks():
            self._index.add(block)

    def use(self, setting: Setting) -> None:
        self._faiss.omp_set_num_threads(1)

    def search(self, query: Floats) -> Rows:
        rows: Rows = self._index.search(query[None], NEIGHBOURS)[1][0]
        return rows

    def size(self) -> int:
        return int(self._index.codes.size())


class Faiss:
    """Keeps the file of vectors as well: both count."""

    def __init__(self, vectors: StoredVectors, folder: Path, options: Options) -> None:
        self._faiss, self._folder = _faiss(), folder
        self._index = self._trained(vectors, options)
        for _, block in vectors.blocks():
            self._index.add(block)
        self._vectors = vectors.mapped()
        lists = self._index.nlist
        probes = options.nprobe or min(lists, max(8, round(lists / 16)))
        candidates = min(options.candidates, vectors.count)
        self.settings = ({"lists": lists, "nprobe": probes, "candidates": candidates},)

    def _trained(self, vectors: StoredVectors, options: Options) -> Any:
        if options.quantiser is not None:
            index = self._faiss.read_index(str(options.quantiser))
            if index.ntotal or index.d != vectors.dim:
                sys.exit(f"{options.quantiser} is no empty index of {vectors.dim} dimensions")
            return index
        lists = options.lists or int(4 * vectors.count**0.5)
        index = self._faiss.index_factory(
            vectors.dim, f"IVF{lists},PQ{vectors.dim // 4}x4fsr", self._faiss.METRIC_INNER_PRODUCT
        )
        index.train(vectors.sample(lists * TRAINING_VECTORS_PER_LIST))
        return index

    def use(self, setting: Setting) -> None:
        self._faiss.omp_set_num_threads(1)
        self._parameters = self._faiss.SearchParametersIVF(nprobe=setting["nprobe"])
        self._candidates = setting["candidates"]

    def search(self, query: Floats) -> Rows:
        _, found = self._index.search(query[None], self._candidates, params=self._parameters)
        rows: Rows = found[0][found[0] >= 0]
        scores = self._vectors[rows].astype(np.float32) @ query
        return rows[np.argsort(-scores)[:NEIGHBOURS]]

    def size(self) -> int:
        self._faiss.write_index(self._index, str(self._folder / "index.faiss"))
        return _size(self._folder) + self._vectors.nbytes


class Hnswlib:
    settings = tuple({"ef": value} for value in GRAPH_EXPANSIONS)

    def __init__(self, vectors: StoredVectors, folder: Path, options: Options) -> None:
        hnswlib = importlib.import_module("hnswlib")
        self._index = hnswlib.Index(space="ip", dim=vectors.dim)
        self._index.init_index(
            max_elements=vectors.count, M=GRAPH_LINKS, ef_construction=GRAPH_BUILD_EXPANSION
        )
        for first, block in vectors.blocks():
            rows = np.arange(first, first + len(block))
            self._index.add_items(block, rows, num_threads=BUILD_THREADS)

    def use(self, setting: Setting) -> None:
        self._index.set_ef(setting["ef"])

    def search(self, query: Floats) -> Rows:
        rows: Rows = self._index.knn_query(query, k=NEIGHBOURS, num_threads=1)[0][0]
        return rows.astype(np.int64)

    def size(self) -> int:
        return int(self._index.index_file_size())


class Usearch:
    settings = tuple({"expansion": value} for value in GRAPH_EXPANSIONS)

    def __init__(self, vectors: StoredVectors, folder: Path, options: Options) -> None:
        self._index = importlib.import_module("usearch.index").Index(
            ndim=vectors.dim,
            metric="ip",
            dtype="f16",
            connectivity=GRAPH_LINKS,
            expansion_add=GRAPH_BUILD_EXPANSION,
        )
        for first, block in vectors.blocks():
            self._index.add(np.arange(first, first + len(block)), block, threads=BUILD_THREADS)

    def use(self, setting: Setting) -> None:
        self._index.expansion_search = setting["expansion"]

    def search(self, query: Floats) -> Rows:
        rows: Rows = self._index.search(query, NEIGHBOURS, threads=1).keys
        return rows.astype(np.int64)

    def size(self) -> int:
        return int(self._index.serialized_length)


class Lancedb:
    """Settings in the order of what they cost: a partition to scan is like ten rows to re-rank."""

    settings = tuple(
        sorted(
            (
                {"nprobes": probes, "refine_factor": refine}
                for probes, refine in itertools.product(LANCE_PROBES, LANCE_REFINES)
            ),
            key=lambda setting: sum(setting.values()),
        )
    )

    def __init__(self, vectors: StoredVectors, folder: Path, options: Options) -> None:
        lancedb = importlib.import_module("lancedb")
        arrow = importlib.import_module("pyarrow")
        row_type = arrow.list_(arrow.float32(), vectors.dim)
        schema = arrow.schema([("row", arrow.int64()), ("vector", row_type)])
        batches = (
            arrow.record_batch(
                [
                    np.arange(first, first + len(block)),
                    arrow.FixedSizeListArray.from_arrays(block.reshape(-1), vectors.dim),
                ],
                schema=schema,
            )
            for first, block in vectors.blocks()
        )
        self._folder = folder
        self._table = lancedb.connect(folder).create_table(
            "vectors", arrow.RecordBatchReader.from_batches(schema, batches)
        )
        index = importlib.import_module("lancedb.index").IvfPq(
            distance_type="dot", num_sub_vectors=vectors.dim // LANCE_CODE_BYTES_SHARE
        )
        self._table.create_index("vector", config=index)

    def use(self, setting: Setting) -> None:
        self._probes, self._refine = setting["nprobes"], setting["refine_factor"]

    def search(self, query: Floats) -> Rows:
        asked = self._table.search(query, vector_column_name="vector").distance_type("dot")
        asked = asked.nprobes(self._probes).refine_factor(self._refine).limit(NEIGHBOURS)
        rows: Rows = asked.select(["row", "_distance"]).to_arrow()["row"].to_numpy()
        return rows

    def size(self) -> int:
        return _size(self._folder)


class Qdrant:
    """Answers from float32 in memory; its size is that of the SQLite file it loads them from."""

    settings: Sequence[Setting] = ({},)

    def __init__(self, vectors: StoredVectors, folder: Path, options: Options) -> None:
        client = importlib.import_module("qdrant_client")
        self._folder = folder
        self._models = client.models
        self._client = client.QdrantClient(path=str(folder))
        parameters = client.models.VectorParams(
            size=vectors.dim, distance=client.models.Distance.DOT
        )
        self._client.create_collection("vectors", vectors_config=parameters)
        for first, block in vectors.blocks():
            rows = list(range(first, first + len(block)))
            points = client.models.Batch(ids=rows, vectors=block.tolist())
            self._client.upsert("vectors", points)

    def use(self, setting: Setting) -> None:
        pass

    def search(self, query: Floats) -> Rows:
        found = self._client.query_points(
            "vectors", query=query, limit=NEIGHBOURS, with_payload=False
        )
        return np.array([point.id for point in found.points], np.int64)

    def size(self) -> int:
        return _size(self._folder)


CONTENDERS = {
    "exact": Contender("faiss-cpu", "faiss", Exact),
    "faiss": Contender("faiss-cpu", "faiss", Faiss),
    "hnswlib": Contender("hnswlib", "hnswlib", Hnswlib),
    "usearch": Contender("usearch", "usearch", Usearch),
    "lancedb": Contender(
        "lancedb",
        "lancedb",
        Lancedb,
        note="stores float32: building its IVF_PQ from float16 takes nine times the CPU",
    ),
    "qdrant": Contender(
        "qdrant-client",
        "qdrant_client",
        Qdrant,
        row_limit=100_000,
        note="local mode, a scan by numpy for small data: 100,000 rows at most",
    ),
}
NAMES = tuple(CONTENDERS)


def measure(name: str, vectors: StoredVectors, queries: Path, options: Options) -> None:
    """Build, choose a setting, time, and report."""
    contender = CONTENDERS[name]
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        peer = contender.build(vectors, Path(folder), options)
        build_cpu = time.process_time() - start
        built_mb = memory_mb("VmRSS")
        setting = chosen_setting(peer, vectors, queries)
        times = query_times(peer, np.load(queries / "text.npy"))
        peak_mb = memory_mb("VmHWM")  # before what a truth of fewer rows takes
        file_mb = memory_mb("RssFile")
        report(
            name=name,
            rows=vectors.count,
            dim=vectors.dim,
            setting=setting,
            recall10_text=recall(peer, "text", vectors, queries),
            recall10_image=recall(peer, "image", vectors, queries),
            cpu_ms_p50=1000 * float(np.quantile(times, 0.5)),
            cpu_ms_p99=1000 * float(np.quantile(times, 0.99)),
            bytes_per_vector=peer.size() / vectors.count,
            build_cpu_s=build_cpu,
            rss_mb=peak_mb,
            rss_built_mb=built_mb,
            rss_file_mb=file_mb,
            version=version(contender.package),
            **({"note": contender.note} if contender.note else {}),
        )


def chosen_setting(peer: Peer, vectors: StoredVectors, queries: Path) -> Setting:
    """The first that finds enough for text queries, or the last; in use from then on."""
    *others, last = peer.settings
    for setting in others:
        peer.use(setting)
        if recall(peer, "text", vectors, queries) >= WANTED_RECALL:
            return setting
    peer.use(last)
    return last


def recall(peer: Peer, kind: str, vectors: StoredVectors, folder: Path) -> float:
    queries = np.load(folder / f"{kind}.npy")
    if vectors.complete:
        truth = np.load(folder / f"{kind}_truth.npy")
    else:
        truth = nearest(vectors, queries)
    found = sum(
        len(np.intersect1d(peer.search(query), true))
        for query, true in zip(queries, truth, strict=True)
    )
    return found / int(truth.size)


def query_times(peer: Peer, queries: Floats) -> list[float]:
    """CPU seconds of each query, in all threads of the process."""
    for query in queries[:WARM_UP]:
        peer.search(query)
    times = []
    for query in queries[:TIMED]:
        start = time.process_time()
        peer.search(query)
        times.append(time.process_time() - start)
    return times


def memory_mb(field: str) -> float:
    """VmRSS, VmHWM (its peak) or RssFile (its share that is pages of files, libraries included).

    Of this program alone: the peak that getrusage tells starts at the parent's.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(line.split()[1] for line in lines if line.startswith(f"{field}:"))
    return int(kilobytes) / 1024


def _faiss() -> Any:
    faiss: Any = importlib.import_module("faiss")
    faiss.omp_set_num_threads(BUILD_THREADS)
    return faiss


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("vectors", type=Path)
    parser.add_argument("--queries", type=Path, required=True, help=f"folder of {KINDS} queries")
    parser.add_argument("--lists", type=int, help="faiss: int(4 * sqrt(rows)) if absent")
    parser.add_argument("--nprobe", type=int, help="faiss: a 16th of the lists if absent")
    parser.add_argument("--candidates", type=int, default=640, help="faiss: rows to re-rank")
    parser.add_argument("--quantiser", type=Path, help="faiss: a trained empty index")
    options = parser.parse_args()
    contender = CONTENDERS[options.name]
    if importlib.util.find_spec(contender.module) is None:
        report(name=options.name, skipped=f"pip install {contender.package}")
        return
    if any(os.environ.get(name) != value for name, value in ENVIRONMENT.items()):
        command = [sys.executable, "-m", "benchmarks.peers", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | ENVIRONMENT)
    warnings.simplefilter("ignore")
    measure(
        options.name, StoredVectors(options.vectors, contender.row_limit), options.queries, options
    )


if __name__ == "__main__":
    main()
