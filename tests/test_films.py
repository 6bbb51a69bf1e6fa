"""Frames of a video on a grid of time: gaps, curves, and where the picture changes."""

from __future__ import annotations

import numpy as np
import pytest

from clipsearch.errors import UsageError
from clipsearch.eval import iou
from clipsearch.search import films
from clipsearch.search.films import Film, novelty_of
from clipsearch.search.spans import find_spans
from clipsearch.types import VideoFrames
from tests.vectors import unit_rows


def frames(vectors, starts, ends):
    return VideoFrames(vectors, np.array(starts, np.float64), np.array(ends, np.float64))


def novelty_at(vectors, edges, at, seconds):
    """By going through the time before and after in small steps."""
    sides = []
    for low, high in ((edges[at] - seconds, edges[at]), (edges[at], edges[at] + seconds)):
        total = np.zeros(vectors.shape[1])
        for vector, start, end in zip(vectors, edges[:-1], edges[1:], strict=True):
            total += vector * max(0.0, min(end, high) - max(start, low))
        sides.append(total)
    norms = np.linalg.norm(sides[0]) * np.linalg.norm(sides[1])
    return 1 - sides[0] @ sides[1] / norms if norms > 1e-9 else 1.0


@pytest.mark.parametrize("regular", [True, False])
@pytest.mark.parametrize("block", [3, 512])
def test_novelty_is_what_a_slow_loop_says(regular, block, monkeypatch):
    monkeypatch.setattr(films, "BLOCK_EDGES", block)
    rng = np.random.default_rng(5)
    for count in (1, 2, 3, 17, 40):
        vectors = unit_rows(count, count)
        vectors[rng.random(count) < 0.2] = 0
        lengths = np.full(count, 0.5) if regular else rng.uniform(0.1, 3, count)
        edges = np.append(0, np.cumsum(lengths)) + 7
        for seconds in (0.4, 2.0, 100.0):
            found = novelty_of(vectors, edges, seconds)
            assert found[0] == found[-1] == 0
            wanted = [novelty_at(vectors, edges, at, seconds) for at in range(1, count)]
            np.testing.assert_allclose(found[1:-1], wanted, atol=1e-5)


def test_novelty_does_not_lose_precision_in_a_long_video():
    vectors = np.repeat(unit_rows(2, 1), 3000, axis=0)
    found = novelty_of(vectors, np.arange(6001.0))
    assert int(np.argmax(found)) == 3000
    assert np.abs(np.delete(found, range(2998, 3003))).max() < 1e-4


def test_a_gap_is_a_cell_that_is_neither_like_a_text_nor_unlike_it():
    vectors = unit_rows(4, 2)
    film = Film(frames(vectors, [0, 1, 5, 6], [1, 2, 6, 9]))
    np.testing.assert_array_equal(film.edges, [0, 1, 2, 5, 6, 9])
    np.testing.assert_array_equal(film.numbers, [0, 1, -1, 2, 3])
    query = unit_rows(3, 4)
    scores = query @ vectors.T
    mean = (scores @ [1, 1, 1, 3] / 6)[:, None]
    wanted = np.hstack([scores[:, :2], mean, scores[:, 2:]])
    np.testing.assert_allclose(film.curves(query), wanted, atol=1e-6)


def black_in_the_middle():
    """Ten frames of which the last four are alike, with 14 s of black before these."""
    vectors = np.vstack([unit_rows(1, 1).repeat(6, 0), unit_rows(1, 9).repeat(4, 0)])
    starts = [0, 1, 2, 3, 4, 5, 20, 21, 22, 23]
    return Film(frames(vectors, starts, [start + 1 for start in starts])), vectors


def test_the_time_that_a_gap_takes_does_not_move_a_span():
    film, vectors = black_in_the_middle()
    [curve] = film.curves(vectors[-1:])
    [span] = film.spans(curve, k=1, smooth_seconds=0)
    assert (span.start, span.end, span.frames) == (20, 24, (7, 11))
    assert film.in_frames(span).frames == (6, 10)
    assert film.moment(span, curve) == 20


