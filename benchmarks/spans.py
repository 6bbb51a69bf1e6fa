"""Does span search find the true windows, and what does it cost beside computing the curve?

    python -m benchmarks.spans

quality     QVHighlights val, every second query: given similarity curves, one value per 2 s clip,
            and the true windows. The file lies outside the project; without it this is skipped.
times       CPU of each search over CPU of the curve itself, a (m, 512) float32 matrix by one text,
            in turns with it, the best of REPEATS; curves of 2 frames a second. `brute` is the
            plain enumeration of all spans.
candidates  span search over all videos of an index by its vector index, beside looking at every
            video: CPU, and the share of the latter's best spans that are found. Videos are runs of
            shots, each around a vector of vectors.py.

One thread, each part in a process of its own. `bar`: what the figure, or the largest of the line's
ratios, should not exceed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import report, run
from benchmarks.peers import ENVIRONMENT
from benchmarks.vectors import ClusteredVectors
from clipsearch import Index
from clipsearch import eval as metrics
from clipsearch.search.align import align, find_interval
from clipsearch.search.spans import find_span, find_spans
from clipsearch.types import EmbeddingBatch, EncodedMedia, FoundFile, MediaInfo, Span, Unit

Floats = NDArray[Any]
Work = Callable[[], object]

QUERIES = Path(__file__).parents[2] / "shared" / "data" / "qvhighlights_val_even.npz"
PREDICTIONS = 10
METHODS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "no smoothing": {"smooth_seconds": 0.0},
    "method disjoint": {"method": "disjoint"},
    "score sum": {"score": "sum"},
}
SEED: dict[str, Any] = {"score": "mean", "smooth_seconds": 0.0}
SEED_MINIMA = (2.0, 10.0)
ALL_MINIMA = (*np.arange(2.0, 32.0, 2.0), 36.0, 42.0, 48.0, 60.0)

FRAMES = (10_000, 100_000, 1_000_000)
DIM = 512
FRAMES_PER_SECOND = 2
REPEATS = 5
SEARCHES: dict[str, dict[str, Any]] = {
    "scan": {},
    "mean": {"score": "mean"},
    "sum": {"score": "sum"},
    "alpha .25": {"score": 0.25},
    "max_seconds 60": {"max_seconds": 60.0},
    "novelty": {},  # of the grid at hand
}
SPANS = 5
RATIO_BAR, CELL_BAR_NS = 1.0, 15.0
BARRED_FRAMES = 100_000  # and more: below, the fixed cost of some hundred numpy calls shows
BRUTE_FRAMES = 2000
ALIGNED = ((100, 100_000), (200, 7200))  # texts, frames; the second is an hour
INTERVAL = (50, 3600)

VIDEOS, VIDEO_FRAMES = 200, 600
SHOT_FRAMES = (10, 120)
SHOT_SPREAD = 0.4  # length of a frame's own part, beside a shot's vector of length 1
ASKED, TOP = 20, 10


def quality() -> None:
    """The metrics of each method, and the seed's mean beside them."""
    if not QUERIES.exists():
        report(name="quality", skipped=f"{QUERIES.name} is not in {QUERIES.parent}")
        return
    with np.load(QUERIES) as file:
        clip_seconds = float(file["clip_seconds"])
        curves = np.split(file["curve"], file["curve_offset"][1:-1])
        windows = np.split(file["window"], file["window_offset"][1:-1])
    for name, arguments in METHODS.items():
        _report_quality(name, _predicted(curves, clip_seconds, arguments), windows)
    means = {
        least: _predicted(curves, clip_seconds, {**SEED, "min_seconds": float(least)})
        for least in ALL_MINIMA
    }
    for least in SEED_MINIMA:
        _report_quality(f"seed's mean, at least {least:g} s", means[least], windows)
    best = max(means, key=lambda least: metrics.r1_at_iou(means[least][0], windows, 0.5))
    name = f"seed's mean, at least {best:g} s: best R1@0.5 in hindsight"
    _report_quality(name, means[best], windows)


def _predicted(
    curves: list[Floats], clip_seconds: float, arguments: dict[str, Any]
) -> tuple[list[list[Span]], float]:
    """The spans of each query, and CPU seconds a query."""
    grids = [clip_seconds * np.arange(len(curve) + 1) for curve in curves]
    start = time.process_time()
    spans = [
        find_spans(curve, times, k=PREDICTIONS, **arguments)
        for curve, times in zip(curves, grids, strict=True)
    ]
    return spans, (time.process_time() - start) / len(curves)


