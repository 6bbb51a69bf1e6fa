"""From the frames of one video and texts to spans: curves, gaps, changes of the picture."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from clipsearch.errors import UsageError
from clipsearch.search.profile import SLACK_SECONDS, Floats
from clipsearch.types import Span, Vectors, VideoFrames

NOVELTY_SECONDS = 2.0
BLOCK_EDGES = 512  # summed at once: few enough for float32, and for a cache
SMALLEST_NORM = 1e-9


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
        self._vectors = frames.vectors

    @cached_property
    def novelty(self) -> Floats:
        """(cells + 1,) how much the picture changes at each edge, 0 to 2."""
        vectors = self._vectors[np.maximum(self.numbers, 0)]
        return novelty_of(np.where(self.numbers[:, None] < 0, 0, vectors), self.edges)

    def curves(self, queries: Vectors) -> Floats:
        """(n, cells) cosines of (n, dim) unit rows to the frames."""
        there = self.numbers >= 0
        weights = np.diff(self.edges)[there]
        found = np.zeros((len(queries), len(self.numbers)))
        scores = (queries @ self._vectors.T)[:, self.numbers[there]]
        found[:, there] = scores
        found[:, ~there] = (scores @ weights / weights.sum())[:, None]
        return found

    def in_frames(self, span: Span) -> Span:
        """A span of cells as one of frames."""
        first, last = span.frames
        inside = self.numbers[first:last]
        inside = inside[inside >= 0]
        if not len(inside):
            before = int(self.numbers[:first].max(initial=-1)) + 1
            return replace(span, frames=(before, before))
        return replace(span, frames=(int(inside[0]), int(inside[-1]) + 1))


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
