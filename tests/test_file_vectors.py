"""Files as vectors, from an index and without one; the command that labels them."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch import AddOptions
from clipsearch.encoders.fake import FakeEncoder
from clipsearch.engine import Index
from clipsearch.ingest import stored
from clipsearch.ingest import vectors as file_vectors
from clipsearch.ingest.vectors import FileVector, Viewing, vectors_of
from clipsearch.media import SamplingSpec
from clipsearch.types import Failure
from tests.e2e.support import BLUE, GREEN, RED, run, write_film, write_photo
from tests.sound_files import SoundPlan, write_beeps


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, films and a sound, in an index of four frames a second; and some that are not."""
    folder = tmp_path_factory.mktemp("classify")
    media = folder / "media"
    for number, colour in enumerate((RED, GREEN, BLUE)):
        write_photo(media / f"{number}.png", colour, number)
    write_film(media / "film.mp4", [(RED, list(range(0, 3000, 250)))])
    write_film(media / "fall.mp4", [(RED, [0, 250]), (BLUE, list(range(500, 4000, 250)))])
    write_beeps(media / "low.wav", SoundPlan(beeps=(1.0,), seconds=3.0, hertz=100.0))
    (media / "film.srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nred\n")
    with Index.create(folder / "index", model="fake:64") as index:
        options = AddOptions(SamplingSpec(fps=4.0, keep_all_frames=True))
        assert not index.add([media], options=options).failures
    for number in range(70):
        write_photo(folder / "new" / f"{number:02}.png", (RED, BLUE)[number % 2], number)
    write_film(folder / "new" / "film.mp4", [(BLUE, list(range(0, 3000, 250)))])
    (folder / "new" / "10 broken.png").write_bytes(b"no picture")
    return folder


def looked_at(
    place: Path, paths: Sequence[Path], **how: Any
) -> tuple[list[FileVector], list[Failure]]:
    failures: list[Failure] = []
    with Index.open(place / "index") as index:
        return list(index.file_vectors(paths, on_failure=failures.append, **how)), failures


def test_stored_and_read_on_the_spot_are_the_same(place: Path, tmp_path: Path) -> None:
    copies = Path(shutil.copytree(place / "media", tmp_path / "copies"))
    stored, failures = looked_at(place, [place / "media"])
    made, others = looked_at(place, [copies])
    assert failures == others == []
    names = ["0.png", "1.png", "2.png", "fall.mp4", "film.mp4", "low.wav"]
    assert [item.path.name for item in stored] == [item.path.name for item in made] == names
    assert [item.kind for item in made] == ["image"] * 3 + ["video"] * 2 + ["audio"]
    assert all(item.media_id is not None for item in stored)
    assert all(item.media_id is None for item in made)
    for one, other in zip(stored, made, strict=True):
        np.testing.assert_allclose(one.vector, other.vector, atol=2e-3)  # stored in half precision
        assert np.linalg.norm(one.vector) == pytest.approx(1, abs=1e-3)


