"""What does indexing cost outside the encoder, and does its memory grow with the files?

Writes JPEG files of 1600x1200 and indexes them, in a process of its own for each figure, with an
encoder that keeps pictures as large as CLIP's input and computes nothing worth mentioning. The
limit to compare with is Pillow decoding the same files in full, as tools without draft mode do.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import report, run

COUNTS = (600, 6000)
SIZE = (1600, 1200)
DISTINCT = 12
QUALITY = 90
CLIP_SHORT_SIDE = 224


def photographic(generator: np.random.Generator) -> Image.Image:
    """Noise at several scales: compresses like a photo, about 400 kB as JPEG."""
    total = np.zeros((SIZE[1], SIZE[0], 3))
    for scale, strength in ((100, 90), (25, 40), (6, 20), (1, 9)):
        shape = (SIZE[1] // scale + 2, SIZE[0] // scale + 2, 3)
        small = Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8))
        total += (np.asarray(small.resize(SIZE, Image.Resampling.BICUBIC)) / 255 - 0.5) * strength
    return Image.fromarray((total + 128).clip(0, 255).astype(np.uint8))


def write_pictures(folder: Path, count: int) -> None:
    generator = np.random.default_rng(0)
    files = []
    for _ in range(DISTINCT):
        buffer = io.BytesIO()
        photographic(generator).save(buffer, "JPEG", quality=QUALITY)
        files.append(buffer.getvalue())
    folder.mkdir()
    for number in range(count):  # what follows the end marker makes each file's hash its own
        (folder / f"{number:05}.jpg").write_bytes(files[number % DISTINCT] + b"%d" % number)


def index_with_null_encoder(pictures: Path, index_folder: Path) -> None:
    from clipsearch.encoders.fake import FakeEncoder
    from clipsearch.engine import Index
    from clipsearch.store.manifest import Manifest
    from clipsearch.store.recipes import get_recipe
    from clipsearch.store.store import Store

    encoder = FakeEncoder(512)
    encoder.short_side = CLIP_SHORT_SIDE
    manifest = Manifest("fake:512", encoder.fingerprint, 512, get_recipe("flat"), {})
    with Index(Store.create(index_folder, manifest), encoder=encoder) as index:
        report_ = index.add([pictures])
        assert not report_.failures


def decode_in_full(pictures: Path) -> None:
    for path in sorted(pictures.iterdir()):
        with Image.open(path) as image:
            image.convert("RGB").resize((CLIP_SHORT_SIDE, CLIP_SHORT_SIDE))


def main() -> None:
    this = (sys.executable, "-m", "benchmarks.ingest")
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            run(*this, "write", str(folder / "pictures"), str(count))
            ours = run(*this, "index", str(folder / "pictures"), str(folder / "index"))
            again = run(*this, "again", str(folder / "pictures"), str(folder / "index"))
            full = run(*this, "full", str(folder / "pictures"))
            report(
                name="index JPEG 1600x1200, null encoder",
                items=count,
                items_per_s=count / ours.wall_seconds,
                cpu_ms_per_item=1000 * ours.cpu_seconds / count,
                ratio_to_full_decode=ours.cpu_seconds / full.cpu_seconds,
                rss_mb=ours.peak_rss_mb,
            )
            report(
                name="index again, unchanged",
                items=count,
                cpu_ms_per_item=1000 * again.cpu_seconds / count,
                rss_mb=again.peak_rss_mb,
            )


def again(pictures: Path, index_folder: Path) -> None:
    from clipsearch.engine import Index

    with Index.open(index_folder) as index:
        assert index.add([pictures]).added == 0


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        what, *arguments = sys.argv[1:]
        if what == "write":
            write_pictures(Path(arguments[0]), int(arguments[1]))
        elif what == "index":
            index_with_null_encoder(Path(arguments[0]), Path(arguments[1]))
        elif what == "again":
            again(Path(arguments[0]), Path(arguments[1]))
        else:
            decode_in_full(Path(arguments[0]))
