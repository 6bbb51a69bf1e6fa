"""Texts in order against all ways to place them; joint intervals against the vectors themselves."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from clipsearch.errors import UsageError
from clipsearch.search import table
from clipsearch.search.align import align, find_interval, joint_curve
from clipsearch.search.spans import find_span
from clipsearch.types import Span
from tests.naive_spans import (
    Floats,
    Scored,
    all_spans,
    bonus_of,
    edges_of,
    lengths_of,
    random_curve,
    random_limits,
    random_times,
    smooth,
    z_scores,
)

ROWS = np.array(
    [[0.9, 0.8, 0.1, 0.0, 0.1, 0.2, 0.1, 0.0], [0.1, 0.0, 0.2, 0.1, 0.3, 0.9, 0.8, 0.1]]
)
TIMES = np.arange(9.0)
IMPOSSIBLE = -math.inf

Spans = list[Scored] | None  # of one text; None: its row says nothing


def most_of_script(texts: Sequence[Spans], skip: float | None, count: int) -> float:
    """What the best placing of all texts gains: all placings."""
    starting: list[dict[int, list[Scored]]] = []
    for spans in texts:
        starting.append({})
        for span in spans or []:
            starting[-1].setdefault(span.first, []).append(span)

    @functools.cache
    def most(k: int, at: int) -> float:
        if k == len(texts):
            return 0.0
        if texts[k] is None:
            return most(k + 1, at)
        ways = [IMPOSSIBLE if skip is None else most(k + 1, at) - skip]
        if at < count:
            ways.append(most(k, at + 1))
            ways += [s.score + most(k + 1, s.last) for s in starting[k].get(at, [])]
        return max(ways)

    return most(0, 0)


def check_script(
    found: Sequence[Span | None],
    texts: Sequence[Spans],
    skip: float | None,
    edges: Sequence[float],
    rows: Sequence[Sequence[float]],
) -> None:
    """The spans are lawful, in order and apart; they gain the most, each what it says."""
    assert len(found) == len(texts)
    gained = 0.0
    for span, spans, row in zip(found, texts, rows, strict=True):
        if span is None:
            assert spans is None or skip is not None
            gained -= 0.0 if spans is None or skip is None else skip
            continue
        assert spans is not None
        mine = [s for s in spans if (s.first, s.last) == span.frames]
        assert mine
        assert span.score == pytest.approx(mine[0].score, abs=1e-7)
        first, last = span.frames
        assert (span.start, span.end) == (edges[first], edges[last])
        lengths = lengths_of(edges)
        sums = [v * w for v, w in zip(row, lengths, strict=True)]
        inside = sum(sums[first:last]) / sum(lengths[first:last])
        assert span.similarity == pytest.approx(inside, abs=1e-9)
        if last - first < len(row):
            outside = (sum(sums[:first]) + sum(sums[last:])) / (
                sum(lengths[:first]) + sum(lengths[last:])
            )
            assert span.contrast == pytest.approx(inside - outside, abs=1e-7)
        else:
            assert span.contrast == 0
        gained += mine[0].score
    placed = [span for span in found if span is not None]
    assert all(a.end <= b.start for a, b in itertools.pairwise(placed))
    assert gained == pytest.approx(most_of_script(texts, skip, len(edges) - 1), abs=1e-7)


@pytest.mark.parametrize("cells", [2**26, 1])
def test_scripts_against_all_placings(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MOST_CELLS", cells)
    generator = np.random.default_rng(1)
    refused = 0
    for _ in range(600):
        count, texts = int(generator.integers(1, 13)), int(generator.integers(1, 6))
        rows = np.stack([random_curve(generator, count) for _ in range(texts)])
        times = random_times(generator, count)
        edges = edges_of(times, count)
        least, most = random_limits(generator, edges)
        taus = generator.choice([0.0, 0.5, 1.5, -0.5], texts)
        taus[1:] = taus[0] if generator.random() < 0.5 else taus[1:]
        novelty = generator.random(count + 1) if generator.random() < 0.4 else None
        bonus = None if novelty is None else bonus_of(novelty.tolist(), 0.3)
        skip = [None, 0.0, 0.7, 3.0, math.inf][int(generator.integers(0, 5))]
        seconds = float(generator.choice([0.0, 0.0, 1.0]))
        smoothed = [smooth(row, edges, seconds) for row in rows.tolist()]
        scored: list[Spans] = []
        for row, tau in zip(smoothed, taus, strict=True):
            z, limits = z_scores(row, edges), (least, most)
            spans = None if z is None else all_spans(z, edges, limits, tau=tau, bonus=bonus)
            scored.append(spans)
        arguments: dict[str, Any] = {"min_seconds": least, "max_seconds": most, "skip": skip}
        arguments |= {"tau": taus[0] if len(set(taus)) == 1 else taus, "smooth_seconds": seconds}
        arguments |= {"novelty": novelty, "beta": 0.3}
        if most_of_script(scored, None if skip is None else 1e6, count) == IMPOSSIBLE:
            refused += 1
            with pytest.raises(UsageError, match=f"{texts} texts of at least"):
                align(rows, times, **arguments)
            continue
        found = align(rows, times, **arguments)
        if skip == math.inf:
            skip = 1e6
        check_script(found, scored, skip, edges, rows.tolist())
    assert 50 < refused < 400


def test_a_long_script_in_parts_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(2)
    for texts in (1, 2, 3, 4, 5, 9, 10, 17, 40):
        rows = generator.standard_normal((texts, 300))
        rows[texts // 2] = 0.25 if texts > 3 else rows[texts // 2]
        times = np.cumsum(generator.integers(1, 4, 300)) / 2
        ways: list[dict[str, Any]] = [
            {},
            {"skip": 0.5},
            {"max_seconds": 6.0},
            {"tau": 0.2, "skip": 0.0},
        ]
        for arguments in ways:
            monkeypatch.setattr(table, "MOST_CELLS", 2**26)
            whole = align(rows, times, **arguments)
            monkeypatch.setattr(table, "MOST_CELLS", 100)
            assert align(rows, times, **arguments) == whole


def test_one_text_is_the_span_of_the_largest_sum() -> None:
    generator = np.random.default_rng(3)
    for _ in range(100):
        curve, times = generator.standard_normal(200), random_times(generator, 200)
        wanted = find_span(curve, times, score="sum", tau=0.5, smooth_seconds=1, max_seconds=20)
        assert wanted is not None
        found = align([curve], times, tau=0.5, smooth_seconds=1, max_seconds=20)[0]
        assert found is not None
        assert found.score == pytest.approx(wanted.score, abs=1e-7)


def test_without_tau_it_is_halfway_up_the_best_span_of_each_text() -> None:
    generator = np.random.default_rng(9)
    for seconds in (0.0, 1.5):
        rows, times = generator.standard_normal((3, 60)), random_times(generator, 60)
        rows[1] = 0.2
        edges = edges_of(times, 60)
        taus = []
        for row in [smooth(row, edges, seconds) for row in rows.tolist()]:
            span, z = find_span(row, times, smooth_seconds=0), z_scores(row, edges)
            if span is None or z is None:
                taus.append(1.5)
                continue
            of_z = find_span(z, times, smooth_seconds=0)
            assert of_z is not None
            taus.append(of_z.similarity - of_z.contrast / 2)
        found = align(rows, times, tau=None, smooth_seconds=seconds)
        wanted = align(rows, times, tau=taus, smooth_seconds=seconds)
        assert [s and s.frames for s in found] == [s and s.frames for s in wanted]
        for one, other in zip(found, wanted, strict=True):
            if one is not None and other is not None:
                assert one.score == pytest.approx(other.score, abs=1e-6)


def test_the_order_of_the_script_decides() -> None:
    found = align(ROWS, TIMES)
    assert [s and s.frames for s in found] == [(0, 2), (5, 7)]
    assert [s and (s.start, s.end) for s in found] == [(0.0, 2.0), (5.0, 7.0)]
    backwards = align(ROWS[::-1], TIMES)
    assert backwards != found[::-1]
    assert sum(s is None for s in align(ROWS[::-1], TIMES, skip=0, tau=0.5)) == 1


def test_a_constant_text_is_left_out_at_no_cost() -> None:
    rows = np.stack([ROWS[0], np.full(8, 0.3), ROWS[1]])
    for skip in (None, 0.0, 5.0):
        found = align(rows, TIMES, skip=skip)
        assert found[1] is None
        assert [found[0], found[2]] == align(ROWS, TIMES, skip=skip)
    assert align(np.zeros((3, 8)), TIMES) == [None] * 3
    assert align(np.zeros((0, 8)), TIMES) == []


def test_texts_that_do_not_fit_are_refused_or_left_out() -> None:
    rows = np.tile(ROWS, (3, 1))
    with pytest.raises(UsageError, match="6 texts of at least 2 seconds do not fit a video of 8 "):
        align(rows, TIMES)
    with pytest.raises(UsageError, match=r"2 texts of at least 5 seconds .* 8 frames, 8 seconds"):
        align(ROWS, TIMES, min_seconds=5)
    uneven = np.append(TIMES[:-1], 7.5)
    with pytest.raises(UsageError, match=r"6 texts of at least 2 seconds .* 8 frames, 7.5 seconds"):
        align(rows, uneven)
    with pytest.raises(UsageError, match="do not fit"):
        align(ROWS, TIMES, min_seconds=2.3, max_seconds=2.7)
    assert align(ROWS, TIMES, min_seconds=2.3, max_seconds=2.7, skip=1) == [None, None]
    assert len([s for s in align(rows, TIMES, skip=math.inf) if s]) == 4
    assert align(ROWS, TIMES, min_seconds=9, skip=1) == [None, None]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int64])
def test_narrow_numbers_are_summed_as_wide_ones(dtype: Any) -> None:
    generator = np.random.default_rng(4)
    rows = (1000 + 5 * generator.standard_normal((4, 5000))).astype(dtype)
    for times in (np.arange(5001.0), np.cumsum(generator.integers(1, 4, 5001)) / 2):
        assert align(rows, times) == align(rows.astype(np.float64), times)


def test_any_kind_of_array_will_do_and_none_is_changed() -> None:
    rows = ROWS.astype(np.float32).astype(np.float64)
    wanted = align(rows, TIMES)
    frozen, strided = rows.copy(), np.repeat(rows, 2, axis=1)[:, ::2]
    frozen.flags.writeable = False
    for given in (rows.tolist(), rows.astype(np.float32), np.asfortranarray(rows), strided, frozen):
        before = np.array(given)
        assert align(given, TIMES) == wanted
        assert align(given, TIMES[:-1].tolist()) == wanted
        assert align(given, TIMES, smooth_seconds=1) == align(rows, TIMES, smooth_seconds=1)
        assert np.array_equal(before, given)


def test_scale_offset_and_time_origin_do_not_matter() -> None:
    generator = np.random.default_rng(5)
    for _ in range(30):
        rows = generator.standard_normal((5, 80))
        times = np.cumsum(generator.integers(1, 4, 81)) / 4
        frames = [s and s.frames for s in align(rows, times, skip=1.0)]
        moved = rows * generator.choice([1e-3, 10.0, 500.0], (5, 1)) + generator.normal(size=(5, 1))
        assert [s and s.frames for s in align(moved, times, skip=1.0)] == frames
        later = align(rows, times + 2.0**16, skip=1.0)
        assert [s and s.frames for s in later] == frames


@pytest.mark.parametrize(
    ("rows", "times", "message"),
    [
        ([[0.0, math.nan, 1.0]], range(4), "nan at frame 1"),
        ([[0.0, 1.0, 2.0], [0.0, 1.0, -math.inf]], range(4), "-inf at frame 2"),
        ([[math.inf, -math.inf, 1.0]], range(4), "inf at frame 0"),
        ([0.0, 1.0], range(3), r"shape \(2,\): need \(texts, frames\)"),
        ([], [], r"shape \(0,\)"),
        ([[]], [], r"shape \(1, 0\)"),
        ([[0.0, 1.0, 2.0]], range(6), r"times of shape \(6,\) for 3 frames"),
        ([[0.0, 1.0, 2.0]], [0.0, 1.0, 0.5], "frame 1 is from 1.0 to 0.5"),
    ],
)
def test_bad_rows_say_what_is_wrong(rows: Any, times: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        align(rows, times)
    with pytest.raises(UsageError, match=message):
        find_interval(rows, np.eye(len(rows)), times)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tau": math.nan}, "tau nan"),
        ({"tau": math.inf}, "tau inf"),
        ({"tau": [1.0, 2.0, 3.0]}, "for each of 2 texts"),
        ({"tau": [1.0, math.nan]}, "tau .*: use one number from"),
        ({"novelty": [0.0]}, r"novelty of shape \(1,\)"),
        ({"beta": -1}, "beta -1"),
        ({"skip": -1}, "skip -1"),
        ({"skip": math.nan}, "skip nan"),
        ({"smooth_seconds": -1}, "smooth_seconds -1"),
        ({"min_seconds": -1}, "min_seconds -1"),
        ({"min_seconds": 3, "max_seconds": 2}, "max_seconds 2: use at least min_seconds, 3"),
    ],
)
def test_bad_arguments_say_what_is_allowed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        align(ROWS, TIMES, **arguments)


def vectors_of(generator: np.random.Generator, count: int, dim: int = 6) -> Floats:
    rows = generator.standard_normal((count, dim))
    unit: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def cosines_to_mean(texts: Floats, frames: Floats) -> list[float]:
    """Of each frame to the mean of the texts' vectors, one number at a time."""
    mean = [sum(column) / len(texts) for column in texts.T.tolist()]
    norm = math.sqrt(sum(x * x for x in mean))
    return [sum(a * b for a, b in zip(mean, f, strict=True)) / norm for f in frames.tolist()]


