"""Media files to units with pixels: find them, open them, choose the frames that matter.

Importing this package loads neither PyAV nor Pillow; a reader loads its library when first used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from clipsearch.errors import UsageError
from clipsearch.media.kinds import SUFFIXES, kind_of
from clipsearch.media.sampling import SamplingSpec, Window, parse_sampling, windows
from clipsearch.media.spec import ReadSpec
from clipsearch.types import FoundFile, MediaKind, MediaStream

__all__ = [
    "READERS",
    "SUFFIXES",
    "ReadSpec",
    "SamplingSpec",
    "Window",
    "kind_of",
    "open_media",
    "parse_sampling",
    "windows",
]


def _image(path: Path, spec: ReadSpec) -> MediaStream:
    from clipsearch.media.image import open_image

    return open_image(path, spec)


def _video(path: Path, spec: ReadSpec) -> MediaStream:
    from clipsearch.media.video import open_video

    return open_video(path, spec)


# A reader takes a path and a ReadSpec, returns a MediaStream and raises MediaError for bad files.
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
    return READERS[known](path, spec)
