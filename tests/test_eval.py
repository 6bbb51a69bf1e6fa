"""The metrics beside naive oracles, examples worked by hand, and QVHighlights' own windows."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch.errors import UsageError
from clipsearch.eval import (
    IOU_THRESHOLDS,
    average_precisions,
    dual_softmax,
    iou,
    mean_average_precision,
    mean_iou,
    mean_rank,
    median_rank,
    r1_at_iou,
    ranks,
    recall_at_k,
    retrieval_report,
)
from clipsearch.types import Span
from tests.test_public_api import HEAVY, loaded_after

QVHIGHLIGHTS = Path(__file__).parents[2] / "shared/data/qvhighlights_val_even.npz"
Pair = tuple[int, int]


def naive_iou(a: Pair, b: Pair) -> Fraction:
    """Of whole seconds: the ones in both by the ones in either."""
    one, other = set(range(*a)), set(range(*b))
    return Fraction(len(one & other), len(one | other)) if one & other else Fraction(0)


def naive_precision(spans: list[Pair], true: list[Pair], threshold: float) -> float:
    """For each count of windows found, the best precision of a prefix that found as many."""
    least, free, right = Fraction(str(threshold)), list(true), []
    for span in spans:
        best = max(free, key=lambda window: naive_iou(span, window), default=None)
        right.append(best is not None and naive_iou(span, best) >= least)
        if right[-1]:
            free.remove(best)  # type: ignore[arg-type]
    prefixes = [right[: n + 1] for n in range(len(right))]
    found = range(1, len(true) + 1)
    at = [max((sum(p) / len(p) for p in prefixes if sum(p) >= n), default=0.0) for n in found]
    return sum(at) / len(true)


def some_pairs(generator: np.random.Generator, least: int, most: int) -> list[Pair]:
    """Intervals of whole seconds in a short video, so that ties and exact thresholds are common."""
    starts = generator.integers(0, 20, generator.integers(least, most + 1))
    return [(int(s), int(s + generator.integers(1, 15))) for s in starts]


def span(start: float, end: float) -> Span:
    return Span(start, end, score=1.0, similarity=0.3, contrast=0.1, frames=(0, 1))


@pytest.fixture
def queries() -> tuple[list[list[Pair]], list[list[Pair]]]:
    generator = np.random.default_rng(7)
    predictions = [some_pairs(generator, 0, 13) for _ in range(150)]
    windows = [some_pairs(generator, 1, 5) for _ in range(150)]
    return predictions, windows


def test_iou_of_seconds_is_that_of_sets() -> None:
    generator = np.random.default_rng(1)
    spans, windows = some_pairs(generator, 60, 60), some_pairs(generator, 40, 40)
    expected = [[float(naive_iou(s, w)) for w in windows] for s in spans]
    np.testing.assert_array_equal(iou(spans, windows), expected)
    np.testing.assert_array_equal(iou(windows, spans), np.transpose(expected))


def test_iou_by_hand() -> None:
    spans = [(0.0, 10.0), (10.0, 12.5), (4.0, 4.0)]
    windows = [(5.0, 15.0), (10.0, 12.5), (4.0, 4.0)]
    expected = [[5 / 15, 0, 0], [2.5 / 10, 1, 0], [0, 0, 0]]
    np.testing.assert_array_equal(iou(spans, windows), expected)


def test_spans_arrays_and_lists_are_the_same() -> None:
    windows = np.array([[2, 6]], np.float32)
    for spans in ([span(0, 4), span(2, 6)], [(0, 4), (2, 6)], np.array([[0, 4], [2, 6]])):
        np.testing.assert_array_equal(iou(spans, windows), [[2 / 6], [1]])
    nothings: list[Any] = [[], (), np.zeros((0, 2))]
    for nothing in nothings:
        assert iou(nothing, windows).shape == (0, 1)
        assert iou(windows, nothing).shape == (1, 0)


def test_the_first_span_counts_against_its_best_window() -> None:
    predictions: list[Any] = [[(0, 10), (20, 30)], [(0, 4)], [], [span(8, 10)]]
    windows = [[(20, 30), (0, 8), (0, 5)], [(2, 8)], [(0, 1)], [(8, 10)]]
    assert mean_iou(predictions, windows) == pytest.approx((0.8 + 0.25 + 0 + 1) / 4)
    assert r1_at_iou(predictions, windows, 0.8) == 0.5  # reached is enough
    assert r1_at_iou(predictions, windows, 0.81) == 0.25
    assert r1_at_iou(predictions, windows, 0.25) == 0.75
    assert r1_at_iou(predictions, windows, 1) == 0.25


def test_first_spans_as_the_oracle_sees_them(
    queries: tuple[list[list[Pair]], list[list[Pair]]],
) -> None:
    predictions, windows = queries
    best = [
        max(naive_iou(p[0], w) for w in true) if p else Fraction(0)
        for p, true in zip(predictions, windows, strict=True)
    ]
    assert mean_iou(predictions, windows) == pytest.approx(float(sum(best) / len(best)))
    for threshold in IOU_THRESHOLDS:
        hits = [value >= Fraction(str(threshold)) for value in best]
        assert r1_at_iou(predictions, windows, threshold) == sum(hits) / len(hits)


@pytest.mark.parametrize(
    ("predictions", "windows", "expected"),
    [
        ([(0, 10)], [(0, 10)], 1.0),
        ([(50, 60), (0, 10)], [(0, 10)], 1 / 2),
        ([(0, 10), (50, 60)], [(0, 10)], 1.0),  # what comes after all are found is free
        ([(0, 10)], [(0, 10), (20, 30)], 1 / 2),  # half of the recall is never reached
        ([(0, 10), (0, 10), (20, 30)], [(0, 10), (20, 30)], (1 + 2 / 3) / 2),  # twice is wrong
        ([(50, 60), (0, 10), (20, 30)], [(0, 10), (20, 30)], 2 / 3),  # 1/2 at recall 1/2: raised
        ([(0, 9), (0, 10)], [(0, 10), (0, 7)], 1.0),  # the second one is left a window it matches
        ([(50, 60)], [(0, 10)], 0.0),
        ([], [(0, 10)], 0.0),
    ],
)
def test_average_precision_by_hand(
    predictions: list[Pair], windows: list[Pair], expected: float
) -> None:
    assert mean_average_precision([predictions], [windows], thresholds=[0.5]) == pytest.approx(
        expected
    )


def test_average_precision_as_the_oracle_sees_it(
    queries: tuple[list[list[Pair]], list[list[Pair]]],
) -> None:
    predictions, windows = queries
    thresholds = (0.1, 0.25, *IOU_THRESHOLDS, 1.0)
    expected = [
        [naive_precision(p[:6], w, threshold) for threshold in thresholds]
        for p, w in zip(predictions, windows, strict=True)
    ]
    found = average_precisions(predictions, windows, thresholds=thresholds, max_predictions=6)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert np.unique(found).size > 20
    mean = mean_average_precision(predictions, windows, thresholds=thresholds, max_predictions=6)
    assert mean == pytest.approx(np.mean(expected))


def test_of_equal_windows_the_first_is_taken() -> None:
    predictions, windows = [[(0, 4), (2, 4)]], [[(0, 2), (2, 4)]]
    assert mean_average_precision(predictions, windows, thresholds=[0.5]) == 1.0
    swapped = [windows[0][::-1]]
    assert mean_average_precision(predictions, swapped, thresholds=[0.5]) == 0.5


def test_predictions_after_the_tenth_do_not_count() -> None:
    late = [(50, 60)] * 9 + [(0, 10), (20, 30)]
    assert mean_average_precision([late], [[(0, 10)]]) == pytest.approx(1 / 10)
    assert mean_average_precision([late], [[(20, 30)]]) == 0.0
    found = mean_average_precision([late], [[(20, 30)]], max_predictions=11)
    assert found == pytest.approx(1 / 11)


def test_every_threshold_is_reached_by_the_fraction_it_names() -> None:
    for percent, threshold in zip(range(50, 100, 5), IOU_THRESHOLDS, strict=True):
        assert r1_at_iou([[(0, percent)]], [[(0, 100)]], threshold) == 1.0
        expected = [float(other <= threshold) for other in IOU_THRESHOLDS]
        np.testing.assert_array_equal(
            average_precisions([[(0, percent)]], [[(0, 100)]]), [expected]
        )


@pytest.mark.parametrize(
    "metric", [mean_iou, mean_average_precision, lambda p, w: r1_at_iou(p, w, 0.5)]
)
@pytest.mark.parametrize(
    ("predictions", "windows", "message"),
    [
        ([[(0, 1)]], [], "predictions of 1 queries, windows of 0"),
        ([], [], "no queries"),
        ([[(0, 1)], [(0, 1)]], [[(0, 1)], []], "query 1 has no true window"),
        ([[(0, 1)]], [[(3, 3)]], "query 0 has an empty true window"),
        ([[(0, 1)]], [[(5, 3)]], r"windows of query 0: \[5.0, 3.0\)"),
        ([[(0, 1)]], [[(0, float("nan"))]], "windows of query 0: .*nan"),
        ([[(0, float("inf"))]], [[(0, 1)]], "predictions of query 0: .*inf"),
        ([[(1, 0)]], [[(0, 1)]], r"predictions of query 0: \[1.0, 0.0\)"),
        ([[(0, 1, 0.9)]], [[(0, 1)]], r"predictions of query 0 have shape \(1, 3\)"),
        ([(0, 1)], [[(0, 1)]], r"predictions of query 0 have shape \(2,\)"),
        ([[None]], [[(0, 1)]], "predictions of query 0"),
        ([["now"]], [[(0, 1)]], "predictions of query 0: need pairs"),
    ],
)
def test_bad_spans_are_refused(
    metric: Callable[[Any, Any], float], predictions: Any, windows: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        metric(predictions, windows)


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, 50, float("nan")])
def test_thresholds_out_of_range_are_refused(threshold: float) -> None:
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        r1_at_iou([[(0, 1)]], [[(0, 1)]], threshold)
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        mean_average_precision([[(0, 1)]], [[(0, 1)]], thresholds=[0.5, threshold])


def test_no_thresholds_and_no_predictions_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one"):
        mean_average_precision([[(0, 1)]], [[(0, 1)]], thresholds=[])
    with pytest.raises(UsageError, match="max_predictions 0"):
        mean_average_precision([[(0, 1)]], [[(0, 1)]], max_predictions=0)


def test_ranks_by_hand() -> None:
    scores = [[0.9, 0.1, 0.5], [0.9, 0.1, 0.5], [0.9, 0.1, 0.5], [0.2, 0.2, 0.2]]
    np.testing.assert_array_equal(ranks(scores, [0, 1, 2, 0]), [1, 3, 2, 3])
    np.testing.assert_array_equal(ranks(scores, [[1, 2], [1, 0], 2, [0, 1]]), [2, 1, 2, 2])
    np.testing.assert_array_equal(ranks(np.eye(4, dtype=np.float32), np.arange(4)), [1] * 4)
    hidden = [[0.1, -np.inf, -0.5], [-np.inf, 0.0, 0.1]]
    np.testing.assert_array_equal(ranks(hidden, [2, 0]), [2, 3])


@pytest.mark.parametrize("values", [3, 1000])
def test_ranks_are_places_in_a_sorted_list(values: int) -> None:
    generator = np.random.default_rng(values)
    scores = generator.integers(0, values, (80, 30)).astype(np.float16)
    truth = [list(generator.choice(30, generator.integers(1, 4))) for _ in scores]
    expected = []
    for row, true in zip(scores.tolist(), truth, strict=True):
        places = sorted(range(30), key=lambda item: (-row[item], item in true))
        expected.append(1 + min(places.index(item) for item in true))
    found = ranks(scores, truth)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


def test_summaries_of_ranks() -> None:
    found = [1, 2, 2, 11]
    assert [recall_at_k(found, k) for k in (1, 2, 10, 11)] == [0.25, 0.75, 0.75, 1.0]
    assert (median_rank(found), mean_rank(found)) == (2.0, 4.0)
    assert median_rank([1, 4]) == 2.5
    assert recall_at_k(ranks(np.zeros((5, 50)), [0] * 5), 49) == 0.0


@pytest.mark.parametrize(
    ("scores", "truth", "message"),
    [
        ([0.1, 0.2], [0], r"shape \(2,\)"),
        ([["a", "b"]], [0], "need \\(q, n\\) reals"),
        ([[0.1], [np.nan]], [0, 0], "query 1 have NaN"),
        ([[0.1, 0.2]], [0, 1], "1 rows of scores for the truth of 2"),
        ([[0.1, 0.2]], [2], "truth of query 0 is 2: positions go from 0 to 1"),
        ([[0.1, 0.2]], [-1], "truth of query 0 is -1: positions"),
        ([[0.1, 0.2]], [[]], "truth of query 0 is \\[\\]: need a position"),
        ([[0.1, 0.2]], [0.5], "truth of query 0 is 0.5: need a position"),
        ([[0.1, 0.2]], [[True, False]], "need a position"),
    ],
)
def test_bad_scores_are_refused(scores: Any, truth: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ranks(scores, truth)


@pytest.mark.parametrize("bad", [[], [0, 1], [1.5], [[1, 2]]])
def test_bad_ranks_are_refused(bad: Any) -> None:
    for metric in (median_rank, mean_rank, lambda found: recall_at_k(found, 1)):
        with pytest.raises(UsageError, match="rank"):
            metric(bad)
    with pytest.raises(UsageError, match="k 0"):
        recall_at_k([1], 0)


def naive_dual_softmax(scores: Any, temperature: float) -> list[list[float]]:
    """CAMoE's formula, a number at a time in Python's own arithmetic."""
    table = np.asarray(scores, np.float64).tolist()
    columns = list(zip(*table, strict=True))
    return [
        [
            -math.inf
            if score == -math.inf
            else score
            / math.fsum(math.exp((other - score) / temperature) for other in columns[item])
            for item, score in enumerate(row)
        ]
        for row in table
    ]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int8])
@pytest.mark.parametrize("temperature", [0.05, 1, 40.0])
def test_dual_softmax_by_the_formula(kind: type, temperature: float) -> None:
    generator = np.random.default_rng(3)
    scores = (generator.uniform(-3, 3, (23, 17))).astype(kind)
    found = dual_softmax(scores, temperature=temperature)
    assert found.dtype == (np.float32 if kind is np.float32 else np.float64)
    expected = naive_dual_softmax(scores, temperature)
    rtol, atol = (2e-7, 1e-37) if kind is np.float32 else (1e-12, 0)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def test_dual_softmax_by_hand() -> None:
    scores = np.array([[0.30, 0.29], [0.40, 0.10]])  # the first item suits every query
    assert ranks(scores, [1, 0]).tolist() == [2, 1]
    assert ranks(dual_softmax(scores), [1, 0]).tolist() == [1, 1]
    np.testing.assert_allclose(dual_softmax([[2.0, 1.0]]), [[2.0, 1.0]])  # alone: nothing to fear
    np.testing.assert_allclose(dual_softmax(np.zeros((4, 3))), np.zeros((4, 3)))
    flat = dual_softmax(scores, temperature=1e9)  # as CAMoE's 1000: every prior is 1/q
    np.testing.assert_allclose(flat, scores / 2)
    sharp = dual_softmax(scores, temperature=1e-300)
    np.testing.assert_array_equal(sharp, [[0, 0.29], [0.4, 0]])
    assert dual_softmax(np.zeros((0, 3))).shape == (0, 3)


def test_dual_softmax_leaves_out_what_is_out_of_the_running() -> None:
    scores = np.array([[-np.inf, 0.2, -np.inf], [0.1, 0.3, -np.inf]], np.float32)
    found = dual_softmax(scores, temperature=0.1)
    rest = naive_dual_softmax(scores[:, :2], 0.1)
    np.testing.assert_allclose(found, np.column_stack([rest, [-np.inf, -np.inf]]), rtol=1e-6)


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), float("inf"), True])
def test_temperatures_out_of_range_are_refused(temperature: float) -> None:
    with pytest.raises(UsageError, match=r"use a number above 0, such as 0\.01"):
        dual_softmax([[0.1]], temperature=temperature)
    with pytest.raises(UsageError, match="use a number above 0"):
        retrieval_report([[0.1]], [[0, 0]], dual_softmax=temperature)


def test_infinite_scores_have_no_dual_softmax() -> None:
    with pytest.raises(UsageError, match="query 1 are infinite"):
        dual_softmax([[0.1], [np.inf]])


def naive_report(scores: Any, pairs: Any, temperature: float | None) -> dict[str, Any]:
    """Each query's items in a sorted list, wrong ones first among equals."""
    report = {}
    for name, table, swapped in (
        ("text_to_video", np.asarray(scores), False),
        ("video_to_text", np.asarray(scores).T, True),
    ):
        true = {tuple(reversed(pair)) if swapped else tuple(pair) for pair in pairs}
        rows = table.tolist() if temperature is None else naive_dual_softmax(table, temperature)
        found = []
        for query, row in enumerate(rows):
            order = sorted(range(len(row)), key=lambda n: (-row[n], (query, n) in true))
            places = [place for place, n in enumerate(order, 1) if (query, n) in true]
            found += places[:1]
        report[name] = {
            "queries": len(found),
            "candidates": table.shape[1],
            **{f"r{k}": sum(place <= k for place in found) / len(found) for k in (1, 5, 10)},
            "median_rank": statistics.median(found),
            "mean_rank": statistics.fmean(found),
        }
    return report


