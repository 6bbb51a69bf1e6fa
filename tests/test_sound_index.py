"""Sound and subtitles in an index: found, kept up to date, and never a reason to stop."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsearch import AddOptions, Index, Query
from clipsearch.errors import EncoderError, MediaError, UsageError
from clipsearch.store.manifest import AudioSettings
from clipsearch.store.writer import Writer
from clipsearch.types import EncodedMedia
from tests.clap_files import write_clap
from tests.sound_files import SoundPlan, write_beeps, write_film, write_float_wav
from tests.test_subtitles import write_film as write_subtitled

LOW, HIGH = 100.0, 4000.0
SRT = """1
00:00:01,000 --> 00:00:02,500
a red door

2
00:00:02,000 --> 00:00:03,000
something green
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A red picture, a film that beeps high at 0.5, 1.25 and 3.2 s, with subtitles, a low sound."""
    media = tmp_path / "media"
    media.mkdir()
    Image.new("RGB", (64, 64), (255, 0, 0)).save(media / "red.png")
    write_film(media / "film.mp4", SoundPlan("aac", hertz=HIGH), frames=100)
    write_beeps(media / "low.wav", SoundPlan(beeps=(7.0,), seconds=12.0, hertz=LOW))
    (media / "film.en.srt").write_bytes(b"\xef\xbb\xbf" + SRT.encode())
    return media


@pytest.fixture
def index(tmp_path: Path, folder: Path) -> Index:
    made = Index.create(tmp_path / "index", model="fake")
    report = made.add([folder])
    assert (report.added, report.failures, report.warnings) == (4, (), ())
    return made


def write_another(folder: Path) -> Path:
    """A low sound that is not indexed."""
    path = folder / "another.wav"
    write_beeps(path, SoundPlan(beeps=(3.0,), seconds=12.0, hertz=LOW))
    return path


def test_one_question_is_answered_by_what_is_seen_heard_and_said(index: Index) -> None:
    hits = index.search("a red high whistle", top=20)
    by_kind = {hit.kind: hit for hit in reversed(hits)}
    assert set(by_kind) == {"image", "frame", "audio", "text"}
    assert by_kind["image"].path.name == "red.png"
    assert by_kind["audio"].path.name == "film.mp4"
    assert by_kind["text"].text == "a red door"
    assert by_kind["text"].path.name == "film.mp4", "not the file that it is written in"
    assert (by_kind["text"].start, by_kind["text"].end) == (1.0, 2.5)
    assert all(hit.rank_score is not None for hit in hits)
    assert [hit.rank_score for hit in hits] == sorted((h.rank_score for h in hits), reverse=True)


def test_kinds_and_sources_narrow_the_search(index: Index) -> None:
    for options, kinds in (
        ({"kind": "audio"}, {"audio"}),
        ({"source": "audio"}, {"audio"}),
        ({"source": "text"}, {"text"}),
        ({"source": "visual"}, {"image", "frame"}),
        ({"kind": ["image", "text"]}, {"image", "text"}),
        ({"kind": ["image", "text"], "source": "text"}, {"text"}),
    ):
        assert {hit.kind for hit in index.search("high", **options)} == kinds
    with pytest.raises(UsageError, match="source 'sound': use one of visual, audio, text"):
        index.search("high", source="sound")
    with pytest.raises(UsageError, match="nothing of kind image is of the source text"):
        index.search("high", kind="image", source="text")


def test_times_of_sounds_are_those_of_the_events(index: Index) -> None:
    [high, low] = index.search("high", kind="audio")
    assert (high.path.name, low.path.name) == ("film.mp4", "low.wav")
    assert high.start == pytest.approx(0.5, abs=0.1)
    assert high.end == pytest.approx(3.25, abs=0.1)
    [low] = index.search("low", kind="audio", min_cosine=0.5)
    assert low.start == pytest.approx(7.0, abs=0.1)
    assert low.end == pytest.approx(7.05, abs=0.1)


def test_short_windows_tell_each_event_apart(tmp_path: Path, folder: Path) -> None:
    options = AddOptions(audio_window_seconds=0.4, audio_hop_seconds=0.2)
    with Index.create(tmp_path / "short", model="fake") as index:
        index.add([folder / "film.mp4"], options=options)
        hits = index.search("high", kind="audio", min_cosine=0.5, merge_gap=0.1)
    starts = sorted(hit.start for hit in hits)
    assert starts == pytest.approx([0.5, 1.25, 3.2], abs=0.1)


def test_a_sound_finds_its_like_and_what_shares_its_space(index: Index, folder: Path) -> None:
    asked = write_beeps(folder.parent / "other.flac", SoundPlan("flac", hertz=3500.0))
    hits = index.search(Query(sounds=(asked,)), kind="audio")
    assert hits[0].path.name == "film.mp4"
    assert {hit.kind for hit in index.search(Query(sounds=(asked,)))} >= {"audio", "frame"}
    [first, *_] = index.search(Query("red", (asked,)), kind="text")
    assert first.text == "a red door"
    silent = write_beeps(folder.parent / "silent.wav", SoundPlan(beeps=()))
    with pytest.raises(MediaError, match="nothing to hear"):
        index.search(Query(sounds=(silent,)))
    with pytest.raises(MediaError, match=r"gone\.wav: no such file"):
        index.search(Query(sounds=(folder / "gone.wav",)))


def test_an_encoder_of_sound_of_its_own_has_a_space_of_its_own(
    tmp_path: Path, folder: Path
) -> None:
    with Index.create(tmp_path / "two", model="fake:64") as index:
        index.add([folder], options=AddOptions(audio_model="fake:32"))
        status = index.status()
        assert (status.dim, status.hears, status.rows_heard, status.rows_said) == (
            64,
            "fake:32@1",
            3,
            2,
        )
        hits = index.search("a red high whistle", top=20)
        assert {hit.kind for hit in hits} == {"image", "frame", "audio", "text"}
        sound = Query(sounds=(write_another(tmp_path),))
        assert [hit.kind for hit in index.search(sound)] == ["audio", "audio"]
        with pytest.raises(UsageError, match="a space of their own"):
            index.search(sound, kind="image")
        with pytest.raises(UsageError, match=r"hears by fake:32, not by fake:16"):
            index.add([folder], options=AddOptions(audio_model="fake:16"))
        assert index.verify() == []
    with Index.open(tmp_path / "two") as index:
        assert index.search("low", kind="audio")[0].path.name == "low.wav"


def test_an_index_without_sound_takes_it_in_when_it_is_asked_to(
    tmp_path: Path, folder: Path
) -> None:
    quiet = AddOptions(audio=False, subtitles=False)
    with Index.create(tmp_path / "quiet", model="fake") as index:
        report = index.add([folder], options=quiet)
        assert report.added == 2
        assert report.warnings == ("sound files left out: 1; --audio takes them in",)
        report = index.add([folder])
        assert (report.added, report.unchanged) == (0, 2), "the index has no sound"
        frames = index.search("high", kind="frame")
        with pytest.raises(UsageError, match="this index has no sound"):
            index.search("high", kind="audio")
        with pytest.raises(UsageError, match="this index has no subtitles"):
            index.search("high", source="text")
        with pytest.raises(UsageError, match="no sound to compare with"):
            index.search(Query(sounds=(folder / "low.wav",)))
        report = index.add([folder], options=AddOptions(audio=True, subtitles=True))
        assert (report.added, report.updated, report.unchanged) == (2, 1, 1)
        assert index.search("high", kind="frame") == frames, "pictures were not read again"
        assert index.search("high", kind="audio")[0].path.name == "film.mp4"
        report = index.add([folder])
        assert (report.added, report.updated, report.unchanged) == (0, 0, 4)
        for options in (quiet, AddOptions(subtitles=False), AddOptions(audio_window_seconds=3.0)):
            with pytest.raises(UsageError, match="use another --index"):
                index.add([folder], options=options)


def test_an_encoder_that_hears_nothing_says_what_does(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.encoders.fake.FakeEncoder.supports_audio", False)
    with Index.create(tmp_path / "deaf", model="fake") as index:
        report = index.add([folder])
        assert [w for w in report.warnings if "--audio-model clap" in w]
        assert report.added == 3
        with pytest.raises(EncoderError, match="takes no sound: give --audio-model"):
            index.add([folder], options=AddOptions(audio=True))
        report = index.add([folder / "low.wav"])
        assert "this index has no sound" in report.failures[0].reason


def test_files_come_and_go(index: Index, folder: Path) -> None:
    shutil.move(folder / "low.wav", folder / "deep.wav")
    (folder / "film.en.srt").write_text(SRT.replace("green", "blue"))
    report = index.add([folder])
    assert (report.moved, report.updated, report.unchanged) == (1, 1, 2)
    assert index.search("low", kind="audio")[0].path.name == "deep.wav"
    assert {hit.text for hit in index.search("blue", kind="text")} == {
        "a red door",
        "something blue",
    }
    (folder / "film.en.srt").unlink()
    (folder / "deep.wav").unlink()
    report = index.add([folder])
    assert report.removed == 2
    assert index.search("blue", kind="text") == []
    assert index.verify() == []


def test_odd_sounds_are_indexed_or_reported(index: Index, folder: Path) -> None:
    odd = folder / "odd"
    odd.mkdir()
    for name, codec, layout in (
        ("u8.wav", "pcm_u8", "mono"),
        ("s24.wav", "pcm_s24le", "stereo"),
        ("f32.wav", "pcm_f32le", "5.1"),
        ("six.flac", "flac", "5.1"),
        ("a.mp3", "libmp3lame", "stereo"),
        ("a.m4a", "aac", "stereo"),
        ("a.ogg", "libopus", "mono"),
        ("a.opus", "libopus", "mono"),
    ):
        rate = 48000 if codec == "libopus" else 44100
        write_beeps(odd / name, SoundPlan(codec, rate=rate, layout=layout, hertz=HIGH))
    write_film(odd / "silent.mp4", SoundPlan("aac", beeps=()), frames=25)
    write_float_wav(odd / "none.wav", np.zeros((0, 1), np.float32), 44100)
    whole = (odd / "a.mp3").read_bytes()
    (odd / "cut.mp3").write_bytes(b"\0" * 3000)
    (odd / "junk.mp3").write_bytes(np.random.default_rng(0).bytes(5000))
    (odd / "whole.mp3").write_bytes(whole)
    (odd / "empty.srt").write_bytes(b"")
    (odd / "binary.srt").write_bytes(np.random.default_rng(1).bytes(500))
    report = index.add([odd])
    assert sorted(failure.path.name for failure in report.failures) == [
        "binary.srt",
        "cut.mp3",
        "empty.srt",
        "junk.mp3",
        "none.wav",
    ]
    assert report.added == 10
    found = index.search("high", kind="audio", top=50, min_cosine=0.5)
    names = {hit.path.name for hit in found}
    assert names == {
        *("u8.wav", "s24.wav", "f32.wav", "six.flac", "a.mp3", "a.m4a", "a.ogg", "a.opus"),
        *("whole.mp3", "film.mp4"),
    }
    assert all(hit.start == pytest.approx(0.5, abs=0.1) for hit in found)


def test_a_film_of_sound_alone_is_heard(index: Index, folder: Path) -> None:
    write_beeps(folder / "radio.mp4", SoundPlan("aac", hertz=LOW))
    report = index.add([folder])
    assert (report.added, report.failures) == (1, ())
    assert "radio.mp4" in {hit.path.name for hit in index.search("low", kind="audio")}
    media = {item.path.name: item for item in index.media()}
    assert media["radio.mp4"].kind == "video"
    assert media["radio.mp4"].info.duration_seconds == pytest.approx(4.0, abs=0.1)


def test_a_track_that_is_damaged_spares_the_pictures(
    index: Index, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> object:
        raise MediaError("damaged: decoded 1.0 of 9.0 seconds")

    monkeypatch.setattr("clipsearch.ingest.reading.open_sound_track", broken)
    shutil.copy(folder / "film.mp4", folder / "other.mp4")
    with (folder / "other.mp4").open("ab") as file:
        file.write(b"\0\0\0\x08free")
    report = index.add([folder])
    assert (report.added, report.failures) == (1, ())
    [warning] = report.warnings
    assert "other.mp4: its sound cannot be read to the end: damaged" in warning
    again = index.add([folder])
    assert (again.unchanged, again.warnings) == (5, report.warnings), "it is told every time"
    monkeypatch.undo()
    again = index.add([folder], options=AddOptions(retry_failed=True))
    assert (again.updated, again.unchanged, again.warnings) == (1, 4, ())
    assert "other.mp4" in {hit.path.name for hit in index.search("high", kind="audio")}
    assert "other.mp4" in {hit.path.name for hit in index.search("grey", kind="frame")}


def test_the_settings_are_recorded(index: Index) -> None:
    manifest = index._store.manifest
    assert manifest.audio == AudioSettings("fake", "fake:64@1", 64, 10.0, 5.0)
    assert manifest.texts
    status = index.status()
    assert (status.sounds, status.subtitles, status.videos, status.images) == (1, 1, 1, 1)


def test_subtitles_inside_a_film_are_found_with_it(index: Index, folder: Path) -> None:
    write_subtitled(folder / "talk.mkv", ("subrip",))
    report = index.add([folder])
    assert (report.added, report.failures, report.warnings) == (1, (), ())
    mine = [h for h in index.search("x", kind="text", top=50) if h.path.name == "talk.mkv"]
    assert sorted((hit.start, hit.end, hit.text) for hit in mine) == [
        (1.0, 2.5, "Hello world"),
        (3.25, 4.0, "two lines"),
        (4.5, 5.0, "5 of 6"),
    ]


def test_films_and_subtitles_find_each_other_whichever_comes_first(
    index: Index, folder: Path
) -> None:
    (folder / "later.srt").write_text(SRT)
    index.add([folder])
    assert "later.srt" in {hit.path.name for hit in index.search("red", kind="text")}
    write_film(folder / "LATER.MKV", SoundPlan("aac"), frames=25)
    (folder / "later.srt").rename(folder / "LATER.de.srt")
    report = index.add([folder])
    assert (report.added, report.moved) == (1, 1)
    names = {hit.path.name for hit in index.search("red", kind="text")}
    assert names == {"film.mp4", "LATER.MKV"}
    (folder / "LATER.MKV").unlink()
    index.add([folder])
    names = {hit.path.name for hit in index.search("red", kind="text")}
    assert names == {"film.mp4", "LATER.de.srt"}


def test_a_first_run_that_is_refused_settles_nothing(tmp_path: Path, folder: Path) -> None:
    with Index.create(tmp_path / "new", model="fake") as index:
        wrong = AddOptions(audio_window_seconds=1.0, audio_hop_seconds=5.0)
        with pytest.raises(UsageError, match="hop of 5 seconds"):
            index.add([folder], options=wrong)
        assert index.status().sampling == {}
        index.add([folder])
        kinds = ["image", "frame", "audio", "text"]
        assert {hit.kind for hit in index.search("x", kind=kinds, top=50)} == set(kinds)
    for options in ({"audio_window_seconds": 0.0}, {"audio": False, "audio_model": "clap"}):
        with pytest.raises(UsageError, match=r"more than 0|without audio"):
            AddOptions(**options)


def test_a_reader_sees_that_an_index_has_got_sound(tmp_path: Path, folder: Path) -> None:
    with Index.create(tmp_path / "two", model="fake") as writer:
        writer.add([folder], options=AddOptions(audio=False, subtitles=False))
        with Index.open(tmp_path / "two") as reader:
            with pytest.raises(UsageError, match="no sound"):
                reader.search("high", kind="audio")
            writer.add([folder], options=AddOptions(audio=True, subtitles=True))
            assert reader.search("high", kind="audio")
            assert reader.search("red", kind="text")


def test_a_film_of_sound_alone_is_heard_once_the_index_hears(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    write_beeps(tmp_path / "m" / "radio.mp4", SoundPlan("aac", hertz=LOW))
    (tmp_path / "m" / "junk.mp4").write_bytes(b"junk" * 99)
    with Index.create(tmp_path / "index", model="fake") as index:
        report = index.add([tmp_path / "m"], options=AddOptions(audio=False, subtitles=False))
        assert len(report.failures) == 2
        report = index.add([tmp_path / "m"], options=AddOptions(audio=True))
        assert (report.updated, [f.path.name for f in report.failures]) == (1, ["junk.mp4"])
        assert index.search("low", kind="audio")[0].path.name == "radio.mp4"


def test_a_few_subtitles_hold_nothing_up(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"z{number}.png")
    (folder / "aaa.srt").write_text(SRT)
    published: list[int] = []
    publish = Writer.publish

    def noted(self: Writer, media: Sequence[EncodedMedia]) -> None:
        published.append(len(media))
        publish(self, media)

    monkeypatch.setattr("clipsearch.ingest.flow.PUBLISH_SECONDS", 0.0)
    monkeypatch.setattr("clipsearch.ingest.publishing.Publishing.busy", False)
    monkeypatch.setattr(Writer, "publish", noted)
    with Index.create(tmp_path / "early", model="fake") as index:
        index.add([folder], options=AddOptions(batch_size=8))
    assert sum(published) == 45
    assert len(published) > 1, "all else waited for a batch of subtitles to be full"


def test_without_its_encoder_of_sound_an_index_still_shows_the_rest(
    tmp_path: Path, folder: Path
) -> None:
    told: list[str] = []
    with Index.create(tmp_path / "two", model="fake") as index:
        index.add([folder], options=AddOptions(audio_model="fake:32"))
        index._store.update_manifest(
            audio=replace(index._store.manifest.audio, fingerprint="another")
        )
    with Index.open(tmp_path / "two", on_notice=told.append) as index:
        assert {hit.kind for hit in index.search("red", top=50)} == {"image", "frame", "text"}
        [notice] = told
        assert notice.startswith("sounds are left out: the sound in ")
        assert "was encoded with another, but fake:32 is fake:32@1 here" in notice
        with pytest.raises(EncoderError, match="was encoded with another"):
            index.search("red", kind="audio")
        with pytest.raises(EncoderError, match="was encoded with another"):
            index.add([folder])
        frames = index.search("high", kind="frame")
        report = index.add([folder], options=AddOptions(audio=True))
        assert (report.updated, report.unchanged) == (2, 2), "all sound is encoded anew"
        assert index.search("high", kind="frame") == frames
        assert index.search("high", kind="audio")[0].path.name == "film.mp4"
        assert index.verify() == []


def test_a_sound_alone_finds_sounds_first(index: Index, folder: Path) -> None:
    hits = index.search(Query(sounds=(write_another(folder.parent),)), top=3)
    assert (hits[0].kind, hits[0].path.name) == ("audio", "low.wav")
    own = index.search(Query(sounds=(folder / "low.wav",)), top=3)
    assert (own[0].kind, own[0].path.name) == ("audio", "film.mp4"), "not the sound itself"


def test_the_moment_lies_in_what_windows_share(tmp_path: Path) -> None:
    """A whistle from 11 to 14 s over a hum that is never silent."""
    rate = 16000
    times = np.arange(40 * rate) / rate
    wave = 0.02 * np.sin(2 * np.pi * 150 * times)
    wave += np.where((times >= 11) & (times < 14), 0.5 * np.sin(2 * np.pi * 4000 * times), 0)
    write_float_wav(tmp_path / "hum.wav", wave.astype(np.float32)[:, None], rate)
    with Index.create(tmp_path / "index", model="fake") as index:
        index.add([tmp_path / "hum.wav"])
        [hit] = index.search("high", kind="audio", top=1)
    assert (hit.start, hit.moment, hit.end) == (10.0, 10.0, 15.0)


def test_an_encoder_of_sound_alone_makes_no_index(tmp_path: Path) -> None:
    model = f"clap:{write_clap(tmp_path / 'clap')}"
    with pytest.raises(EncoderError, match="takes no pictures: give it as the encoder of sound"):
        Index.create(tmp_path / "index", model=model)
    assert not (tmp_path / "index").exists()
    with pytest.raises(UsageError, match="encoder 'nonsense'"):
        AddOptions(audio_model="nonsense")


def test_a_short_window_brings_a_short_hop(tmp_path: Path, folder: Path) -> None:
    with Index.create(tmp_path / "short", model="fake") as index:
        index.add([folder], options=AddOptions(audio_window_seconds=3.0))
        assert index._store.manifest.audio.hop_seconds == 1.5