def test_the_joint_curve_is_the_cosine_to_the_mean_of_the_texts() -> None:
    generator = np.random.default_rng(6)
    for _ in range(300):
        texts = vectors_of(generator, int(generator.integers(1, 9)))
        frames = vectors_of(generator, int(generator.integers(1, 40)))
        first = int(generator.integers(0, len(texts)))
        run = slice(first, int(generator.integers(first + 1, len(texts) + 1)))
        joined = joint_curve(texts @ frames.T, texts @ texts.T, run)
        assert joined is not None
        assert joined.tolist() == pytest.approx(cosines_to_mean(texts[run], frames), abs=1e-9)


def test_texts_that_cancel_out_have_no_joint_curve() -> None:
    texts = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    frames = vectors_of(np.random.default_rng(7), 20, 2)
    rows, gram = texts @ frames.T, texts @ texts.T
    assert joint_curve(rows, gram, slice(0, 2)) is None
    assert joint_curve(rows, gram, slice(0, 3)) is not None
    assert find_interval(rows[:2], gram[:2, :2], range(21)) is not None


def test_the_interval_of_texts_against_all_of_them() -> None:
    generator = np.random.default_rng(8)
    for _ in range(150):
        count, size = int(generator.integers(1, 16)), int(generator.integers(1, 6))
        texts, frames = vectors_of(generator, size), vectors_of(generator, count)
        times = random_times(generator, count)
        edges = edges_of(times, count)
        limits = random_limits(generator, edges)
        widest = int(generator.integers(1, 6))
        score: Any = ["scan", "mean", "sum", 0.25][int(generator.integers(0, 4))]
        alpha = {"scan": 0.5, "mean": 1.0, "sum": 0.0}.get(score, 0.25)
        spans: dict[tuple[int, int], list[Scored]] = {}
        for first, last in itertools.combinations(range(size + 1), 2):
            z = None
            if last - first <= widest:
                z = z_scores(cosines_to_mean(texts[first:last], frames), edges)
            spans[first, last] = [] if z is None else all_spans(z, edges, limits, alpha=alpha)
        found = find_interval(
            texts @ frames.T,
            texts @ texts.T,
            times,
            max_texts=widest,
            min_seconds=limits[0],
            max_seconds=limits[1],
            score=score,
            smooth_seconds=0,
        )
        scores = [s.score for each in spans.values() for s in each]
        if not scores:
            assert found is None
            continue
        assert found is not None
        run, span = found
        mine = [s for s in spans[run.start, run.stop] if (s.first, s.last) == span.frames]
        assert mine[0].score == pytest.approx(max(scores), abs=1e-7)
        assert span.score == pytest.approx(max(scores), abs=1e-7)
        inside = cosines_to_mean(texts[run], frames)[slice(*span.frames)]
        weights = lengths_of(edges)[slice(*span.frames)]
        assert span.similarity == pytest.approx(np.average(inside, weights=weights), abs=1e-9)


