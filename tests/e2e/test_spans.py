"""`span`, `align` and `query --kind span`, as a user runs them."""

from __future__ import annotations

import json

import av
import numpy as np
import pytest

from clipsearch import Index, MediaError, UsageError, Video
from tests.e2e.support import BLUE, GREEN, RED, run, write_film, write_photo
from tests.media_files import HEIGHT, WIDTH, VideoPlan, write_video

STEP = 500  # milliseconds
END = pytest.approx(23.54, abs=0.05)  # the last frame lasts 40 ms
PARTS = ((BLUE, 0, 8000), (RED, 8000, 14000), (GREEN, 14000, 24000))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A film of 8 s blue, 6 s red, 10 s green, indexed, and the same beside, not indexed."""
    folder = tmp_path_factory.mktemp("spans")
    parts = [(colour, list(range(start, end, STEP))) for colour, start, end in PARTS]
    write_film(folder / "m" / "film.mp4", parts)
    write_film(folder / "m" / "other.mp4", [(GREEN, list(range(0, 9000, STEP)))])
    write_photo(folder / "m" / "photo.jpg", RED)
    write_film(folder / "loose.mp4", parts)
    run("index", folder / "m", "--index", folder / "index", "--model", "fake", "--fps", "2").ok()
    return folder


@pytest.fixture(scope="module")
def index(place):
    return ("--index", place / "index")


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.txt"
    path.write_bytes("\ufeffblue\r\n\r\nred\r\ngreen\r\n".encode())
    return path


def times(record):
    return pytest.approx((record["start"], record["end"]), abs=0.05)


def test_a_span_of_an_indexed_video_comes_from_the_index(place, index, monkeypatch):
    monkeypatch.setattr("clipsearch.ingest.frames.open_media", lambda *_: pytest.fail("decoded"))
    ran = run("span", place / "m" / "film.mp4", "red", "-k", "1", "--json", *index).ok()
    [record] = ran.records
    assert times(record) == (8, 14)
    assert record["path"] == str(place / "m" / "film.mp4")
    assert record["kind"] == "span"
    assert record["similarity"] > 0.5
    assert record["contrast"] > 0.5
    assert ran.err == ""


def test_a_span_of_a_video_whose_disk_is_away(place, tmp_path):
    film = tmp_path / "m" / "film.mp4"
    write_film(film, [(BLUE, [0, 500, 1000, 1500]), (RED, [2000, 2500, 3000, 3500])])
    run("index", film, "--index", tmp_path / "index", "--model", "fake", "--fps", "2").ok()
    film.unlink()
    ran = run("span", film, "red", "--json", "--index", tmp_path / "index").ok()
    assert times(ran.records[0]) == (2, 4)


def test_a_video_that_is_not_indexed_is_read_and_not_added(place, index):
    ran = run("span", place / "loose.mp4", "red", "-k", "1", "--json", *index).ok()
    assert times(ran.records[0]) == (8, 14)
    assert "loose.mp4" not in run("list", *index).ok().out


def test_a_video_that_changed_is_read_anew(place, tmp_path):
    film = write_film(tmp_path / "film.mp4", [(BLUE, list(range(0, 8000, STEP)))])
    arguments = ("--index", tmp_path / "index")
    run("index", film, *arguments, "--model", "fake", "--fps", "2").ok()
    write_film(film, [(BLUE, list(range(0, 4000, STEP))), (RED, list(range(4000, 9000, STEP)))])
    ran = run("span", film, "red", "-k", "1", "--json", *arguments).ok()
    assert times(ran.records[0]) == (4, 8.54)


def test_without_an_index_the_model_is_asked_for(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    video = place / "loose.mp4"
    ran = run("span", video, "green", "-k", "1", "--model", "fake", "--fps", "4", "--json").ok()
    assert times(ran.records[0]) == (14, 23.54)
    ran = run("span", video, "green", "--index", "nowhere")
    assert ran.code == 3
    assert "no index" in ran.err


def test_spans_are_printed_as_other_hits_are(place, index):
    ran = run("span", place / "m" / "film.mp4", "red", *index).ok()
    header, first, *_ = ran.out.splitlines()
    assert header.split("\t") == ["score", "path", "start", "end", "similarity", "contrast"]
    assert first.split("\t")[2:4] == ["8.000", "14.000"]
    assert run("span", place / "m" / "film.mp4", "red", "--json", "--csv", *index).code == 2


def test_the_options_reach_the_search(place, index):
    def found(*options):
        ran = run("span", place / "m" / "film.mp4", "red", "--json", *options, *index).ok()
        return [(record["start"], record["end"]) for record in ran.records]

    assert found("--max", "3s", "-k", "1")[0][1] - found("--max", "3s", "-k", "1")[0][0] <= 3.01
    [(start, end)] = found("--min", "0:20", "-k", "1")
    assert end - start >= 20
    [(start, end)] = found("--score", "mean", "--min", "4s", "-k", "1")
    assert 4 <= end - start < 8.5
    assert found("--score", "0.5", "-k", "1") == found("-k", "1")
    assert found("--score", "sum", "-k", "1")[0][0] == pytest.approx(8, abs=0.6)
    assert found("--search", "brute", "-k", "3") == found("-k", "3")
    assert found("--method", "disjoint")[0] == found("-k", "1")[0]
    assert found("--step", "4s", "-k", "1") == [(8.0, 12.0)]
    assert found("--tau", "-3", "--score", "sum", "-k", "1", "--smooth", "0") == [(0.0, END)]
    assert len(found("-k", "3", "--overlap", "0.9")) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--min", "2x"), "--min '2x'"),
        (("--max", "1s"), "max_seconds 1.0"),
        (("--score", "best"), "score 'best'"),
        (("--score", "mean", "--min", "0"), "min_seconds above 0"),
        (("--method", "magic"), "method 'magic'"),
        (("--search", "all"), "search 'all'"),
        (("--step", "0"), "steps of 0"),
        (("--overlap", "1"), "overlap 1.0"),
        (("--plot", "curve.gif"), "curve.gif"),
        (("--plot", "nowhere/curve.png"), "there is no folder nowhere"),
        (("--plot", "taken.png"), "taken.png exists"),
        (("--cut", "clip.txt"), "clip.txt"),
        (("--cut", "nowhere/clip.mp4"), "nowhere: no such folder"),
        (("--cut", "taken.mp4"), "taken.mp4 exists"),
        (("--export-clips", "taken.png"), "taken.png is a file"),
        (("--pad", "x"), "--pad 'x'"),
        (("--fps", "0"), "0.0 frames a second"),
        (("--method", "disjoint", "--search", "brute"), "disjoint has no brute search"),
    ],
)
def test_bad_options_are_refused_before_anything_is_read(
    place, options, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("taken.png", "taken.mp4"):
        (tmp_path / name).write_bytes(b"mine")
    monkeypatch.setattr("clipsearch.ingest.frames.open_media", lambda *_: pytest.fail("decoded"))
    ran = run("span", place / "loose.mp4", "red", "--model", "fake", *options)
    assert ran.code == 2
    assert words in ran.err
    assert ran.out == ""
    assert (tmp_path / "taken.png").read_bytes() == b"mine"


def test_what_is_no_video_is_refused(place, index, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    cases = {
        tmp_path / "nowhere.mp4": (2, "no such file"),
        place / "m" / "photo.jpg": (2, "picture"),
        place / "m": (2, "folder"),
        place / "index" / "manifest.json": (2, "not that of a video"),
        tmp_path / "broken.mp4": (1, "broken.mp4: "),
    }
    for path, (code, words) in cases.items():
        ran = run("span", path, "red", *index)
        assert (ran.code, words in ran.err, len(ran.err.splitlines())) == (code, True, 1), ran.err
    ran = run("span", place / "m" / "film.mp4", " ", *index)
    assert ran.code == 2
    assert "empty" in ran.err


def test_a_video_in_which_nothing_stands_out(place, index):
    ran = run("span", place / "m" / "other.mp4", "green", "--fail-empty", *index)
    assert (ran.code, ran.out, ran.err) == (1, "", "nothing stands out\n")


def test_a_video_shorter_than_what_is_looked_for(place, index):
    ran = run("span", place / "m" / "film.mp4", "red", "--min", "5m", *index).ok()
    assert "lasts 23.54 s, less than --min 300 s" in ran.err


def test_another_rate_of_frames_keeps_the_model_of_the_index(place, index):
    words = (place / "m" / "film.mp4", "red", "-k", "1", "--json")
    [record] = run("span", *words, "--fps", "1", *index).ok().records
    assert times(record) == (8, 14)
    with Index.open(place / "index") as opened:
        video = opened.video(place / "m" / "film.mp4", fps=1)
        assert len(video.frames.starts) < len(opened.video(video.path).frames.starts)


def test_black_is_not_what_is_found(tmp_path):
    """5 s blue, 3 s black, 7 s green, in shades that differ from frame to frame."""
    rng = np.random.default_rng(1)
    plan = VideoPlan(times=tuple(range(0, 15000, STEP)))
    pictures = []
    for time in plan.times_ms:
        colour = BLUE if time < 5000 else GREEN
        noise = rng.integers(-60, 60, (HEIGHT // 8, WIDTH // 8, 3)).repeat(8, 0).repeat(8, 1)
        seen = np.clip(np.array(colour) + noise, 30, 255).astype(np.uint8)
        pictures.append(seen * 0 if 5000 <= time < 8000 else seen)
    film = write_video(tmp_path / "film.mp4", plan, pictures)
    arguments = ("--index", tmp_path / "index")
    run("index", film, *arguments, "--model", "fake", "--fps", "2").ok()
    found = 0
    for words in ("a dog", "a piano", "red", "green", "blue", "yellow"):
        for record in run("span", film, words, "--json", "-k", "5", *arguments).ok().records:
            assert record["contrast"] > 0
            assert not 5 <= record["start"] < 8, (words, record)
            assert not 5 < record["end"] <= 8, (words, record)
            found += 1
    assert found > 10


def test_a_text_that_is_too_long_is_averaged_and_this_is_said(place, index):
    text = "red. " * 2000
    ran = run("span", place / "m" / "film.mp4", text, "-k", "1", "--json", *index).ok()
    assert times(ran.records[0]) == (8, 14)
    assert "longer than the model takes at once" in ran.err
    ran = run("query", text, "--kind", "image", "--json", *index).ok()
    assert ran.records[0]["path"].endswith("photo.jpg")
    assert "averaged" in ran.err


def test_the_index_is_searched_for_spans(place, index):
    ran = run("query", "red", "--kind", "span", "--json", "-t", "1", *index).ok()
    [record] = ran.records
    assert times(record) == (8, 14)
    assert record["kind"] == "span"
    assert record["start"] <= record["moment"] < record["end"]
    green = run("query", "green", "--kind", "span", "--json", *index).ok().records
    assert {record["path"].rsplit("/")[-1] for record in green[:2]} == {"film.mp4", "other.mp4"}
    exact = run("query", "green", "--kind", "span", "--exact", "--json", *index).ok()
    assert exact.records == green


def duration(path):
    with av.open(str(path)) as container:
        return float(container.duration / 1e6)


def test_clips_are_cut_out(place, index, tmp_path):
    film = place / "m" / "film.mp4"
    best = tmp_path / "best.mp4"
    clip = ("--cut", best, "--reencode")
    ran = run("span", film, "red", "-k", "1", *clip, "--pad", "1s", *index).ok()
    assert duration(best) == pytest.approx(8, abs=0.1)
    assert "best.mp4: seconds 7.000 to 15.000" in ran.err
    ran = run("span", film, "red", *clip, *index)
    assert ran.code == 2
    assert "best.mp4" in ran.err
    run("span", film, "red", *clip, "--overwrite", *index).ok()
    assert duration(best) == pytest.approx(6, abs=0.1)


def test_what_cannot_be_cut_is_told_by_the_exit_code(tmp_path):
    film = write_film(
        tmp_path / "m" / "film.mp4",
        [(BLUE, list(range(0, 5000, STEP))), (RED, list(range(5000, 9000, STEP)))],
    )
    photo = write_photo(tmp_path / "m" / "photo.jpg", RED)
    arguments = ("--index", tmp_path / "index")
    run("index", tmp_path / "m", *arguments, "--model", "fake", "--fps", "2").ok()
    folder, clip = ("--export-clips", tmp_path / "c"), ("--cut", tmp_path / "c.mp4")
    ran = run("query", "red", "--kind", "image", *clip, *arguments)
    assert (ran.code, str(photo) in ran.out, "could be cut out" in ran.err) == (1, True, True)
    write_film(film, [(GREEN, list(range(0, 4000, STEP))), (RED, list(range(4000, 9000, STEP)))])
    for asked in (folder, clip):
        ran = run("query", "red", "--kind", "span", *asked, *arguments)
        assert (ran.code, str(film) in ran.out) == (1, True)
    assert "changed since it was indexed" in ran.err
    other = write_film(tmp_path / "m" / "other.mp4", [(BLUE, [0, 500, 1000, 1500])])
    run("index", tmp_path / "m", *arguments).ok()
    kept = film.read_bytes(), other.read_bytes()
    for name in (film, other):
        words = ("query", "green", "--kind", "span", "--cut", name, "--overwrite")
        assert run(*words, *arguments).code == 2
    assert (film.read_bytes(), other.read_bytes()) == kept
    run("index", tmp_path / "m", *arguments).ok()
    film.unlink()
    for asked in (folder, clip):
        ran = run("span", film, "red", "-k", "1", *asked, *arguments)
        assert (ran.code, "film.mp4" in ran.err) == (1, True)
    assert not (tmp_path / "c.mp4").exists()


def test_clips_of_a_query_are_listed(place, index, tmp_path):
    folder = tmp_path / "clips"
    words = ("query", "red", "--kind", "span", "--kind", "image", "-t", "2")
    run(*words, "--export-clips", folder, "--reencode", *index).ok()
    [clip] = json.loads((folder / "clips.json").read_text())
    assert clip["source"] == str(place / "m" / "film.mp4")
    assert clip["query"] == "red"
    assert (clip["start"], clip["end"]) == pytest.approx((8, 14), abs=0.05)
    assert duration(folder / clip["file"]) == pytest.approx(6, abs=0.1)


def test_a_script_is_aligned(place, index, script, tmp_path):
    ran = run("align", place / "m" / "film.mp4", script, *index).ok()
    cues = ran.out.split("\n\n")
    assert cues[1] == "2\n00:00:08,000 --> 00:00:14,000\nred"
    out = tmp_path / "out.json"
    run("align", place / "m" / "film.mp4", script, "-o", out, *index).ok()
    rows = json.loads(out.read_text())
    assert [(row["text"], row["start"], row["end"]) for row in rows] == [
        ("blue", 0, 8),
        ("red", 8, 14),
        ("green", 14, END),
    ]
    ran = run("align", place / "m" / "film.mp4", script, "--format", "vtt", *index).ok()
    assert ran.out.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:08.000\nblue\n")
    assert run("align", place / "m" / "film.mp4", script, "--format", "doc", *index).code == 2


def test_what_is_read_is_not_overwritten(place, index, script, tmp_path):
    film = place / "m" / "film.mp4"
    before = film.read_bytes(), script.read_bytes()
    (tmp_path / "link.txt").symlink_to(script)
    for target in (film, script, tmp_path / "link.txt"):
        for options in ((), ("--overwrite",)):
            ran = run("align", film, script, "-o", target, *options, *index)
            assert (ran.code, "what is read" in ran.err) == (2, True), ran.err
    assert (film.read_bytes(), script.read_bytes()) == before
    out = tmp_path / "out.srt"
    out.write_text("mine")
    (tmp_path / "linked.srt").symlink_to(out)
    both = ("-o", tmp_path / "a.svg", "--plot", tmp_path / "a.svg")
    ran = run("align", film, script, *both, *index)
    assert (ran.code, "both" in ran.err, (tmp_path / "a.svg").exists()) == (2, True, False)
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    assert run("span", tmp_path / "loop.png", "red", *index).code == 2
    run("span", film, "red", "--plot", tmp_path / "loop.png", *index).ok()
    ran = run("span", film, "red", "--cut", film, "--overwrite", *index)
    assert (ran.code, ran.out, film.read_bytes()) == (2, "", before[0])
    ran = run("align", film, script, "-o", out, *index)
    assert (ran.code, "--overwrite" in ran.err, out.read_text()) == (2, True, "mine")
    run("align", film, script, "-o", tmp_path / "linked.srt", "--overwrite", *index).ok()
    assert (tmp_path / "linked.srt").is_symlink()
    assert "-->" in out.read_text()
    assert "-->" in run("align", film, script, "-o", "-", *index).ok().out
    assert not (place / "-").exists()
    ran = run("align", film, script, "-o", tmp_path / "nowhere" / "x.srt", *index)
    assert (ran.code, "make it first" in ran.err) == (2, True)
    assert run("align", film, script, "-o", "/dev/null", *index).ok().out == ""


def test_an_interval_of_a_script(place, index, script):
    film = place / "m" / "film.mp4"
    ran = run("align", film, script, "--interval", "1:1", "--format", "tsv", *index).ok()
    rows = [line.split("\t") for line in ran.out.splitlines()[1:]]
    assert [row[1:3] for row in rows] == [["", ""], ["8.000", "14.000"], ["", ""]]
    ran = run("align", film, script, "--interval", "1:2", *index).ok()
    assert "\nred green\n" in ran.out
    assert "lines 1:2" in ran.err
    ran = run("align", film, script, "--interval", "auto", *index).ok()
    assert "-->" in ran.out
    ran = run("align", film, script, "--interval", "0:1", "--skip", "0", *index)
    assert (ran.code, "--interval" in ran.err) == (2, True)
    for wrong in ("2:1", "1:3", "a:b", "1", "-1:2"):
        ran = run("align", film, script, f"--interval={wrong}", *index)
        assert ran.code == 2, wrong
        assert "--interval" in ran.err


def test_lines_may_be_left_out(place, index, tmp_path):
    script = tmp_path / "script.txt"
    script.write_text("blue\nred\nblue\ngreen\n")
    ran = run("align", place / "m" / "film.mp4", script, "--skip", "0", *index).ok()
    assert "1 of 4 lines were left out" in ran.err
    assert len(ran.out.split("\n\n")) == 4


def test_bad_scripts_name_the_line(place, index, tmp_path):
    script = tmp_path / "subs.srt"
    script.write_text("1\n00:00:01,000 --> 00:00:02,000\nred\n\n2\n00:00:03 -> oops\nblue\n")
    ran = run("align", place / "m" / "film.mp4", script, *index)
    assert ran.code == 2
    assert "subs.srt, line 5" in ran.err
    script.write_text("\n\n")
    assert "no lines" in run("align", place / "m" / "film.mp4", script, *index).err
    many = tmp_path / "many.txt"
    many.write_text("red\n" * 100)
    ran = run("align", place / "m" / "film.mp4", many, *index)
    assert ran.code == 2
    assert "100 texts" in ran.err


@pytest.mark.parametrize("command", ["span", "align"])
def test_curves_are_drawn(command, place, index, script, tmp_path):
    pytest.importorskip("matplotlib")
    what = "red" if command == "span" else script
    picture = tmp_path / "curve.png"
    run(command, place / "m" / "film.mp4", what, "--plot", picture, *index).ok()
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_library(place):
    with Index.open(place / "index") as index:
        film = index.video(place / "m" / "film.mp4")
        red = film.span("red")
        assert red is not None
        assert (red.start, red.end) == (8, 14)
        assert red == index.span(place / "m" / "film.mp4", "red")
        spans = index.align(place / "m" / "film.mp4", ["blue", "red"])
        assert [(span.start, span.end) for span in spans] == [(0, 8), (8, 14)]
        assert film.align(["blue", "red"], tau=[0.5, 0.5]) is not None
        both = film.interval(["blue", "red", "green"], max_texts=1)
        assert both is not None
        assert both[0].stop - both[0].start == 1
        curves = film.curves(["red", "blue"])
        assert curves.similarities.shape == (2, len(curves.times) - 1)
        inside = (curves.times[:-1] >= 8) & (curves.times[:-1] < 14)
        assert curves.similarities[0][inside].min() > curves.similarities[0][~inside].max()
        assert np.argmax(curves.similarities[0]) in range(*red.frames)


def test_a_video_without_an_index(place):
    film = Video.open(place / "loose.mp4", model="fake", fps=2)
    span = film.span("green")
    assert span is not None
    assert (span.start, span.end) == (14, END)
    with pytest.raises(UsageError, match="no such file"):
        Video.open(place / "nowhere.mp4", model="fake")
    with pytest.raises(UsageError, match="empty"):
        film.align([])
    with pytest.raises(UsageError, match="empty"):
        film.align(["red", "  "])


def test_a_damaged_video_names_its_path(tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(MediaError, match=r"broken\.mp4"):
        Video.open(tmp_path / "broken.mp4", model="fake")
