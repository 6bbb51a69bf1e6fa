"""Media files to units with pixels, samples or text: find them, open them, choose what matters.

Importing this package loads neither PyAV nor Pillow; a reader loads its library when first used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from clipsearch.errors import UsageError
from clipsearch.media.kinds import SUFFIXES, kind_of, subtitle_stems
from clipsearch.media.sampling import SamplingSpec, Window, parse_sampling, windows
from clipsearch.media.spec import AudioSpec, ReadSpec
from clipsearch.types import FoundFile, MediaKind, MediaStream, SoundStream, Unit

__all__ = [
    "READERS",
    "SUFFIXES",
    "AudioSpec",
    "ReadSpec",
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


def _image(path: Path, spec: ReadSpec) -> MediaStream:
    from clipsearch.media.image import open_image

    return open_image(path, spec)


def _video(path: Path, spec: ReadSpec) -> MediaStream:
    from clipsearch.media.video import open_video

    return open_video(path, spec)


# What is seen. A reader takes a path and a ReadSpec, returns a MediaStream and raises MediaError
# for bad files.
READERS: dict[MediaKind, Callable[[Path, ReadSpec], MediaStream]] = {
    "image": _image,
    "video": _video,
}


def open_media(
    file: FoundFile | Path, spec: ReadSpec, *, kind: MediaKind | None = None
) -> MediaStream:
    """Open one file. Its units come as they are asked for, each with (h, w, 3) uint8 RGB pixels.

    `kind` is needed only for a path whose suffix does not tell. Raises MediaError when the file
    cannot be read, here or while iterating, and UsageError when the kind is not known.
    """
    path = file.path if isinstance(file, FoundFile) else file
    known = file.kind if isinstance(file, FoundFile) else kind or kind_of(path.name)
    if known is None:
        raise UsageError(f"{path.name!r} has no suffix of a picture or a video: give its kind")
    if known not in READERS:
        raise UsageError(f"{path.name!r} is of kind {known}: use one of {', '.join(READERS)}")
    return READERS[known](path, spec)


def open_audio(path: Path, spec: AudioSpec) -> SoundStream:
    """The windows of an audio file, as `clipsearch.media.audio.open_audio`."""
    from clipsearch.media import audio

    return audio.open_audio(path, spec)


def open_sound_track(path: Path, spec: AudioSpec) -> SoundStream | None:
    """The windows of a video's sound, as `clipsearch.media.audio.open_sound_track`."""
    from clipsearch.media import audio

    return audio.open_sound_track(path, spec)


def open_subtitles(path: Path) -> Iterator[Unit]:
    """The texts of a .srt or .vtt file, as `clipsearch.media.subtitles.open_subtitles`."""
    from clipsearch.media import subtitles

    return subtitles.open_subtitles(path)


def embedded_subtitles(path: Path) -> Iterator[Unit]:
    """The texts inside a video, as `clipsearch.media.subtitles.embedded_subtitles`."""
    from clipsearch.media import subtitles

    return subtitles.embedded_subtitles(path)
