"""Files that a query names, read and encoded on the spot, as an index would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from clipsearch.encoders.base import Encoder
from clipsearch.encoders.values import unit_rows
from clipsearch.errors import MediaError, UsageError
from clipsearch.media import (
    AudioSpec,
    ReadSpec,
    SamplingSpec,
    kind_of,
    open_audio,
    open_media,
    open_sound_track,
)
from clipsearch.media.sounding import without_silence
from clipsearch.types import MediaInfo, Unit, Vectors, Wave

FRAMES_AT_ONCE = 32
WINDOWS_AT_ONCE = 16
WHOLE_FRAME = 1 << 16  # pixels of height, more than any: the encoder makes it small


def picture_row(path: Path, encoder: Encoder) -> Vectors:
    """(1, dim) unit row of a picture. Raises MediaError that names the file."""
    with _named(path):
        stream = open_media(path, ReadSpec(encoder.short_side), kind="image")
        return encoder.encode_images([encoder.prepare(pixels) for _, pixels in stream.units])


def frame_row(path: Path, seconds: float, encoder: Encoder) -> Vectors:
    """(1, dim) unit row of the frame on display at a time.

    Raises UsageError where there is none, MediaError that names the file.
    """
    from clipsearch.media.thumbnails import thumbnails

    with _named(path):
        [pixels] = thumbnails(path, [seconds], height=WHOLE_FRAME)
    if pixels is None:
        raise UsageError(f"{path}: no frame is shown at {seconds:g} seconds")
    return encoder.encode_images([encoder.prepare(pixels)])


def video_row(path: Path, sampling: SamplingSpec, encoder: Encoder) -> Vectors:
    """(1, dim) unit row of a video: the mean of its frames. Raises MediaError that names it."""
    total = np.zeros(encoder.dim)
    with _named(path):
        spec = ReadSpec(encoder.short_side, sampling=sampling)
        units = open_media(path, spec, kind="video").units
        prepared = (encoder.prepare(pixels) for _, pixels in units)
        while batch := list(islice(prepared, FRAMES_AT_ONCE)):
            total += encoder.encode_images(batch).sum(axis=0, dtype=np.float64)
    return unit_rows(total[None])


def sound_row(
    path: Path, spec: AudioSpec, encoder: Encoder, *, seconds: float | None = None
) -> Vectors:
    """(1, dim) unit row of a sound, or of the sound of a video: the mean of its windows, or the
    window at a time.

    Raises MediaError that names the file, also for one that is silent, UsageError for a time behind
    its end.
    """
    total = np.zeros(encoder.dim)
    with _named(path):
        info, windows = _windows(path, spec)
        if seconds is not None:
            check_within(path, seconds, info)
            windows = _window_at(windows, spec, seconds)
        waves = (wave for _, wave in windows)
        while batch := list(islice(waves, WINDOWS_AT_ONCE)):
            total += encoder.encode_audio(batch).sum(axis=0, dtype=np.float64)
        if not total.any():
            raise MediaError("there is nothing to hear in it")
    return unit_rows(total[None])


def check_within(path: Path, seconds: float, info: MediaInfo | None) -> None:
    """Raise UsageError for a time behind the end of a file, where its length is known."""
    if info is not None and info.duration_seconds is not None and seconds > info.duration_seconds:
        raise UsageError(
            f"{path}: it lasts {info.duration_seconds:.3f} seconds, so there is nothing at "
            f"{seconds:g}"
        )


def distance(seconds: float, start: float, end: float) -> tuple[float, bool, float]:
    """How far a time is from [start, end), and from its middle: the least of several is nearest."""
    off = max(start - seconds, seconds - end, 0.0)
    return off, seconds >= end, abs((start + end) / 2 - seconds)


def _windows(path: Path, spec: AudioSpec) -> tuple[MediaInfo | None, Iterator[tuple[Unit, Wave]]]:
    if kind_of(path.name) == "video":
        stream = open_sound_track(path, spec)
        return (None, iter(())) if stream is None else (stream.info, stream.units)
    sound = open_audio(path, spec)
    return sound.info, sound.units


def _window_at(
    windows: Iterator[tuple[Unit, Wave]], spec: AudioSpec, seconds: float
) -> Iterator[tuple[Unit, Wave]]:
    """The one nearest to a time, if any."""

    def off(window: tuple[Unit, Wave]) -> tuple[float, bool, float]:
        unit = without_silence(*window, spec.rate)
        assert unit.start_seconds is not None
        assert unit.end_seconds is not None
        return distance(seconds, unit.start_seconds, unit.end_seconds)

    best = min(windows, key=off, default=None)
    return iter(() if best is None else (best,))


@contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except MediaError as error:
        raise MediaError(f"{path}: {error}") from error
