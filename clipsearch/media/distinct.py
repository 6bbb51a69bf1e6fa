"""Drop frames that add nothing: black ones, and those like the last kept one. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Thumbnail = NDArray[np.uint8]  # (32, 32) gray
THUMBNAIL_SIDE = 32

# Gray levels 0..255 between thumbnails. A static picture with noise of sigma 20 re-encoded at CRF
# 18 to 40 reaches a mean of 2.8 and 17 in its worst cell. A second apart, the calmest stretch of
# the demo videos has a mean of 4.7 and 54 in its worst cell; two slides of text on white have a
# mean of only 0.5 but 76 in their worst cell, hence both.
SAME_MEAN = 3.0
SAME_CELL = 24
# Black with noise of sigma 10 reaches 5, a small white title on black 71. 16 is also what black
# becomes in files that state their range of brightness wrongly.
BLACK = 16

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sample(Generic[T]):
    """A frame that sampling chose: shown from `start`, at least until `end` if nothing follows."""

    start: Fraction
    end: Fraction
    thumbnail: Thumbnail
    item: T


@dataclass(frozen=True, slots=True)
class Kept(Generic[T]):
    """A frame to be a unit, with the presentation seconds [start, end) that it stands for."""

    start: Fraction
    end: Fraction
    item: T


def is_black(thumbnail: Thumbnail) -> bool:
    """Whether nothing can be seen: even the brightest spot is black."""
    return int(thumbnail.max()) <= BLACK


def near_identical(one: Thumbnail, other: Thumbnail) -> bool:
    """Whether two frames differ by less than noise and compression do."""
    difference = np.abs(one.astype(np.int16) - other.astype(np.int16))
    return float(difference.mean()) < SAME_MEAN and int(difference.max()) < SAME_CELL


def distinct(samples: Iterable[Sample[T]], *, until: Fraction) -> Iterator[Kept[T]]:
    """The samples that are neither black nor like the last kept one, each one step late.

    A near-identical sample extends its predecessor, a black one ends it. The last one ends at
    `until` (or at its own end, if that is later). Where all are black, the first is kept.
    """
    kept: Sample[T] | None = None
    black: Sample[T] | None = None
    found = False
    for sample in samples:
        if is_black(sample.thumbnail):
            if kept is not None:
                yield Kept(kept.start, sample.start, kept.item)
                kept = None
            black = black or sample
        elif kept is None or not near_identical(sample.thumbnail, kept.thumbnail):
            if kept is not None:
                yield Kept(kept.start, sample.start, kept.item)
            kept, found = sample, True
    last = kept or (None if found else black)
    if last is not None:
        yield Kept(last.start, max(until, last.end), last.item)


def all_samples(samples: Iterable[Sample[T]], *, until: Fraction) -> Iterator[Kept[T]]:
    """Every sample until the next one starts, each one step late; ends as `distinct` does."""
    previous: Sample[T] | None = None
    for sample in samples:
        if previous is not None:
            yield Kept(previous.start, sample.start, previous.item)
        previous = sample
    if previous is not None:
        yield Kept(previous.start, max(until, previous.end), previous.item)
