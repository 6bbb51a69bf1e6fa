"""What a plot shows, as numbers and texts: reduced curves, free places, labels. No matplotlib."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import UsageError
from clipsearch.types import Pixels, Span

Array = NDArray[np.float64]

TICK_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)
MOST_TICKS = 12
STRIP_GAP = 0.06  # between two thumbnails, as a share of one's width


@dataclass(frozen=True, slots=True, eq=False)
class PlotCurve:
    """The similarity of one text to each frame of a video, and the spans found, best first.

    Frame f is on display in [times[f], times[f + 1]) seconds; NaN where nothing is to be drawn.
    Raises UsageError for arrays that do not fit.
    """

    label: str
    times: Array  # (m + 1,) seconds, ascending
    similarity: NDArray[np.floating]  # (m,)
    spans: Sequence[Span] = ()

    def __post_init__(self) -> None:
        frames = len(self.similarity)
        if frames < 1 or self.similarity.ndim != 1 or self.times.shape != (frames + 1,):
            raise UsageError(
                f"a curve of {self.similarity.shape} similarities needs one time more than these,"
                f" not {self.times.shape}"
            )
        if not np.isfinite(self.times).all() or (np.diff(self.times) < 0).any():
            raise UsageError("the times of a curve must be numbers that ascend")


class Envelope(NamedTuple):
    """A step curve in few steps: what is lowest, highest and the mean by time in each."""

    edges: Array  # (n + 1,)
    low: Array  # (n,)
    high: Array  # (n,)
    mean: Array  # (n,)


def envelope(curve: PlotCurve, edges: Array) -> Envelope:
    """The curve in the steps between `edges`, which ascend strictly; NaN where it has nothing."""
    values = np.append(curve.similarity.astype(np.float64), np.nan)
    first = np.searchsorted(curve.times, edges[:-1], "right") - 1
    behind = np.searchsorted(curve.times, edges[1:], "left")
    frames = len(curve.similarity)
    first, behind = np.clip(first, 0, frames), np.clip(behind, 0, frames)
    inside = behind > first  # others lie outside of the curve
    pairs = np.stack([np.where(inside, first, frames), np.where(inside, behind, frames)], 1)
    low = np.fmin.reduceat(values, pairs.ravel())[::2]
    high = np.fmax.reduceat(values, pairs.ravel())[::2]
    return Envelope(edges, low, high, _mean(curve, edges))


def _mean(curve: PlotCurve, edges: Array) -> Array:
    seconds = np.where(np.isnan(curve.similarity), 0.0, np.diff(curve.times))
    areas = np.nan_to_num(curve.similarity.astype(np.float64)) * seconds
    area, covered = (
        np.diff(np.interp(edges, curve.times, np.concatenate([[0.0], np.cumsum(part)])))
        for part in (areas, seconds)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(covered > 1e-9 * np.diff(edges), area / covered, np.nan)


def thumbnail_times(duration_seconds: float, count: int) -> list[float]:
    """The middles of `count` equal parts of a video; none for a duration of 0."""
    if count < 1:
        raise UsageError(f"{count} thumbnails: use 1 or more")
    if not duration_seconds > 0:
        return []
    return [(part + 0.5) * duration_seconds / count for part in range(count)]


def aspect(pixels: Pixels) -> float:
    """Width by height."""
    return float(pixels.shape[1] / pixels.shape[0])


def placed(
    strip: Sequence[tuple[float, Pixels]], begin: float, end: float, *, height_seconds: float
) -> list[tuple[float, float, Pixels]]:
    """Where thumbnails go: (left, time, pixels), not overlapping, within [begin, end].

    Each is over its time, centred as far as the ends and its neighbour let it; of those that
    would overlap, evenly spread ones stay. height_seconds: as much of the time axis as a
    thumbnail is high.
    """
    inside = sorted((item for item in strip if begin <= item[0] <= end), key=lambda item: item[0])
    if not inside:
        return []
    widest = max(aspect(pixels) for _, pixels in inside) * height_seconds
    slots = max(1, int((end - begin) / (widest * (1 + STRIP_GAP)) + 1e-6))
    middles = np.asarray(thumbnail_times(end - begin, slots)) + begin
    times = np.array([time for time, _ in inside])
    wanted = np.unique(np.abs(times - middles[:, None]).argmin(axis=1))
    result: list[tuple[float, float, Pixels]] = []
    free_from = begin
    for time, pixels in (inside[index] for index in wanted):
        width = aspect(pixels) * height_seconds
        left = max(free_from, min(time - width / 2, end - width))
        if left <= time and (left + width <= end or not result):
            result.append((left, time, pixels))
            free_from = left + width * (1 + STRIP_GAP / 2)
    return result


def levels(centres: Sequence[float], widths: Sequence[float], count: int) -> list[int | None]:
    """A level 0..count-1 for each label so that none overlap, the first labels first.

    None for a label that finds no room.
    """
    taken: list[list[tuple[float, float]]] = [[] for _ in range(count)]
    result: list[int | None] = []
    for centre, width in zip(centres, widths, strict=True):
        begin, end = centre - width / 2, centre + width / 2
        free = (
            level
            for level, others in enumerate(taken)
            if all(end <= other[0] or begin >= other[1] for other in others)
        )
        chosen = next(free, None)
        if chosen is not None:
            taken[chosen].append((begin, end))
        result.append(chosen)
    return result


def tick_times(begin: float, end: float) -> list[float]:
    """Round times for the marks of a time axis."""
    length = end - begin
    last = TICK_STEPS[-1]
    step = next((step for step in TICK_STEPS if length / step <= MOST_TICKS), None)
    step = step or last * math.ceil(length / MOST_TICKS / last)
    first, behind = math.ceil(begin / step), math.floor(end / step) + 1
    return [round(index * step, 3) for index in range(first, behind)]


def mark(seconds: float) -> str:
    """`1:22`, `1:01:22` or, between seconds, `1:22.5`."""
    tenths = round(seconds * 10)
    sign, tenths = ("-", -tenths) if tenths < 0 else ("", tenths)
    hours, rest = divmod(tenths, 36_000)
    minutes, rest = divmod(rest, 600)
    text = f"{minutes:02}:{rest // 10:02}" if hours else f"{minutes}:{rest // 10:02}"
    return sign + (f"{hours}:" if hours else "") + text + (f".{rest % 10}" if rest % 10 else "")


def printable(text: str) -> str:
    """Text on one line, without characters that fonts and XML have no picture for."""
    words = " ".join(text.split())
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cs", "Cn") else c for c in words)


def fitted(text: str, columns: int, lines: int = 1) -> str:
    """Text in at most `lines` lines of `columns` narrow characters, `…` where it is cut."""
    rest, result = printable(text), []
    for number in range(lines):
        end = _fitting(rest, columns)
        if end == len(rest) or number == lines - 1:
            break
        space = rest.rfind(" ", 1, end + 1)
        end = space if space > 0 else end
        result.append(rest[:end])
        rest = rest[end:].lstrip()
    if _fitting(rest, columns) < len(rest):
        rest = rest[: _fitting(rest, columns - 1)].rstrip() + "…"
    return "\n".join([*result, rest])


def _fitting(text: str, columns: int) -> int:
    """How many characters fit; East Asian ones take two columns."""
    used = 0
    for index, character in enumerate(text):
        used += 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used > columns:
            return index
    return len(text)
