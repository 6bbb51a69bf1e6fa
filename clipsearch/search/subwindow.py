"""The best span of a profile by branch and bound over a pyramid of block minima and maxima.

The one-dimensional efficient subwindow search of Lampert, Blaschko and Hofmann (CVPR 2008): a pair
of blocks of edges (a, b) holds all spans that start in a and end in b. None of them scores more
than the largest sum in b minus the smallest in a over the least length to the power alpha. Pairs
whose bound is below the best span found are dropped, the others are split in four.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from clipsearch.search.profile import Floats, Ints, Profile

_Number = TypeVar("_Number", np.int64, np.float64)

TOP_BLOCKS = 80  # of the coarsest level
FIRST_PAIRS = 256  # the best pairs go down first, to find a good span early
CLIMBS = 4  # of the first span found, where bounds alone drop too few pairs
MOST_PAIRS = 2**18  # refined at once: bounds the memory
ROUNDING = 1e-12  # of np.power; division and square roots are monotone


class Found(NamedTuple):
    """A span: edges [first, last), and its score."""

    score: float
    first: int
    last: int


class Taken(NamedTuple):
    """Spans that overlap [first, last) by more than `overlap`, their IoU, are not wanted."""

    first: int
    last: int
    overlap: float


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """Blocks of edges: the extremes of their sums, their first and last tick, the best bonus."""

    low: Ints
    high: Ints
    start: Ints
    end: Ints
    bonus: Floats | None


class Pyramid:
    """A profile under a score, ready to be searched several times.

    score of the span [i, j): (sums[j] - sums[i]) unit / length^alpha + bonus[i] + bonus[j]; the
    length counts in cells of mean length.
    """

    def __init__(self, profile: Profile, alpha: float, bonus: Floats | None = None) -> None:
        self._profile, self._alpha = profile, alpha
        self._scale = profile.unit * profile.mean**alpha
        ticks = profile.ticks
        level = _Level(profile.sums, profile.sums, ticks, ticks, bonus)
        self._levels = [level]
        while len(level.low) > TOP_BLOCKS:
            level = _coarser(level)
            self._levels.append(level)

    def best(self, taken: Sequence[Taken] = ()) -> Found | None:
        """The lawful span with the highest score that is not taken; None if there is none.

        Of several the one that starts first, of these the shortest.
        """
        top = len(self._levels) - 1
        count = len(self._levels[top].low)
        first, last = np.triu_indices(count)
        stack = [self._bounded(top, first, last, taken)]
        best: Found | None = None
        climbed, most = False, FIRST_PAIRS
        while stack:
            pairs = stack.pop().above(best)
            if best is not None and not climbed and len(pairs.first) > len(self._profile.ticks) / 8:
                best, climbed = self._climbed(best, taken), True
                pairs = pairs.above(best)
            if not len(pairs.first):
                most = min(2 * most, MOST_PAIRS)
                continue
            if pairs.level == 0:
                best = pairs.best(best)
                continue
            rest, chosen = pairs.split(most if best is None else MOST_PAIRS)
            if rest is not None:
                stack.append(rest)
            stack.append(self._refined(chosen, taken))
        return best

    def best_of_all(self, taken: Sequence[Taken] = ()) -> Found | None:
        """The same by looking at every span, in time quadratic in the number of cells."""
        best: Found | None = None
        count = len(self._profile.ticks)
        for first in range(count - 1):
            last = np.arange(first + 1, count)
            pairs = self._bounded(0, np.full(len(last), first), last, taken)
            best = pairs.best(best) if len(pairs.first) else best
        return best

    def _climbed(self, best: Found, taken: Sequence[Taken]) -> Found:
        """A better span, or the same: one end moves to its best place, then the other."""
        count = len(self._profile.ticks)
        for _ in range(CLIMBS):
            before = best
            last = np.arange(best.first + 1, count)
            best = self._bounded(0, np.full_like(last, best.first), last, taken).best(best)
            first = np.arange(best.last)
            best = self._bounded(0, first, np.full_like(first, best.last), taken).best(best)
            if best == before:
                break
        return best

    def _refined(self, pairs: _Pairs, taken: Sequence[Taken]) -> _Pairs:
        level = pairs.level - 1
        count = len(self._levels[level].low)
        firsts, lasts = pairs.first * 2, pairs.last * 2
        first = np.concatenate([firsts, firsts, firsts + 1, firsts + 1])
        last = np.concatenate([lasts, lasts + 1, lasts, lasts + 1])
        kept = (first <= last) & (last < count)
        return self._bounded(level, first[kept], last[kept], taken)

    def _bounded(self, level: int, first: Ints, last: Ints, taken: Sequence[Taken]) -> _Pairs:
        """Pairs with their bounds, without those that hold no lawful span."""
        at, profile = self._levels[level], self._profile
        shortest = at.start[last] - at.end[first]
        longest = at.end[last] - at.start[first] if level else shortest
        kept = (longest >= profile.least) & (shortest <= profile.most)
        for other in taken:
            kept &= ~self._covered(at, first, last, other)
        if not kept.all():
            first, last = first[kept], last[kept]
            shortest, longest = shortest[kept], longest[kept]
        gain = at.high[last] - at.low[first]
        np.maximum(shortest, profile.least, out=shortest)
        np.minimum(longest, profile.most, out=longest)
        length = np.where(gain > 0, shortest, longest)
        bound = gain * self._scale / self._power(length)
        if level and self._alpha not in (0.0, 0.5, 1.0):
            bound += np.abs(bound) * ROUNDING
        if at.bonus is not None:
            bound += at.bonus[first] + at.bonus[last]
        return _Pairs(level, first, last, bound)

    def _power(self, length: Ints) -> Floats:
        if self._alpha == 0.5:
            return np.sqrt(length)
        return length.astype(np.float64) if self._alpha == 1 else np.power(length, self._alpha)

    def _covered(self, at: _Level, first: Ints, last: Ints, taken: Taken) -> NDArray[np.bool_]:
        """Whether every span of a pair overlaps `taken` too much."""
        ticks = self._profile.ticks
        start, end = ticks[taken.first], ticks[taken.last]
        common = np.minimum(at.start[last], end) - np.maximum(at.end[first], start)
        whole = np.maximum(at.end[last], end) - np.minimum(at.start[first], start)
        covered: NDArray[np.bool_] = (common > 0) & (common > taken.overlap * whole)
        return covered


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs:
    """Pairs of blocks of one level, with the bounds of the scores of their spans."""

    level: int
    first: Ints
    last: Ints
    bound: Floats

    def above(self, best: Found | None) -> _Pairs:
        """Those that can hold a better span than `best`, or an equal one that comes earlier."""
        if best is None:
            return self
        kept = self.bound >= best.score
        if kept.any():
            start, end = self.first << self.level, self.last << self.level
            earlier = (start < best.first) | ((start <= best.first) & (end < best.last))
            kept &= (self.bound > best.score) | earlier
        return self if kept.all() else self._only(kept)

    def split(self, count: int) -> tuple[_Pairs | None, _Pairs]:
        """The others, and the `count` with the highest bounds, of equal ones the earliest."""
        if len(self.first) <= count:
            return None, self
        least = np.partition(self.bound, len(self.bound) - count)[len(self.bound) - count]
        better = np.flatnonzero(self.bound > least)
        equal = np.flatnonzero(self.bound == least)
        order = np.lexsort((self.last[equal], self.first[equal]))
        chosen = np.zeros(len(self.first), np.bool_)
        chosen[better] = True
        chosen[equal[order[: count - len(better)]]] = True
        return self._only(~chosen), self._only(chosen)

    def best(self, other: Found | None) -> Found:
        """The best of these spans and another; the pairs are spans when the level is 0."""
        equal = np.flatnonzero(self.bound == self.bound.max())
        at = equal[np.lexsort((self.last[equal], self.first[equal]))[0]]
        mine = Found(float(self.bound[at]), int(self.first[at]), int(self.last[at]))
        return mine if other is None else min(mine, other, key=rank)

    def _only(self, kept: NDArray[np.bool_]) -> _Pairs:
        return _Pairs(self.level, self.first[kept], self.last[kept], self.bound[kept])


def rank(found: Found) -> tuple[float, int, int]:
    """The order of spans: the highest score, then the earliest, then the shortest."""
    return -found.score, found.first, found.last


def _coarser(level: _Level) -> _Level:
    """Two blocks in one; a last one that is alone stays alone."""
    bonus = None if level.bonus is None else _paired(np.maximum, level.bonus)
    last = len(level.end) - 1
    return _Level(
        _paired(np.minimum, level.low),
        _paired(np.maximum, level.high),
        level.start[::2],
        level.end[np.minimum(np.arange(1, last + 2, 2), last)],
        bonus,
    )


def _paired(combine: np.ufunc, values: NDArray[_Number]) -> NDArray[_Number]:
    even, odd = values[::2], values[1::2]
    joined = even.copy()
    combine(even[: len(odd)], odd, out=joined[: len(odd)])
    return joined
