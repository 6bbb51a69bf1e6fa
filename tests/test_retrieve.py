"""Candidates to hits: merging of frames, kinds, cut-offs, and never fewer hits than exist."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from clipsearch.errors import UsageError
from clipsearch.search.retrieve import SearchSpec, retrieve, retrieve_each
from clipsearch.store.selection import Selection
from clipsearch.store.store import Store
from clipsearch.types import EncodedMedia, Vectors
from tests.vectors import DIM, ROOT, image, manifest, unit_rows, video

QUERY = np.eye(1, DIM, dtype=np.float32)


def scoring(*cosines: float) -> Vectors:
    """Unit rows with these cosines to QUERY, otherwise in directions of their own."""
    rows = np.zeros((len(cosines), DIM), np.float32)
    rest = np.asarray(unit_rows(len(cosines), 3, DIM - 1))
    rows[:, 0] = cosines
    rows[:, 1:] = rest * np.sqrt(1 - np.square(cosines))[:, None]
    return rows


def store_of(folder: Path, *media: EncodedMedia) -> Store:
    store = Store.create(folder / "index", manifest())
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        writer.publish(media)
    return store


def test_hits_are_ranked_and_carry_times(tmp_path: Path) -> None:
    clip = video("clip.mp4", scoring(0.1, 0.1, 0.7, 0.9, 0.68, 0.1))
    store = store_of(tmp_path, image("a.jpg", scoring(0.8)), clip, image("b.jpg", scoring(-0.2)))
    hits = retrieve(store, QUERY, SearchSpec())
    assert [(h.path.name, h.kind) for h in hits] == [
        ("clip.mp4", "frame"),
        ("a.jpg", "image"),
        ("b.jpg", "image"),
    ]
    moment = hits[0]
    assert (moment.start, moment.end, moment.moment) == (2.0, 5.0, 3.0)
    assert moment.score == pytest.approx(0.9, abs=1e-3)
    assert (hits[1].start, hits[1].end, hits[1].moment) == (None, None, None)


def test_moments_apart_are_two_hits_and_a_wider_gap_joins_them(tmp_path: Path) -> None:
    low = [-0.5] * 8
    store = store_of(tmp_path, video("clip.mp4", scoring(0.9, *low, 0.8, *low)))
    apart = retrieve(store, QUERY, SearchSpec(min_cosine=0.5))
    assert [(h.start, h.end, h.moment) for h in apart] == [(0.0, 1.0, 0.0), (9.0, 10.0, 9.0)]
    joined = retrieve(store, QUERY, SearchSpec(min_cosine=0.5, merge_gap_seconds=8.0))
    assert [(h.start, h.end, h.moment) for h in joined] == [(0.0, 10.0, 0.0)]


def test_frames_of_different_videos_never_merge(tmp_path: Path) -> None:
    store = store_of(tmp_path, video("a.mp4", scoring(0.9, 0.9)), video("b.mp4", scoring(0.8, 0.8)))
    assert len(retrieve(store, QUERY, SearchSpec())) == 2


def test_kind_video_gives_each_video_once_with_its_best_frame(tmp_path: Path) -> None:
    store = store_of(
        tmp_path,
        video("a.mp4", scoring(0.3, 0.9)),
        video("b.mp4", scoring(0.5, 0.1, 0.2)),
        image("c.jpg", scoring(0.99)),
    )
    hits = retrieve(store, QUERY, SearchSpec(kinds=("video",)))
    assert [(h.path.name, h.start, h.end, h.moment) for h in hits] == [
        ("b.mp4", 0.0, 3.0, 0.0),
        ("a.mp4", 0.0, 2.0, 1.0),
    ]


def test_merging_asks_for_more_until_there_are_hits_enough(tmp_path: Path) -> None:
    long = video("long.mp4", scoring(*([0.9] * 400)))
    stills = [image(f"{i}.jpg", scoring(0.5 - i / 100)) for i in range(5)]
    hits = retrieve(store_of(tmp_path, long, *stills), QUERY, SearchSpec(top=4))
    assert [h.path.name for h in hits] == ["long.mp4", "0.jpg", "1.jpg", "2.jpg"]
    assert (hits[0].start, hits[0].end) == (0.0, 400.0)


def test_a_scene_is_one_hit_whatever_is_asked_for(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.08, 0.08, 60)
    scene = video("a.mp4", scoring(*([-0.3] * 20), *(0.8 + noise), *([-0.3] * 20)))
    store = store_of(tmp_path, scene, video("b.mp4", scoring(*([0.5] * 30))))
    found = [retrieve(store, QUERY, SearchSpec(top=top)) for top in (1, 2, 5, 20)]
    for hits in found:
        assert (hits[0].path.name, hits[0].start, hits[0].end) == ("a.mp4", 20.0, 80.0)
        assert hits == found[-1][: len(hits)]
    assert [h.path.name for h in found[1]] == ["a.mp4", "b.mp4"]


def test_hits_of_one_video_never_overlap(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    for number in range(20):
        curve = np.cumsum(generator.standard_normal(120)) / 30
        store = store_of(
            tmp_path / str(number), video("a.mp4", scoring(*np.clip(curve, -0.9, 0.9)))
        )
        hits = retrieve(store, QUERY, SearchSpec(top=50, merge_gap_seconds=2.0))
        assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)
        spans = sorted((h.start, h.end, h.moment) for h in hits)
        assert all(start <= moment < end for start, end, moment in spans)
        assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_kinds_may_be_named_twice(tmp_path: Path) -> None:
    store = store_of(tmp_path, image("a.jpg", scoring(0.1)), video("b.mp4", scoring(0.9)))
    hits = retrieve(store, QUERY, SearchSpec(kinds=("image", "image")))
    assert [h.kind for h in hits] == ["image"]


def test_min_cosine_cuts_off(tmp_path: Path) -> None:
    store = store_of(tmp_path, image("a.jpg", scoring(0.8)), image("b.jpg", scoring(0.4)))
    assert [h.path.name for h in retrieve(store, QUERY, SearchSpec(min_cosine=0.5))] == ["a.jpg"]
    assert retrieve(store, QUERY, SearchSpec(min_cosine=0.9)) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"top": 0}, "top 0: ask for 1"),
        ({"kinds": ("film",)}, "'film': use some of image, frame, video"),
        ({"kinds": ()}, "kind none"),
        ({"merge_gap_seconds": -1.0}, "merge gap -1.0"),
        ({"merge_gap_seconds": float("nan")}, "merge gap nan"),
        ({"min_cosine": float("nan")}, "least cosine nan"),
    ],
)
def test_bad_settings_say_what_is_allowed(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SearchSpec(**values)  # type: ignore[arg-type]


def near_others(count: int, seed: int) -> Vectors:
    """Unit rows of which many are close to one before them."""
    generator = np.random.default_rng(seed)
    rows = unit_rows(count, seed)
    for at in range(5, count):
        if generator.random() < 0.7:
            noise = 0.3 * generator.random() / np.sqrt(DIM)
            rows[at] = rows[generator.integers(at)] + noise * generator.standard_normal(DIM)
    made: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return made.astype(np.float32)


@pytest.mark.parametrize("least", [0.8, 0.95, 0.99])
def test_dedupe_keeps_what_a_greedy_walk_over_everything_keeps(
    tmp_path: Path, least: float
) -> None:
    rows = near_others(300, 5)
    store = store_of(tmp_path, *(image(f"{i}.jpg", row) for i, row in enumerate(rows)))
    stored = rows.astype(np.float16).astype(np.float64)
    unit = stored / np.linalg.norm(stored, axis=1, keepdims=True)
    for query in unit_rows(5, 6):
        kept: list[int] = []
        for at in np.argsort(-(stored @ query), kind="stable").tolist():
            if not kept or (unit[kept] @ unit[at]).max() < least:
                kept.append(at)
        assert len(kept) < 250
        for top in (3, 40, 300):
            spec = SearchSpec(top=top, dedupe=least)
            hits = retrieve(store, query[None], spec)
            assert [hit.path.stem for hit in hits] == [str(at) for at in kept[:top]]


def test_queries_together_find_what_each_finds(tmp_path: Path) -> None:
    generator = np.random.default_rng(7)
    films = [video(f"{i}.mp4", near_others(20, i)) for i in range(20)]
    stills = [image(f"{i}.jpg", row) for i, row in enumerate(unit_rows(60, 40))]
    store = store_of(tmp_path, *films, *stills)
    queries = unit_rows(30, 8)
    specs = [
        SearchSpec(
            top=4,
            selection=Selection(without=frozenset(generator.integers(1, 80, 9).tolist()))
            if n % 3
            else None,
            bars={"image": float(generator.uniform(0, 0.3)), "frame": 0.1},
        )
        for n in range(len(queries))
    ]
    together = retrieve_each(store, queries, specs)
    media = {item.path: item.id for item in store.catalog.all_media()}
    for query, spec, hits in zip(queries, specs, together, strict=True):
        alone = retrieve(store, query[None], spec)
        assert [hit.id for hit in hits] == [hit.id for hit in alone]
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in alone], abs=1e-6)
        assert all(hit.score >= spec.least(hit.kind) for hit in hits)  # type: ignore[arg-type]
        if spec.selection is not None:
            assert spec.selection.without.isdisjoint(media[hit.path] for hit in hits)
    assert retrieve_each(store, queries[:0], []) == []


def test_a_bar_is_for_its_kind(tmp_path: Path) -> None:
    store = store_of(
        tmp_path,
        image("a.jpg", scoring(0.6)),
        video("b.mp4", scoring(0.5)),
        image("c.jpg", scoring(0.1)),
    )
    for bars, found in (
        ({}, ["a.jpg", "b.mp4", "c.jpg"]),
        ({"image": 0.7}, ["b.mp4"]),
        ({"frame": 0.55}, ["a.jpg", "c.jpg"]),
        ({"image": 0.5, "frame": 0.55}, ["a.jpg"]),
    ):
        spec = SearchSpec(bars=bars)  # type: ignore[arg-type]
        assert [hit.path.name for hit in retrieve(store, QUERY, spec)] == found