@pytest.mark.parametrize("temperature", [None, 0.1])
@pytest.mark.parametrize("block", [1, 64, 1 << 20])
def test_reports_beside_sorted_lists(
    monkeypatch: pytest.MonkeyPatch, temperature: float | None, block: int
) -> None:
    monkeypatch.setattr("clipsearch.eval._BLOCK_SCORES", block)
    generator = np.random.default_rng(block)
    for round_ in range(20):
        texts, videos = generator.integers(1, 40, 2)
        scores = generator.uniform(0.1, 0.9, (texts, videos))
        if temperature is None and round_ % 2:  # where sums are rounded, equals may part
            scores = scores.round(1)
        scores = scores.astype([np.float32, np.float64][round_ // 2 % 2])
        pairs = np.column_stack([generator.integers(0, n, 25) for n in (texts, videos)])
        found = retrieval_report(scores, pairs, dual_softmax=temperature)
        expected = naive_report(scores, pairs.tolist(), temperature)
        assert list(found) == list(expected)
        for direction, values in expected.items():
            assert list(found[direction]) == list(values)
            assert found[direction] == pytest.approx(values, rel=1e-12)
    assert json.loads(json.dumps(found)) == found


def test_videos_that_are_there_twice_tie_under_every_prior() -> None:
    generator = np.random.default_rng(2)
    scores = generator.uniform(0.1, 0.9, (50, 37)).astype(np.float32)
    pairs = np.column_stack([generator.permutation(50)[:37], np.arange(37)])
    for temperature in (None, 0.01, 0.1):
        once = retrieval_report(scores, pairs, dual_softmax=temperature)["text_to_video"]
        twice = retrieval_report(np.tile(scores, 2), pairs, dual_softmax=temperature)
        assert twice["text_to_video"]["mean_rank"] == pytest.approx(2 * once["mean_rank"])


def test_a_report_by_hand() -> None:
    scores = [[0.9, 0.8, 0.1], [0.7, 0.7, 0.1], [0.2, 0.3, 0.4], [1.0, 1.0, 1.0]]
    report = retrieval_report(scores, [[0, 1], [1, 1], [2, 2], [2, 2], [2, 0]])
    assert report["text_to_video"] == {  # ranks 2, 2 and 1; the fourth text is no query
        "queries": 3,
        "candidates": 3,
        "r1": 1 / 3,
        "r5": 1.0,
        "r10": 1.0,
        "median_rank": 2.0,
        "mean_rank": 5 / 3,
    }
    assert report["video_to_text"] == {  # ranks 4, 2 and 2: the fourth text stands before all
        "queries": 3,
        "candidates": 4,
        "r1": 0.0,
        "r5": 1.0,
        "r10": 1.0,
        "median_rank": 2.0,
        "mean_rank": 8 / 3,
    }
    perfect = retrieval_report(np.eye(30), np.column_stack([np.arange(30)] * 2))
    assert {direction["mean_rank"] for direction in perfect.values()} == {1.0}
    equal = retrieval_report(np.zeros((30, 20)), [[0, 0]])
    assert [direction["mean_rank"] for direction in equal.values()] == [20.0, 30.0]


@pytest.mark.parametrize(
    ("scores", "pairs", "message"),
    [
        ([[0.1]], [], r"pairs of shape \(0,\)"),
        ([[0.1]], np.empty((0, 2), int), "no pairs"),
        ([[0.1]], [[0, 0, 0]], r"shape \(1, 3\)"),
        ([[0.1]], [[0.0, 0.0]], "float64: need"),
        ([[0.1, 0.2]], [[1, 0]], "pairs name text 1: positions go from 0 to 0"),
        ([[0.1, 0.2]], [[0, 2]], "pairs name video 2: positions go from 0 to 1"),
        ([[0.1, 0.2]], [[0, -1], [0, 5]], "pairs name video -1"),
        (np.zeros((0, 2)), [[0, 0]], "pairs name text 0"),
        ([[np.nan]], [[0, 0]], "have NaN"),
        ([0.1], [[0, 0]], "need \\(q, n\\) reals"),
    ],
)
def test_bad_reports_are_refused(scores: Any, pairs: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        retrieval_report(scores, pairs)


@pytest.mark.skipif(not QVHIGHLIGHTS.exists(), reason=f"{QVHIGHLIGHTS} is not here")
def test_the_windows_of_qvhighlights() -> None:
    with np.load(QVHIGHLIGHTS) as data:
        windows = np.split(data["window"], data["window_offset"][1:-1])
        whole = [[(0.0, duration)] for duration in data["duration"]]
    assert r1_at_iou(windows, windows, 1.0) == mean_iou(windows, windows) == 1.0
    found = average_precisions(windows, windows)
    many = np.array([len(w) for w in windows])
    assert found == pytest.approx(np.minimum(1, 10 / many)[:, None].repeat(10, axis=1))
    everything = mean_average_precision(windows, windows, max_predictions=int(many.max()))
    assert everything == pytest.approx(1.0)
    longest = [
        np.max(w[:, 1] - w[:, 0]) / spans[0][1] for w, spans in zip(windows, whole, strict=True)
    ]
    assert mean_iou(whole, windows) == pytest.approx(np.mean(longest), rel=1e-6)


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = (*HEAVY, "pyarrow", "scipy", "rich")
    assert loaded_after("import clipsearch.eval", heavy) == []
