"""A similarity curve made ready for exact span search: edges, smoothing, z-scores, prefix sums."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipsearch.errors import UsageError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TICKS = 10**9  # of irregular times, a second
MOST_SECONDS = 2.0**32  # whose ticks fit an int64
SLACK_SECONDS = 1e-6  # times are floats of exact fractions
REGULAR = 1e-6  # frame lengths that differ by less, relatively, are one
LAST_FRAME_SECONDS = 1.0  # of a single frame whose end is not given
FIXED_BITS = 40  # below the comma of a sum; the noise of floats makes no difference there
SUM_BITS = 60
LARGEST_SUM = 1e100  # whose square is a float
CONSTANT = 1e-9  # spread of a curve, relative to its values, that is rounding noise
BLOCK_CELLS = 4096  # smoothed at once: few enough for a cache
SMOOTHING_REACH = 3.0  # standard deviations
LONG_CELL = 4.0  # standard deviations; longer cells are long ones


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """m cells of time: cell f lasts [edges[f], edges[f + 1]) seconds."""

    edges: Floats  # (m + 1,) ascending
    lengths: Floats  # (m,) seconds
    regular: bool  # whether all cells are equally long

    @classmethod
    def of(cls, times: ArrayLike, count: int) -> Grid:
        """The grid of `count` frames, from the seconds of their starts, and the end of the last.

        Without the end, the last frame lasts as long as the others do in the median. Raises
        UsageError for times that are not finite or do not ascend, or another number of them.
        """
        given = np.asarray(times)
        edges = given.astype(np.float64)
        if edges.shape not in ((count,), (count + 1,)):
            raise UsageError(
                f"times of shape {edges.shape} for {count} frames: need the start of every frame, "
                "and the end of the last"
            )
        with np.errstate(invalid="ignore"):  # of infinities
            lengths = np.diff(edges)
        good = np.append(lengths > 0, True) & np.isfinite(edges)
        if not good.all():
            at = int(np.argmin(good))
            raise UsageError(
                f"frame {at} is from {edges[at]} to {edges[min(at + 1, len(edges) - 1)]}: need "
                "finite seconds that ascend"
            )
        if edges[-1] - edges[0] > MOST_SECONDS:
            raise UsageError(
                f"times from {edges[0]:g} to {edges[-1]:g}: need seconds, at most {MOST_SECONDS:g}"
            )
        if len(edges) == count:
            last = float(np.median(lengths)) if len(lengths) else LAST_FRAME_SECONDS
            edges, lengths = np.append(edges, edges[-1] + last), np.append(lengths, last)
        grain = float(np.spacing(np.abs(given).max())) if given.dtype == np.float32 else 0.0
        return cls(edges, lengths, bool(np.ptp(lengths) <= max(REGULAR * lengths[0], 2 * grain)))

    @property
    def seconds(self) -> float:
        """The length of all cells."""
        return float(self.edges[-1] - self.edges[0])

    @property
    def count(self) -> int:
        """How many cells there are."""
        return len(self.lengths)


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """A curve over time: a value for each cell of a grid."""

    values: Floats  # (m,)
    grid: Grid


def cells(similarity: ArrayLike, times: ArrayLike) -> Cells:
    """A checked curve: (m,) values, and times as `Grid.of` takes them.

    Raises UsageError (a ValueError) for an empty curve, NaN, or times that do not fit.
    """
    values = np.asarray(similarity, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise UsageError(f"a curve of shape {values.shape}: need one value a frame, at least one")
    check_finite(values)
    return Cells(values, Grid.of(times, len(values)))


def check_finite(values: NDArray[Any], what: str = "the curve") -> None:
    """Raise UsageError, which names the frame, for a curve with NaN or infinity."""
    if float(values.min()) >= -LARGEST_SUM and float(values.max()) <= LARGEST_SUM:
        return
    if np.isfinite(values).all():
        raise UsageError(f"{what} has values beyond {LARGEST_SUM:g}: need similarities")
    at = int(np.argmin(np.isfinite(values)))
    raise UsageError(f"{what} is {values[at]} at frame {at}: need finite values")


def smoothed(curve: Cells, seconds: float) -> Cells:
    """The curve under a Gaussian of that standard deviation (Nadaraya 1964, Watson 1964).

    A cell is as wide as it lasts, which adds a twelfth of its length squared to the variance.
    """
    if not seconds > SLACK_SECONDS:
        return curve
    kernel = _regular_smoothing if curve.grid.regular else _irregular_smoothing
    return Cells(kernel(curve, seconds), curve.grid)


def _regular_smoothing(curve: Cells, seconds: float) -> Floats:
    length = curve.grid.seconds / curve.grid.count
    sigma = math.hypot(seconds, length / math.sqrt(12)) / length  # in cells
    reach = int(min(SMOOTHING_REACH * sigma, len(curve.values) - 1))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()
    result = np.convolve(curve.values, taps)[reach : reach + len(curve.values)]
    # Near the ends a part of the taps is outside.
    count = min(len(curve.values), 2 * reach + 1)
    inside = np.convolve(np.ones(count), taps)[reach : reach + count]
    if count == len(curve.values):
        smooth: Floats = result / inside
        return smooth
    result[:reach] /= inside[:reach]
    result[len(result) - reach :] /= inside[count - reach :]
    return result


def _irregular_smoothing(curve: Cells, seconds: float) -> Floats:
    edges = curve.grid.edges
    # What a long cell gives its neighbours is in its part next to them.
    weights = np.minimum(curve.grid.lengths, LONG_CELL * seconds)
    near, far = edges[:-1] + weights / 2, edges[1:] - weights / 2
    reach = SMOOTHING_REACH * math.hypot(seconds, float(weights.max()) / math.sqrt(12))
    total, norm = curve.values * curve.grid.lengths, curve.grid.lengths.copy()
    given = curve.values * weights
    for start in range(0, len(weights), BLOCK_CELLS):
        for step in range(1, len(weights) - start):
            here = slice(start, min(start + BLOCK_CELLS, len(weights) - step))
            there = slice(here.start + step, here.stop + step)
            distance = near[there] - far[here]
            if distance.min() > reach:
                break
            width = seconds * seconds + (weights[there] ** 2 + weights[here] ** 2) / 24
            share = np.exp(-0.5 * distance * distance / width) * (distance <= reach)
            total[here] += share * given[there]
            norm[here] += share * weights[there]
            total[there] += share * given[here]
            norm[there] += share * weights[here]
    smooth: Floats = total / norm
    return smooth


def coarser(curve: Cells, seconds: float) -> tuple[Cells, Ints]:
    """The curve downsampled to cells that each join the frames that start within `seconds`, and
    the (cells + 1,) numbers of the frames where they begin and end.
    """
    edges = curve.grid.edges
    slots = np.floor((edges[:-1] - edges[0] + SLACK_SECONDS) / seconds)
    first = np.flatnonzero(np.diff(slots, prepend=-1.0))
    sums = np.add.reduceat(curve.values * curve.grid.lengths, first)
    borders = np.append(first, curve.grid.count)
    grid = Grid.of(edges[borders], len(first))
    return Cells(sums / grid.lengths, grid), borders


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """What span search needs of a curve: exact integers at its m + 1 edges.

    sums[j] - sums[i], times `unit`, is the sum of z - τ over the cells [i, j), each weighted by its
    length over the mean length. ticks[j] - ticks[i] is their length; `mean` ticks are one cell.
    """

    sums: Ints  # (m + 1,)
    ticks: Ints  # (m + 1,)
    unit: float
    mean: float
    least: int  # ticks that a span lasts at least
    most: int  # ticks that it lasts at most

    @property
    def weights(self) -> Floats | None:
        """(m,) lengths of the cells over the mean length; None where all are 1."""
        if len(self.ticks) == int(self.ticks[-1]) + 1:
            return None
        weights: Floats = np.diff(self.ticks) / self.mean
        return weights


class Standard(NamedTuple):
    """Mean and standard deviation of a curve over time; a constant one has the deviation 0."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, curve: Cells) -> Standard:
        """Of a curve."""
        return cls.in_place(curve.values.copy(), curve.grid)

    @classmethod
    def in_place(cls, values: Floats, grid: Grid) -> Standard:
        """Of (m,) values over a grid, which are overwritten."""
        weights = None if grid.regular else grid.lengths / grid.seconds
        mean = float(values.mean() if weights is None else values @ weights)
        values -= mean
        if weights is None:
            variance = float(values @ values) / grid.count
        else:
            variance = float((values * values) @ weights)
        deviation = math.sqrt(variance)
        return cls(mean, deviation if deviation > CONSTANT * abs(mean) else 0.0)


