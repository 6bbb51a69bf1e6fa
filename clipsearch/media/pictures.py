"""The picture that stands for a hit: a picture file, or the frame of a video at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from clipsearch.errors import MediaError, UsageError
from clipsearch.media.kinds import kind_of
from clipsearch.media.spec import ReadSpec
from clipsearch.types import Hit, Pixels

MAX_ASPECT = 16  # columns for each wanted line, at most


def moment_of(hit: Hit) -> float | None:
    """When a picture of the hit is to be had: in the middle where no moment is the best."""
    if hit.moment is not None or hit.start is None or hit.end is None:
        return hit.moment
    return hit.start if hit.kind == "text" else (hit.start + hit.end) / 2


def hit_picture(path: Path, moment: float | None, *, height: int) -> Pixels:
    """(h, w, 3) uint8 RGB, upright and whole; h is `height`, less where the original is lower,
    or more than 16 times as wide as that.

    moment: presentation seconds into a video; None: its first frame that is not black. Pictures
    take no notice of it. Raises MediaError where there is no picture to be had: the file cannot be
    read, holds only sound or text, or shows nothing at that time; UsageError for a height below 1.
    """
    if height < 1:
        raise UsageError(f"a picture of {height} pixels: use 1 or more")
    kind = kind_of(path.name)
    if kind == "video" and moment is not None:
        return _frame(path, moment, height)
    if kind not in ("image", "video"):
        raise MediaError(f"a file of kind {kind} has no picture" if kind else "not a media file")
    from clipsearch.media import open_media

    _, pixels = next(open_media(path, ReadSpec(height)).units, (None, None))
    if pixels is None:
        raise MediaError("has no frame that is not black")
    return _lowered(pixels, height)


def hit_pictures(
    places: Sequence[tuple[Path, float | None]], *, height: int
) -> Iterator[Pixels | MediaError]:
    """The pictures of many hits as `hit_picture` gives them, in order; what it raises for a file
    stands in its place. A video is read once, when its first moment comes.
    """
    moments: dict[Path, list[float]] = {}
    for path, moment in places:
        if moment is not None and kind_of(path.name) == "video":
            moments.setdefault(path, []).append(moment)
    films: dict[Path, dict[float, Pixels | None] | MediaError] = {}
    for path, moment in places:
        try:
            if moment is None or path not in moments:
                yield hit_picture(path, moment, height=height)
                continue
            if path not in films:
                films[path] = _tried(path, moments[path], height)
            film = films[path]
            yield film if isinstance(film, MediaError) else _shown(film[moment], moment)
        except MediaError as error:
            yield error


def _tried(
    path: Path, moments: list[float], height: int
) -> dict[float, Pixels | None] | MediaError:
    try:
        return _frames(path, moments, height)
    except MediaError as error:
        return error


def _lowered(pixels: Pixels, height: int) -> Pixels:
    """(h, w, 3) pixels in their own shape, with at most `height` lines and 16 times as many
    columns, never enlarged: a strip of a panorama would fill the memory of all that comes after.
    """
    from PIL import Image

    lines, columns = pixels.shape[:2]
    scale = min(height / lines, MAX_ASPECT * height / columns)
    if scale >= 1:
        return pixels
    size = max(1, round(columns * scale)), max(1, round(lines * scale))
    small = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(small)


def _frame(path: Path, moment: float, height: int) -> Pixels:
    return _shown(_frames(path, [moment], height)[moment], moment)


def _frames(path: Path, moments: Sequence[float], height: int) -> dict[float, Pixels | None]:
    from clipsearch.media.thumbnails import thumbnails

    return dict(zip(moments, thumbnails(path, moments, height=height), strict=True))


def _shown(pixels: Pixels | None, moment: float) -> Pixels:
    if pixels is None:
        raise MediaError(f"shows nothing at {moment:.1f} s")
    return pixels
