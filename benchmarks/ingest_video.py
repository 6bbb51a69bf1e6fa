"""The parts of `benchmarks.ingest` that are about films and sounds."""

from __future__ import annotations

from typing import Any

from benchmarks.ingest_setup import Bench, least, work
from benchmarks.measure import report

WAYS = ("fps", "keyframes")


def video(bench: Bench) -> None:
    """A film with a key frame every 8 seconds, by `fake`, against FFmpeg decoding it."""
    minutes, film = bench.sizes.minutes, str(bench.film(bench.sizes.minutes))
    runs: dict[str, list[dict[str, Any]]] = {}
    for _ in range(bench.sizes.repeats):  # in turns, so that drift hits all
        for way in WAYS:
            done, whole = work("index", film, bench.new(way), "--model", "fake", "--sampling", way)
            runs.setdefault(way, []).append({**done, "rss_mb": whole.peak_rss_mb})
            runs.setdefault(f"read {way}", []).append(work("read", film, "--sampling", way)[0])
        runs.setdefault("plain", []).append(work("read", film, "--plain")[0])
        runs.setdefault("libav", []).append(work("decode", film)[0])
        if bench.ffmpeg is not None:
            program = ("--program", bench.ffmpeg)
            runs.setdefault("ffmpeg", []).append(work("ffmpeg", film, *program)[0])
    for way in WAYS:
        _film(f"film 1280x720, {way} at 1 a second, fake", minutes, runs[way], runs)
        _film(f"the same, decoding alone, {way}", minutes, runs[f"read {way}"], runs)
    _film("the same, decoding every frame", minutes, runs["plain"], runs)
    for key in ("cpu_s", "wall_s"):
        report(
            name=f"how many times faster key frames are than 1 frame a second, {key}",
            items=runs["fps"][0]["units"],
            indexing=least(runs["fps"], key) / least(runs["keyframes"], key),
            decoding=least(runs["read fps"], key) / least(runs["read keyframes"], key),
            decoding_every_frame=least(runs["plain"], key) / least(runs["read keyframes"], key),
        )
    if bench.ffmpeg is None:
        report(
            name="the ffmpeg program", skipped="not found: $FFMPEG or --ffmpeg tells where it is"
        )


def _film(
    name: str,
    minutes: float,
    ours: list[dict[str, Any]],
    runs: dict[str, list[dict[str, Any]]],
) -> None:
    units, cpu, wall = ours[0]["units"], least(ours, "cpu_s"), least(ours, "wall_s")
    program = {
        f"ratio_to_ffmpeg_{key}": least(ours, key) / least(runs["ffmpeg"], key)
        for key in ("cpu_s", "wall_s")
        if "ffmpeg" in runs
    }
    report(
        name=name,
        items=units,
        items_per_s=units / wall,
        cpu_ms_per_item=1000 * cpu / units,
        limit="CPU of FFmpeg's libraries decoding all of it, with as many threads",
        ratio_to_limit=cpu / least(runs["libav"], "cpu_s"),
        ratio_wall=wall / least(runs["libav"], "wall_s"),
        **program,
        times_real_time=60 * minutes / wall,
        rss_mb=ours[0].get("rss_mb"),
    )


def memory(bench: Bench) -> None:
    """Whether it grows with the length of a film."""
    peaks = {}
    for minutes in bench.sizes.lengths:
        done, whole = work(
            "index", str(bench.film(minutes)), bench.new("memory"), "--model", "fake"
        )
        peaks[minutes] = whole.peak_rss_mb
        report(
            name=f"film of {minutes:g} minutes, 1 frame a second, fake",
            items=done["units"],
            items_per_s=done["units"] / done["wall_s"],
            cpu_ms_per_item=1000 * done["cpu_s"] / done["units"],
            times_real_time=60 * minutes / done["wall_s"],
            rss_mb=whole.peak_rss_mb,
        )
    short, long = min(peaks), max(peaks)
    report(name="memory, films", minutes=[short, long], ratio=peaks[long] / peaks[short])


def sound(bench: Bench) -> None:
    """MP3, with an encoder that computes a Fourier transform and with the built-in one; the limit
    is FFmpeg decoding and resampling the same, and nothing else.
    """
    for minutes in bench.sizes.sound:
        file = str(bench.sound(minutes))
        _, alone = work("decode-sound", file)
        for model in ("fake", "builtin"):
            _, whole = work("sound", file, bench.new("sound"), "--model", model)
            report(
                name=f"MP3, {model}",
                minutes=minutes,
                cpu_s_per_hour=60 * whole.cpu_seconds / minutes,
                times_real_time=60 * minutes / whole.wall_seconds,
                ratio_to_limit=whole.cpu_seconds / alone.cpu_seconds,
                rss_mb=whole.peak_rss_mb,
            )
