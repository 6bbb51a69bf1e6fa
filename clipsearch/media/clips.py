"""Pieces of videos as files of their own, by PyAV."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from clipsearch.errors import UsageError
from clipsearch.media.clip_copy import copy
from clipsearch.media.clip_encode import encode
from clipsearch.media.clip_source import Interval, locate, opened
from clipsearch.media.clip_target import FORMS, Target
from clipsearch.media.files import check_readable

CLIP_SUFFIXES = tuple(FORMS)


@dataclass(frozen=True, slots=True)
class Clip:
    """A file cut out of a video: it shows the source's presentation seconds [start, end).

    notes: what had to be left out of it or changed, a sentence each.
    """

    path: Path
    start: float
    end: float
    notes: tuple[str, ...] = ()


def cut(
    source: str | os.PathLike[str],
    start: float,
    end: float,
    target: str | os.PathLike[str],
    *,
    reencode: bool = False,
    overwrite: bool = False,
) -> Clip:
    """Write what `source` shows in [start, end) presentation seconds to `target`.

    Without `reencode` packets are copied: the clip begins at the last key frame at or before the
    start and ends with the last frame begun before the end, or a few later ones that it refers to.
    With it both ends are exact. An end after the video's is the video's. The suffix says the
    container, one of CLIP_SUFFIXES. Of the source, the first video and all sound are taken.

    The target appears whole or not at all; one that exists is replaced only with `overwrite`.
    Raises UsageError for arguments out of range, MediaError where the source cannot be read, shows
    nothing in the interval or does not fit the container, and OSError if the target cannot be
    written.
    """
    interval, path = _interval(start, end), Path(source)
    check_readable(path)
    goal = Target.of(Path(target), path, overwrite=overwrite)
    place = locate(path, interval.start)
    write = encode if reencode else copy
    with opened(path) as video, goal.created() as output:
        covered = write(video, place, interval, goal, output)
    return Clip(Path(target), float(covered.start), float(covered.end), covered.notes)


def check_clip(target: Path, *, source: Path | None = None, overwrite: bool = False) -> None:
    """Raise UsageError for a target that `cut` would refuse, before there is anything to cut."""
    Target.of(target, source, overwrite=overwrite)


def _interval(start: float, end: float) -> Interval:
    if not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end):
        raise UsageError(f"[{start}, {end}) seconds: need 0 <= start < end")
    return Interval(Fraction(repr(float(start))), Fraction(repr(float(end))))
