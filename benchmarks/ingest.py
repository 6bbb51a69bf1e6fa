"""What does indexing cost outside the encoder, and does its memory grow with the files?

Writes JPEG files of 1600x1200 and indexes them, in a process of its own for each figure, with an
encoder that keeps pictures as large as CLIP's input and computes nothing worth mentioning. The
limit to compare with is Pillow decoding the same files in full, as tools without draft mode do.
Then MP3 of minutes and of an hour, with that encoder and with the built-in one; the limit is FFmpeg
decoding and resampling the same, and nothing else.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
from PIL import Image

from benchmarks.measure import report, run

COUNTS = (600, 6000)
MINUTES = (2, 60)
SOUND_RATE = 16_000  # of both encoders
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
    from clipsearch.store.store import Store

    encoder = FakeEncoder(512)
    encoder.short_side = CLIP_SHORT_SIDE
    manifest = Manifest("fake:512", encoder.fingerprint, 512, "flat", {})
    with Index(Store.create(index_folder, manifest), encoder=encoder) as index:
        report_ = index.add([pictures])
        assert not report_.failures


def decode_in_full(pictures: Path) -> None:
    for path in sorted(pictures.iterdir()):
        with Image.open(path) as image:
            image.convert("RGB").resize((CLIP_SHORT_SIDE, CLIP_SHORT_SIDE))


def write_sound(path: Path, minutes: int) -> None:
    """Stereo MP3 of 128 kbit/s: a minute of noise, over and over, as frames stand alone."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).standard_normal((2, 60 * 44_100)).astype(np.float32) / 10
    with av.open(buffer, "w", "mp3", options={"write_xing": "0", "id3v2_version": "0"}) as output:
        stream = output.add_stream("libmp3lame", rate=44_100, layout="stereo")
        shape = av.AudioResampler("fltp", "stereo", 44_100, 1152)
        frame = av.AudioFrame.from_ndarray(noise, format="fltp", layout="stereo")
        frame.sample_rate = 44_100
        for part in [*shape.resample(frame), *shape.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode())
    path.write_bytes(buffer.getvalue() * minutes)


def index_sound(path: Path, index_folder: Path, model: str) -> None:
    from clipsearch.engine import Index

    with Index.create(index_folder, model=model) as index:
        report_ = index.add([path])
        assert (report_.added, report_.failures) == (1, ())


def decode_sound(path: Path) -> None:
    with av.open(str(path)) as media:
        resampler = av.AudioResampler(format="flt", layout="mono", rate=SOUND_RATE)
        for frame in media.decode(audio=0):
            for part in resampler.resample(frame):
                part.to_ndarray()


def main() -> None:
    this = (sys.executable, "-m", "benchmarks.ingest")
    _pictures(this)
    _sounds(this)


def _sounds(this: tuple[str, ...]) -> None:
    for minutes in MINUTES:
        with tempfile.TemporaryDirectory() as name:
            sound = Path(name) / "sound.mp3"
            write_sound(sound, minutes)
            alone = run(*this, "decode", str(sound))
            for model in ("fake", "builtin"):
                ours = run(*this, "sound", str(sound), str(Path(name) / model), model)
                report(
                    name=f"index MP3, {model}",
                    minutes=minutes,
                    cpu_s_per_hour=60 * ours.cpu_seconds / minutes,
                    times_real_time=60 * minutes / ours.wall_seconds,
                    ratio_to_decoding=ours.cpu_seconds / alone.cpu_seconds,
                    rss_mb=ours.peak_rss_mb,
                )


def _pictures(this: tuple[str, ...]) -> None:
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
        elif what == "sound":
            index_sound(Path(arguments[0]), Path(arguments[1]), arguments[2])
        elif what == "decode":
            decode_sound(Path(arguments[0]))
        elif what == "again":
            again(Path(arguments[0]), Path(arguments[1]))
        else:
            decode_in_full(Path(arguments[0]))
