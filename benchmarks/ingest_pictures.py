"""The parts of `benchmarks.ingest` that are about pictures, and about the encoder's share."""

from __future__ import annotations

import importlib.util
from typing import Any

from benchmarks.ingest_setup import RANDOM_MODEL, Bench, work
from benchmarks.measure import report

CUDA_MODELS = ("ViT-B-32", "ViT-L-14")
LIMIT = "the encoder alone"


def null(bench: Bench) -> None:
    """Indexing without an encoder, and its memory; the limit is Pillow's decoding alone."""
    peaks = {}
    for count in bench.sizes.null:
        pictures, target = str(bench.pictures(count)), bench.new("null")
        done, whole = work("index", pictures, target, "--cold")
        pillow, _ = work("pillow", pictures)
        peaks[count] = whole.peak_rss_mb
        report(
            name="JPEG 1600x1200, an encoder that computes nothing",
            items=count,
            items_per_s=count / done["wall_s"],
            cpu_ms_per_item=1000 * whole.cpu_seconds / count,
            limit="CPU of Pillow decoding the same in draft mode, and nothing else",
            ratio_to_limit=whole.cpu_seconds / count / pillow["draft_cpu_s"],
            ratio_to_full_decode=whole.cpu_seconds / count / pillow["full_cpu_s"],
            cpu_ms_without_start=1000 * done["cpu_s"] / count,
            rss_mb=whole.peak_rss_mb,
        )
        _, again = work("again", pictures, target)
        report(
            name="the same again, unchanged",
            items=count,
            items_per_s=count / again.wall_seconds,
            cpu_ms_per_item=1000 * again.cpu_seconds / count,
            rss_mb=again.peak_rss_mb,
        )
    few, many = min(peaks), max(peaks)
    report(name="memory, pictures", items=[few, many], ratio=peaks[many] / peaks[few])


def clip(bench: Bench) -> None:
    """End to end with ViT-B-32 of random weights, against the encoder alone."""
    for how in ("fp32", "rules", "trial"):
        against_encoder(bench, f"{RANDOM_MODEL}, {how}", bench.spec, "--how", how)
    if importlib.util.find_spec("openvino") is None:
        report(
            name=f"JPEG 1600x1200, {RANDOM_MODEL}+int8", skipped="pip install 'clipsearch[int8]'"
        )
    else:
        against_encoder(bench, f"{RANDOM_MODEL}+int8", f"{bench.spec}+int8")


def builtin(bench: Bench) -> None:
    """The encoder that needs no download: pictures, then frames of a film at 5 a second."""
    against_encoder(bench, "builtin", "builtin")
    film = str(bench.film(min(bench.sizes.lengths)))
    done, whole = work("index", film, bench.new("builtin"), "--model", "builtin", "--fps", "5")
    report(
        name="film 1280x720 at 5 frames a second, builtin",
        **_end_to_end(done, done["units"]),
        rss_mb=whole.peak_rss_mb,
    )


def against_encoder(bench: Bench, name: str, model: str, *options: str) -> None:
    count = bench.sizes.images
    arguments = (str(bench.pictures(count)), bench.new("encoder"), "--model", model)
    done, whole = work("against-encoder", *arguments, "--count", str(count), *options)
    alone = sum(done["alone_per_s"]) / len(done["alone_per_s"])
    report(
        name=f"JPEG 1600x1200, {name}",
        **_end_to_end(done, count),
        limit=LIMIT,
        ratio_to_limit=count / done["wall_s"] / alone,
        rss_mb=whole.peak_rss_mb,
        alone_per_s=[round(one, 2) for one in done["alone_per_s"]],
        alone_cpu_ms=done["alone_cpu_ms"],
        cpu_ms_beyond_encoder=1000 * done["cpu_s"] / count - done["alone_cpu_ms"],
        ratio_to_plain_calls=count / done["wall_s"] / done["plain_per_s"],
        feeding=dict(zip(("batch", "calls", "threads"), done["feeding"], strict=True)),
        **{key: done[key] for key in ("precision", "tuned", "load_s") if key in done},
    )


def cuda(bench: Bench) -> None:
    """A GPU: end to end, and with what the encoder takes already in memory."""
    gpu = work("seen")[0]["gpu"]
    if gpu is None:
        report(name="CUDA", skipped="torch sees no GPU")
        return
    count = bench.sizes.cuda
    for model in CUDA_MODELS:
        spec = f"{model}/{bench.checkpoint(model)}"
        common = (str(bench.pictures(count)), bench.new("cuda"), "--model", spec)
        options = ("--device", "cuda", "--how", "trial", "--count", str(count))
        ready, whole = work("preloaded", *common, *options)
        shown = {key: ready[key] for key in ("precision", "tuned", "feeding") if key in ready}
        report(
            name=f"preloaded, {model}, {gpu}",
            items=count,
            items_per_s=ready["per_s"],
            cpu_ms_per_item=ready["cpu_ms"],
            rss_mb=whole.peak_rss_mb,
            **shown,
        )
        done, whole = work("index", *common, *options)
        report(
            name=f"JPEG 1600x1200, {model}, {gpu}",
            **_end_to_end(done, count),
            limit=LIMIT,
            ratio_to_limit=count / done["wall_s"] / ready["per_s"],
            rss_mb=whole.peak_rss_mb,
        )


def _end_to_end(done: dict[str, Any], items: int) -> dict[str, float]:
    return {
        "items": items,
        "items_per_s": items / done["wall_s"],
        "cpu_ms_per_item": 1000 * done["cpu_s"] / items,
    }
