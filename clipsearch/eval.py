"""How good results are: spans against the true windows, and rankings against the true items.

    r1_at_iou, mean_iou, mean_average_precision     one query, ranked spans, its true windows
    ranks, recall_at_k, median_rank, mean_rank      one query, a score per item, its true items
    retrieval_report, dual_softmax                  texts and videos, a score for each pair

Span metrics are those of QVHighlights (Lei et al. 2021, arXiv 2107.09609): an item per query in
`predictions`, spans best first, and in `windows`, true windows in any order. A set of spans is an
array-like of [start, end) seconds, (k, 2), or a sequence of `Span`. A query that predicts nothing
counts and earns 0, so no method gains by leaving out what is hard.

Shares are 0..1, ranks count from 1. Everything raises UsageError that says what was given: NaN or
infinite times, an end before its start, a query without a true window or with an empty one,
lengths that differ, no queries at all, a threshold outside (0, 1], scores with NaN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipsearch.errors import UsageError
from clipsearch.types import Span

Floats = NDArray[np.float64]
Spans = ArrayLike | Sequence[Span]  # (k, 2) seconds, [start, end)
Truth = Sequence[ArrayLike] | NDArray[np.integer[Any]]  # per query one position, or several

# As decimals: np.arange(0.5, 1, 0.05) has 0.6500000000000001, which an IoU of 13/20 would miss.
IOU_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
MAX_PREDICTIONS = 10  # the benchmark's
RECALLS = (1, 5, 10)  # what text-video retrieval reports since its first benchmarks
PRIOR_TEMPERATURE = 0.01  # for cosines, where CLIP's own scale ends: 100
_BLOCK_SCORES = 1 << 20  # re-weighted at a time, so that float64 takes 8 MiB


def iou(spans: Spans, windows: Spans) -> Floats:
    """Temporal intersection over union of each span with each window, (n, w), 0..1.

    Spans that only touch share nothing; an empty span has 0 with everything.
    """
    return _iou(_seconds(spans, "spans"), _seconds(windows, "windows"))


def r1_at_iou(predictions: Sequence[Spans], windows: Sequence[Spans], threshold: float) -> float:
    """Share of queries whose first span has IoU >= `threshold` with its best true window."""
    (least,) = _thresholds([threshold])
    return float(np.mean(_top_ious(predictions, windows) >= least))


def mean_iou(predictions: Sequence[Spans], windows: Sequence[Spans]) -> float:
    """Mean over queries of the IoU of the first span with its best true window, 0..1."""
    return float(np.mean(_top_ious(predictions, windows)))


def mean_average_precision(
    predictions: Sequence[Spans],
    windows: Sequence[Spans],
    *,
    thresholds: Sequence[float] = IOU_THRESHOLDS,
    max_predictions: int = MAX_PREDICTIONS,
) -> float:
    """Mean of `average_precisions` over queries and IoU thresholds, 0..1."""
    found = average_precisions(
        predictions, windows, thresholds=thresholds, max_predictions=max_predictions
    )
    return float(np.mean(found))


def average_precisions(
    predictions: Sequence[Spans],
    windows: Sequence[Spans],
    *,
    thresholds: Sequence[float] = IOU_THRESHOLDS,
    max_predictions: int = MAX_PREDICTIONS,
) -> Floats:
    """Interpolated average precision of each query at each IoU threshold, (q, t), 0..1.

    Only the first `max_predictions` spans of a query count. In their order each one takes, of the
    true windows with IoU >= threshold that are not taken yet, the one with the highest IoU (of
    equals the first), and is right if there is one. The precision at a recall is the best at that
    recall or a higher one, and the result its area over all recalls: the definition of PASCAL VOC
    2011 (Everingham et al.), which ActivityNet (Heilbron et al. 2015) took over for spans.
    """
    least = _thresholds(thresholds)
    if max_predictions < 1:
        raise UsageError(f"max_predictions {max_predictions}: use at least 1")
    return np.stack(
        [
            _average_precisions(_iou(spans[:max_predictions], true), least)
            for spans, true in _queries(predictions, windows)
        ]
    )


def ranks(scores: ArrayLike, truth: Truth) -> NDArray[np.int64]:
    """The rank of the best true item of each query, (q,), 1 the first.

    `scores` is (q, n), higher is better, without NaN (-inf is an item out of the running);
    `truth` has for each query the position of its true item in 0..n-1, or several. A wrong item
    that ties with the true one ranks before it, each once: equal scores for everything earn the
    last rank, never the first.
    """
    table = _table(scores)
    if len(table) != len(truth):
        raise UsageError(f"{len(table)} rows of scores for the truth of {len(truth)} queries")
    return np.array(
        [_rank(row, _positions(truth[q], len(row), q)) for q, row in enumerate(table)], np.int64
    )


def recall_at_k(ranks: ArrayLike, k: int) -> float:
    """Share of queries with a true item among the first `k`, from the (q,) ranks of `ranks`."""
    if k < 1:
        raise UsageError(f"k {k}: use at least 1")
    return float(np.mean(_checked_ranks(ranks) <= k))


def median_rank(ranks: ArrayLike) -> float:
    """Median of the (q,) ranks; between two of them for an even number of queries."""
    return float(np.median(_checked_ranks(ranks)))


def mean_rank(ranks: ArrayLike) -> float:
    """Mean of the (q,) ranks."""
    return float(np.mean(_checked_ranks(ranks)))


def dual_softmax(
    scores: ArrayLike, *, temperature: float = PRIOR_TEMPERATURE
) -> NDArray[np.floating[Any]]:
    """Scores that also ask how well the query suits the item, beside all other queries, (q, n).

    For query i and item j

        s[i, j] * exp(s[i, j] / temperature) / sum over k of exp(s[k, j] / temperature)

    so an item that suits every query (a hub) is pushed back. This is the prior of the dual softmax
    loss (Cheng et al. 2021, arXiv 2109.04290, CAMoE), multiplied in at inference: their
    `softmax(s / temp, dim=0)` without its factor q, which changes no ranking. It needs all queries
    at once and is for benchmarks: no single search can have it. Rows are the queries; for the
    other direction give the transpose, whose prior is another one.

    `temperature` divides, in units of the scores: 0.01 for cosines is what is usual at inference,
    1 for logits (100 * cosine). Scores should be above 0: of a negative one, the published formula
    makes a larger prior a worse score. -inf (out of the running) stays; float32 stays float32.
    """
    table = _table(scores)
    kind = table.dtype if table.dtype in (np.float32, np.float64) else np.dtype(np.float64)
    weighted = np.empty(table.shape, kind)
    for rows, block in _reweighted(table, temperature):
        weighted[rows] = block
    return weighted


def retrieval_report(
    scores: ArrayLike, pairs: ArrayLike, *, dual_softmax: float | None = None
) -> dict[str, Any]:
    """Both directions of text-video retrieval, from scores (t, v) of each text for each video.

    `pairs`: (p, 2), the positions of a text and a video that belong together. A query with several
    true items has the rank of the best, by `ranks` (what ties ranks before it). Texts and videos
    in no pair are no queries and stay candidates. `dual_softmax`: the temperature of the function
    of that name, over all rows or columns of `scores`; None: the scores as they are.

    Returns, for "text_to_video" and "video_to_text": "queries" and "candidates" (counts), "r1",
    "r5", "r10" (shares 0..1), "median_rank" and "mean_rank" (from 1).
    """
    table = _table(scores)
    positions = _pairs(pairs, table.shape)
    return {
        "text_to_video": _direction(table, positions, dual_softmax),
        "video_to_text": _direction(table.T, positions[:, ::-1], dual_softmax),
    }


def _direction(
    table: NDArray[Any], pairs: NDArray[np.int64], temperature: float | None
) -> dict[str, Any]:
    """The report of queries, the rows of a table, from pairs of a row and a true column."""
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    queries, first = np.unique(pairs[:, 0], return_index=True)
    truth = dict(zip(queries.tolist(), np.split(pairs[:, 1], first[1:]), strict=True))
    blocks = _blocks(table) if temperature is None else _reweighted(table, temperature)
    found = []
    for rows, block in blocks:
        chosen = [query for query in range(rows.start, rows.stop) if query in truth]
        if chosen:
            part = block[np.array(chosen) - rows.start]
            found.append(ranks(part, [truth[query] for query in chosen]))
    places = np.concatenate(found)
    return {
        "queries": len(places),
        "candidates": table.shape[1],
        **{f"r{k}": recall_at_k(places, k) for k in RECALLS},
        "median_rank": median_rank(places),
        "mean_rank": mean_rank(places),
    }


def _blocks(table: NDArray[Any]) -> Iterator[tuple[slice, NDArray[Any]]]:
    """A table by its rows, a bounded number of scores at a time."""
    step = max(1, _BLOCK_SCORES // max(1, table.shape[1]))
    for start in range(0, len(table), step):
        rows = slice(start, min(start + step, len(table)))
        yield rows, table[rows]


def _reweighted(table: NDArray[Any], temperature: float) -> Iterator[tuple[slice, Floats]]:
    """`dual_softmax` in float64, by blocks of rows."""
    if isinstance(temperature, bool) or not 0 < temperature < np.inf:
        raise UsageError(
            f"temperature {temperature} of the dual softmax: use a number above 0, such as "
            f"{PRIOR_TEMPERATURE} for cosines"
        )
    if not table.size:
        return
    if np.isposinf(table).any():
        raise UsageError(f"scores of query {np.argwhere(np.isposinf(table))[0][0]} are infinite")
    top = table.max(axis=0).astype(np.float64)
    top[np.isneginf(top)] = 0  # no query has this item in the running
    total = np.zeros(len(top))
    for _, block in _blocks(table):
        total += _powers(block, top, temperature).sum(axis=0)
    total[total == 0] = 1
    for rows, block in _blocks(table):
        prior = _powers(block, top, temperature) / total
        hidden = np.isneginf(block)
        np.multiply(block, prior, out=prior, where=~hidden)
        prior[hidden] = -np.inf
        yield rows, prior


def _powers(block: NDArray[Any], top: Floats, temperature: float) -> Floats:
    with np.errstate(over="ignore"):  # of a tiny temperature: exp(-inf) is 0 as it should be
        powers: Floats = np.exp((block - top) / temperature)
    return powers


def _table(scores: ArrayLike) -> NDArray[Any]:
    table = np.asarray(scores)
    if table.ndim != 2 or table.dtype.kind not in "fiu":
        raise UsageError(f"scores of shape {table.shape} and type {table.dtype}: need (q, n) reals")
    if np.isnan(table).any():
        raise UsageError(f"scores of query {np.argwhere(np.isnan(table))[0][0]} have NaN")
    return table


def _pairs(pairs: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The (p, 2) positions of texts and videos, checked against the shape of the scores."""
    checked = np.asarray(pairs)
    if checked.ndim != 2 or checked.shape[1] != 2 or checked.dtype.kind not in "iu":
        raise UsageError(
            f"pairs of shape {checked.shape} and type {checked.dtype}: need (p, 2) integers, "
            "positions of a text and a video"
        )
    if not len(checked):
        raise UsageError("no pairs of a text and a video: a report needs at least one")
    for name, column, count in zip(("text", "video"), checked.T, shape, strict=True):
        if column.min() < 0 or column.max() >= count:
            worst = column.min() if column.min() < 0 else column.max()
            raise UsageError(f"pairs name {name} {worst}: positions go from 0 to {count - 1}")
    return checked.astype(np.int64)


