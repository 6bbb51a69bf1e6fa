"""Texts in order, and the spans of one video that they tell of: scripts, subtitles, chapters."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipsearch.errors import UsageError
from clipsearch.search.profile import (
    Cells,
    Floats,
    Grid,
    Ints,
    Standard,
    check_finite,
    fixed_bits,
    frame_of,
    smoothed,
)
from clipsearch.search.spans import (
    BETA,
    MIN_SECONDS,
    SMOOTH_SECONDS,
    ScoreName,
    SpanSearch,
    SpanSpec,
    best_spans,
    bonus_of,
    check_limits,
    span_of,
)
from clipsearch.search.subwindow import Found
from clipsearch.search.sums import NOTHING, Starts
from clipsearch.types import Span

TAU = 1.5
MAX_TEXTS = 8
MOST_CELLS = 2**26  # of a table, 512 MiB; larger ones are computed twice, in parts
SMALLEST_NORM = 1e-9  # of the sum of texts' vectors, squared; below they cancel out


def align(
    similarities: ArrayLike,
    times: ArrayLike,
    *,
    tau: ArrayLike | None = TAU,
    min_seconds: float = MIN_SECONDS,
    max_seconds: float | None = None,
    skip: float | None = None,
    smooth_seconds: float = 0.0,
    novelty: ArrayLike | None = None,
    beta: float = BETA,
) -> list[Span | None]:
    """One span for each of n texts, in their order, with gaps wherever no text fits.

    similarities: (n, m) cosines of each text to each frame. times: as in `find_span`.
    The spans maximise the sum over texts of the sum of (z - tau) over their frames, z being a
    text's row with mean 0 and variance 1; of several best, exactly one is given.
    tau: how much a frame must stand out for its text to pay; more makes spans shorter. One number,
        or (n,) of them; None takes for each text what is halfway between the means inside and
        outside of its best span by `find_span`, the threshold of the likelihood ratio of a mean
        that shifts.
    skip: what it costs to leave a text without a span, in that sum; None forbids it, then each
        text gets one, except where its row is constant: that says nothing.
    novelty, beta: as in `find_span`, added to the sum for both ends of every span.

    A text's span is None where it was left out. A span's score is its part of the sum. Raises
    UsageError, which is a ValueError, for NaN, and for more texts than the video has room for.

    By dynamic programming, O(n m), or O(n m log U) for spans of at most U frames.
    """
    check_limits(min_seconds, max_seconds)
    spec = SpanSpec(min_seconds, max_seconds, smooth_seconds=smooth_seconds, beta=beta)
    if skip is not None and not skip >= 0:
        raise UsageError(f"skip {skip}: a cost is 0 or more")
    rows = _Rows.of(similarities, times, smooth_seconds)
    if not rows.count:
        return []
    spec = replace(spec, smooth_seconds=0.0)  # the rows are smooth
    taus = _halfway(rows, spec, novelty) if tau is None else _checked_taus(tau, rows.count)
    bonus = None if novelty is None else bonus_of(rows.grid, novelty, beta)
    return _Table(rows, taus, (min_seconds, max_seconds), skip, bonus).spans()


def _checked_taus(tau: ArrayLike, count: int) -> Floats:
    taus = np.asarray(tau, np.float64)
    if taus.shape not in ((), (count,)) or not np.isfinite(taus).all():
        raise UsageError(f"tau {tau!r}: use one finite number, or one for each of {count} texts")
    return np.broadcast_to(taus, (count,))


def _halfway(rows: _Rows, spec: SpanSpec, novelty: ArrayLike | None) -> Floats:
    """(n,) in z-scores, what is halfway between the inside and the outside of each best span."""
    taus = np.full(rows.count, TAU)
    for k in range(rows.count):
        curve = rows.curve(k)
        for span in best_spans(curve, spec, novelty, k=1):
            mean, deviation = Standard.of(curve)
            taus[k] = (span.similarity - span.contrast / 2 - mean) / deviation
    return taus


def find_interval(
    similarities: ArrayLike,
    gram: ArrayLike,
    times: ArrayLike,
    *,
    max_texts: int = MAX_TEXTS,
    min_seconds: float = MIN_SECONDS,
    max_seconds: float | None = None,
    score: ScoreName | float = "scan",
    tau: float = 0.0,
    smooth_seconds: float = SMOOTH_SECONDS,
    step_seconds: float | None = None,
    novelty: ArrayLike | None = None,
    beta: float = BETA,
    search: SpanSearch = "multiscale",
) -> tuple[slice, Span] | None:
    """The run of at most `max_texts` neighbouring texts, and the span, that match best together.

    similarities: (n, m) cosines of each text to each frame. gram: (n, n) cosines of the texts with
        each other. The others are as in `find_span`.

    The curve of the texts i..j is the cosine of the frames to the mean of their vectors. Returns
    slice(i, j + 1) and the span; the first and shortest run of several equal; None when every
    curve is constant. Raises UsageError, which is a ValueError, for NaN. O(n max_texts m).
    """
    spec = SpanSpec(
        min_seconds, max_seconds, score, tau, smooth_seconds, step_seconds, beta, search
    )
    if max_texts < 1:
        raise UsageError(f"max_texts {max_texts}: use 1 or more")
    rows = _Rows.of(similarities, times)
    products = _products(gram, rows.count)
    best: tuple[slice, Span] | None = None
    for first in range(rows.count):
        for last in range(first + 1, min(first + max_texts, rows.count) + 1):
            texts = slice(first, last)
            joined = _joined(rows.similarities, products, texts)
            if joined is None:
                continue
            found = best_spans(Cells(joined, rows.grid), spec, novelty, k=1)
            if found and (best is None or found[0].score > best[1].score):
                best = texts, found[0]
    return best


def joint_curve(
    similarities: ArrayLike, gram: ArrayLike, texts: slice
) -> NDArray[np.float64] | None:
    """(m,) cosines of the frames to the mean of some texts' unit vectors, from the cosines of each.

    cos(mean of t_i..t_j, v) = sum of S[i..j, v] / sqrt(sum of G[i..j, i..j]). None where the texts
    cancel out. Shapes as in `find_interval`.
    """
    rows = np.asarray(similarities)
    return _joined(rows, _products(gram, len(rows)), texts)


def _products(gram: ArrayLike, count: int) -> Floats:
    """The checked (count, count) cosines of texts with each other."""
    products = np.asarray(gram, np.float64)
    if products.shape != (count, count) or not np.isfinite(products).all():
        raise UsageError(
            f"gram of shape {products.shape} for {count} texts: need finite cosines of each "
            "with each"
        )
    return products


def _joined(rows: NDArray[Any], products: Floats, texts: slice) -> Floats | None:
    norm = float(products[texts, texts].sum())
    if norm <= SMALLEST_NORM:
        return None
    joined: Floats = rows[texts].sum(axis=0, dtype=np.float64) / math.sqrt(norm)
    return joined


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The curves of n texts over one grid."""

    similarities: NDArray[Any]  # (n, m) finite
    grid: Grid

    @classmethod
    def of(cls, similarities: ArrayLike, times: ArrayLike, smooth_seconds: float = 0.0) -> _Rows:
        """Checked and smoothed."""
        rows = np.asarray(similarities)
        if rows.ndim != 2 or not rows.shape[1]:
            raise UsageError(f"similarities of shape {rows.shape}: need (texts, frames)")
        grid = Grid.of(times, rows.shape[1])
        for row in rows:
            check_finite(row)
        made = cls(rows, grid)
        if smooth_seconds > 0 and len(rows):
            made = cls(
                np.stack(
                    [smoothed(made.curve(k), smooth_seconds).values for k in range(len(rows))]
                ),
                grid,
            )
        return made

    @property
    def count(self) -> int:
        return len(self.similarities)

    def curve(self, k: int) -> Cells:
        return Cells(self.similarities[k].astype(np.float64), self.grid)


