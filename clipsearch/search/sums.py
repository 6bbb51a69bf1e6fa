"""Exact dynamic programming over prefix sums: disjoint spans and ordered scripts.

Both maximise a sum over spans of (sum of z - τ), which lets the best start of a span that ends at
edge j be found for all j at once, as a running or sliding maximum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from clipsearch.search.profile import Ints, Profile

NOTHING = np.int64(-(2**62))  # less than any sum; sums stay below 2^60


@dataclass(frozen=True, slots=True, eq=False)
class Starts:
    """For each edge j the lawful first edges of a span that ends there: [low[j], high[j]).

    Made of a profile's limits. `least`, `most`: the limits in edges, where all cells are equal.
    """

    count: int
    low: Ints
    high: Ints
    least: int | None
    most: int | None

    @classmethod
    def of(cls, profile: Profile) -> Starts:
        """The starts that the profile's limits allow."""
        ticks, count = profile.ticks, len(profile.ticks)
        unlimited = profile.most >= ticks[-1]
        none = np.empty(0, np.int64)
        if ticks[-1] == count - 1:
            return cls(count, none, none, profile.least, None if unlimited else profile.most)
        high = np.searchsorted(ticks, ticks - profile.least, side="right")
        low = np.zeros(0 if unlimited else count, np.int64)
        if not unlimited:
            low = np.searchsorted(ticks, ticks - profile.most, side="left")
        return cls(count, low, high, None, None)

    def best(self, values: Ints, out: Ints | None = None) -> Ints:
        """(m + 1,) the largest of the values at the lawful first edges of each edge."""
        result = np.empty(self.count, np.int64) if out is None else out
        if self.least is not None:
            first = min(self.least, self.count)
            window = None if self.most is None else max(self.most - self.least + 1, 1)
            _sliding(values[: self.count - first], window, result[first:])
            result[:first] = NOTHING
            return result
        if len(self.low):
            result[:] = NOTHING
            there = np.flatnonzero(self.high > self.low)
            result[there] = _ranges(values, self.low[there], self.high[there])
            return result
        first = int(np.searchsorted(self.high, 1))
        result[:first] = NOTHING
        np.take(np.maximum.accumulate(values), self.high[first:] - 1, out=result[first:])
        return result

    def of_edge(self, edge: int) -> tuple[int, int]:
        """[low, high) of one edge."""
        if self.least is not None:
            low = 0 if self.most is None else max(edge - self.most, 0)
            return low, max(edge - self.least + 1, low)
        low = int(self.low[edge]) if len(self.low) else 0
        return low, max(int(self.high[edge]), low)


def _sliding(values: Ints, window: int | None, out: Ints) -> None:
    """The maximum of the last `window` values at each place; None: of all so far."""
    if window is None or window >= len(values):
        np.maximum.accumulate(values, out=out)
        return
    out[:] = values
    width = 1
    while width < window:
        step = min(width, window - width)
        out[step:] = np.maximum(out[step:], out[:-step])
        width += step


def _ranges(values: Ints, low: Ints, high: Ints) -> Ints:
    """The maxima of values[low:high] of each pair; no range is empty."""
    result = np.empty(len(low), np.int64)
    if not len(low):
        return result
    size = np.int64(np.floor(np.log2(high - low)))
    best, width = values, 1
    for level in range(int(size.max()) + 1):
        at = np.flatnonzero(size == level)
        result[at] = np.maximum(best[low[at]], best[high[at] - width])
        best = np.maximum(best[:-width], best[width:]) if width < len(best) else best
        width *= 2
    return result


def largest_sum(profile: Profile, bonus: Ints | None = None) -> tuple[int, int] | None:
    """The span with the largest sum, of several the first, of these the shortest; None if none is
    lawful. O(m), or O(m log U) for a largest length U.
    """
    ends, begins = _with_bonus(profile, bonus)
    backwards = replace(profile, ticks=profile.ticks[-1] - profile.ticks[::-1])
    ways = Starts.of(backwards)  # the lawful last edges of a first edge, from the end
    gains = ways.best(ends[::-1])[::-1] - begins
    first = int(np.argmax(gains))
    low, high = ways.of_edge(len(ends) - 1 - first)
    if low == high:
        return None
    return first, len(ends) - high + int(np.argmax(ends[len(ends) - high : len(ends) - low]))


def _with_bonus(profile: Profile, bonus: Ints | None) -> tuple[Ints, Ints]:
    """What ending at each edge gives and what starting there costs."""
    if bonus is None:
        return profile.sums, profile.sums
    return profile.sums + bonus, profile.sums - bonus


def disjoint_spans(profile: Profile, k: int, bonus: Ints | None = None) -> list[tuple[int, int]]:
    """At most k spans, apart from each other, whose sums add up to the most; in order of time.

    bonus: (m + 1,) what a span gains for starting or for ending at each edge; spans then keep a
        cell apart, or one event would be cut in two where both halves gain by the cut.
    D_q[j] = max(D_q[j - 1], D_{q-1}[j], sums_j + max_i(D_{q-1}[i] - sums_i)): O(m k).
    """
    ends, begins = _with_bonus(profile, bonus)
    starts, apart = Starts.of(profile), 0 if bonus is None else 1
    totals = [np.zeros(len(ends), np.int64)]
    for _ in range(k):
        total = ends + starts.best(_later(totals[-1], apart) - begins)
        np.maximum(total, totals[-1], out=total)
        np.maximum.accumulate(total, out=total)
        if total[-1] == totals[-1][-1]:
            break  # another span adds nothing
        totals.append(total)
    found, last = [], len(ends) - 1
    for before, total in zip(totals[-2::-1], totals[:0:-1], strict=True):
        last = int(np.searchsorted(total[: last + 1], total[last]))
        low, high = starts.of_edge(last)
        gains = _later(before, apart)[low:high] - begins[low:high]
        first = low + int(np.argmax(gains))
        found.append((first, last))
        last = max(first - apart, 0)
    return found[::-1]


def _later(total: Ints, apart: int) -> Ints:
    """(m + 1,) what there was `apart` edges before each edge, nothing before the first."""
    return total if not apart else np.concatenate([np.zeros(apart, np.int64), total[:-apart]])
