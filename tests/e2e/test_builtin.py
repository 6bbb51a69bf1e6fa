"""The encoder that needs no download, on real photos and videos, as a user runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from clipsearch.encoders.sound_classifier import RATE
from tests.e2e.support import run, spawn
from tests.sound_files import write_float_wav
from tools.sounds.synth_voices import VOICES

PHOTOS = ["astronaut.png", "chelsea.png", "coffee.png", "horse.png", "page.png", "rocket.jpg"]
VIDEOS = ["bigbuckbunny.mp4", "bikes.mp4"]
SRT = "1\n00:00:01,000 --> 00:00:03,000\nThe dog is barking again.\n"
COUNT = len(PHOTOS) + len(VIDEOS) + 2


@pytest.fixture(scope="module")
def folder(photos, videos, tmp_path_factory) -> Path:
    """An index of real photos and videos, made by the installed command."""
    folder = tmp_path_factory.mktemp("builtin")
    (folder / "media").mkdir()
    for source in [photos / name for name in PHOTOS] + [videos / name for name in VIDEOS]:
        shutil.copy2(source, folder / "media")
    (folder / "media" / "bigbuckbunny.srt").write_text(SRT)
    bark = VOICES["dog barking"](np.random.default_rng(1))
    write_float_wav(folder / "media" / "bark.wav", bark[:, None], RATE)
    ran = spawn("index", "media", "--model", "builtin", cwd=folder).ok()
    assert ran.out == ""
    assert ran.err.splitlines() == [
        f"added {COUNT}, updated 0, unchanged 0, moved 0, removed 0, "
        f"skipped 0: {folder / 'indexes' / 'default'}"
    ]
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return folder


def test_a_cup_of_coffee(folder):
    ran = spawn("query", "a cup of coffee", "-f", "-t", "1", cwd=folder).ok()
    assert ran.out == f"{folder / 'media' / 'coffee.png'}\n"
    assert ran.err == ""


def test_a_rabbit_in_a_meadow_has_a_time_in_its_video(here):
    duration = {r["path"]: r["duration"] for r in run("list", "--json").ok().records}
    ran = spawn("query", "a rabbit in a meadow", "-t", "1", "--json", cwd=here).ok()
    (hit,) = json.loads(ran.out)
    assert hit["path"] == str(here / "media" / "bigbuckbunny.mp4")
    assert hit["kind"] == "frame"
    assert 0 <= hit["start"] < hit["end"] <= duration[hit["path"]] + 0.1
    assert hit["start"] <= hit["moment"] < hit["end"]


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("a cat", "chelsea.png"),
        ("a rocket launch", "rocket.jpg"),
        ("people riding bicycles in a city", "bikes.mp4"),
    ],
)
def test_words_find_their_picture(here, words, name):
    assert [Path(path).name for path in run("query", words, "-f", "-t", "1").ok().lines] == [name]


def test_whole_videos(here):
    records = run("query", "a rabbit in a meadow", "--kind", "video", "--json").ok().records
    assert Path(records[0]["path"]).name == "bigbuckbunny.mp4"
    assert sorted(Path(record["path"]).name for record in records) == VIDEOS
    scores = [record["score"] for record in records]
    assert scores == sorted(scores, reverse=True)


def test_again_nothing_is_decoded(here, monkeypatch):
    def refuse(file, _spec):
        raise AssertionError(f"{file.path} was decoded")

    monkeypatch.setattr("clipsearch.ingest.reading.open_media", refuse)
    again = run("index", "media").ok()
    assert f"unchanged {COUNT}," in again.err


def test_a_dog_is_looked_for_in_all_that_is_seen_heard_and_said(here):
    hits = run("query", "dog", "--json").ok().records
    assert {hit["kind"] for hit in hits} == {"image", "frame", "audio", "text"}
    (heard,) = [hit for hit in hits if hit["kind"] == "audio"]
    assert Path(heard["path"]).name == "bark.wav"
    (said,) = [hit for hit in hits if hit["kind"] == "text"]
    assert said["text"] == "The dog is barking again."
    assert (Path(said["path"]).name, said["start"], said["end"]) == ("bigbuckbunny.mp4", 1.0, 3.0)
    assert said["score"] > 0.4


def test_what_is_not_to_the_point_stays_away(here):
    hits = run("query", "a cup of coffee", "--json").ok().records
    assert {hit["kind"] for hit in hits} == {"image", "frame"}
    asked = run("query", "a cup of coffee", "--kind", "audio", "--kind", "text", "--json").ok()
    assert {hit["kind"] for hit in asked.records} == {"audio", "text"}, "who asks gets it"
