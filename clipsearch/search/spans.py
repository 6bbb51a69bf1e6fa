"""Spans: the interval of a curve that stands out, exactly and without a length to guess.

`find_span` maximises the sum of (z - τ) over a span divided by its length to the power alpha,
where z is the curve with mean 0 and variance 1 over the whole video:

    scan   alpha 1/2, the scan statistic: the likelihood ratio of one interval whose mean differs
    mean   alpha 1, the densest span; no longer than twice the least length, which must be given
    sum    alpha 0, the largest sum (Kadane); choose its length by τ

Lengths count in frames of mean length. All are exact: sums are integers of 2^-40.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipsearch.errors import UsageError
from clipsearch.search.profile import (
    CONSTANT,
    FIXED_BITS,
    Cells,
    Floats,
    Grid,
    Profile,
    cells,
    coarser,
    profile,
    smoothed,
)
from clipsearch.search.subwindow import Found, Pyramid, Taken, rank
from clipsearch.search.sums import disjoint_spans, largest_sum
from clipsearch.types import Span

ScoreName = Literal["scan", "mean", "sum"]
SpanSearch = Literal["multiscale", "brute"]
SpanMethod = Literal["scan", "disjoint"]
ALPHAS: dict[str, float] = {"scan": 0.5, "mean": 1.0, "sum": 0.0}
SEARCHES: tuple[SpanSearch, ...] = ("multiscale", "brute")
METHODS: tuple[SpanMethod, ...] = ("scan", "disjoint")

MIN_SECONDS = 2.0
SMOOTH_SECONDS = 1.0
BETA = 0.25
OVERLAP = 0.6
LARGEST = 1e6  # of tau and beta in standard deviations, and of seconds to smooth over
DISJOINT_TAU = 0.25


@dataclass(frozen=True, slots=True)
class SpanSpec:
    """How spans are searched for; the names and defaults of `find_span`'s arguments.

    Raises UsageError for values out of range.
    """

    min_seconds: float = MIN_SECONDS
    max_seconds: float | None = None
    score: ScoreName | float = "scan"
    tau: float = 0.0
    smooth_seconds: float = SMOOTH_SECONDS
    step_seconds: float | None = None
    beta: float = BETA
    search: SpanSearch = "multiscale"

    def __post_init__(self) -> None:
        check_limits(self.min_seconds, self.max_seconds)
        if self.alpha == ALPHAS["mean"] and self.min_seconds == 0:
            raise UsageError(
                "score mean needs min_seconds above 0: without a least length the densest span is "
                "always a single frame"
            )
        for name in ("tau", "smooth_seconds", "beta"):
            value = getattr(self, name)
            least = -LARGEST if name == "tau" else 0.0
            if not least <= value <= LARGEST:
                raise UsageError(f"{name} {value}: use a number from {least:g} to {LARGEST:g}")
        if self.step_seconds is not None and not self.step_seconds > 0:
            raise UsageError(f"steps of {self.step_seconds:g} seconds: use more than 0")
        if self.search not in SEARCHES:
            raise UsageError(f"search {self.search!r}: use {' or '.join(SEARCHES)}")

    @property
    def alpha(self) -> float:
        """The power of the length that sums are divided by."""
        score = self.score
        if isinstance(score, str):
            if score not in ALPHAS:
                raise UsageError(
                    f"score {score!r}: use {', '.join(ALPHAS)}, or a power from 0 to 1"
                )
            return ALPHAS[score]
        if not 0 <= score <= 1:
            raise UsageError(f"score {score}: a power of the length is from 0 to 1")
        return float(score)


def check_limits(least: float, most: float | None) -> None:
    """Raise UsageError unless spans of `least` to `most` seconds can be."""
    if not 0 <= least < math.inf:
        raise UsageError(f"min_seconds {least}: use 0 or more")
    if most is not None and not (most > 0 and most >= least):
        raise UsageError(f"max_seconds {most}: use at least min_seconds, {least:g}, and above 0")


class SpanOptions(TypedDict, total=False):
    """The options of `find_span`, but novelty."""

    min_seconds: float
    max_seconds: float | None
    score: ScoreName | float
    tau: float
    smooth_seconds: float
    step_seconds: float | None
    beta: float
    search: SpanSearch


def check_ranking(k: int, overlap: float, method: str, search: str) -> None:
    """Raise UsageError for what `find_spans` cannot rank by."""
    if k < 1 or k != int(k):
        raise UsageError(f"k {k}: ask for 1 span or more")
    if not 0 <= overlap < 1:
        raise UsageError(f"overlap {overlap}: use an IoU from 0 to below 1")
    if method not in METHODS:
        raise UsageError(f"method {method!r}: use {' or '.join(METHODS)}")
    if method == "disjoint" and search == "brute":
        raise UsageError("method disjoint has no brute search: use multiscale")


def find_span(
    similarity: ArrayLike,
    times: ArrayLike,
    *,
    min_seconds: float = MIN_SECONDS,
    max_seconds: float | None = None,
    score: ScoreName | float = "scan",
    tau: float = 0.0,
    smooth_seconds: float = SMOOTH_SECONDS,
    step_seconds: float | None = None,
    novelty: ArrayLike | None = None,
    beta: float = BETA,
    search: SpanSearch = "multiscale",
) -> Span | None:
    """The span of a video that matches best, of any length from `min_seconds` to `max_seconds`.

    similarity: (m,) cosines of the frames to a text. times: (m + 1,) seconds at which the frames
        start and the last one ends, ascending; (m,) if the last one is as long as the others.
        Frames of uneven length weigh by it.
    score: "scan", "mean", "sum", or the power alpha from 0 to 1 of the length. tau: subtracted
        from the z-scored curve.
    smooth_seconds: standard deviation of the Gaussian that the curve is smoothed with; 0: none.
    step_seconds: downsample the curve to steps of that length first; spans then start and end
        with steps.
    novelty: (m + 1,) how much the picture changes at each edge of the frames, as `novelty_of` says;
        beta times its z-score at both ends is added to the score.
    search: "multiscale" goes from coarse to fine and is exact; "brute" looks at every span.

    Of equal spans the one that starts first, of these the shortest. None for a constant curve and
    for one that is shorter than `min_seconds`. Raises UsageError, which is a ValueError, for NaN.

    Scan statistic: Kulldorff 1997; max mean of a least length: Huang 1994; search: Lampert 2008.
    """
    spec = SpanSpec(
        min_seconds, max_seconds, score, tau, smooth_seconds, step_seconds, beta, search
    )
    found = best_spans(cells(similarity, times), spec, novelty, k=1)
    return found[0] if found else None


def find_spans(
    similarity: ArrayLike,
    times: ArrayLike,
    *,
    k: int = 5,
    overlap: float = OVERLAP,
    method: SpanMethod = "scan",
    min_seconds: float = MIN_SECONDS,
    max_seconds: float | None = None,
    score: ScoreName | float = "scan",
    tau: float | None = None,
    smooth_seconds: float = SMOOTH_SECONDS,
    step_seconds: float | None = None,
    novelty: ArrayLike | None = None,
    beta: float = BETA,
    search: SpanSearch = "multiscale",
) -> list[Span]:
    """At most k spans, best first; the arguments are those of `find_span`.

    method: "scan" takes the best span again and again, each time among all that overlap the ones
        taken by an IoU of at most `overlap` (0: apart). "disjoint" takes the spans, apart from
        each other, whose sums of (z - τ) add up to the most, by dynamic programming; it may give
        fewer than k, and `score` and `overlap` have no part in it. With novelty they keep a frame
        apart.
    tau: None is 0, or 0.25 for "disjoint".
    """
    check_ranking(k, overlap, method, search)
    if tau is None:
        tau = DISJOINT_TAU if method == "disjoint" else 0.0
    spec = SpanSpec(
        min_seconds, max_seconds, score, tau, smooth_seconds, step_seconds, beta, search
    )
    curve = cells(similarity, times)
    if method == "disjoint":
        return disjoint(curve, spec, novelty, k=k)
    return best_spans(curve, spec, novelty, k=k, overlap=overlap)


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """A curve, its steps, and what the search needs of them; `borders`: steps to frames."""

    curve: Cells
    profile: Profile
    borders: NDArray[np.int64] | None
    bonus: Floats | None

    def span(self, found: Found) -> Span:
        """What was found, in frames and seconds of the curve."""
        first, last = found.first, found.last
        if self.borders is not None:
            first, last = int(self.borders[first]), int(self.borders[last])
        grid, values = self.curve.grid, self.curve.values
        mean = float(values @ grid.lengths) / grid.seconds
        return span_of(grid, mean, values[first:last], Found(found.score, first, last))

    def summed(self, first: int, last: int) -> Found:
        """A span of steps with its sum, and the bonus of its ends."""
        gain = float(self.profile.sums[last] - self.profile.sums[first]) * self.profile.unit
        if self.bonus is not None:
            gain += float(self.bonus[first] + self.bonus[last])
        return Found(gain, first, last)

    @property
    def bonus_units(self) -> NDArray[np.int64] | None:
        """The bonus in the unit of the profile's sums."""
        if self.bonus is None:
            return None
        return np.rint(self.bonus / self.profile.unit).astype(np.int64)


