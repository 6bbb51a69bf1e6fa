"""Writes the media that ingestion is measured on; the same bytes each time.

python -m benchmarks.ingest_media pictures FOLDER COUNT
python -m benchmarks.ingest_media sound FILE MINUTES
python -m benchmarks.ingest_media film FILE MINUTES
python -m benchmarks.ingest_media checkpoint FILE MODEL
python -m benchmarks.ingest_media onnx FILE MODEL       needs onnx
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIZE = (1600, 1200)
DISTINCT = 12
QUALITY = 90
FILM_SIZE = (1280, 720)
FRAME_RATE, GROUP_SECONDS, PART_GROUPS = 25, 8, 3
GRAIN = 3  # standard deviation of the noise in a frame: about what a phone leaves in a bright room

Plane = NDArray[np.uint8]


def photographic(generator: np.random.Generator) -> NDArray[np.uint8]:
    """Noise at several scales: compresses like a photo, about 400 kB as JPEG."""
    from PIL import Image

    total = np.zeros((SIZE[1], SIZE[0], 3))
    for scale, strength in ((100, 90), (25, 40), (6, 20), (1, 9)):
        shape = (SIZE[1] // scale + 2, SIZE[0] // scale + 2, 3)
        small = Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8))
        total += (np.asarray(small.resize(SIZE, Image.Resampling.BICUBIC)) / 255 - 0.5) * strength
    return (total + 128).clip(0, 255).astype(np.uint8)


def write_pictures(folder: Path, count: int) -> None:
    from PIL import Image

    generator = np.random.default_rng(0)
    files = []
    for _ in range(DISTINCT):
        buffer = io.BytesIO()
        Image.fromarray(photographic(generator)).save(buffer, "JPEG", quality=QUALITY)
        files.append(buffer.getvalue())
    folder.mkdir()
    for number in range(count):  # what follows the end marker makes each file's hash its own
        (folder / f"{number:05}.jpg").write_bytes(files[number % DISTINCT] + b"%d" % number)


def write_sound(path: Path, minutes: float) -> None:
    """Stereo MP3 of 128 kbit/s: a minute of noise, over and over, as frames stand alone."""
    import av

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
    path.write_bytes(buffer.getvalue() * round(minutes))


def write_film(path: Path, minutes: float) -> None:
    """H.264 of 1280x720 and 25 frames a second, a key frame every 8 seconds: a camera that wanders
    over a photograph; 24 seconds are encoded and repeated.
    """
    part = path.parent / f"{GROUP_SECONDS * PART_GROUPS}-seconds.mp4"
    if not part.exists():
        _encode(part)
    seconds = PART_GROUPS * GROUP_SECONDS
    _repeat(part, path, max(1, round(60 * minutes / seconds)), seconds)


def _encode(path: Path) -> None:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", "mp4") as output:
        stream = output.add_stream("libx264", rate=FRAME_RATE)
        stream.width, stream.height = FILM_SIZE
        stream.pix_fmt = "yuv420p"
        interval = GROUP_SECONDS * FRAME_RATE
        stream.options = {"x264-params": f"keyint={interval}:min-keyint={interval}:scenecut=0"}
        for picture in _frames():
            frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    path.write_bytes(buffer.getvalue())


def write_glimpse(path: Path) -> None:
    """The smallest film there is to warm up with."""
    import av

    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=FRAME_RATE)
        stream.width = stream.height = 64
        for light in (50, 100, 150, 200):
            picture = np.full((64, 64, 3), light, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode())


def _frames() -> Iterator[Plane]:
    """(height * 3 / 2, width) uint8 as yuv420p: luma, then the two planes of colour."""
    generator = np.random.default_rng(0)
    red, green, blue = (photographic(generator)[..., i].astype(np.float32) for i in range(3))
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    colours = [
        (128 + factor * (channel - luma))[::2, ::2].clip(0, 255).astype(np.uint8)
        for factor, channel in ((0.564, blue), (0.713, red))
    ]
    width, height = FILM_SIZE
    grain = generator.normal(0, GRAIN, (8, height, width)).astype(np.float32)
    count = PART_GROUPS * GROUP_SECONDS * FRAME_RATE
    for number in range(count):
        angle = 2 * math.pi * number / count
        left = 2 * round((SIZE[0] - width) / 4 * (1 + math.cos(angle)))
        top = 2 * round((SIZE[1] - height) / 4 * (1 + math.sin(2 * angle)))
        light = luma[top : top + height, left : left + width] + grain[number % len(grain)]
        planes = [light.clip(0, 255).astype(np.uint8)]
        planes += [
            plane[top // 2 : (top + height) // 2, left // 2 : (left + width) // 2]
            for plane in colours
        ]
        yield np.concatenate([plane.reshape(-1) for plane in planes]).reshape(-1, width)


def _repeat(part: Path, path: Path, times: int, seconds: float) -> None:
    """The packets of a file, `times` over."""
    import av

    with av.open(str(part)) as source, av.open(str(path), "w") as output:
        stream = source.streams.video[0]
        assert stream.time_base is not None
        packets = [
            (bytes(packet), packet.pts, packet.dts, packet.duration, packet.is_keyframe)
            for packet in source.demux(stream)
            if packet.pts is not None and packet.dts is not None
        ]
        written = output.add_stream_from_template(stream)
        length = round(seconds / stream.time_base)
        for turn in range(times):
            for content, pts, dts, duration, key in packets:
                packet = av.Packet(content)
                packet.pts, packet.dts = pts + turn * length, dts + turn * length
                packet.duration, packet.time_base = duration, stream.time_base
                packet.is_keyframe, packet.stream = key, written
                output.mux(packet)


def write_checkpoint(path: Path, model: str) -> None:
    """Random weights of an open_clip model, the same each time."""
    import open_clip
    import torch

    torch.manual_seed(0)
    torch.save(open_clip.create_model(model).state_dict(), path)


def write_onnx(path: Path, model: str) -> None:
    """The tower for pictures of an open_clip model with random weights, its input in fp32.

    Rows as rclip's model gives them: not normalised.
    """
    import open_clip
    import torch

    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)  # an operation that no export knows
    visual = open_clip.create_model(model).visual.eval()
    side = visual.image_size[0]
    torch.onnx.export(
        visual,
        (torch.zeros(2, 3, side, side),),
        str(path),
        input_names=["input"],
        output_names=["output"],
        dynamic_axes={"input": {0: "n"}, "output": {0: "n"}},
        dynamo=False,
    )


def main() -> None:
    what, target, argument = sys.argv[1:]
    if what in ("checkpoint", "onnx"):
        {"checkpoint": write_checkpoint, "onnx": write_onnx}[what](Path(target), argument)
    elif what == "pictures":
        write_pictures(Path(target), int(argument))
    else:
        {"sound": write_sound, "film": write_film}[what](Path(target), float(argument))


if __name__ == "__main__":
    main()
