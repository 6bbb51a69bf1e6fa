"""Media files to units with pixels, samples or text: find them, open them, choose what matters.

Importing this package loads neither PyAV nor Pillow; a reader loads its library when first used.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from clipsearch.errors import UsageError
from clipsearch.media.kinds import SUFFIXES, kind_of, subtitle_stems
from clipsearch.media.sampling import SamplingSpec, Window, parse_sampling, windows
from clipsearch.media.spec import AudioSpec, ReadingStoppedError, ReadSpec
from clipsearch.types import FoundFile, MediaKind, MediaStream, SoundStream, Stop, Unit

__all__ = [
    "READERS",
    "SUFFIXES",
    "AudioSpec",
    "ReadSpec",
    "ReadingStoppedError",
    "SamplingSpec",
    "Window",
    "embedded_subtitles",
    "kind_of",
    "open_audio",
    "open_media",
    "open_sound_track",
    "open_subtitles",
    "parse_sampling",
    "subtitle_stems",
    "windows",
]


_LOADING = threading.Lock()


def _reader(name: str) -> Any:
    """A module of readers. One thread at a time: PyAV's own modules import each other in circles,
    so that two threads that enter it at different ones see it half made.
    """
    with _LOADING:
        return import_module(f"clipsearch.media.{name}")


def _image(path: Path, spec: ReadSpec, stop: Stop | None = None) -> MediaStream:
    stream: MediaStream = _reader("image").open_image(path, spec)
    return stream


def _video(path: Path, spec: ReadSpec, stop: Stop | None = None) -> MediaStream:
    stream: MediaStream = _reader("video").open_video(path, spec, stop=stop)
    return stream


# What is seen. A reader takes a path, a ReadSpec and, where it may take long, what tells it to
# stop; it returns a MediaStream and raises MediaError for bad files.
READERS: dict[MediaKind, Callable[..., MediaStream]] = {
    "image": _image,
    "video": _video,
}


def open_media(
    file: FoundFile | Path,
    spec: ReadSpec,
    *,
    kind: MediaKind | None = None,
    stop: Stop | None = None,
) -> MediaStream:
    """Open one file. Its units come as they are asked for, each with (h, w, 3) uint8 RGB pixels.

    `kind` is needed only for a path whose suffix does not tell. `stop` is asked every few packets
    of a video, whose next unit may be far: once it says True, ReadingStoppedError is raised. Raises
    MediaError when the file cannot be read, here or while iterating, and UsageError when the kind
    is not known.
    """
    path = file.path if isinstance(file, FoundFile) else file
    known = file.kind if isinstance(file, FoundFile) else kind or kind_of(path.name)
    if known is None:
        raise UsageError(f"{path.name!r} has no suffix of a picture or a video: give its kind")
    if known not in READERS:
        raise UsageError(f"{path.name!r} is of kind {known}: use one of {', '.join(READERS)}")
    return READERS[known](path, spec, stop)


def open_audio(path: Path, spec: AudioSpec) -> SoundStream:
    """The windows of an audio file, as `clipsearch.media.audio.open_audio`."""
    stream: SoundStream = _reader("audio").open_audio(path, spec)
    return stream


def open_sound_track(path: Path, spec: AudioSpec) -> SoundStream | None:
    """The windows of a video's sound, as `clipsearch.media.audio.open_sound_track`."""
    stream: SoundStream | None = _reader("audio").open_sound_track(path, spec)
    return stream


def open_subtitles(path: Path) -> Iterator[Unit]:
    """The texts of a .srt or .vtt file, as `clipsearch.media.subtitles.open_subtitles`."""
    texts: Iterator[Unit] = _reader("subtitles").open_subtitles(path)
    return texts


def embedded_subtitles(path: Path) -> Iterator[Unit]:
    """The texts inside a video, as `clipsearch.media.subtitles.embedded_subtitles`."""
    texts: Iterator[Unit] = _reader("subtitles").embedded_subtitles(path)
    return texts