class _Table:
    """D[k][j], the most that the first k texts gain in the cells before edge j:

    D[k][j] = max(D[k][j - 1], D[k - 1][j] - skip, sums_j + max_i(D[k - 1][i] - sums_i))
    """

    def __init__(
        self,
        rows: _Rows,
        taus: Floats,
        limits: tuple[float, float | None],
        skip: float | None,
        bonus: Floats | None,
    ) -> None:
        self._rows, self._taus, self._least, self._bonus = rows, taus, limits[0], bonus
        self._frame = frame_of(rows.grid, limits)
        most = float((1 + np.abs(taus)).sum()) * rows.grid.count  # |z| is at most 1 in the mean
        most += 0.0 if bonus is None else 2 * rows.count * float(np.abs(bonus).max())
        skip = None if skip is None else min(skip, most)
        self._bits = fixed_bits(most + rows.count * (skip or 0.0))
        self._skip = None if skip is None else round(skip * 2.0**self._bits)
        self._ends = None if bonus is None else np.rint(bonus * 2.0**self._bits).astype(np.int64)
        self._weights = None
        if not rows.grid.regular:
            self._weights = np.diff(self._frame.ticks) / self._frame.mean
        self._starts = Starts.of(self._frame)
        # Arrays of the size of a row cost more to allocate than to fill.
        self._floats = np.empty(rows.grid.count)
        self._ints = np.empty(rows.grid.count, np.int64)
        self._sums = np.zeros(rows.grid.count + 1, np.int64)
        self._gains = np.empty(rows.grid.count + 1, np.int64)
        self._standards = [self._standard(row) for row in rows.similarities]

    def spans(self) -> list[Span | None]:
        """The span of each text; None for one that was left out."""
        spans = []
        for k, found in enumerate(self._places()):
            spans.append(None if found is None else self._span(k, *found))
        return spans

    def _standard(self, row: NDArray[Any]) -> Standard:
        self._floats[:] = row
        return Standard.in_place(self._floats, self._rows.grid)

    def _span(self, k: int, first: int, last: int) -> Span:
        (mean, deviation), grid = self._standards[k], self._rows.grid
        inside = self._rows.similarities[k, first:last]
        span = span_of(grid, mean, inside, Found(0.0, first, last))
        cells = (span.end - span.start) * grid.count / grid.seconds
        score = cells * ((span.similarity - mean) / deviation - float(self._taus[k]))
        if self._bonus is not None:
            score += float(self._bonus[first] + self._bonus[last])
        return replace(span, score=score)

    def _places(self) -> list[tuple[int, int] | None]:
        """The cells [first, last) of each text."""
        count, width = self._rows.count, self._rows.grid.count + 1
        part = count if (count + 1) * width <= MOST_CELLS else math.isqrt(count) + 1
        table = np.empty((part + 1, width), np.int64)
        table[0] = 0
        kept, filled = [], 0
        for k in range(count):
            if filled == part:
                kept.append(table[0].copy())
                table[0], filled = table[part], 0
            self._fill(table[filled + 1], table[filled], k)
            filled += 1
        if table[filled, -1] < NOTHING // 2:
            raise UsageError(
                f"{count} texts of at least {self._least:g} seconds do not fit a video of "
                f"{width - 1} frames, {self._rows.grid.seconds:g} seconds: allow spans of other "
                "lengths, or texts to be left out"
            )
        found: list[tuple[int, int] | None] = []
        last, k = width - 1, count
        while True:
            for row in range(filled, 0, -1):
                k -= 1
                place = self._place(k, table[row - 1], table[row], last)
                found.append(place)
                last = last if place is None else place[0]
            if not kept:
                return found[::-1]
            table[0], filled = kept.pop(), part
            for row in range(part):
                self._fill(table[row + 1], table[row], k - part + row)

    def _fill(self, total: Ints, before: Ints, k: int) -> None:
        """Row k + 1 of D from row k."""
        sums = self._sums_of(k, len(self._floats))
        if sums is None:
            total[:] = before
            return
        np.subtract(before, sums, out=self._gains)
        if self._ends is not None:
            self._gains += self._ends
        self._starts.best(self._gains, out=total)
        total += sums
        if self._ends is not None:
            total += self._ends
        if self._skip is not None:
            np.subtract(before, self._skip, out=self._gains)
            np.maximum(total, self._gains, out=total)
        np.maximum.accumulate(total, out=total)
        np.maximum(total, NOTHING, out=total)

    def _place(self, k: int, before: Ints, total: Ints, last: int) -> tuple[int, int] | None:
        """The cells of text k, given that it and those before it have the cells before `last`."""
        end = int(np.searchsorted(total[: last + 1], total[last]))
        sums = self._sums_of(k, end)
        if sums is None or (self._skip is not None and before[end] - self._skip == total[end]):
            return None
        low, high = self._starts.of_edge(end)
        gains = before[low:high] - sums[low:high]
        if self._ends is not None:
            gains += self._ends[low:high]
        return low + int(np.argmax(gains)), end

    def _sums_of(self, k: int, count: int) -> Ints | None:
        """(count + 1,) prefix sums of z - τ of text k; None if its curve is constant."""
        mean, deviation = self._standards[k]
        if not deviation:
            return None
        values, sums = self._floats[:count], self._sums[: count + 1]
        values[:] = self._rows.similarities[k, :count]
        values -= mean
        values *= 2.0**self._bits / deviation
        values -= float(self._taus[k]) * 2.0**self._bits
        if self._weights is not None:
            values *= self._weights[:count]
        np.rint(values, out=values)
        self._ints[:count] = values
        np.cumsum(self._ints[:count], out=sums[1:])
        return sums
