"""What does a query cost: cold beyond loading the encoder, and among many that are asked at once?

Makes indexes of random 384-d vectors with the built-in encoder's fingerprint, then starts
`clipsearch query` as a new process for each figure, in turns with two baselines:

    encoder   loads the built-in encoder and encodes the same words
    imports   imports the command, the store and FAISS, and does the same as `encoder`

And asks QUERIES vectors of an open index, one after the other and all together, plain, without
what is like a better hit, and of one file in a hundred (`where`); and finds the duplicates of the
smallest index.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.measure import in_turns, report, run
from clipsearch import Index
from clipsearch.encoders import load_encoder, parse_spec
from clipsearch.store.manifest import Manifest
from clipsearch.store.store import Store
from clipsearch.types import EmbeddingBatch, EncodedMedia, FoundFile, MediaInfo, Unit

ROWS = (10_000, 100_000, 400_000)
ROWS_PER_PUBLICATION = 20_000
REPEATS = 5
QUERIES = 100
ONE_IN_A_HUNDRED = "name glob '*00.jpg'"
WORDS = "a cup of coffee"
ENCODER = (
    "from clipsearch.encoders import load_encoder, parse_spec\n"
    "encoder = load_encoder(parse_spec('builtin'))\n"
    f"encoder.fingerprint, encoder.encode_text([{WORDS!r}])\n"
)
IMPORTS = "import clipsearch.interfaces.cli, clipsearch.engine, faiss\n" + ENCODER


def build(folder: Path, rows: int) -> None:
    encoder = load_encoder(parse_spec("builtin"))
    manifest = Manifest(str(encoder.spec), encoder.fingerprint, encoder.dim, "flat", {})
    store = Store.create(folder, manifest)
    generator = np.random.default_rng(0)
    root = Path("/pictures")
    with store.writing() as writer:
        writer.catalog.add_root(root)
        for start in range(0, rows, ROWS_PER_PUBLICATION):
            count = min(ROWS_PER_PUBLICATION, rows - start)
            vectors = generator.standard_normal((count, encoder.dim)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            media = [
                EncodedMedia(
                    FoundFile(root, f"{start + i:08}.jpg", "image", 1, 1),
                    str(start + i),
                    MediaInfo(640, 480),
                    {"visual": EmbeddingBatch(vectors[i : i + 1], (Unit("image"),))},
                )
                for i in range(count)
            ]
            writer.publish(media)
            writer.maintain()
    store.close()


def cpu_ms(ask: Callable[[], object]) -> float:
    start = time.process_time()
    ask()
    return (time.process_time() - start) / QUERIES * 1000


def many(folder: Path, rows: int) -> None:
    with Index.open(folder) as index:
        queries = list(np.eye(QUERIES, index.status().dim, dtype=np.float32))
        index.search(queries[0])
        report(
            name="many queries",
            rows=rows,
            cpu_ms_alone=cpu_ms(lambda: [index.search(query) for query in queries]),
            cpu_ms_together=cpu_ms(lambda: index.search_many(queries)),
            cpu_ms_dedupe=cpu_ms(lambda: index.search_many(queries, dedupe=0.98)),
            cpu_ms_where=cpu_ms(lambda: index.search_many(queries, where=ONE_IN_A_HUNDRED)),
        )
        if rows == min(ROWS):
            start = time.process_time()
            groups = len(index.duplicates(threshold=0.98))
            report(name="duplicates", rows=rows, groups=groups, cpu_s=time.process_time() - start)


def main() -> None:
    python = sys.executable
    for rows in ROWS:
        with tempfile.TemporaryDirectory() as folder:
            index = Path(folder) / "index"
            # A process's peak memory starts at its parent's: the parent builds nothing itself.
            run(python, "-m", "benchmarks.query", str(index), str(rows))
            command = (python, "-m", "clipsearch", "query", WORDS)
            encoder, imports, query = in_turns(
                REPEATS,
                (python, "-c", ENCODER),
                (python, "-c", IMPORTS),
                (*command, "--index", str(index)),
            )
            report(
                name="cold query",
                rows=rows,
                cpu_s=query.cpu_seconds,
                cpu_s_encoder=encoder.cpu_seconds,
                cpu_s_beyond_encoder=query.cpu_seconds - encoder.cpu_seconds,
                cpu_s_beyond_imports_and_encoder=query.cpu_seconds - imports.cpu_seconds,
                ratio_to_encoder=query.cpu_seconds / encoder.cpu_seconds,
                rss_mb=query.peak_rss_mb,
            )
            many(index, rows)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        build(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        main()
