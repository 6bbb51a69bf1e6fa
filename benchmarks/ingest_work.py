"""One task of `benchmarks.ingest`, in a process of its own: does it and prints one JSON line.

wall_s and cpu_s are those of the task alone, without imports and without loading the encoder, once
a small file has been indexed elsewhere; the process as a whole is what the caller measures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from benchmarks.ingest_encoders import (
    CLIP_SIDE,
    POOL,
    Figures,
    Options,
    alone,
    load,
    plainly,
    prepared_pictures,
    timed,
)
from benchmarks.ingest_media import write_glimpse

if TYPE_CHECKING:
    from clipsearch.encoders import Encoder
    from clipsearch.engine import Index

PILLOW_FILES = 200
GPU_SECONDS = 5.0  # a GPU alone is asked for that long at least
SOUND_RATE = 16_000  # of both encoders


def new_index(folder: str, encoder: Encoder) -> Index:
    from clipsearch.engine import Index
    from clipsearch.store.manifest import Manifest
    from clipsearch.store.store import Store

    manifest = Manifest(str(encoder.spec), encoder.fingerprint, encoder.dim, "flat", {})
    return Index(Store.create(Path(folder), manifest), encoder=encoder)


def add(index: Index, options: Options) -> Figures:
    """Index the files; the figures of that. units: pictures or frames that were encoded."""
    from clipsearch.ingest import AddListener, AddOptions, Progress
    from clipsearch.media import parse_sampling

    progress: list[Progress] = []
    sampling = parse_sampling(options.sampling, fps=options.fps)

    def run() -> None:
        report = index.add(
            [options.source],
            options=AddOptions(sampling=sampling, cache=options.cache),
            listener=AddListener(on_progress=progress.append),
        )
        assert not report.failures, report.failures
        assert report.added, "nothing was there to add"

    figures = timed(run)
    return {**figures, "files": progress[-1].done, "units": progress[-1].units}


def warm_up(encoder: Encoder, options: Options) -> None:
    """Index one small file of the same kind elsewhere.

    What is imported late is imported then, and the texts of relevance, which are encoded once for
    each model and machine, are in the cache.
    """
    from clipsearch.ingest import AddOptions

    with tempfile.TemporaryDirectory() as name:
        folder, source = Path(name), Path(options.source)
        if source.is_dir():
            first = min(source.iterdir())
        else:
            first = folder / "glimpse.mp4"
            write_glimpse(first)
        with new_index(str(folder / "index"), encoder) as made:
            made.add([first], options=AddOptions(cache=options.cache))


def index(options: Options) -> Figures:
    encoder, facts = load(options)
    if not options.cold:
        warm_up(encoder, options)
    with new_index(options.target, encoder) as made:
        return {**facts, **add(made, options)}


def again(options: Options) -> Figures:
    from clipsearch.engine import Index

    with Index.open(options.target) as there:
        return timed(lambda: there.add([options.source]))


def against_encoder(options: Options) -> Figures:
    """The encoder alone before and after indexing, fed the same way; then the plain way."""
    encoder, facts = load(options)
    prepared = prepared_pictures(encoder, options)
    warm_up(encoder, options)
    with new_index(options.target, encoder) as made:
        before = alone(encoder, prepared, options.count // 2)
        figures = add(made, options)
        after = alone(encoder, prepared, options.count // 2)
    plain = timed(lambda: plainly(encoder, prepared, max(POOL, options.count // 8)))
    feeding = encoder.feeding
    return {
        **facts,
        **figures,
        "alone_per_s": [before["per_s"], after["per_s"]],
        "alone_cpu_ms": (before["cpu_ms"] + after["cpu_ms"]) / 2,
        "plain_per_s": max(POOL, options.count // 8) / plain["wall_s"],
        "feeding": [feeding.batch, feeding.calls, feeding.threads],
    }


def preloaded(options: Options) -> Figures:
    """The encoder alone, for a GPU: until GPU_SECONDS are over."""
    encoder, facts = load(options)
    prepared = prepared_pictures(encoder, options)
    figures = alone(encoder, prepared, options.count)
    if figures["per_s"] * GPU_SECONDS > options.count:
        figures = alone(encoder, prepared, int(figures["per_s"] * GPU_SECONDS))
    feeding = encoder.feeding
    return {**facts, **figures, "feeding": [feeding.batch, feeding.calls, feeding.threads]}


def pillow(options: Options) -> Figures:
    """CPU of a picture when Pillow alone decodes some, in full and as JPEG can be had smaller."""
    from PIL import Image

    files = sorted(Path(options.source).iterdir())[:PILLOW_FILES]

    def decode(*, draft: bool) -> None:
        for path in files:
            with Image.open(path) as image:
                if draft:
                    image.draft("RGB", (CLIP_SIDE, CLIP_SIDE))
                    image.load()
                else:
                    image.convert("RGB").resize((CLIP_SIDE, CLIP_SIDE))

    full, draft = timed(lambda: decode(draft=False)), timed(lambda: decode(draft=True))
    per_file = {"full_cpu_s": full["cpu_s"], "draft_cpu_s": draft["cpu_s"]}
    return {key: seconds / len(files) for key, seconds in per_file.items()}


def read(options: Options) -> Figures:
    """Our decoding alone, as `fake` has it, without an index."""
    from clipsearch.media import ReadSpec, open_media, parse_sampling

    spec = ReadSpec(64, sampling=parse_sampling(options.sampling, fps=options.fps))
    if options.plain:  # every frame is decoded
        patch("clipsearch.media.chosen._role_reader", lambda *_: None).start()
    with tempfile.TemporaryDirectory() as folder:
        glimpse = Path(folder) / "glimpse.mp4"
        write_glimpse(glimpse)
        list(open_media(glimpse, spec).units)
    units = 0

    def run() -> None:
        nonlocal units
        units = sum(1 for _ in open_media(Path(options.source), spec).units)

    return {**timed(run), "units": units}


def decode(options: Options) -> Figures:
    """FFmpeg's libraries decode every frame, and nothing else; threads as FFmpeg chooses."""
    import av

    frames = 0

    def run() -> None:
        nonlocal frames
        with av.open(options.source) as media:
            stream = media.streams.video[0]
            stream.thread_type = "AUTO"
            stream.thread_count = options.threads
            frames = sum(1 for _ in media.decode(stream))

    return {**timed(run), "frames": frames}


