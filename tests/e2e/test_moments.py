"""Adjacent frames of a video become one hit with a start, an end and a best moment."""

from __future__ import annotations

import pytest

from tests.e2e.support import BLUE, RED, run, write_film

FPS_25 = 40  # milliseconds


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """6 s of blue, 6 s of red, 6 s of blue."""
    folder = tmp_path_factory.mktemp("moments")
    parts = [(c, list(range(s, s + 6000, FPS_25))) for c, s in ((BLUE, 0), (RED, 6000))]
    parts.append((BLUE, list(range(12000, 18000, FPS_25))))
    write_film(folder / "m" / "film.mp4", parts)
    run("index", folder / "m", "--index", folder / "index", "--model", "fake").ok()
    return folder / "index"


def hits(index, *arguments):
    return run("query", *arguments, "--index", index, "--json").ok().records


def times(records):
    return sorted((record["start"], record["end"]) for record in records)


def test_the_red_part_is_one_hit(index):
    (hit,) = hits(index, "red", "--min-cosine", "0.5")
    assert hit["kind"] == "frame"
    assert hit["start"] == pytest.approx(6, abs=0.05)
    assert hit["end"] == pytest.approx(12, abs=0.05)
    assert hit["start"] <= hit["moment"] < hit["end"]
    assert hits(index, "red", "-t", "1") == [hit]


def test_the_blue_parts_are_two_hits(index):
    (first, second) = times(hits(index, "blue", "--min-cosine", "0.5"))
    assert first == (pytest.approx(0, abs=0.05), pytest.approx(6, abs=0.05))
    assert second == (pytest.approx(12, abs=0.05), pytest.approx(18, abs=0.05))


def test_a_long_part_is_one_hit_wherever_its_best_frames_are(tmp_path):
    parts = [(BLUE, list(range(0, 5000, 500))), (RED, list(range(5000, 65000, 500)))]
    write_film(tmp_path / "m" / "film.mp4", parts)
    run("index", tmp_path / "m", "--index", tmp_path / "index", "--model", "fake").ok()
    ((start, end),) = times(hits(tmp_path / "index", "red", "--min-cosine", "0.5"))
    assert start == pytest.approx(5, abs=0.05)
    assert end == pytest.approx(65, abs=0.5)


def test_a_wider_gap_joins_them(index):
    (hit,) = hits(index, "blue", "--min-cosine", "0.5", "--merge-gap", "6.5")
    assert hit["start"] == pytest.approx(0, abs=0.05)
    assert hit["end"] == pytest.approx(18, abs=0.05)


def test_without_a_gap_only_touching_frames_join(index):
    assert len(hits(index, "blue", "--min-cosine", "0.5", "--merge-gap", "0")) == 2
    assert len(hits(index, "red", "--min-cosine", "0.5", "--merge-gap", "0")) == 1


def test_the_video_as_a_whole_is_one_hit_with_its_best_moment(index):
    for colour, inside in (("red", [(6, 12)]), ("blue", [(0, 6), (12, 18)])):
        (hit,) = hits(index, colour, "--kind", "video")
        assert hit["kind"] == "video"
        assert (hit["start"], hit["end"]) == (0, pytest.approx(18, abs=0.05))
        assert any(start - 0.05 <= hit["moment"] < end for start, end in inside)


def test_a_video_longer_than_a_window_is_found_by_its_best_window(tmp_path):
    parts = [(c, list(range(s, s + 5000, 200))) for c, s in ((BLUE, 0), (RED, 5000))]
    write_film(tmp_path / "m" / "film.mp4", parts)
    arguments = ("--index", tmp_path / "index", "--model", "fake", "--window-seconds", "5")
    run("index", tmp_path / "m", *arguments).ok()
    (hit,) = hits(tmp_path / "index", "red", "--kind", "video")
    assert hit["start"] == pytest.approx(5, abs=0.05)
    assert hit["end"] == pytest.approx(10, abs=0.2)