def _report_quality(
    name: str, predicted: tuple[list[list[Span]], float], windows: list[Floats]
) -> None:
    spans, seconds = predicted
    report(
        name="quality",
        method=name,
        queries=len(windows),
        r1_50=100 * metrics.r1_at_iou(spans, windows, 0.5),
        r1_70=100 * metrics.r1_at_iou(spans, windows, 0.7),
        map=100 * metrics.mean_average_precision(spans, windows),
        mean_iou=100 * metrics.mean_iou(spans, windows),
        cpu_ms_per_query=1000 * seconds,
    )


def times(count: int) -> None:
    """Searches of curves of `count` frames over computing one."""
    generator = np.random.default_rng(0)
    frames = generator.standard_normal((count, DIM), dtype=np.float32)
    text = generator.standard_normal(DIM, dtype=np.float32)
    curves = made_curves(generator, count)
    for grid, edges in made_grids(generator, count).items():
        novelty = generator.random(count + 1)
        works: dict[tuple[str, str], Work] = {("", "curve"): lambda: frames @ text}
        for kind, curve in curves.items():
            for name, arguments in SEARCHES.items():
                more = {**arguments, "novelty": novelty} if name == "novelty" else arguments
                works[f"find_span {name}", kind] = partial(find_span, curve, edges, **more)
            for method in ("scan", "disjoint"):
                works[f"find_spans k={SPANS} {method}", kind] = partial(
                    find_spans, curve, edges, k=SPANS, method=method
                )
        least = in_turns(works)
        for name in dict.fromkeys(name for name, _ in works if name):
            barred = count >= BARRED_FRAMES and not name.endswith(f"k={SPANS} scan")
            taken = {kind: least[name, kind] for kind in curves}
            report(
                name=name,
                frames=count,
                times=grid,
                curve_cpu_ms=1000 * least["", "curve"],
                **{f"cpu_ms_{kind}": 1000 * seconds for kind, seconds in taken.items()},
                **{f"ratio_{kind}": s / least["", "curve"] for kind, s in taken.items()},
                **({"bar": RATIO_BAR} if barred else {}),
            )


def brute() -> None:
    """The seed's plain enumeration of all spans over the same search from coarse to fine."""
    generator = np.random.default_rng(0)
    edges = made_grids(generator, BRUTE_FRAMES)["regular"]
    for kind, curve in made_curves(generator, BRUTE_FRAMES).items():
        least = in_turns(
            {
                search: partial(find_span, curve, edges, search=search)
                for search in ("brute", "multiscale")
            }
        )
        report(
            name="find_span brute",
            frames=BRUTE_FRAMES,
            curve=kind,
            cpu_ms=1000 * least["brute"],
            cpu_ms_multiscale=1000 * least["multiscale"],
            ratio=least["brute"] / least["multiscale"],
        )


def scripts() -> None:
    """Texts in order, and runs of texts."""
    generator = np.random.default_rng(0)
    for texts, frames in ALIGNED:
        rows = generator.standard_normal((texts, frames), dtype=np.float32)
        edges = made_grids(generator, frames)["regular"]
        limits = {"none": None, "60": 60.0}
        least = in_turns(
            {name: partial(align, rows, edges, max_seconds=most) for name, most in limits.items()}
        )
        for name, seconds in least.items():
            report(
                name="align",
                texts=texts,
                frames=frames,
                max_seconds=limits[name],
                cpu_ms=1000 * seconds,
                cpu_ns_per_cell=1e9 * seconds / (texts * frames),
                bar=CELL_BAR_NS,
            )
    texts, frames = INTERVAL
    vectors = _unit(generator.standard_normal((texts, DIM), dtype=np.float32))
    rows = vectors @ _unit(generator.standard_normal((frames, DIM), dtype=np.float32)).T
    edges = made_grids(generator, frames)["regular"]
    work = partial(find_interval, rows, vectors @ vectors.T, edges)
    least = in_turns({"find_interval": work})
    report(name="find_interval", texts=texts, frames=frames, cpu_ms=1000 * least["find_interval"])