def ffmpeg(options: Options) -> Figures:
    """The program, whose CPU time is that of a child."""
    threads = ["-threads", str(options.threads)] if options.threads else []
    command = [options.program, "-v", "error", *threads, "-i", options.source]
    command += ["-map", "0:v:0", "-f", "null", "-"]
    before = _children()
    figures = timed(lambda: subprocess.run(command, check=True, stdin=subprocess.DEVNULL))
    return {**figures, "cpu_s": _children() - before}


def _children() -> float:
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def sound(options: Options) -> Figures:
    from clipsearch.engine import Index

    with Index.create(options.target, model=options.model) as made:
        return timed(lambda: made.add([options.source]))


def decode_sound(options: Options) -> Figures:
    import av

    with av.open(options.source) as media:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SOUND_RATE)
        for frame in media.decode(audio=0):
            for part in resampler.resample(frame):
                part.to_ndarray()
    return {}


def seen(options: Options) -> Figures:
    """What torch sees of GPUs."""
    import torch

    found = torch.cuda.is_available()
    return {"gpu": torch.cuda.get_device_name() if found else None, "torch": torch.__version__}


TASKS: dict[str, Callable[[Options], Figures]] = {
    "index": index,
    "again": again,
    "against-encoder": against_encoder,
    "preloaded": preloaded,
    "pillow": pillow,
    "read": read,
    "decode": decode,
    "ffmpeg": ffmpeg,
    "sound": sound,
    "decode-sound": decode_sound,
    "seen": seen,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest_work")
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("source", nargs="?", default="")
    parser.add_argument("target", nargs="?", default="")
    parser.add_argument("--model", default="null")
    parser.add_argument("--how", choices=("fp32", "rules", "trial"), default="rules")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--sampling", default="fps")
    parser.add_argument("--fps", type=float, default=1.0)
    parser.add_argument("--cold", action="store_true", help="do not warm up")
    parser.add_argument("--plain", action="store_true", help="decode every frame")
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--program", default="ffmpeg")
    parser.add_argument("--cache", type=Path, help="beside the index if absent")
    options = parser.parse_args()
    if options.target:
        options.cache = options.cache or Path(f"{options.target}-cache")
        options.cache.mkdir(exist_ok=True)
    print(json.dumps(TASKS[options.task](options)))


if __name__ == "__main__":
    main()
