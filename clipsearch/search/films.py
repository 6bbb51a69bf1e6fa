"""From the frames of one video and texts to spans: curves, gaps, changes of the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Unpack

import numpy as np

from clipsearch.errors import UsageError
from clipsearch.eval import iou
from clipsearch.search.profile import SLACK_SECONDS, Floats
from clipsearch.search.spans import (
    MIN_SECONDS,
    OVERLAP,
    SpanMethod,
    SpanOptions,
    check_ranking,
    find_spans,
)
from clipsearch.types import Span, Vectors, VideoFrames

NOVELTY_SECONDS = 2.0
BLOCK_EDGES = 512  # summed at once: few enough for float32, and for a cache
SMALLEST_NORM = 1e-9
SMALLEST_CONTRAST = 1e-6  # a cosine's rounding
LEAST_TRIED = 5  # spans that are looked for at least: those that do not stand out fall away
MOST_TRIED = 16  # times as many as are wanted are looked for while none stands out


class RankOptions(SpanOptions, total=False):
    """The options of `find_spans` but its k and its novelty."""

    overlap: float
    method: SpanMethod


class Film:
    """The frames of one video on a grid of time without holes.

    Where the picture was black there are no frames. Such a gap gets a cell of its own, which is
    neither like a text nor unlike it: its similarity is the mean of the others.
    """

    def __init__(self, frames: VideoFrames) -> None:
        """Raises UsageError when there are no frames."""
        if not len(frames.vectors):
            raise UsageError("the video has no frames to search in")
        lasting = frames.ends - frames.starts > 0
        starts, ends = frames.starts[lasting], frames.ends[lasting]
        before_gap = np.flatnonzero(starts[1:] - ends[:-1] > SLACK_SECONDS)
        self.numbers = np.insert(np.flatnonzero(lasting), before_gap + 1, -1)  # -1: a gap
        self.edges: Floats = np.append(
            np.insert(starts, before_gap + 1, ends[before_gap]), ends[-1]
        )
        self.there = self.numbers >= 0  # (cells,) which have a frame
        self.lengths: Floats = np.diff(self.edges)
        self._vectors = frames.vectors

    @cached_property
    def novelty(self) -> Floats:
        """(cells + 1,) how much the picture changes at each edge, 0 to 2; at a gap as in the mean,
        for black before a scene says nothing of the scene.
        """
        gap = ~self.there
        vectors = self._vectors[np.maximum(self.numbers, 0)]
        found = novelty_of(np.where(gap[:, None], 0, vectors), self.edges)
        beside = np.zeros(len(found), np.bool_)
        beside[1:-1] = gap[1:] | gap[:-1]
        if beside.any():
            others = found[1:-1][~beside[1:-1]]
            found[beside] = others.mean() if len(others) else 0.0
        return found

    def curves(self, queries: Vectors) -> Floats:
        """(n, cells) cosines of (n, dim) unit rows to the frames."""
        weights = self.lengths[self.there]
        found = np.zeros((len(queries), len(self.numbers)))
        scores = (queries @ self._vectors.T)[:, self.numbers[self.there]]
        found[:, self.there] = scores
        found[:, ~self.there] = (scores @ weights / weights.sum())[:, None]
        return found

    def spans(self, curve: Floats, *, k: int, **options: Unpack[RankOptions]) -> list[Span]:
        """At most k spans of a (cells,) curve that match it better than what is outside of them,
        best first; options: those of `find_spans`. A span's frames are cells here.
        """
        overlap, method = options.get("overlap", OVERLAP), options.get("method", "scan")
        check_ranking(k, overlap, method, options.get("search", "multiscale"))
        # The k best disjoint spans are no part of the best k + 1.
        wanted = k if method == "disjoint" else max(k, LEAST_TRIED)
        while True:
            found = find_spans(curve, self.edges, k=wanted, novelty=self.novelty, **options)
            good = self._good(found, curve, options.get("min_seconds", MIN_SECONDS), overlap)
            if good or len(found) < wanted or wanted >= MOST_TRIED * k:
                return good[:k]
            wanted *= 4

    def _good(
        self, found: Sequence[Span], curve: Floats, min_seconds: float, overlap: float
    ) -> list[Span]:
        """Spans without the black at their ends, those that are then lawful and stand out."""
        good: list[Span] = []
        for searched in found:
            span = self.seen(searched.frames, curve, score=searched.score)
            if span is None or span.end - span.start < min_seconds - SLACK_SECONDS:
                continue
            apart = (iou([span], good) <= overlap + SLACK_SECONDS).all()
            if apart and self._stands_out(span):
                good.append(span)
        return good

    def _stands_out(self, span: Span) -> bool:
        return span.contrast > SMALLEST_CONTRAST or span.frames == self._visible

    @cached_property
    def _visible(self) -> tuple[int, int]:
        """The cells from the first to the last frame."""
        there = np.flatnonzero(self.there)
        return int(there[0]), int(there[-1]) + 1

    def seen(self, cells: tuple[int, int], curve: Floats, *, score: float = 0.0) -> Span | None:
        """The span of some cells without black at its ends, means of frames alone; None if all of
        it is black.
        """
        first, last = cells
        inside = np.flatnonzero(self.there[first:last]) + first
        if not len(inside):
            return None
        first, last = int(inside[0]), int(inside[-1]) + 1
        outside = self.there.copy()
        outside[first:last] = False
        similarity = float(np.average(curve[inside], weights=self.lengths[inside]))
        contrast = 0.0
        if outside.any():
            mean = float(np.average(curve[outside], weights=self.lengths[outside]))
            contrast = similarity - mean
        start, end = self.edges[[first, last]].tolist()
        return Span(start, end, score, similarity, contrast, (first, last))

    def moment(self, span: Span, curve: Floats) -> float:
        """Where the best frame of a span of cells starts, in seconds."""
        first, last = span.frames
        shown = np.where(self.there[first:last], curve[first:last], -np.inf)
        return float(self.edges[first + int(np.argmax(shown))])

    def in_frames(self, span: Span) -> Span:
        """A span whose cells at both ends have frames, with the numbers of its frames."""
        first, last = span.frames
        return replace(span, frames=(int(self.numbers[first]), int(self.numbers[last - 1]) + 1))


def novelty_of(vectors: Vectors, edges: Floats, seconds: float = NOVELTY_SECONDS) -> Floats:
    """How much a video changes at each edge of its frames.

    vectors: (m, dim), a row of zeros where nothing is known. edges: (m + 1,) seconds. Returns
    (m + 1,) 1 - cos(mean of the `seconds` before, mean of the `seconds` after), frames weighted by
    the time they are on display there; 0 at both ends, and 1 where one side is unknown.
    """
    count = len(vectors)
    result = np.zeros(count + 1)
    for start in range(1, count, BLOCK_EDGES):
        block = np.arange(start, min(start + BLOCK_EDGES, count))
        low = max(int(np.searchsorted(edges, edges[block[0]] - seconds, side="right")) - 1, 0)
        high = min(int(np.searchsorted(edges, edges[block[-1]] + seconds, side="left")), count)
        near = _Neighbourhood(vectors[low:high], edges[low : high + 1])
        middle = near.sums[block - low]
        before = middle - near.until(edges[block] - seconds)
        after = near.until(edges[block] + seconds) - middle
        norms = np.sqrt(_dots(before, before) * _dots(after, after))
        cosines = np.zeros(len(block), np.float32)
        np.divide(_dots(before, after), norms, out=cosines, where=norms > SMALLEST_NORM)
        result[block] = 1 - cosines
    return result


class _Neighbourhood:
    """Some frames whose vectors, times the seconds they last, are summed over time."""

    def __init__(self, vectors: Vectors, edges: Floats) -> None:
        self._vectors, self._edges = vectors, edges
        self._lengths = np.diff(edges).astype(np.float32)
        self.sums = np.zeros((len(vectors) + 1, vectors.shape[1]), np.float32)  # at the edges
        np.multiply(vectors, self._lengths[:, None], out=self.sums[1:])
        for number in range(len(vectors)):  # twenty times faster than cumsum over this axis
            self.sums[number + 1] += self.sums[number]

    def until(self, times: Floats) -> Vectors:
        """(t, dim) the sum of what is on display before each of some times."""
        times = np.clip(times, self._edges[0], self._edges[-1])
        cell = np.searchsorted(self._edges, times + SLACK_SECONDS, side="right") - 1
        sums = self.sums[cell]
        seconds = (times - self._edges[cell]).astype(np.float32)
        inside = np.flatnonzero(seconds > SLACK_SECONDS)  # of a cell, not at its edge
        sums[inside] += seconds[inside, None] * self._vectors[cell[inside]]
        return sums


def _dots(one: Vectors, other: Vectors) -> Vectors:
    products: Vectors = np.einsum("ij,ij->i", one, other)
    return products
