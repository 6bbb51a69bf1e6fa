"""How fast is indexing, next to what it waits for and to other programs, and does memory grow?

    python -m benchmarks.ingest [PART ...] [--full] [--images N] …

prints JSON lines. Each figure is of a process of its own. Parts, and what their limit is:

    null      JPEG of 1600x1200 and an encoder that computes nothing: what indexing itself costs
    clip      the same with ViT-B-32 of random weights, against the encoder alone on pictures in
              memory, given to it in the same batches by the same number of threads
    builtin   the same with the built-in encoder; frames of a film
    video     a film with a key frame every 8 seconds, against FFmpeg decoding it
    memory    films of two lengths
    sound     MP3 of minutes and of an hour
    rclip     rclip on the same pictures, in an environment of its own ($RCLIP_PYTHON)
    clip-retrieval   its inference, likewise ($CLIP_RETRIEVAL_PYTHON)
    cuda      on a GPU

ratio_to_limit: for `clip`, `builtin` and `cuda` pictures a second over those of the limit (1 is
best); for the others CPU time over that of the limit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path

from benchmarks import ingest_peers, ingest_pictures, ingest_video
from benchmarks.ingest_setup import Bench, Sizes, overridden

PARTS: dict[str, Callable[[Bench], None]] = {
    "null": ingest_pictures.null,
    "clip": ingest_pictures.clip,
    "builtin": ingest_pictures.builtin,
    "video": ingest_video.video,
    "memory": ingest_video.memory,
    "sound": ingest_video.sound,
    "rclip": ingest_peers.rclip,
    "clip-retrieval": ingest_peers.clip_retrieval,
    "cuda": ingest_pictures.cuda,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest")
    parser.add_argument("part", nargs="*", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--full", action="store_true", help="the sizes of the README's figures")
    for name, size in asdict(Sizes()).items():
        if isinstance(size, tuple):
            parser.add_argument(f"--{name}", type=type(size[0]), nargs="+")
        else:
            parser.add_argument(f"--{name}", type=type(size))
    parser.add_argument("--folder", type=Path, help="keeps the media for another run")
    parser.add_argument("--rclip-python", default=os.environ.get("RCLIP_PYTHON"))
    parser.add_argument("--clip-retrieval-python", default=os.environ.get("CLIP_RETRIEVAL_PYTHON"))
    parser.add_argument("--ffmpeg", default=os.environ.get("FFMPEG") or shutil.which("ffmpeg"))
    options = parser.parse_args()
    unknown = [part for part in options.part if part not in PARTS]
    if unknown:
        parser.error(f"no part {', '.join(unknown)}: use {', '.join(PARTS)}")
    given = {field.name: getattr(options, field.name) for field in fields(Sizes)}
    sizes = overridden(Sizes.full() if options.full else Sizes(), given)
    with tempfile.TemporaryDirectory() as temporary:
        media = options.folder or Path(temporary) / "media"
        media.mkdir(parents=True, exist_ok=True)
        others = (options.rclip_python, options.clip_retrieval_python, options.ffmpeg)
        bench = Bench(sizes, media, Path(temporary), *others)
        for part in options.part or PARTS:
            PARTS[part](bench)


if __name__ == "__main__":
    main()
