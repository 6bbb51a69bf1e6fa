"""Exact spans against plain loops over all of them, ties, bad input, and what must not matter."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from clipsearch.errors import UsageError
from clipsearch.search.spans import SpanSpec, find_span, find_spans
from clipsearch.search.subwindow import TOP_BLOCKS
from clipsearch.types import Span
from tests.naive_spans import (
    EXACT,
    Floats,
    Scored,
    all_spans,
    best_of,
    bonus_of,
    edges_of,
    lawful,
    lengths_of,
    random_curve,
    random_limits,
    random_times,
    smooth,
    stepped,
    z_scores,
)

ALPHAS = {"scan": 0.5, "mean": 1.0, "sum": 0.0, 0.25: 0.25, 0.8: 0.8, 0.01: 0.01}
CURVE = np.array([0.1, 0.2, 0.9, 0.8, 0.1, 0.0, 0.3, 0.2])
TIMES = np.arange(9.0)


def random_size(generator: np.random.Generator, most: int = 40) -> int:
    return int(min(generator.integers(1, most + 1), generator.integers(1, most + 1)))


def check_facts(span: Span, curve: Sequence[float], edges: Sequence[float]) -> None:
    """Seconds, similarity and contrast are those of the frames, of the curve as it was given."""
    first, last = span.frames
    assert (span.start, span.end) == (edges[first], edges[last])
    lengths = lengths_of(edges)
    inside: list[tuple[float, float]] = []
    outside: list[tuple[float, float]] = []
    for f, value in enumerate(curve):
        (inside if first <= f < last else outside).append((value, lengths[f]))
    similarity = sum(v * w for v, w in inside) / sum(w for _, w in inside)
    contrast = 0.0
    if outside:
        contrast = similarity - sum(v * w for v, w in outside) / sum(w for _, w in outside)
    scale = 1 + max(abs(v) for v in curve)
    assert span.similarity == pytest.approx(similarity, abs=1e-9 * scale)
    assert span.contrast == pytest.approx(contrast, abs=1e-8 * scale)


def check_best(found: Span | None, spans: Sequence[Scored]) -> None:
    """The span is one of the lawful ones, and scores what it says: as much as the best."""
    if not spans:
        assert found is None
        return
    assert found is not None
    mine = [s for s in spans if (s.first, s.last) == found.frames]
    assert mine
    best = max(s.score for s in spans)
    tolerance = EXACT * (1 + abs(best))
    assert mine[0].score == pytest.approx(best, abs=tolerance)
    assert found.score == pytest.approx(best, abs=tolerance)


@pytest.mark.parametrize("score", list(ALPHAS))
def test_the_best_span_of_random_curves(score: Any) -> None:
    generator = np.random.default_rng(1)
    for _ in range(600):
        count = random_size(generator)
        curve, times = random_curve(generator, count), random_times(generator, count)
        edges = edges_of(times, count)
        least, most = random_limits(generator, edges)
        tau = float(generator.choice([0.0, 0.0, 0.5, 2.0, -1.0]))
        found = find_span(
            curve,
            times,
            min_seconds=least,
            max_seconds=most,
            score=score,
            tau=tau,
            smooth_seconds=0,
        )
        z = z_scores(curve.tolist(), edges)
        if z is None:
            assert found is None
            continue
        spans = all_spans(z, edges, (least, most), alpha=ALPHAS[score], tau=tau)
        check_best(found, spans)
        if found is not None:
            check_facts(found, curve.tolist(), edges)


def test_smoothed_stepped_and_with_novelty() -> None:
    generator = np.random.default_rng(2)
    for _ in range(600):
        count = random_size(generator)
        curve, times = random_curve(generator, count), random_times(generator, count)
        edges = edges_of(times, count)
        least, most = random_limits(generator, edges)
        seconds = float(generator.choice([0.0, 0.07, 0.7, 1.0, 2.3]))
        step = [None, 0.3, 1.0, 2.5][int(generator.integers(0, 4))]
        score: Any = list(ALPHAS)[int(generator.integers(0, 5))]
        novelty = None
        if generator.random() < 0.6:
            novelty = generator.choice([0.0, 0.2, 1.0], count + 1) + generator.choice([0.0, 3.0])
        found = find_span(
            curve,
            times,
            min_seconds=least,
            max_seconds=most,
            score=score,
            smooth_seconds=seconds,
            step_seconds=step,
            novelty=novelty,
            beta=0.4,
        )
        values, borders = smooth(curve.tolist(), edges, seconds), list(range(count + 1))
        if step is not None:
            values, borders = stepped(values, edges, step)
        steps = [edges[f] for f in borders]
        z = z_scores(values, steps)
        if z is None:
            assert found is None
            continue
        bonus = None if novelty is None else bonus_of(novelty.tolist(), 0.4)
        spans = all_spans(
            z,
            steps,
            (least, most),
            alpha=ALPHAS[score],
            bonus=None if bonus is None else [bonus[f] for f in borders],
        )
        check_best(found, [Scored(s.score, borders[s.first], borders[s.last]) for s in spans])
        if found is not None:
            check_facts(found, curve.tolist(), edges)


def iou(a: tuple[float, float], b: tuple[float, float]) -> float:
    common = min(a[1], b[1]) - max(a[0], b[0])
    return max(common, 0.0) / (max(a[1], b[1]) - min(a[0], b[0]))


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("score", ["scan", "mean", "sum", 0.25])
def test_each_further_span_is_the_best_that_is_left(overlap: float, score: Any) -> None:
    generator = np.random.default_rng(3)
    for _ in range(120):
        count = random_size(generator, 24)
        curve, times = random_curve(generator, count), random_times(generator, count)
        edges = edges_of(times, count)
        least, most = random_limits(generator, edges)
        k = int(generator.integers(1, 6))
        found = find_spans(
            curve,
            times,
            k=k,
            overlap=overlap,
            score=score,
            min_seconds=least,
            max_seconds=most,
            smooth_seconds=0,
        )
        z = z_scores(curve.tolist(), edges)
        spans = [] if z is None else all_spans(z, edges, (least, most), alpha=ALPHAS[score])
        for span in found:
            check_best(span, [s for s in spans if (s.first, s.last) == span.frames] or spans)
        for number in range(k):
            taken = [(s.start, s.end) for s in found[:number]]
            # A span that overlaps by the very limit may be wanted or not: floats decide.
            left = []
            for one in spans:
                place = edges[one.first], edges[one.last]
                share = max((iou(place, t) for t in taken), default=0.0)
                if share < 1e-9 or share < overlap - 1e-9:
                    left.append(one)
            if number == len(found):
                assert not left
                break
            this = found[number]
            assert all(iou((this.start, this.end), t) <= overlap + 1e-9 for t in taken)
            best = max((s.score for s in left), default=-math.inf)
            assert this.score >= best - EXACT * (1 + abs(this.score))


def most_of_disjoint(spans: Sequence[Scored], k: int, count: int, apart: int = 0) -> float:
    """The largest sum of at most k spans apart from each other: all sets of them."""
    starting: dict[int, list[Scored]] = {}
    for span in spans:
        starting.setdefault(span.first, []).append(span)

    @functools.cache
    def most(left: int, at: int) -> float:
        if left == 0 or at >= count:
            return 0.0
        with_one = [s.score + most(left - 1, s.last + apart) for s in starting.get(at, [])]
        return max([most(left, at + 1), *with_one])

    return most(k, 0)


def test_disjoint_spans_have_the_largest_sum_together() -> None:
    generator = np.random.default_rng(4)
    for _ in range(800):
        count = random_size(generator, 22)
        curve, times = random_curve(generator, count), random_times(generator, count)
        edges = edges_of(times, count)
        least, most = random_limits(generator, edges)
        k, tau = int(generator.integers(1, 6)), float(generator.choice([0.0, 0.25, 1.0, -0.5]))
        novelty = generator.random(count + 1) if generator.random() < 0.4 else None
        found = find_spans(
            curve,
            times,
            k=k,
            method="disjoint",
            tau=tau,
            min_seconds=least,
            max_seconds=most,
            smooth_seconds=0,
            novelty=novelty,
        )
        z = z_scores(curve.tolist(), edges)
        if z is None:
            assert found == []
            continue
        bonus = None if novelty is None else bonus_of(novelty.tolist(), 0.25)
        spans = all_spans(z, edges, (least, most), alpha=0, tau=tau, bonus=bonus)
        for span in found:
            check_best(span, [s for s in spans if (s.first, s.last) == span.frames] or spans)
            assert span.score > 0
        assert sorted(found, key=lambda s: (-s.score, s.start)) == found
        in_time = sorted(found, key=lambda s: s.start)
        apart = 0 if novelty is None else 1  # or both sides of a cut would gain by it
        assert all(a.frames[1] + apart <= b.frames[0] for a, b in itertools.pairwise(in_time))
        assert len(found) <= k
        best = most_of_disjoint(spans, k, count, apart)
        assert sum(s.score for s in found) == pytest.approx(best, abs=1e-7)


def test_disjoint_spans_against_all_sets_of_them() -> None:
    generator = np.random.default_rng(5)
    for _ in range(40):
        curve = generator.integers(-2, 3, 7).astype(float)
        z = z_scores(curve.tolist(), range(8))
        if z is None:
            continue
        spans = all_spans(z, range(8), (2.0, 4.0), alpha=0, tau=0.25)
        best = 0.0
        for size in (1, 2, 3):
            for chosen in itertools.combinations(spans, size):
                ordered = sorted(chosen, key=lambda s: s.first)
                if all(a.last <= b.first for a, b in itertools.pairwise(ordered)):
                    best = max(best, sum(s.score for s in ordered))
        found = find_spans(
            curve, range(8), k=3, method="disjoint", max_seconds=4.0, smooth_seconds=0
        )
        assert sum(s.score for s in found) == pytest.approx(best, abs=1e-7)


def exact_curves(generator: np.random.Generator, number: int) -> list[Floats]:
    """Shuffled values whose mean is 0 and whose deviation a power of 2: z-scores without error."""
    decks = [[-1, 1], [4, -4, 0, 0, 0, 0, 0, 0], [1, -1] * 5 + [3, -3] * 3, [2, 0, 0, -2] * 2]
    decks[3] = [-1, -1, 1, 1]
    made = []
    for _ in range(number):
        deck = decks[int(generator.integers(0, 4))]
        cards = np.array(deck * int(generator.integers(1, 40 // len(deck) + 1)), np.float64)
        if generator.random() < 0.8:
            generator.shuffle(cards)
        made.append(cards)
    return made


@pytest.mark.parametrize("score", ["scan", "mean", "sum"])
@pytest.mark.parametrize("search", ["multiscale", "brute"])
def test_of_equal_spans_the_earliest_then_the_shortest(score: Any, search: Any) -> None:
    generator = np.random.default_rng(6)
    for curve in exact_curves(generator, 250):
        edges = [float(t) for t in range(len(curve) + 1)]
        z = z_scores(curve.tolist(), edges)
        assert z is not None
        least, most = random_limits(generator, edges)
        tau = float(generator.choice([0.0, 0.25, 1.0, -0.5]))
        spans = all_spans(z, edges, (least, most), alpha=ALPHAS[score], tau=tau)
        found = find_span(
            curve,
            edges,
            min_seconds=least,
            max_seconds=most,
            score=score,
            tau=tau,
            smooth_seconds=0,
            search=search,
        )
        if not spans:
            assert found is None
            continue
        best = best_of(spans)
        assert found is not None
        assert (found.frames, found.score) == ((best.first, best.last), best.score)


@pytest.mark.parametrize(("overlap", "tenths"), [(0.0, 0), (0.3, 3), (0.6, 6)])
def test_ties_among_further_spans(overlap: float, tenths: int) -> None:
    generator = np.random.default_rng(7)
    for curve in exact_curves(generator, 80):
        edges = [float(t) for t in range(len(curve) + 1)]
        z = z_scores(curve.tolist(), edges)
        assert z is not None
        spans = all_spans(z, edges, (1.0, None), alpha=0.5)
        wanted: list[Scored] = []
        while len(wanted) < 4 and spans:
            best = best_of(spans)
            wanted.append(best)
            kept = []
            for span in spans:
                common = min(span.last, best.last) - max(span.first, best.first)
                whole = max(span.last, best.last) - min(span.first, best.first)
                if common <= 0 or 10 * common <= tenths * whole:
                    kept.append(span)
            spans = kept
        found = find_spans(curve, edges, k=4, overlap=overlap, min_seconds=1, smooth_seconds=0)
        assert [s.frames for s in found] == [(s.first, s.last) for s in wanted]


def hard_curves(count: int) -> dict[str, Floats]:
    """Curves that are hard for bounds: slopes, plateaus, many ties."""
    generator = np.random.default_rng(8)
    at = np.arange(count)
    return {
        "noise": generator.standard_normal(count),
        "walk": np.cumsum(generator.standard_normal(count)),
        "square": at // 30 % 2 * 1.0,
        "fast square": at % 2 * 1.0,
        "half": (at >= count // 2) * 1.0,
        "plateaus": np.repeat(generator.integers(0, 3, count), 25)[:count] * 1.0,
        "rising": at * 1.0,
        "falling": -1.0 * at,
        "spike": (at == count // 3) * 1.0,
        "hole": -1.0 * (at == count // 3),
        "sine": np.rint(3 * np.sin(at / 40)),
    }


@pytest.mark.parametrize("name", list(hard_curves(1)))
def test_long_curves_by_both_searches(name: str) -> None:
    for count in (500, 900):
        assert count > 4 * TOP_BLOCKS
        curve = hard_curves(count)[name]
        uneven = np.cumsum(np.random.default_rng(9).integers(1, 4, count + 1)) / 4
        cases: list[dict[str, Any]] = [
            {"times": np.arange(count) / 2.0, "score": "scan", "min_seconds": 0},
            {"times": uneven, "score": "scan", "novelty": uneven % 3},
            {"times": uneven, "score": "sum", "tau": 0.5, "max_seconds": 60, "novelty": uneven % 2},
            {"times": uneven, "score": "mean", "min_seconds": 9},
            {"times": uneven, "score": "mean", "min_seconds": 9, "tau": 5, "novelty": uneven % 3},
            {"times": uneven, "score": 0.9, "min_seconds": 9, "tau": 30},
            {"times": np.arange(count + 1), "score": 0.05, "smooth_seconds": 0},
            {"times": np.arange(count + 1), "score": 0.9, "min_seconds": 40, "max_seconds": 40},
        ]
        for case in cases[:: 1 if count == 500 else 3]:
            fast, slow = (find_span(curve, **case, search=s) for s in ("multiscale", "brute"))
            assert fast == slow
            assert fast is not None


@pytest.mark.parametrize("name", ["noise", "walk", "square", "fast square", "half", "hole"])
@pytest.mark.parametrize("score", ["scan", "sum", 0.7])
def test_many_spans_of_long_curves_by_both_searches(name: str, score: Any) -> None:
    curve, times = hard_curves(400)[name], np.arange(401.0)
    for overlap in (0.0, 0.6):
        fast, slow = (
            find_spans(
                curve, times, k=3, score=score, overlap=overlap, smooth_seconds=overlap, search=s
            )
            for s in ("multiscale", "brute")
        )
        assert fast == slow
        assert fast


def test_the_second_span_beside_a_hole_by_both_searches() -> None:
    curve = hard_curves(2000)["hole"]  # slopes, on which bounds drop little
    fast, slow = (find_spans(curve, range(2001), k=2, search=s) for s in ("multiscale", "brute"))
    assert fast == slow


def test_curves_that_lose_by_any_span_by_both_searches() -> None:
    generator = np.random.default_rng(16)
    for number in range(40):
        count = int(generator.integers(150, 400))
        arguments: dict[str, Any] = {
            "times": np.cumsum(generator.integers(1, 4, count + 1)),
            "score": "mean" if number % 2 else 0.9,
            "min_seconds": int(generator.choice([1, 20, 50])),
            "tau": 5,
            "novelty": generator.integers(0, 2, count + 1) if number % 8 < 5 else None,
        }
        curve = hard_curves(count)[("spike", "hole")[number // 2 % 2]]
        fast, slow = (
            find_spans(curve, **arguments, k=2, overlap=0, smooth_seconds=0, search=s)
            for s in ("multiscale", "brute")
        )
        assert fast == slow


def test_a_span_that_fits_no_frames_is_looked_for_in_vain() -> None:
    generator = np.random.default_rng(10)
    curve = generator.standard_normal(30_000)
    pairs = np.cumsum(np.tile([1.0, 1.4], 15_000))  # no three frames last 3.5 seconds
    for times in (np.arange(30_000.0), pairs):
        for score in ("scan", "sum"):
            assert find_span(curve, times, score=score, min_seconds=3.5, max_seconds=3.7) is None
        limits = {"min_seconds": 3.5, "max_seconds": 3.7}
        assert find_spans(curve, times, method="disjoint", **limits) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0.0, 1.0, -0.3, 1e9])
@pytest.mark.parametrize("times", [[0.0, 1, 2, 3, 4], [0.0, 1, 2, 5, 9]])
def test_a_constant_curve_gives_nothing(value: float, times: list[float]) -> None:
    for dtype in (np.float32, np.float64):
        curve = np.full(4, value, dtype)
        for smooth_seconds in (0.0, 1.0):
            assert find_span(curve, times, min_seconds=0, smooth_seconds=smooth_seconds) is None
        assert find_spans(curve, times) == []
        assert find_spans(curve, times, method="disjoint", novelty=range(5)) == []


def test_a_video_shorter_than_the_least_length_gives_nothing() -> None:
    assert find_span([0.0, 1.0], [0.0, 0.5, 1.0]) is None
    assert find_span([0.5], [0.0]) is None
    assert find_span(CURVE, TIMES, min_seconds=1e300) is None
    assert find_spans(CURVE, TIMES, min_seconds=8.1) == []
    assert find_spans(CURVE, TIMES, min_seconds=8.1, method="disjoint") == []
    whole = find_span(CURVE, TIMES, min_seconds=8)
    assert whole is not None
    assert (whole.frames, whole.contrast) == ((0, 8), 0.0)


def test_a_clear_event_is_found() -> None:
    generator = np.random.default_rng(11)
    curve = 0.2 + 0.03 * generator.standard_normal(400)
    curve[120:150] += 0.1
    curve[300:320] += 0.12
    times = np.arange(400) / 2
    spans = find_spans(curve, times, overlap=0)[:2]
    edges = [edge for span in sorted(spans, key=lambda s: s.start) for edge in span.frames]
    assert edges == pytest.approx([120, 150, 300, 320], abs=2)
    assert all(s.similarity > 0.28 and s.contrast > 0.07 for s in spans)
    assert find_span(curve, times) == spans[0]


def test_the_plain_mean_is_no_longer_than_twice_the_least_length() -> None:
    generator = np.random.default_rng(12)
    for _ in range(50):
        span = find_span(generator.random(60), range(61), score="mean", min_seconds=5)
        assert span is not None
        assert 5 <= span.end - span.start < 10


def test_a_still_does_not_smooth_what_comes_after_it() -> None:
    times = [0.0, *range(600, 661)]  # ten minutes of one frame, then one a second
    curve = np.zeros(61)
    curve[21:41] = 1.0
    span = find_span(curve, times, min_seconds=1, score="sum", tau=3, smooth_seconds=1)
    assert span is not None
    assert (span.start, span.end) == (620.0, 640.0)


def test_value_scale_and_offset_do_not_matter() -> None:
    generator = np.random.default_rng(13)
    for _ in range(60):
        curve, times = generator.standard_normal(50), random_times(generator, 50)
        span = find_span(curve, times)
        for scale, offset in ((1e-4, 0.0), (1e4, -7.0), (0.01, 0.25)):
            other = find_span(scale * curve + offset, times)
            if span is None or other is None:
                assert span is other
                continue
            assert other.frames == span.frames
            assert other.score == pytest.approx(span.score, rel=1e-6)
            assert other.similarity == pytest.approx(scale * span.similarity + offset, abs=1e-6)


def test_a_curve_of_tiny_differences_is_searched_exactly() -> None:
    generator = np.random.default_rng(14)
    curve = generator.integers(0, 64, 5000) / 2.0**20
    span, near = (find_span(curve + offset, range(5001)) for offset in (0.0, 1000.0))
    assert span is not None
    assert near is not None
    assert near.frames == span.frames
    assert near.score == pytest.approx(span.score, rel=1e-7)


def test_the_time_origin_does_not_matter() -> None:
    generator = np.random.default_rng(15)
    for _ in range(40):
        curve = generator.standard_normal(40)
        edges = np.cumsum(generator.integers(1, 5, 41)) / 4
        here, there = find_span(curve, edges), find_span(curve, edges + 2.0**20)
        assert here is not None
        assert there is not None
        assert there.frames == here.frames
        assert there.score == here.score
        assert (there.start, there.end) == (here.start + 2.0**20, here.end + 2.0**20)


def test_without_an_end_the_last_frame_lasts_the_median() -> None:
    times = [0.0, 1.0, 2.0, 3.0, 13.0]
    curve = [0.0, 0.0, 0.0, 0.0, 1.0]
    span = find_span(curve, times, min_seconds=0, smooth_seconds=0)
    assert span is not None
    assert (span.start, span.end) == (13.0, 14.0)
    assert find_span(curve, [*times, 14.0], min_seconds=0, smooth_seconds=0) == span


@pytest.mark.parametrize("method", ["scan", "disjoint"])
def test_any_kind_of_array_will_do_and_none_is_changed(method: Any) -> None:
    curve = CURVE.astype(np.float32).astype(np.float64)
    wanted = find_spans(curve, TIMES, method=method, novelty=CURVE[[0, *range(8)]])
    assert wanted
    wide = np.repeat(curve, 3)
    strided, backwards = wide[::3], curve[::-1].copy()[::-1]
    frozen = curve.copy()
    frozen.flags.writeable = False
    novelty, times = CURVE[[0, *range(8)]], TIMES.copy()
    novelty.flags.writeable = times.flags.writeable = False
    for given in (curve.tolist(), curve.astype(np.float32), strided, backwards, frozen):
        before = np.array(given)
        assert find_spans(given, times, method=method, novelty=novelty) == wanted
        assert np.array_equal(before, given)
    assert find_spans(curve, TIMES.tolist(), method=method, novelty=novelty.tolist()) == wanted
    assert find_spans(curve, np.arange(9), method=method, novelty=novelty) == wanted
    before = curve.copy()
    find_spans(curve, TIMES, method=method, smooth_seconds=0)
    find_spans(curve, TIMES, method=method, step_seconds=2)
    assert np.array_equal(curve, before)


@pytest.mark.parametrize(
    ("curve", "times", "message"),
    [
        ([0.0, math.nan, 1.0], range(4), "nan at frame 1"),
        ([0.0, 1.0, math.inf], range(4), "inf at frame 2"),
        ([-math.inf, math.inf, 1.0], range(4), "-inf at frame 0"),
        ([], [], r"shape \(0,\)"),
        ([], [0.0], r"shape \(0,\)"),
        ([[0.0, 1.0]], range(3), r"shape \(1, 2\)"),
        (0.5, range(2), r"shape \(\)"),
        ([0.0, 1.0, 2.0], range(3 + 2), r"times of shape \(5,\) for 3 frames"),
        ([0.0, 1.0, 2.0], [0.0, 1.0], r"times of shape \(2,\) for 3 frames"),
        ([0.0, 1.0, 2.0], [[0.0, 1.0, 2.0]], r"times of shape \(1, 3\)"),
        ([0.0, 1.0, 2.0], [0.0, 2.0, 1.0, 3.0], r"frame 1 is from 2.0 to 1.0"),
        ([0.0, 1.0, 2.0], [0.0, 1.0, 1.0, 3.0], r"frame 1 is from 1.0 to 1.0"),
        ([0.0, 1.0, 2.0], [0.0, math.nan, 1.0, 3.0], r"frame 0 is from 0.0 to nan"),
        ([0.0, 1.0, 2.0], [0.0, 1.0, 2.0, math.inf], r"frame \d is from .*inf"),
        ([0.0, 1.0, 2.0], [0.0, 1.0, math.inf, math.inf], r"frame \d is from .*inf"),
        ([0.0, 1.0, 2.0], [0.0, 1e9, 3e9, 5e9], r"times from 0 to 5e\+09: .* seconds"),
    ],
)
def test_a_bad_curve_says_what_is_wrong(curve: Any, times: Any, message: str) -> None:
    for function in (find_span, find_spans):
        with pytest.raises(UsageError, match=message):
            function(curve, times)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_seconds": 3, "max_seconds": 2}, "max_seconds 2: use at least min_seconds, 3"),
        ({"min_seconds": 0, "max_seconds": 0}, "max_seconds 0"),
        ({"max_seconds": math.nan}, "max_seconds nan"),
        ({"min_seconds": -1}, "min_seconds -1"),
        ({"min_seconds": math.nan}, "min_seconds nan"),
        ({"min_seconds": math.inf}, "min_seconds inf"),
        ({"score": "mean", "min_seconds": 0}, "mean needs min_seconds"),
        ({"score": 1, "min_seconds": 0}, "mean needs min_seconds"),
        ({"score": "best"}, "score 'best': use scan, mean, sum"),
        ({"score": 1.5}, "score 1.5"),
        ({"score": -0.1}, "score -0.1"),
        ({"score": math.nan}, "score nan"),
        ({"tau": math.nan}, "tau nan: use a number from -1e.06 to 1e.06"),
        ({"smooth_seconds": -1}, "smooth_seconds -1: use a number from 0 to"),
        ({"smooth_seconds": math.inf}, "smooth_seconds inf"),
        ({"beta": -1}, "beta -1"),
        ({"beta": math.nan}, "beta nan"),
        ({"step_seconds": 0}, "steps of 0"),
        ({"step_seconds": math.nan}, "steps of nan"),
        ({"search": "fast"}, "search 'fast': use multiscale or brute"),
        ({"novelty": np.zeros(8)}, r"novelty of shape \(8,\) for 8 frames"),
        ({"novelty": [0.0] * 4 + [math.nan] + [0.0] * 4}, "novelty is not finite"),
    ],
)
def test_bad_arguments_say_what_is_allowed(arguments: dict[str, Any], message: str) -> None:
    for function in (find_span, find_spans):
        with pytest.raises(UsageError, match=message):
            function(CURVE, TIMES, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k 0"),
        ({"overlap": 1}, "overlap 1"),
        ({"overlap": -0.1}, "overlap -0.1"),
        ({"overlap": math.nan}, "overlap nan"),
        ({"method": "greedy"}, "method 'greedy': use scan or disjoint"),
        ({"tau": math.inf}, "tau inf"),
    ],
)
def test_bad_arguments_of_many_spans(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_spans(CURVE, TIMES, **arguments)


def test_a_spec_knows_its_power() -> None:
    assert [SpanSpec(score=s).alpha for s in ("scan", "mean", "sum", 0.3)] == [0.5, 1.0, 0.0, 0.3]


def test_limits_allow_for_times_that_are_not_exact() -> None:
    times = np.arange(31) / 10  # 0.3 - 0.1 is less than 0.2
    curve = np.zeros(30)
    curve[1:3] = 1.0
    span = find_span(curve, times, min_seconds=0.2, max_seconds=0.2, smooth_seconds=0)
    assert span is not None
    assert span.frames == (1, 3)
    assert lawful(span.end - span.start, 0.2, 0.2)
