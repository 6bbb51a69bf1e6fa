"""Sounds for tests: silence with short beeps at known times, in any format that FFmpeg writes."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from clipsearch.types import SoundStream
from tests.media_files import HEIGHT, WIDTH, numbered

BEEPS = (0.5, 1.25, 3.2)
BEEP_SECONDS = 0.05
FORMATS = {".weba": "webm", ".m4b": "ipod"}  # suffixes that FFmpeg does not write by itself


@dataclass(frozen=True)
class SoundPlan:
    """How to write a sound: `beeps` begin at these seconds of it, at 0.5 of full scale."""

    codec: str = "pcm_s16le"
    rate: int = 44100
    layout: str = "mono"
    seconds: float = 4.0
    beeps: tuple[float, ...] = BEEPS
    hertz: float = 1000.0
    late_seconds: float = 0.0  # what is added to all time stamps


def beeping(plan: SoundPlan) -> NDArray[np.float32]:
    """(samples,): the plan's sound, one channel."""
    wave = np.zeros(round(plan.seconds * plan.rate), np.float32)
    times = np.arange(round(BEEP_SECONDS * plan.rate)) / plan.rate
    for beep in plan.beeps:
        begin = round(beep * plan.rate)
        wave[begin : begin + len(times)] = 0.5 * np.cos(2 * np.pi * plan.hertz * times)
    return wave


def write_beeps(path: Path, plan: SoundPlan | None = None, **options: str) -> Path:
    """A file with nothing but the plan's sound."""
    plan = plan or SoundPlan()
    with av.open(str(path), "w", FORMATS.get(path.suffix), options=options) as output:
        stream = output.add_stream(plan.codec, rate=plan.rate, layout=plan.layout)
        encode_wave(output, stream, beeping(plan), plan)
    return path


def write_film(path: Path, plan: SoundPlan, frames: int = 50, first_ms: int = 0) -> Path:
    """A video of numbered frames, 25 a second, with the plan's sound as its track."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = output.add_stream(plan.codec, rate=plan.rate, layout=plan.layout)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered(number), "rgb24")
            frame.pts, frame.time_base = number + first_ms // 40, Fraction(1, 25)
            output.mux(video.encode(frame))
        output.mux(video.encode())
        encode_wave(output, sound, beeping(plan), plan)
    return path


def encode_wave(output, stream, wave: NDArray[np.float32], plan: SoundPlan) -> None:  # type: ignore[no-untyped-def]
    """All channels get the same."""
    channels = av.AudioLayout(plan.layout).nb_channels
    packed = np.repeat(wave, channels).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=plan.layout)
    frame.sample_rate, frame.time_base = plan.rate, Fraction(1, plan.rate)
    frame.pts = round(plan.late_seconds * plan.rate)
    size = stream.codec_context.frame_size or 0
    shape = av.AudioResampler(stream.format.name, plan.layout, plan.rate, size)
    for part in [*shape.resample(frame), *shape.resample(None)]:
        if part is not None:
            output.mux(stream.encode(part))
    output.mux(stream.encode())


def write_float_wav(path: Path, samples: NDArray[np.float32], rate: int) -> Path:
    """samples (n, channels), written byte by byte: NaN and sizes as given."""
    channels = samples.shape[1]
    data = samples.astype("<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, channels, rate, 4 * channels * rate % 2**32, 4 * channels, 32)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data))
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks) + len(data)) + chunks + data)
    return path


def onsets(sound: SoundStream, rate: int) -> list[float]:
    """Presentation seconds where it becomes loud, from the windows put back in their places."""
    pieces = [(unit, wave) for unit, wave in sound.units]
    if not pieces:
        return []
    end = max(unit.end_seconds or 0 for unit, _ in pieces)
    whole = np.zeros(round(end * rate) + len(pieces[0][1]), np.float32)
    for unit, wave in pieces:
        begin = round((unit.start_seconds or 0) * rate)
        whole[begin : begin + len(wave)] = wave
    loud = np.flatnonzero(np.abs(whole) > 0.5 * np.abs(whole).max())
    first = loud[np.diff(loud, prepend=-rate) > 0.1 * rate]
    return [float(place / rate) for place in first]


def at(plan: SoundPlan, **changes: object) -> SoundPlan:
    """The plan with changes."""
    return replace(plan, **changes)  # type: ignore[arg-type]
