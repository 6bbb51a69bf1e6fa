"""The table of the dynamic program that aligns texts with a video."""

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
from clipsearch.search.spans import span_of
from clipsearch.search.subwindow import Found
from clipsearch.search.sums import NOTHING, Starts
from clipsearch.types import Span

MOST_CELLS = 2**26  # of a table, 512 MiB; larger ones are computed twice, in parts


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The curves of n texts over one grid."""

    given: NDArray[Any]  # (n, m) finite
    similarities: NDArray[Any]  # the same, smoothed
    grid: Grid

    @classmethod
    def of(cls, similarities: ArrayLike, times: ArrayLike, smooth_seconds: float = 0.0) -> Rows:
        """Checked and smoothed. Raises UsageError, which names the text, for NaN."""
        rows = np.asarray(similarities)
        if rows.ndim != 2 or not rows.shape[1]:
            raise UsageError(f"similarities of shape {rows.shape}: need (texts, frames)")
        made = cls(rows, rows, Grid.of(times, rows.shape[1]))
        for k, row in enumerate(rows):
            check_finite(row, f"the curve of text {k}")
        if not (smooth_seconds > 0 and len(rows)):
            return made
        smooth = [smoothed(made.curve(k), smooth_seconds).values for k in range(len(rows))]
        return cls(rows, np.stack(smooth), made.grid)

    @property
    def count(self) -> int:
        """How many texts there are."""
        return len(self.similarities)

    def curve(self, k: int) -> Cells:
        """The curve of text k."""
        return Cells(self.similarities[k].astype(np.float64), self.grid)


class Table:
    """D[k][j], the most that the first k texts gain in the cells before edge j:

    D[k][j] = max(D[k][j - 1], D[k - 1][j] - skip, sums_j + max_i(D[k - 1][i] - sums_i))
    """

    def __init__(
        self,
        rows: Rows,
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
        self._weights = self._frame.weights
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
        found = Found(0.0, first, last)
        searched = span_of(grid, mean, self._rows.similarities[k, first:last], found)
        cells = (searched.end - searched.start) * grid.count / grid.seconds
        score = cells * ((searched.similarity - mean) / deviation - float(self._taus[k]))
        if self._bonus is not None:
            score += float(self._bonus[first] + self._bonus[last])
        if self._rows.given is self._rows.similarities:
            return replace(searched, score=score)
        mean = self._standard(self._rows.given[k]).mean
        return span_of(grid, mean, self._rows.given[k, first:last], Found(score, first, last))

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
