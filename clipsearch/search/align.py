"""Texts in order, and the spans of one video that they tell of: scripts, subtitles, chapters."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipsearch.errors import UsageError
from clipsearch.search.profile import Cells, Floats, Standard
from clipsearch.search.spans import (
    BETA,
    LARGEST,
    MIN_SECONDS,
    SMOOTH_SECONDS,
    ScoreName,
    SpanSearch,
    SpanSpec,
    best_spans,
    bonus_of,
)
from clipsearch.search.table import Rows, Table
from clipsearch.types import Span

TAU = 1.5
MAX_TEXTS = 8
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
    spec = SpanSpec(min_seconds, max_seconds, smooth_seconds=smooth_seconds, beta=beta)
    if skip is not None and not skip >= 0:
        raise UsageError(f"skip {skip}: a cost is 0 or more")
    rows = Rows.of(similarities, times, smooth_seconds)
    if not rows.count:
        return []
    spec = replace(spec, smooth_seconds=0.0)  # the rows are smooth
    taus = _halfway(rows, spec, novelty) if tau is None else _checked_taus(tau, rows.count)
    bonus = None if novelty is None else bonus_of(rows.grid, novelty, beta)
    return Table(rows, taus, (min_seconds, max_seconds), skip, bonus).spans()


def _checked_taus(tau: ArrayLike, count: int) -> Floats:
    taus = np.asarray(tau, np.float64)
    if taus.shape not in ((), (count,)) or not (np.abs(taus) <= LARGEST).all():
        raise UsageError(
            f"tau {tau!r}: use one number from {-LARGEST:g} to {LARGEST:g}, or one for each of "
            f"{count} texts"
        )
    return np.broadcast_to(taus, (count,))


def _halfway(rows: Rows, spec: SpanSpec, novelty: ArrayLike | None) -> Floats:
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
    rows = Rows.of(similarities, times)
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