def _iou(spans: Floats, windows: Floats) -> Floats:
    first, second = spans[:, None, :], windows[None, :, :]
    shared = np.minimum(first[..., 1], second[..., 1]) - np.maximum(first[..., 0], second[..., 0])
    # Where two spans meet, their hull is their union; where not, nothing is shared anyway.
    hull = np.maximum(first[..., 1], second[..., 1]) - np.minimum(first[..., 0], second[..., 0])
    ratio: Floats = np.divide(shared, hull, out=np.zeros_like(shared), where=shared > 0)
    return ratio


def _top_ious(predictions: Sequence[Spans], windows: Sequence[Spans]) -> Floats:
    pairs = _queries(predictions, windows)
    return np.array([_iou(spans[:1], true).max(initial=0.0) for spans, true in pairs])


def _average_precisions(overlap: Floats, thresholds: Floats) -> Floats:
    """(t,) from the IoU of ranked spans and true windows, (k, w)."""
    spans, windows = overlap.shape
    right = np.zeros((len(thresholds), spans), bool)
    taken = np.zeros((len(thresholds), windows), bool)
    for rank in np.flatnonzero(overlap.max(axis=1) >= thresholds.min()):
        free = np.where(taken, -1.0, overlap[rank])  # (t, w)
        best = free.argmax(axis=1)
        right[:, rank] = free.max(axis=1) >= thresholds
        taken[right[:, rank], best[right[:, rank]]] = True
    precision = right.cumsum(axis=1) / np.arange(1, spans + 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    area: Floats = (envelope * right).sum(axis=1) / windows  # recall grows by 1/w where it is right
    return area


def _queries(
    predictions: Sequence[Spans], windows: Sequence[Spans]
) -> Iterator[tuple[Floats, Floats]]:
    """The checked spans and true windows of each query."""
    if len(predictions) != len(windows):
        raise UsageError(f"predictions of {len(predictions)} queries, windows of {len(windows)}")
    if not len(windows):
        raise UsageError("no queries: a mean needs at least one")
    for query, (spans, true) in enumerate(zip(predictions, windows, strict=True)):
        checked = _seconds(true, f"windows of query {query}")
        if not len(checked):
            raise UsageError(f"query {query} has no true window: leave it out")
        if (checked[:, 0] == checked[:, 1]).any():
            raise UsageError(f"query {query} has an empty true window, which no span can match")
        yield _seconds(spans, f"predictions of query {query}"), checked


def _seconds(spans: Spans, name: str) -> Floats:
    """(k, 2) from spans, or UsageError that begins with their name."""
    if isinstance(spans, Sequence):
        spans = [(s.start, s.end) if isinstance(s, Span) else s for s in spans]
    try:
        array = np.asarray(spans, np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"{name}: need pairs of seconds, or Spans") from None
    if array.shape == (0,):
        return array.reshape(0, 2)
    if array.ndim != 2 or array.shape[1] != 2:
        raise UsageError(f"{name} have shape {array.shape}: need (k, 2), start and end in seconds")
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1) | (array[:, 0] > array[:, 1]))
    if bad.size:
        start, end = array[bad[0]]
        raise UsageError(f"{name}: [{start}, {end}) needs finite seconds and start <= end")
    return array