def test_black_is_never_what_is_found():
    """Whatever is looked for, and though the picture changes at its ends."""
    rng = np.random.default_rng(11)
    for seed in range(60):
        vectors = unit_rows(60, seed)
        starts = np.arange(60.0) + np.where(np.arange(60) >= 30, 6, 0)
        film = Film(frames(vectors, starts, starts + 1))
        curve = film.curves(unit_rows(1, seed + 1000))[0]
        curve[45:52] += 0.3 * rng.random()
        spans = film.spans(curve, k=3)
        assert spans
        for span in spans:
            assert film.numbers[span.frames[0]] >= 0
            assert film.numbers[span.frames[1] - 1] >= 0
            assert span.contrast > 0


def test_black_at_the_ends_of_a_span_is_left_out():
    film, vectors = black_in_the_middle()
    [curve] = film.curves(vectors[-1:])
    assert film.seen((6, 7), curve) is None
    span = film.seen((6, 9), curve, score=3.0)
    assert span is not None
    assert (span.start, span.end, span.frames, span.score) == (20, 22, (7, 9), 3.0)
    assert span.similarity == pytest.approx(1)
    others = (6 * float(vectors[0] @ vectors[-1]) + 2) / 8
    assert span.contrast == pytest.approx(1 - others, abs=1e-6)


def test_what_does_not_stand_out_makes_room_for_what_does():
    """Changes of the picture alone make no span, and hide none."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        shots = np.repeat(unit_rows(12, seed), 10, axis=0)
        film = Film(frames(shots, np.arange(120.0), np.arange(120.0) + 1))
        curve = rng.normal(0, 0.02, 120)
        curve[60:63] += 0.02
        one, five = film.spans(curve, k=1), film.spans(curve, k=5, overlap=0.0)
        assert len(one) == 1
        assert one[0].contrast > 0
        assert one[0] == five[0]


def test_frames_that_are_never_on_display_do_not_count():
    vectors = unit_rows(3, 6)
    film = Film(frames(vectors, [0, 1, 1], [1, 1, 2]))
    np.testing.assert_array_equal(film.numbers, [0, 2])
    np.testing.assert_array_equal(film.edges, [0, 1, 2])


def test_a_video_without_frames_is_refused():
    with pytest.raises(UsageError, match="no frames"):
        Film(frames(np.zeros((0, 4), np.float32), [], []))


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(UsageError, match="2 frames with 3 starts"):
        frames(unit_rows(2, 1), [0, 1, 2], [1, 2, 3])


def test_what_is_left_without_black_is_lawful():
    rng = np.random.default_rng(4)
    for seed in range(60):
        starts = np.arange(40.0)
        for gap in rng.integers(1, 40, 3):
            starts[gap:] += 5
        film = Film(frames(unit_rows(40, seed), starts, starts + 1))
        [curve] = film.curves(unit_rows(1, seed + 500))
        least = float(rng.choice([2, 5]))
        spans = film.spans(curve, k=5, min_seconds=least, overlap=0.5)
        assert len({(span.start, span.end) for span in spans}) == len(spans)
        for number, span in enumerate(spans):
            assert span.end - span.start >= least - 1e-6
            assert all(iou([span], [other])[0, 0] <= 0.5 + 1e-6 for other in spans[:number])


def test_disjoint_spans_are_those_that_were_asked_for():
    curve = np.zeros(60)
    curve[10:20], curve[20:24], curve[24:34] = 0.5, 0.1, 0.5
    film = Film(frames(unit_rows(1, 1).repeat(60, 0), np.arange(60.0), np.arange(60.0) + 1))
    for k in (1, 2, 5):
        wanted = find_spans(curve, film.edges, k=k, method="disjoint", novelty=film.novelty)
        found = film.spans(curve, k=k, method="disjoint")
        assert [(s.start, s.end) for s in found] == [(s.start, s.end) for s in wanted]


@pytest.mark.parametrize("k", [0, -1, 2.5])
def test_a_number_of_spans_that_is_none_is_refused(k):
    film, vectors = black_in_the_middle()
    with pytest.raises(UsageError, match="k "):
        film.spans(film.curves(vectors[-1:])[0], k=k)
