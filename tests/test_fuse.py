"""Rankings of several spaces as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipsearch.search.fuse import fuse
from clipsearch.search.sounds import envelope, heard_around
from clipsearch.store.lookup import Curve
from clipsearch.types import Hit


def seen(name: str, score: float, *times: float) -> Hit:
    return Hit(Path(name), "frame" if times else "image", score, *times)


def heard(name: str, score: float, *times: float) -> Hit:
    return Hit(Path(name), "audio", score, *times)


def said(name: str, score: float, *times: float) -> Hit:
    return Hit(Path(name), "text", score, *times, text="…")


def test_one_ranking_stays_as_it_is() -> None:
    hits = [seen("a.jpg", 0.5), seen("b.jpg", 0.4)]
    assert fuse({"visual": hits, "audio": [], "text": []}, 1) == hits[:1]
    assert fuse({}, 3) == []


def test_ranks_count_and_scores_do_not() -> None:
    pictures = [seen("a.jpg", 0.2), seen("b.jpg", 0.1)]
    sounds = [heard("c.wav", 0.9, 0, 5), heard("d.wav", 0.8, 0, 5)]
    texts = [said("c.wav", -0.5, 0, 5)]
    found = fuse({"text": texts, "audio": sounds, "visual": pictures}, 9)
    assert [hit.path.name for hit in found] == ["a.jpg", "c.wav", "c.wav", "b.jpg", "d.wav"]
    assert [hit.rank_score for hit in found] == pytest.approx([1 / 61] * 3 + [1 / 62] * 2)
    assert [hit.score for hit in found] == [0.2, 0.9, -0.5, 0.1, 0.8]
    assert fuse({"text": texts, "visual": pictures}, 2) == [found[0], found[2]]


def curve(*windows: tuple[float, float, float]) -> Curve:
    starts, ends, scores = map(np.array, zip(*windows, strict=True))
    return Curve(np.arange(len(windows)), starts, ends, scores.astype(np.float32))


def test_a_sound_is_in_what_the_windows_that_hear_it_share() -> None:
    windows = curve((0, 10, 0.1), (5, 15, 0.9), (10, 20, 0.8), (15, 25, 0.1))
    assert heard_around(windows, 1, 0.5) == (10, 15)
    assert heard_around(windows, 2, 0.5) == (10, 15)


def test_a_long_sound_is_one_stretch_of_time() -> None:
    windows = curve((0, 10, 0.7), (5, 15, 0.9), (10, 20, 0.8), (15, 25, 0.1), (20, 30, 0.1))
    assert heard_around(windows, 1, 0.5) == (0, 15)
    alone = curve((0, 10, 0.9), (30, 40, 0.1))
    assert heard_around(alone, 0, 0.5) == (0, 10)


def test_a_window_that_shares_no_time_with_others_like_it_is_taken_whole() -> None:
    windows = curve((0, 10, 0.1), (5, 15, 0.9), (10, 20, 0.1))
    assert heard_around(windows, 1, 0.5) == (5, 15)


def test_the_envelope_is_the_lowest_of_the_windows_over_a_time() -> None:
    rng = np.random.default_rng(0)
    starts = np.sort(rng.integers(0, 50, 20)).astype(float)
    ends = starts + rng.integers(1, 9, 20)
    scores = rng.standard_normal(20).astype(np.float32)
    edges, low = envelope(Curve(np.arange(20), starts, ends, scores))
    for at in np.arange(0.25, 60, 0.5):
        covering = scores[(starts <= at) & (at < ends)]
        if not edges[0] <= at < edges[-1]:
            assert not covering.size
            continue
        cell = int(np.searchsorted(edges, at, side="right")) - 1
        assert low[cell] == (covering.min() if covering.size else -np.inf)