def test_of_equal_runs_the_first_and_shortest() -> None:
    rows = np.tile(ROWS[:1], (4, 1))  # the same text four times
    found = find_interval(rows, np.ones((4, 4)), TIMES)
    assert found is not None
    assert found[0] == slice(0, 1)
    assert found[1] == find_span(ROWS[0], TIMES)


def test_no_interval_where_nothing_stands_out() -> None:
    assert find_interval(np.full((3, 8), 0.2), np.eye(3), TIMES) is None
    assert find_interval(np.zeros((0, 8)), np.zeros((0, 0)), TIMES) is None
    assert find_interval(ROWS, np.eye(2), TIMES, min_seconds=9) is None


@pytest.mark.parametrize(
    ("gram", "arguments", "message"),
    [
        (np.eye(3), {}, r"gram of shape \(3, 3\) for 2 texts"),
        (np.ones(2), {}, r"gram of shape \(2,\) for 2 texts"),
        ([[1.0, math.nan], [0.0, 1.0]], {}, r"gram of shape \(2, 2\) for 2 texts: need finite"),
        (np.eye(2), {"max_texts": 0}, "max_texts 0"),
        (np.eye(2), {"score": "best"}, "score 'best'"),
        (np.eye(2), {"min_seconds": 4, "max_seconds": 3}, "max_seconds 3"),
        (np.eye(2), {"novelty": [0.0]}, r"novelty of shape \(1,\)"),
    ],
)
def test_bad_intervals_say_what_is_wrong(gram: Any, arguments: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_interval(ROWS, gram, TIMES, **arguments)
    if not arguments:
        with pytest.raises(UsageError, match=message):
            joint_curve(ROWS, gram, slice(0, 1))
