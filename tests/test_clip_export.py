import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clipsearch.errors import UsageError
from clipsearch.interfaces.clips import LOCK_FILE, MANIFEST_FILE, Piece, Record, export_clips
from clipsearch.media import ReadSpec, SamplingSpec, open_media
from clipsearch.types import Failure
from tests.media_files import VideoPlan, number_of, write_video


def export(
    pieces: list[Piece], folder: Path, *, pad_seconds: float = 0.0, reencode: bool = True
) -> tuple[list[Record], list[Failure]]:
    failures: list[Failure] = []
    records = export_clips(
        pieces, folder, pad_seconds=pad_seconds, reencode=reencode, on_failure=failures.append
    )
    return records, failures


def manifest(folder: Path) -> list[Record]:
    return json.loads((folder / MANIFEST_FILE).read_text())


def numbers(path: Path) -> list[int]:
    spec = ReadSpec(64, sampling=SamplingSpec(fps=1000, keep_all_frames=True))
    return [number_of(pixels) for _, pixels in open_media(path, spec).units]


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "a video: 1.mp4", VideoPlan(50))


def test_pieces_become_files_and_records(tmp_path: Path, video: Path) -> None:
    folder = tmp_path / "new" / "clips"
    pieces = [Piece(video, 0.4, 0.8, 0.31, "a dog"), Piece(video, 1.6, 1.8, 0.25)]
    records, failures = export(pieces, folder)
    assert failures == []
    assert records == manifest(folder)
    assert records[0] == {
        "file": "001_a_video_1_0.40-0.80.mp4",
        "source": str(video),
        "start": 0.4,
        "end": 0.8,
        "clip_start": 0.4,
        "clip_end": 0.8,
        "score": 0.31,
        "query": "a dog",
    }
    assert numbers(folder / records[0]["file"]) == list(range(10, 20))
    assert numbers(folder / records[1]["file"]) == list(range(40, 45))
    assert {path.name for path in folder.iterdir()} == {
        "001_a_video_1_0.40-0.80.mp4",
        "002_a_video_1_1.60-1.80.mp4",
        MANIFEST_FILE,
        LOCK_FILE,
    }


def test_padding_stops_at_both_ends_of_the_video(tmp_path: Path, video: Path) -> None:
    pieces = [Piece(video, 0.4, 0.8, 0.3), Piece(video, 1.6, 1.8, 0.2), Piece(video, 1.0, 1.0, 0.1)]
    records, failures = export(pieces, tmp_path / "c", pad_seconds=0.6)
    assert failures == []
    covered = [(record["clip_start"], record["clip_end"]) for record in records]
    assert covered == [(0.0, 1.4), (1.0, 2.0), (0.4, 1.6)]
    assert [(record["start"], record["end"]) for record in records] == [
        (0.4, 0.8),
        (1.6, 1.8),
        (1.0, 1.0),
    ]


def test_copies_say_what_they_cover(tmp_path: Path, video: Path) -> None:
    records, _ = export([Piece(video, 0.6, 0.7, 0.3)], tmp_path / "c", reencode=False)
    found = numbers(tmp_path / "c" / records[0]["file"])
    assert found[0] == round(records[0]["clip_start"] / 0.04)
    assert found[-1] + 1 == round(records[0]["clip_end"] / 0.04)


def test_bad_sources_are_reported_and_skipped(
    tmp_path: Path, video: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"nothing" * 100)
    pieces = [
        Piece(tmp_path / "bad.mp4", 0, 1, 0.5),
        Piece(tmp_path / "photo.jpg", None, None, 0.4),
        Piece(tmp_path / "gone.mp4", 0, 1, 0.4),
        Piece(video, 1.0, 1.0, 0.4),
        Piece(video, 7.0, 8.0, 0.4),
        Piece(video, 0.0, 0.2, 0.3),
    ]
    records, failures = export(pieces, tmp_path / "c")
    assert [record["file"] for record in records] == ["001_a_video_1_0.00-0.20.mp4"]
    assert [failure.path.name for failure in failures] == [
        "bad.mp4",
        "gone.mp4",
        video.name,
        video.name,
    ]
    assert "without length" in failures[2].reason
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"no clip of {tmp_path}/photo.jpg: a picture has no times\n"


def test_a_second_run_adds_and_loses_nothing(tmp_path: Path, video: Path) -> None:
    folder = tmp_path / "c"
    piece = Piece(video, 0.4, 0.8, 0.3)
    first, _ = export([piece, piece], folder)
    (folder / "007_mine.txt").write_text("mine")
    second, _ = export([piece], folder)
    assert [record["file"][:4] for record in first + second] == ["001_", "002_", "008_"]
    assert manifest(folder) == first + second
    assert all((folder / record["file"]).is_file() for record in first + second)


@pytest.mark.parametrize("text", ["{}", "[1]", '[{"file": "x"}]', "not json", "\xff"])
def test_a_manifest_of_others_is_left_alone(tmp_path: Path, video: Path, text: str) -> None:
    (tmp_path / MANIFEST_FILE).write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match="no list of clips"):
        export([Piece(video, 0.4, 0.8, 0.3)], tmp_path)
    assert (tmp_path / MANIFEST_FILE).read_text(encoding="latin-1") == text


def test_what_cannot_be(tmp_path: Path, video: Path) -> None:
    for pad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="padding"):
            export([], tmp_path / "c", pad_seconds=pad)
    with pytest.raises(UsageError, match="is a file"):
        export([], video)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (b"\xff\n.mp4", "001_video_0.00-0.10.mp4"),
        ("Grüße 東京.MOV".encode(), "001_Grüße_東京_0.00-0.10.mov"),
        (b"con.  .avi", "001_con_0.00-0.10.mkv"),
        (("東" * 80 + ".webm").encode(), f"001_{'東' * 40}_0.00-0.10.webm"),
        (b"-rf *.mp4", "001_-rf_0.00-0.10.mp4"),
    ],
)
def test_names_are_safe(tmp_path: Path, video: Path, name: bytes, wanted: str) -> None:
    path = tmp_path / name.decode("utf-8", "surrogateescape")
    path.write_bytes(video.read_bytes())  # FFmpeg looks at the content
    records, failures = export([Piece(path, 0.0, 0.1, 0.3)], tmp_path / "c")
    assert failures == []
    assert records[0]["file"] == wanted
    assert manifest(tmp_path / "c")[0]["source"] == str(path)
    assert (tmp_path / "c" / wanted).is_file()


def test_an_interrupted_run_has_listed_its_clips(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(failure: Failure) -> None:
        raise KeyboardInterrupt

    pieces = [Piece(video, 0, 0.1, 0.3), Piece(tmp_path / "gone", 0, 1, 0), Piece(video, 1, 2, 0.1)]
    with pytest.raises(KeyboardInterrupt):
        export_clips(pieces, tmp_path / "c", pad_seconds=0, reencode=False, on_failure=interrupt)
    assert len(manifest(tmp_path / "c")) == 1
    assert len(list((tmp_path / "c").iterdir())) == 3


def test_exports_into_one_folder_take_turns(tmp_path: Path, video: Path) -> None:
    folder = tmp_path / "c"
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: export([Piece(video, 0.4, 0.8, 0.3)], folder), range(6)))
    assert [failures for _, failures in made] == [[]] * 6
    files = {record["file"] for records, _ in made for record in records}
    assert len(files) == 6
    assert {record["file"] for record in manifest(folder)} == files
    assert {path.name for path in folder.iterdir()} == files | {MANIFEST_FILE, LOCK_FILE}