def _thresholds(thresholds: Sequence[float]) -> Floats:
    checked = np.asarray(thresholds, np.float64)
    if checked.ndim != 1 or not checked.size:
        raise UsageError(f"IoU thresholds {thresholds}: need a list of at least one")
    if not ((checked > 0) & (checked <= 1)).all():
        raise UsageError(f"IoU thresholds {checked.tolist()}: each must be above 0 and at most 1")
    return checked


def _rank(row: NDArray[Any], true: NDArray[np.intp]) -> int:
    best = row[true].max()
    return 1 + int((row >= best).sum()) - int((row[true] >= best).sum())


def _positions(true: Any, count: int, query: int) -> NDArray[np.intp]:
    """The distinct true positions of one query."""
    positions = np.unique(true)
    if not positions.size or positions.dtype.kind not in "iu":
        raise UsageError(f"truth of query {query} is {true!r}: need a position, or several")
    if positions[0] < 0 or positions[-1] >= count:
        raise UsageError(f"truth of query {query} is {true!r}: positions go from 0 to {count - 1}")
    return positions.astype(np.intp)


def _checked_ranks(ranks: ArrayLike) -> NDArray[np.int64]:
    checked = np.asarray(ranks)
    if checked.ndim != 1 or not checked.size or checked.dtype.kind not in "iu":
        raise UsageError(
            f"ranks of shape {checked.shape} and type {checked.dtype}: need (q,) integers, q >= 1"
        )
    if checked.min() < 1:
        raise UsageError(f"rank {checked.min()}: ranks count from 1")
    return checked.astype(np.int64)
