"""The best spans over all videos of an index."""

from __future__ import annotations

import numpy as np
import pytest

from clipsearch.errors import UsageError
from clipsearch.search import whole
from clipsearch.search.films import Film
from clipsearch.search.retrieve import SearchSpec
from clipsearch.search.whole import best_mean, search
from clipsearch.store.selection import Selection
from clipsearch.store.store import Store
from clipsearch.types import VideoFrames
from tests.test_retrieve import QUERY, scoring, store_of
from tests.vectors import image, manifest, unit_rows, video

SPANS = SearchSpec(kinds=("span",))


def found(store, **options):
    spec = SearchSpec(**{"kinds": ("span",), **options})
    return [
        (hit.path.name, hit.start, hit.end, round(hit.score, 2))
        for hit in search(store, QUERY, spec)
    ]


def event(start, length, count, high=0.8, low=0.0):
    """Frames of which a run scores high."""
    return scoring(*[high if start <= n < start + length else low for n in range(count)])


def test_spans_of_all_videos_are_ranked_by_their_mean(tmp_path):
    store = store_of(
        tmp_path,
        video("good.mp4", event(10, 5, 40, high=0.8)),
        video("better.mp4", event(3, 8, 30, high=0.9)),
        image("still.jpg", scoring(0.99)),
    )
    assert found(store) == [("better.mp4", 3.0, 11.0, 0.9), ("good.mp4", 10.0, 15.0, 0.8)]
    assert found(store, top=1) == [("better.mp4", 3.0, 11.0, 0.9)]
    assert found(store, min_cosine=0.85) == [("better.mp4", 3.0, 11.0, 0.9)]
    assert found(store, min_cosine=0.85, exact=True) == [("better.mp4", 3.0, 11.0, 0.9)]


def test_a_hit_has_the_kind_and_the_best_moment(tmp_path):
    store = store_of(tmp_path, video("a.mp4", scoring(0, 0, 0, 0.7, 0.75, 0.9, 0.8, 0, 0, 0)))
    [hit] = search(store, QUERY, SPANS)
    assert (hit.kind, hit.start, hit.end, hit.moment) == ("span", 3.0, 7.0, 5.0)
    assert hit.score == pytest.approx((0.7 + 0.75 + 0.9 + 0.8) / 4, abs=1e-3)


def test_two_events_are_two_hits_and_near_ones_are_one(tmp_path):
    low = [0.0] * 20
    high = [0.8] * 6
    store = store_of(tmp_path, video("a.mp4", scoring(*low, *high, *low, *high, *low)))
    assert found(store) == [("a.mp4", 20.0, 26.0, 0.8), ("a.mp4", 46.0, 52.0, 0.8)]
    [(_, start, end, score)] = found(store, merge_gap_seconds=20.0)
    assert (start, end) == (20.0, 52.0)
    assert score == pytest.approx(0.8 * 12 / 32, abs=0.01)


def test_what_stands_out_less_than_halfway_is_no_hit(tmp_path):
    low = [0.0] * 20
    curve = scoring(*low, *[0.8] * 6, *low, *[0.3] * 6, *low)
    assert found(store_of(tmp_path, video("a.mp4", curve))) == [("a.mp4", 20.0, 26.0, 0.8)]


def test_a_video_that_matches_all_along_is_one_span(tmp_path):
    store = store_of(
        tmp_path,
        video("still.mp4", scoring(0.9)),
        video("same.mp4", scoring(0.5).repeat(30, axis=0)),
        video("event.mp4", event(5, 5, 30, high=0.7)),
    )
    assert found(store) == [
        ("still.mp4", 0.0, 1.0, 0.9),
        ("event.mp4", 5.0, 10.0, 0.7),
        ("same.mp4", 0.0, 30.0, 0.5),
    ]


@pytest.mark.parametrize("top", [1, 3, 10, 200])
def test_the_candidates_are_those_of_all_videos(tmp_path, top):
    """The scan of a flat index misses no frame, so no video is missed either."""
    rng = np.random.default_rng(top)
    clips = []
    for n in range(60):
        curve = np.clip(rng.normal(0.1, 0.15, int(rng.integers(1, 40))), -0.9, 0.9)
        curve[: int(rng.integers(0, 10))] += 0.1 * rng.random()
        clips.append(video(f"{n}.mp4", scoring(*curve)))
    store = store_of(tmp_path, *clips)
    best = found(store, top=top)
    assert best == found(store, top=top, exact=True)
    scores = [score for *_, score in best]
    assert scores == sorted(scores, reverse=True)
    assert len(best) == top or top == 200