def test_a_video_is_the_mean_of_its_frames(place: Path) -> None:
    with Index.open(place / "index") as index:
        frames = index.video(place / "media" / "fall.mp4").frames.vectors
        [found] = index.file_vectors([place / "media" / "fall.mp4"])
    assert len(frames) == 16
    mean = frames.astype(float).mean(axis=0)
    np.testing.assert_allclose(found.vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_many_files_are_read_together(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "ROWS_AT_ONCE", 5)
    monkeypatch.setattr(file_vectors, "MEDIA_AT_ONCE", 4)
    failures: list[Failure] = []
    with Index.open(place / "index") as index:
        media = list(index.selected())
        found = {
            item.media_id: item.vector
            for item in index.file_vectors(media, on_failure=failures.append)
        }
        store = index._store
        for one in media:
            rows = [store.windows(one.id, kind).vectors for kind in ("image", "frame", "audio")]
            first = next((own for own in rows if len(own)), None)
            if first is None:
                assert one.id not in found
                continue
            mean = first.astype(float).mean(axis=0)
            np.testing.assert_allclose(found[one.id], mean / np.linalg.norm(mean), atol=1e-3)
    assert len(found) == 6
    assert failures == []  # subtitles are not asked for


def test_nothing_that_is_indexed_is_read_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    open_media = file_vectors.open_media

    def watching(file: Any, spec: Any) -> Any:
        opened.append(file.path.name)
        return open_media(file, spec)

    monkeypatch.setattr(file_vectors, "open_media", watching)
    found, failures = looked_at(place, [place / "media", place / "new" / "00.png"], sounds=False)
    assert opened == ["00.png"]
    assert [item.path.name for item in found][-1] == "00.png"
    assert failures == []
    assert "low.wav" not in [item.path.name for item in found]


def test_a_changed_file_is_read_anew_and_one_that_is_away_is_not_needed(
    place: Path, tmp_path: Path
) -> None:
    media = tmp_path / "media"
    write_photo(media / "a.png", RED)
    write_photo(media / "b.png", RED)
    with Index.create(tmp_path / "index", model="fake:64") as index:
        index.add([media])
        write_photo(media / "a.png", BLUE, 1)
        (media / "b.png").unlink()
        found = list(index.file_vectors([media / "a.png", media / "b.png"]))
        red, blue = index.encoder.encode_text(["red", "blue"])
    assert [item.media_id is None for item in found] == [True, False]
    assert found[0].vector @ blue > 0.8
    assert found[1].vector @ red > 0.8


def test_order_is_kept_and_bad_files_are_told(place: Path, tmp_path: Path) -> None:
    new = place / "new"
    gone, text = tmp_path / "gone.png", tmp_path / "notes.txt"
    text.write_text("x")
    latin = tmp_path / "latin"
    latin.mkdir()
    shutil.copy(new / "00.png", os.fsencode(latin) + b"/caf\xe9.png")
    given = [new / "03.png", place / "media/0.png", new / "02.png", new / "film.mp4", gone, text]
    found, failures = looked_at(place, [*given, place / "media/film.srt", latin, new])
    names = [item.path.name for item in found]
    assert names[:4] == ["03.png", "0.png", "02.png", "film.mp4"]
    assert names[4:] == sorted(path.name for path in new.iterdir() if "broken" not in path.name)
    told = {failure.path.name: failure.reason for failure in failures}
    assert told.pop("gone.png") == "no such file or folder"
    assert "its name is not that of" in told.pop("notes.txt")
    assert "it is a subtitle file" in told.pop("film.srt")
    assert "not valid UTF-8" in told.pop("caf\udce9.png")
    assert list(told) == ["10 broken.png"]


def test_files_without_an_index_are_seen_by_an_encoder_alone(place: Path) -> None:
    failures: list[Failure] = []
    encoder = FakeEncoder()
    found = list(vectors_of([place / "new"], Viewing.by(encoder), on_failure=failures.append))
    assert len(found) == 71
    assert [failure.path.name for failure in failures] == ["10 broken.png"]
    red, blue = encoder.encode_text(["red", "blue"])
    for item in found[:70]:
        is_red = int(item.path.stem) % 2 == 0
        assert (item.vector @ red > item.vector @ blue) == is_red


def classified(place: Path, *arguments: object) -> list[dict[str, Any]]:
    return run("classify", *arguments, "--index", place / "index", "--json").ok().records


COLOURS = ("--label", "red|dark red", "--label", "green", "--label", "blue")


def test_the_command_labels_what_is_indexed(place: Path) -> None:
    records = classified(place, *COLOURS, "-t", "2")
    assert list(records[0]) == ["path", "kind", "label", "probability"]
    best = {Path(record["path"]).name: record["label"] for record in reversed(records)}
    assert best.pop("low.wav") in ("red", "green", "blue")  # noise, to this encoder
    films = {"film.mp4": "red", "fall.mp4": "blue"}
    assert best == films | {"0.png": "red", "1.png": "green", "2.png": "blue"}
    for first, second in zip(records[::2], records[1::2], strict=True):
        assert first["path"] == second["path"]
        assert 1 >= first["probability"] >= second["probability"] >= 0
    some = classified(place, *COLOURS, "--where", "kind = 'video'", "-t", "1")
    assert [Path(record["path"]).name for record in some] == ["fall.mp4", "film.mp4"]


def test_the_command_labels_files_whatever_the_format(place: Path) -> None:
    given = ("classify", place / "new", place / "media/2.png", *COLOURS, "-t", "2")
    wanted = classified(place, *given[1:])
    assert len(wanted) == 2 * 72
    end = ("--index", place / "index")
    lines = run(*given, *end, "--jsonl").ok().lines
    assert [json.loads(line) for line in lines] == wanted
    rows = list(csv.DictReader(io.StringIO(run(*given, *end, "--csv").ok().out)))
    assert [row["path"] for row in rows] == [record["path"] for record in wanted]
    assert [float(row["probability"]) for row in rows] == [r["probability"] for r in wanted]
    ran = run(*given, *end, "--strict")
    assert ran.code == 4
    assert "classified 72, skipped 1" in ran.err
    header, *table = [line.split("\t") for line in ran.lines]
    assert header == list(wanted[0])
    assert [row[2] for row in table] == [record["label"] for record in wanted]


def test_a_model_and_no_index(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    labels = tmp_path / "labels.txt"
    labels.write_text("red\nblue\n")
    given = ("classify", place / "new/00.png", "--labels", labels, "-t", "1", "--json")
    ran = run(*given, "--model", "fake:32", "--template", "a photo of a {}").ok()
    assert [record["label"] for record in ran.records] == ["red"]
    missing = run(*given, "--index", tmp_path / "none")
    assert missing.code == 3
    assert run(*given[:1], *given[2:]).code == 3  # without paths an index is needed
    nothing = run("classify", tmp_path / "x.png", *given[2:], "--model", "fake:32")
    assert (nothing.code, "no such file or folder" in nothing.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give the labels in a file"),
        (["--label", "red"], "1 labels: give two or more"),
        ([*COLOURS, "--labels", "x.txt"], "give the labels in a file"),
        ([*COLOURS, "--template", "a photo"], "write {} once"),
        ([*COLOURS, "--template", "a {}", "--prompts", "simple"], "give one of them"),
        ([*COLOURS, "--model", "fake"], "--model is for files that are named"),
        ([*COLOURS, "x.png", "--where", "kind = 'image'"], "leave out the paths, or --where"),
        ([*COLOURS, "--where", "colour = 'red'"], "colour"),
    ],
)
def test_wrong_options_are_told(place: Path, options: list[str], message: str) -> None:
    ran = run("classify", *options, "--index", place / "index")
    assert (ran.code, message in ran.err) == (2, True), ran.err


def test_sounds_of_another_space_are_not_compared_with_words(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[Failure] = []
    with Index.open(place / "index") as index:
        manifest = index._store.manifest
        assert manifest.audio is not None
        other = replace(manifest, audio=replace(manifest.audio, encoder="clap"))
        monkeypatch.setattr(index._store, "manifest", other)
        found = index.file_vectors([place / "media"], on_failure=failures.append)
        assert "low.wav" not in [item.path.name for item in found]
        assert failures == []
        monkeypatch.setattr(index._store, "manifest", other)  # searching read the real one
        assert not list(index.file_vectors([place / "media/low.wav"], on_failure=failures.append))
    assert "does not lie in a space with words" in failures[0].reason