def candidates() -> None:
    """The best spans of all videos with and without the vector index."""
    source = ClusteredVectors(DIM)
    with tempfile.TemporaryDirectory() as folder:
        with Index.create(Path(folder) / "index", model=None, dim=DIM) as index:
            with index._store.writing() as writer:
                root = Path("/videos")
                writer.catalog.add_root(root)
                for media in _videos(source, root):
                    writer.publish([media])
            index.compact(recipe="ivfpq")
        with Index.open(Path(folder) / "index") as index:
            seconds: dict[bool, list[float]] = {False: [], True: []}
            found = wanted = same_first = 0
            for text in source.text_queries(ASKED):
                hits = {}
                for exact, taken in seconds.items():
                    start = time.process_time()
                    spans = index.search(text, kind="span", top=TOP, exact=exact)
                    taken.append(time.process_time() - start)
                    hits[exact] = [(hit.path, hit.start, hit.end) for hit in spans]
                found += len(set(hits[False]) & set(hits[True]))
                wanted += len(hits[True])
                same_first += hits[False][:1] == hits[True][:1]
    candidate, every = (1000 * float(np.median(seconds[exact])) for exact in (False, True))
    report(
        name="span search of an index",
        videos=VIDEOS,
        frames=VIDEOS * VIDEO_FRAMES,
        queries=ASKED,
        cpu_ms_p50=candidate,
        cpu_ms_max=1000 * max(seconds[False]),
        cpu_ms_p50_exact=every,
        ratio=candidate / every,
        recall10=found / wanted,
        same_first=same_first / ASKED,
    )


def _videos(source: ClusteredVectors, root: Path) -> Iterator[EncodedMedia]:
    generator = np.random.default_rng(0)
    edges = made_grids(generator, VIDEO_FRAMES)["regular"]
    units = tuple(
        Unit("frame", start, end, number)
        for number, (start, end) in enumerate(itertools.pairwise(edges))
    )
    shots = iter(np.concatenate(list(source.images(VIDEOS * VIDEO_FRAMES // SHOT_FRAMES[0]))))
    for number in range(VIDEOS):
        lengths = generator.integers(*SHOT_FRAMES, VIDEO_FRAMES // SHOT_FRAMES[0])
        lengths = lengths[: 1 + int(np.searchsorted(np.cumsum(lengths), VIDEO_FRAMES))]
        shot = np.repeat([next(shots) for _ in lengths], lengths, axis=0)[:VIDEO_FRAMES]
        own = generator.standard_normal((VIDEO_FRAMES, DIM), dtype=np.float32)
        vectors = _unit(shot + SHOT_SPREAD * _unit(own))
        yield EncodedMedia(
            FoundFile(root, f"{number:04}.mp4", "video", 1, 1),
            str(number),
            MediaInfo(640, 480, float(edges[-1])),
            {"visual": EmbeddingBatch(vectors, units)},
        )


def made_curves(generator: np.random.Generator, count: int) -> dict[str, Floats]:
    """(count,) float32 cosines: noise, a smoothed random walk, noise with one event of a minute."""
    noise = generator.standard_normal((3, count))
    window = 10 * FRAMES_PER_SECOND
    walk = np.convolve(np.cumsum(noise[1]), np.full(window, 1 / window), mode="same")
    event = noise[2]
    first = 2 * count // 5
    event[first : first + 60 * FRAMES_PER_SECOND] += 1.5
    curves = {"noise": noise[0], "walk": walk / walk.std(), "event": event}
    return {kind: (0.25 + 0.03 * curve).astype(np.float32) for kind, curve in curves.items()}


def made_grids(generator: np.random.Generator, count: int) -> dict[str, Floats]:
    """(count + 1,) seconds: frames equally long, and from half to one and a half times that."""
    lengths = generator.uniform(0.5, 1.5, count) / FRAMES_PER_SECOND
    return {
        "regular": np.arange(count + 1) / FRAMES_PER_SECOND,
        "irregular": np.concatenate([[0.0], np.cumsum(lengths)]),
    }


def in_turns(works: dict[Any, Work]) -> dict[Any, float]:
    """The least CPU seconds of each, all taking turns, so that a busy machine hits all alike."""
    least = dict.fromkeys(works, float("inf"))
    for _ in range(REPEATS):
        for name, work in works.items():
            start = time.process_time()
            work()
            least[name] = min(least[name], time.process_time() - start)
    return least


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


PARTS: dict[str, Work] = {
    "quality": quality,
    **{f"times-{count}": partial(times, count) for count in FRAMES},
    "brute": brute,
    "scripts": scripts,
    "candidates": candidates,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spans")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    part = parser.parse_args().part
    if part:
        PARTS[part]()
        return
    os.environ.update(ENVIRONMENT)  # read by numpy when it is loaded
    for name in PARTS:
        command = (sys.executable, "-m", "benchmarks.spans", "--part", name)
        print(run(*command).stdout, end="", flush=True)


if __name__ == "__main__":
    main()
