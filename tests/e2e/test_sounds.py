"""The command on sounds and subtitles, as a user types it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from tests.e2e.support import run, spawn
from tests.sound_files import SoundPlan, write_beeps, write_film

SRT = "1\n00:00:01,000 --> 00:00:02,500\na tab\there and “quotes”\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of a film with sound and subtitles, a sound and a picture."""
    monkeypatch.chdir(tmp_path)
    media = tmp_path / "media"
    media.mkdir()
    write_film(media / "film.mp4", SoundPlan("aac", hertz=4000.0), frames=60)
    (media / "film.srt").write_text(SRT, encoding="utf-16")
    write_beeps(media / "low hum.wav", SoundPlan(hertz=100.0))
    Image.new("RGB", (32, 32), (255, 0, 0)).save(media / "red.png")
    ran = run("index", "media", "--model", "fake")
    assert "added 4" in ran.err
    return tmp_path


def test_other_hits_bring_two_columns_with_them(here: Path) -> None:
    every = [part for kind in ("image", "frame", "audio", "text") for part in ("--kind", kind)]
    rows = [line.split("\t") for line in run("query", "red", *every).out.splitlines()]
    assert rows[0] == ["score", "path", "start", "end", "kind", "text"]
    kinds = [row[4] for row in rows[1:]]
    assert set(kinds) == {"image", "frame", "audio", "text"}
    assert {row[5] for row in rows[1:]} == {"", "a tab here and “quotes”"}
    seen = run("query", "red", "--source", "visual").out.splitlines()
    assert seen[0].split("\t") == ["score", "path", "start", "end"]
    lines = run("query", "red", *every, "--jsonl").out.splitlines()
    assert len([json.loads(line)["kind"] for line in lines]) == len(rows) - 1
    table = list(csv.DictReader(io.StringIO(run("query", "red", *every, "--csv").out)))
    assert {row["kind"] for row in table} == {"image", "frame", "audio", "text"}


def test_a_sound_is_looked_for_by_its_file(here: Path) -> None:
    sound = here / "media" / "low hum.wav"
    for arguments in (["--audio-file", sound], [sound], ["./media/low hum.wav"]):
        ran = run("query", *arguments, "--kind", "audio", "-f")
        assert ran.out.splitlines() == [str(here / "media" / "film.mp4")], "not itself"
    film = run("query", "--audio-file", "media/film.mp4", "--kind", "audio", "-f")
    assert film.out.splitlines() == [str(sound)]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--audio-file", "gone.wav"], 1, "gone.wav: no such file"),
        (["./gone.wav"], 2, "gone.wav: no such file"),
        (["gone.wav"], 2, "gone.wav: no such file; if it is words, put a backslash"),
        (["--audio-file", "media/red.png"], 1, "red.png"),
        ([], 2, "the query is empty"),
        (["", " "], 2, "the query is empty"),
        (["red", "--source", "smell"], 2, "source 'smell': use one of visual, audio, text"),
        (["red", "--rerank", "tight", "--pooling-weights", "x", "--source", "text"], 2, "seen"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    here: Path, arguments: list[str], code: int, words: str
) -> None:
    ran = run("query", *arguments)
    assert ran.code == code
    assert words in ran.err
    assert len(ran.err.splitlines()) == 1


def test_clips_are_cut_where_something_is_heard_in_a_video(here: Path) -> None:
    ran = run("query", "high", "--kind", "audio", "--export-clips", "clips")
    assert ran.code == 0
    [clip] = json.loads((here / "clips" / "clips.json").read_text())
    assert clip["source"].endswith("film.mp4")


def test_status_says_how_it_hears(here: Path) -> None:
    told = json.loads(run("status", "--json").out)
    assert (told["sounds"], told["subtitles"], told["hears"]) == (1, 1, "fake:64@1")
    assert (told["rows_heard"], told["rows_said"]) == (2, 1)


def test_sound_is_added_by_a_process_of_its_own(here: Path) -> None:
    """Reader threads enter PyAV at different places; its modules import each other in circles."""
    for number in range(6):
        write_film(here / "media" / f"{number}.mp4", SoundPlan("aac"), frames=5)
    command = ("index", "media", "--index", "later", "--model", "fake")
    assert spawn(*command, "--no-audio", "--no-subtitles", cwd=here).code == 0
    ran = spawn(*command, "--audio", "--subtitles", cwd=here)
    assert (ran.code, ran.lines) == (0, [])
    assert "added 2, updated 7, unchanged 1" in ran.err


def test_words_that_look_like_paths_are_words(here: Path) -> None:
    for words in ("~10 dogs", "\\~nobody/x.wav", "\\" + "x" * 300 + ".wav", "\\noise.wav"):
        assert run("query", words, "--kind", "image").code == 0
    assert "no such file" in run("query", "x" * 300 + ".wav", "--kind", "image").err
    assert run("query", "", "--audio-file", "media/film.mp4", "-t", "1").code == 0


def test_clips_are_of_videos_and_that_is_said(here: Path) -> None:
    ran = run("query", "low", "--kind", "audio", "--min-cosine", "0.5", "--cut", "low.mp4")
    assert ran.code == 1
    assert "nothing was found that could be cut out" in ran.err