def prefix_sums(values: Floats, bits: int) -> Ints:
    """(m + 1,) exact running sums of values rounded to 2^-bits."""
    sums = np.zeros(len(values) + 1, np.int64)
    scaled = values * 2.0**bits
    np.rint(scaled, out=scaled)
    np.cumsum(scaled.astype(np.int64), out=sums[1:])
    return sums


def fixed_bits(total: float) -> int:
    """Bits after the comma with which sums of up to `total` fit an int64 with room to spare."""
    return min(FIXED_BITS, SUM_BITS - math.ceil(math.log2(max(total, 1.0))))


def frame_of(grid: Grid, limits: tuple[float, float | None]) -> Profile:
    """The profile of a curve of zeros over a grid, for spans of `limits` seconds."""
    least, most = limits
    if grid.regular:
        ticks, mean, scale = np.arange(grid.count + 1), 1.0, grid.count / grid.seconds
        shortest = 1
    else:
        ticks = np.rint((grid.edges - grid.edges[0]) * TICKS).astype(np.int64)
        mean, scale = float(ticks[-1]) / grid.count, float(TICKS)
        shortest = int(np.diff(ticks).min())
    longest = grid.seconds if most is None else min(most, grid.seconds)
    most_ticks = math.floor((longest + SLACK_SECONDS) * scale)
    least_ticks = int(ticks[-1]) + 1  # none is as long
    if least <= grid.seconds + SLACK_SECONDS:
        lawful = max(shortest, math.ceil((least - SLACK_SECONDS) * scale))
        least_ticks = lawful if lawful <= most_ticks else least_ticks
    return Profile(np.zeros_like(ticks), ticks, 1.0, mean, least_ticks, most_ticks)


def profile(curve: Cells, tau: float, limits: tuple[float, float | None]) -> Profile | None:
    """The profile of a curve for spans of `limits` seconds; None if it is constant."""
    mean, deviation = Standard.of(curve)
    if not deviation:
        return None
    frame = frame_of(curve.grid, limits)
    values = curve.values - mean
    values /= deviation
    values -= tau
    if frame.weights is not None:
        values *= frame.weights
    bits = fixed_bits(len(values) * (1 + abs(tau)))  # |z| is at most 1 in the mean
    return replace(frame, sums=prefix_sums(values, bits), unit=2.0**-bits)