def test_few_videos_are_looked_at_when_these_settle_the_ranking(tmp_path, monkeypatch):
    clips = [video(f"{n}.mp4", event(2, 3, 9, high=0.1)) for n in range(30)]
    store = store_of(tmp_path, *clips, video("best.mp4", event(2, 3, 9, high=0.9)))
    looked, frames_of = [], Store.frames
    monkeypatch.setattr(Store, "frames", lambda s, m: looked.append(m) or frames_of(s, m))
    assert found(store, top=1) == [("best.mp4", 2.0, 5.0, 0.9)]
    assert len(looked) == 1
    found(store, top=1, exact=True)
    assert len(looked) == 1 + 31


def test_no_span_has_a_larger_mean_than_is_said():
    rng = np.random.default_rng(3)
    for _ in range(300):
        count = int(rng.integers(1, 12))
        curve, lengths = rng.normal(0, 0.3, count), rng.choice([0.5, 1, 1.5, 2, 7], count)
        ends = np.cumsum(lengths)
        black = rng.random(count) < 0.1
        black[0] = False
        there = ~black
        film = Film(VideoFrames(unit_rows(count, 1)[there], (ends - lengths)[there], ends[there]))
        curve, lengths = curve[: len(film.numbers)], np.diff(film.edges)
        most, shown = best_mean(film, curve), film.numbers >= 0
        for first in range(len(curve)):
            for last in range(first + 1, len(curve) + 1):
                whole = (first, last) == (0, len(curve))  # where nothing stands out
                span = film.seen((first, last), curve)
                if span is not None and (whole or lengths[first:last].sum() >= 2):
                    inside = np.flatnonzero(shown[first:last]) + first
                    mean = np.average(curve[inside], weights=lengths[inside])
                    assert span.similarity == pytest.approx(mean)
                    assert mean <= most


def test_only_so_many_videos_are_looked_at_for_a_hit(tmp_path, monkeypatch):
    clips = [video(f"{n}.mp4", scoring(0.5 + n / 100, 0, 0, 0, 0, 0)) for n in range(12)]
    store = store_of(tmp_path, *clips, video("good.mp4", event(2, 3, 9, high=0.45)))
    assert found(store, top=1) == [("good.mp4", 2.0, 5.0, 0.45)]
    monkeypatch.setattr(whole, "VIDEOS_PER_HIT", 5)
    monkeypatch.setattr(whole, "FIRST_FRAMES_PER_HIT", 1)
    monkeypatch.setattr(whole, "MORE_FRAMES", 2)
    assert found(store, top=1)[0][0] != "good.mp4"
    assert found(store, top=1, exact=True) == [("good.mp4", 2.0, 5.0, 0.45)]


def test_spans_are_ranked_among_other_kinds(tmp_path):
    store = store_of(
        tmp_path,
        image("a.jpg", scoring(0.85)),
        video("b.mp4", event(2, 3, 9)),
        image("c.jpg", scoring(0.1)),
    )
    hits = search(store, QUERY, SearchSpec(kinds=("image", "span")))
    assert [(hit.path.name, hit.kind) for hit in hits] == [
        ("a.jpg", "image"),
        ("b.mp4", "span"),
        ("c.jpg", "image"),
    ]
    assert len(search(store, QUERY, SearchSpec(kinds=("image", "span"), top=2))) == 2


def test_vectors_without_a_file_have_no_spans(tmp_path):
    store = Store.create(tmp_path / "index", manifest())
    from clipsearch.store.vectors import blocks_of

    columns = {
        "path": ["a"] * 4,
        "kind": ["frame"] * 4,
        "start": [0.0, 1, 2, 3],
        "end": [1.0, 2, 3, 4],
    }
    with store.writing() as writer:
        for block in blocks_of(unit_rows(4, 1), columns, dim=32, normalize=False):
            writer.publish_vectors(block.vectors, block.rows, block.columns)
    assert search(store, QUERY, SPANS) == []


def test_an_empty_index_has_none(tmp_path):
    assert search(store_of(tmp_path), QUERY, SPANS) == []