def _task(curve: Cells, spec: SpanSpec, novelty: ArrayLike | None) -> _Task | None:
    """None when there is nothing to find."""
    bonus = None if novelty is None else bonus_of(curve.grid, novelty, spec.beta)
    steps, borders = smoothed(curve, spec.smooth_seconds), None
    if spec.step_seconds is not None:
        steps, borders = coarser(steps, spec.step_seconds)
        bonus = None if bonus is None else bonus[borders]
    made = profile(steps, spec.tau, (spec.min_seconds, spec.max_seconds))
    if made is None:
        return None
    return _Task(curve, made, borders, bonus)


def _without_splittable(made: Profile, taken: Sequence[Taken]) -> Profile:
    """The same profile for the densest span: a longer one splits into two lawful ones, of which the
    denser is at least as dense (Huang 1994). Two parts are so long that neither can be taken.
    """
    part = made.least
    for first, last, overlap in taken:
        if overlap > 0:
            length = int(made.ticks[last] - made.ticks[first])
            part = max(part, math.ceil(min(length / overlap, made.most)) + 1)
    longest = 2 * part + int(np.diff(made.ticks).max())
    return replace(made, most=min(made.most, longest))


def best_spans(
    curve: Cells, spec: SpanSpec, novelty: ArrayLike | None = None, *, k: int, overlap: float = 0.0
) -> list[Span]:
    """The best span, k times, each among those that overlap the earlier ones by at most an IoU."""
    task = _task(curve, spec, novelty)
    if task is None:
        return []
    if spec.search != "brute" and spec.alpha == 0 and k == 1:
        return _largest_sum(task)
    densest = spec.alpha == ALPHAS["mean"] and task.bonus is None
    pyramid: Pyramid | None = None
    taken: list[Taken] = []
    chosen: list[Span] = []
    while len(chosen) < k:
        if pyramid is None or densest:
            lawful = _without_splittable(task.profile, taken) if densest else task.profile
            pyramid = Pyramid(lawful, spec.alpha, task.bonus)
        found = pyramid.best_of_all(taken) if spec.search == "brute" else pyramid.best(taken)
        if found is None:
            break
        taken.append(Taken(found.first, found.last, overlap))
        chosen.append(task.span(found))
    return chosen