def test_a_query_of_another_dimension_is_refused(tmp_path):
    store = store_of(tmp_path, video("b.mp4", event(2, 3, 9)))
    for exact in (False, True):
        with pytest.raises(UsageError, match="dimensions"):
            search(store, unit_rows(1, 1, 16), SearchSpec(kinds=("span",), exact=exact))


def test_spans_like_a_better_one_are_left_out(tmp_path):
    curves = [scoring(0, 0, h - 0.02, h, h - 0.02, 0, 0, 0) for h in 0.9 - np.arange(6) / 100]
    clips = [video(f"{n}.mp4", curve) for n, curve in enumerate(curves)]
    again, still = video("again.mp4", curves[0]), image("still.jpg", curves[0][3])
    store = store_of(tmp_path, *clips, again, still)
    spans = [name for name, *_ in found(store, top=7)]
    assert spans[:3] == ["0.mp4", "again.mp4", "1.mp4"]
    for exact in (False, True):
        distinct = [name for name, *_ in found(store, top=7, dedupe=0.9999, exact=exact)]
        assert distinct == [name for name in spans if name != "again.mp4"]
    mixed = found(store, kinds=("image", "span"), top=6, dedupe=0.9999)
    assert len(mixed) == 6
    assert {"0.mp4", "again.mp4", "still.jpg"}.intersection(name for name, *_ in mixed) == {
        mixed[0][0]
    }


def peak(high, around, *aside):
    """Frames that score well in a run, with a best one that lies aside of the query."""
    curve = scoring(*[0] * 8, around, high, around, around, *[0] * 8)
    curve[9] = 0.0
    curve[9, 0], curve[9, 4 : 4 + len(aside)] = high, aside
    curve[9] /= np.linalg.norm(curve[9])
    return curve


def test_a_span_that_two_better_ones_left_no_room_for_comes_up_when_both_go(tmp_path):
    clips = {
        "one.mp4": peak(0.93, 0.76, 0.3676, 0),
        "two.mp4": peak(0.92, 0.63, -0.3919, 0),
        "low.mp4": peak(0.90, 0.10, 0, -0.4359),
        "like both.mp4": peak(0.85, 0.84, 0, 0.5268),
    }
    media = [video(name, rows, seconds_per_frame=0.5) for name, rows in clips.items()]
    store = store_of(tmp_path, *media)
    assert [name for name, *_ in found(store, top=2)] == ["like both.mp4", "one.mp4"]
    for exact in (False, True):
        distinct = [name for name, *_ in found(store, top=2, dedupe=0.76, exact=exact)]
        assert distinct == ["like both.mp4", "low.mp4"]


def test_the_next_spans_come_up_when_a_picture_is_like_the_best_ones(tmp_path):
    clips = {
        "a.mp4": peak(0.85, 0.80, 0, 0.5268),
        "b.mp4": peak(0.84, 0.79, 0, 0, 0.5426),
        "c.mp4": peak(0.83, 0.78, 0, 0, 0, 0.5578),
        "next.mp4": peak(0.80, 0.75, -0.6),
    }
    still = peak(0.95, 0.5, 0.3122)[9]
    store = store_of(
        tmp_path,
        *(video(name, rows, seconds_per_frame=0.5) for name, rows in clips.items()),
        *(image(f"{n}.jpg", row) for n, row in enumerate([still, *scoring(0.2, 0.1)])),
    )
    mixed = found(store, kinds=("image", "span"), top=3, dedupe=0.75)
    assert [name for name, *_ in mixed] == ["0.jpg", "next.mp4", "1.jpg"]


def test_spans_are_those_of_selected_videos(tmp_path):
    clips = [video(f"{n}.mp4", event(2, 3, 9, high=0.9 - n / 100)) for n in range(6)]
    store = store_of(tmp_path, *clips)
    [best] = [m.id for m in store.catalog.all_media() if m.path.name == "0.mp4"]
    for exact in (False, True):
        chosen = found(store, top=3, selection=Selection(without=frozenset({best})), exact=exact)
        assert [name for name, *_ in chosen] == ["1.mp4", "2.mp4", "3.mp4"]
    assert found(store, bars={"frame": 0.885}) == found(store, min_cosine=0.885)
    assert len(found(store, bars={"frame": 0.885})) == 2