def _largest_sum(task: _Task) -> list[Span]:
    found = largest_sum(task.profile, task.bonus_units)
    return [] if found is None else [task.span(task.summed(*found))]


def disjoint(
    curve: Cells, spec: SpanSpec, novelty: ArrayLike | None = None, *, k: int
) -> list[Span]:
    """At most k spans apart from each other with the largest sum in all, best first."""
    task = _task(curve, replace(spec, score="sum"), novelty)
    if task is None:
        return []
    places = disjoint_spans(task.profile, k, task.bonus_units)
    found = sorted((task.summed(*place) for place in places), key=rank)
    return [task.span(each) for each in found]


def bonus_of(grid: Grid, novelty: ArrayLike, beta: float) -> Floats:
    """(m + 1,) beta times the z-scored novelty, 0 at both ends of the video."""
    values = np.asarray(novelty, dtype=np.float64)
    if values.shape != grid.edges.shape:
        raise UsageError(
            f"novelty of shape {values.shape} for {grid.count} frames: need one value for "
            "each of their edges, one more than frames"
        )
    inside = values[1:-1]
    if not np.isfinite(inside).all():
        raise UsageError("novelty is not finite: need finite values")
    bonus = np.zeros_like(values)
    if len(inside) and np.ptp(inside) > CONSTANT * np.abs(inside).max():
        bonus[1:-1] = beta * (inside - inside.mean()) / inside.std()
    return np.ldexp(np.rint(np.ldexp(bonus, FIXED_BITS)), -FIXED_BITS)


def span_of(grid: Grid, mean: float, inside: NDArray[Any], found: Found) -> Span:
    """What was found on a curve: its mean over time, and its values inside the span."""
    first, last, score = found.first, found.last, found.score
    start, end = float(grid.edges[first]), float(grid.edges[last])
    total = float(inside @ grid.lengths[first:last])
    similarity, contrast = total / (end - start), 0.0
    if last - first < grid.count:
        outside = (mean * grid.seconds - total) / (grid.seconds - (end - start))
        contrast = similarity - outside
    return Span(start, end, score, similarity, contrast, (first, last))
