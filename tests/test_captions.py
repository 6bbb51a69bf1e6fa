"""Caption files in every layout, and the videos that they name found among indexed paths."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch.captions import Caption, Matched, match_videos, read_captions
from clipsearch.errors import UsageError
from tests.test_public_api import HEAVY, loaded_after

TWO = [Caption("a.mp4", "a dog runs"), Caption("b.mp4", "a cat, asleep")]
MSRVTT = {
    "info": {"contributor": "someone", "year": "2016"},
    "videos": [
        {"category": 9, "video_id": "video0", "split": "train", "id": 0},
        {"category": 3, "video_id": "video6513", "split": "validate", "id": 6513},
        {"category": 1, "video_id": "video7010", "split": "test", "id": 7010},
    ],
    "sentences": [
        {"caption": "a car is shown", "video_id": "video0", "sen_id": 0},
        {"caption": "a man drives", "video_id": "video7010", "sen_id": 1},
        {"caption": "a car is shown", "video_id": "video7010", "sen_id": 2},
        {"caption": "a car is shown", "video_id": "video0", "sen_id": 3},
        {"caption": "people sing", "video_id": "video6513", "sen_id": 4},
    ],
}


def written(folder: Path, name: str, content: str | bytes | Any) -> Path:
    file = folder / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        text = content if isinstance(content, str) else json.dumps(content)
        file.write_text(text, encoding="utf-8", newline="")
    return file


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.csv", 'video,caption\na.mp4,a dog runs\nb.mp4,"a cat, asleep"\n'),
        ("c.CSV", 'Video , Sentence,id\r\na.mp4,a dog runs,1\r\n\r\nb.mp4,"a cat, asleep",2'),
        ("c.csv", "text;ID;path\na dog runs;1;a.mp4\na cat, asleep;2;b.mp4\n"),
        ("c.csv", "description\tfile\na dog runs\ta.mp4\na cat, asleep\tb.mp4\n"),
        ("c.tsv", "video_id\tcaption\na.mp4\ta dog runs\nb.mp4\ta cat, asleep\n"),
        ("c.csv", 'key,caption\na.mp4,a dog runs\n b.mp4 ,"a cat,\n  asleep "\n'),
        ("c.csv", 'key,video_id,sentence\nret0,a.mp4,a dog runs\nret1,b.mp4,"a cat, asleep"\n'),
        ("c.txt", 'video,caption\na.mp4,a dog runs\nb.mp4,"a cat, asleep"\na.mp4,a dog runs'),
        ("c.csv", b'\xef\xbb\xbfvideo,caption\na.mp4,a dog runs\nb.mp4,"a cat, asleep"\n'),
        (
            "c.jsonl",
            '{"video": "a.mp4", "caption": "a dog runs"}\r\n\n'
            '{"Text": ["a cat, asleep", "a cat, asleep"], "file": "b.mp4"}',
        ),
        (
            "c.json",
            '{"video": "a.mp4", "caption": "a dog runs"}\n'
            '{"video": "b.mp4", "caption": "a cat, asleep"}\n',
        ),
        ("c.json", {"a.mp4": "a dog runs", "b.mp4": ["a cat, asleep", " a cat,\tasleep"]}),
        ("c", {"a.mp4": ["a dog runs"], "b.mp4": "a cat, asleep"}),
        (
            "c.json",
            json.dumps(
                [
                    {"path": "a.mp4", "text": "a dog runs"},
                    {"path": "b.mp4", "text": ["a cat, asleep"]},
                ],
                indent=1,
            ),
        ),
        (
            "c.jsonl",
            [{"path": "a.mp4", "text": "a dog runs"}, {"path": "b.mp4", "text": TWO[1].text}],
        ),
        (
            "c.json",
            {
                "videos": [],
                "sentences": [{"video_id": c.video, "caption": c.text} for c in TWO],
            },
        ),
    ],
)
def test_every_layout_says_the_same(tmp_path: Path, name: str, content: Any) -> None:
    assert read_captions(written(tmp_path, name, content)) == TWO


def test_one_object_is_a_record_or_a_list_of_videos(tmp_path: Path) -> None:
    record = {"video": "a.mp4", "caption": "a dog runs"}
    for name in ("c.json", "c.jsonl"):
        assert read_captions(written(tmp_path, name, record)) == TWO[:1]
    assert read_captions(written(tmp_path, "c.json", {"video": "a dog"})) == [
        Caption("video", "a dog")
    ]
    numbered = written(tmp_path, "c.jsonl", '{"video": 7010, "caption": "x\u2028y"}')
    assert read_captions(numbered) == [Caption("7010", "x y")]


def test_random_tables_survive_the_csv_writer(tmp_path: Path) -> None:
    generator = np.random.default_rng(5)
    letters = np.array([*'ab,;\t"\n\r é', "\N{GRINNING FACE}", "'", "\u2028"])
    for delimiter in (",", ";", "\t"):
        rows = [
            (f"v{row}.mp4", "x" + "".join(generator.choice(letters, generator.integers(0, 12))))
            for row in generator.integers(0, 20, 200)
        ]
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, delimiter=delimiter)
        writer.writerows([("video", "caption"), *rows])
        expected: list[Caption] = []
        for video, text in rows:
            caption = Caption(video, " ".join(text.split()))
            if caption not in expected:
                expected.append(caption)
        assert read_captions(written(tmp_path, "c.csv", stream.getvalue())) == expected
        lines = "\n".join(json.dumps({"video": v, "text": t}) for v, t in rows)
        assert read_captions(written(tmp_path, "c.jsonl", lines)) == expected


def test_splits_of_msrvtt(tmp_path: Path) -> None:
    file = written(tmp_path, "MSRVTT_data.json", MSRVTT)
    everything = read_captions(file)
    assert [c.video for c in everything] == ["video0", "video7010", "video7010", "video6513"]
    assert read_captions(file, "train") == [Caption("video0", "a car is shown")]
    test = [Caption("video7010", "a man drives"), Caption("video7010", "a car is shown")]
    assert read_captions(file, "test") == test
    with pytest.raises(
        UsageError, match=r"of split 'val': use one of 'train', 'test', 'validate'$"
    ):
        read_captions(file, "val")


def test_splits_of_columns_and_keys(tmp_path: Path) -> None:
    table = written(tmp_path, "c.csv", "Split,video,caption\ntest,a,x\ntrain,a,y\n,a,z\n")
    lines = written(
        tmp_path,
        "c.jsonl",
        '{"video": "a", "caption": "x", "split": "test"}\n{"video": "a", "caption": "y"}\n'
        '{"video": "a", "caption": "", "split": "held out"}',
    )
    for file in (table, lines):
        assert read_captions(file, "test") == [Caption("a", "x")]
        with pytest.raises(UsageError, match=r"no captions of split 'dev'.*'test'"):
            read_captions(file, "dev")
    plain = written(tmp_path, "c.json", {"a": "x"})
    with pytest.raises(UsageError, match="names no splits, such as 'test': leave"):
        read_captions(plain, "test")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.csv", "", "line 1: no name of a video among nothing"),
        ("c.csv", "video,caption\n", "has no captions"),
        ("c.csv", "name,caption\na,b\n", "line 1: no name of a video among 'name', 'caption'"),
        ("c.csv", "video,words\na,b\n", "no name of a caption among 'video', 'words': need one"),
        ("c.csv", "video,path,caption\na,b,c\n", "several names of a video among 'video', 'path'"),
        ("c.csv", "key,text,sentence\na,b,c\n", "several names of a caption"),
        ("c.csv", 'video,caption\na,"b\nc"\nd, \n', "line 4: the caption is empty"),
        ("c.csv", "video,caption\n\n ,b\n", "line 3: ' ' is no name of a video"),
        ("c.csv", "video,caption\na,b\nc,d,e\n", "line 3: 3 fields below a header of 2: quote"),
        ("c.csv", "video,caption\na\n", "line 2: 1 fields below"),
        ("c.csv", 'video,caption\na,b\nc,"d\ne,f\n', "line 3: unexpected end of data"),
        ("c.csv", 'video,caption\na,"b" c\n', "line 2: .*expected after"),
        ("c.csv", '"video,caption\na,b\n', "line 1: a quote in the header is not closed"),
        ("c.tsv", "video,caption\na,b\n", "no name of a video among 'video,caption'"),
        ("c.csv", b"video,caption\na,b\nc,caf\xe9\n", "line 3: byte 24 is no UTF-8"),
        ("c.csv", b"\xef\xbb\xbfv\n\xff", "line 2: byte 6 is no UTF-8"),
        ("c.csv", "video,caption\na,b".encode("utf-16-le"), "line 1: byte 2 is no UTF-8"),
        ("c.csv", "video,caption\na,b".encode("utf-16"), "line 1: byte 1 is no UTF-8"),
        ("c.jsonl", "", "has no captions"),
        ("c.jsonl", '{"video": "a", "caption": "b"}\n{"video": }', "line 2: no JSON at char"),
        ("c.jsonl", '\n{"video": "a", "caption": ["b", " "]}', "line 2: the caption is empty"),
        ("c.jsonl", '{"video": "a", "caption": []}', "line 1: the list of captions is empty"),
        ("c.jsonl", '{"video": "a", "caption": null}', "the caption None is no text"),
        ("c.jsonl", '{"video": true, "caption": "b"}', "line 1: True is no name of a video"),
        ("c.jsonl", '{"video": "a", "caption": "\\ud83d!"}', "line 1: .* half a character"),
        ("c.jsonl", '{"video": "a"}', "line 1: no name of a caption among 'video'"),
        ("c.jsonl", '{"video": "a", "Video": "b", "text": "c"}', "several names of a video"),
        ("c.jsonl", '{"video": "a", "text": "c"}\n"b"', "line 2: 'b' is no object"),
        ("c.json", "", "line 1: no JSON at character 1"),
        ("c.json", "3", "line 1: 3 is neither an object nor an array"),
        ("c.json", '{"a":\n\n"b"', "line 3: no JSON at character 4"),
        ("c.json", '{"a": "b", "a": "c"}', "'a' stands twice in one object"),
        ("c.json", '{"a": ["b", 3]}', "video 'a': the caption 3 is no text"),
        ("c.json", '{"": "b"}', "video '': '' is no name"),
        ("c.json", '[{"video": "a", "text": "b"}, 5]', "item 2: 5 is no object"),
        ("c.json", "[" * 100_000, "line 1: .*recursion"),
        ("c.json", "[" + "9" * 5000 + "]", "line 1: .*digits"),
        ("c.json", {"videos": {}, "sentences": [{}]}, "videos: {} is no array"),
        ("c.json", {"videos": [3], "sentences": []}, "videos, item 1: 3 has no video_id"),
        (
            "c.json",
            {"videos": [], "sentences": [MSRVTT["sentences"][0], {"video_id": "video0"}]},  # type: ignore[index]
            "sentences, item 2: no name of a caption among 'video_id'",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, content: Any, message: str) -> None:
    file = written(tmp_path, name, content)
    with pytest.raises(UsageError, match=message) as caught:
        read_captions(file)
    assert str(caught.value).startswith(str(file))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*none\.csv: No such file"):
        read_captions(tmp_path / "none.csv")
    with pytest.raises(UsageError, match=r"cannot read .*directory"):
        read_captions(tmp_path)


def matched(names: list[str], videos: Mapping[int, str], beside: str = "/captions") -> Matched:
    captions = [Caption(name, f"text {at}") for at, name in enumerate(names)]
    return match_videos(captions, {i: Path(p) for i, p in videos.items()}, beside=beside)


VIDEOS = {
    7: "/data/train/a.mp4",
    3: "/data/test/a.mp4",
    9: "/data/test/video7010.mp4",
    4: "/captions/here.mkv",
    5: "/elsewhere/here.mkv",
    6: "/data/v1.2/x.y.webm",
    8: "/data/plain",
}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/data/train/a.mp4", 7),
        ("/data//train/./b/../a.mp4", 7),
        ("//data/train/a.mp4", 7),
        ("/data/train/a", 7),
        ("/train/a.mp4", None),
        ("train/a.mp4", 7),
        ("./train/a", 7),
        ("../train/a.mp4", 7),
        ("../data/test/a.mp4", 3),
        ("rain/a.mp4", None),
        ("other/a.mp4", None),
        ("video7010", 9),
        ("video7010.mp4", 9),
        ("video7010.avi", None),
        ("video701", None),
        ("here.mkv", 4),
        ("here", 4),
        ("elsewhere/here", 5),
        ("x.y", 6),
        ("x", None),
        ("v1.2", None),
        ("plain", 8),
        ("..", None),
        (".", None),
        ("/", None),
    ],
)
def test_a_name_finds_its_video(name: str, expected: int | None) -> None:
    result = matched(["train/a.mp4", name], VIDEOS)
    pairs = [[0, 7]] if expected is None else [[0, 7], [1, expected]]
    if name == "train/a.mp4":
        pairs = [[0, 7], [1, 7]]
    assert result.pairs.tolist() == pairs
    assert result.pairs.dtype == np.int64
    assert result.missing == ((name,) if expected is None else ())


def test_a_name_of_several_videos_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"'a' in the captions fits 2 videos \(/data/train/a.mp4, /data/test/a.mp4"
    ):
        matched(["a"], VIDEOS)
    many = {n: f"/d{n}/a.mp4" for n in range(5)}
    with pytest.raises(UsageError, match=r"5 videos \(/d0.*, /d1.*, /d2/a.mp4, \.\.\.\): write"):
        matched(["d1/a.mp4", "a.mp4"], many)
    same = {1: "/captions/v.mp4", 2: "/captions/v.webm", 3: "/x/v"}
    with pytest.raises(UsageError, match="fits 2 videos"):
        matched(["v"], same)
    assert matched(["v.mp4", "x/v", "/x/v"], same).pairs[:, 1].tolist() == [1, 3, 3]


def test_texts_and_pairs_stand_once() -> None:
    captions = [
        Caption("gone", "only there"),
        Caption("b", "two"),
        Caption("/v/a.mp4", "one"),
        Caption("a.mp4", "one"),
        Caption("b", "one"),
        Caption("gone", "two"),
        Caption("lost", "three"),
    ]
    result = match_videos(captions, {20: Path("/v/a.mp4"), 10: Path("/v/b.mp4")}, beside="/v")
    assert result.texts == ("two", "one")
    assert result.pairs.tolist() == [[0, 10], [1, 20], [1, 10]]
    assert result.missing == ("gone", "lost")


def test_nothing_that_matches_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"they name 'z\.mp4', it has /data/train/a\.mp4"):
        matched(["z.mp4"], VIDEOS)
    with pytest.raises(UsageError, match=r"name 'z\.mp4' and the index has no videos"):
        matched(["z.mp4"], {})
    with pytest.raises(UsageError, match="no captions to match"):
        matched([], VIDEOS)


def test_a_relative_folder_is_one_of_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    videos = {1: f"{tmp_path}/set/a.mp4", 2: "/other/a.mp4"}
    assert matched(["a.mp4"], videos, beside="set").pairs.tolist() == [[0, 1]]
    assert matched(["../set/a"], videos, beside="./set").pairs.tolist() == [[0, 1]]


def naive_match(name: str, videos: Mapping[int, str], beside: str) -> list[int]:
    """The ids that fit a name, by a walk over every video for every rule."""

    def stem(path: str) -> str:
        return os.path.splitext(path)[0]  # noqa: PTH122

    whole = Path(os.path.normpath(f"{beside}/{name}")).as_posix()
    parts = [part for part in os.path.normpath(name).split("/") if part != ".."]
    for fits in (
        lambda path: path == whole,
        lambda path: stem(path) == whole,
        lambda path: path.split("/")[1:][-len(parts) :] == parts,
        lambda path: stem(path).split("/")[1:][-len(parts) :] == parts,
    ):
        found = [media_id for media_id, path in videos.items() if fits(path)]
        if found:
            return found
    return []


def test_random_names_beside_a_walk_over_all_videos() -> None:
    generator = np.random.default_rng(11)
    folders, files = ["a", "b", "c.d"], ["x", "x.mp4", "y.mp4", "y.webm", "a", "a.b.mp4", "a.b"]

    def some_path(least: int) -> str:
        depth = generator.integers(least, 4)
        return "/".join([*generator.choice(folders, depth), str(generator.choice(files))])

    several = 0
    for _ in range(150):
        paths = {"/" + some_path(1) for _ in range(8)}
        videos = dict(zip(generator.permutation(100).tolist(), sorted(paths), strict=False))
        anchor, beside = next(iter(videos.values())), "/" + str(generator.choice(folders))
        for name in {some_path(0) for _ in range(12)} | {"../" + some_path(1)}:
            expected = naive_match(name, videos, beside)
            if len(expected) > 1:
                several += 1
                with pytest.raises(UsageError, match=f"fits {len(expected)} videos"):
                    matched([anchor, name], videos, beside)
            else:
                found = matched([anchor, name], videos, beside)
                assert found.pairs[1:, 1].tolist() == expected
                assert found.missing == (() if expected else (name,))
    assert several > 50


def test_importing_it_loads_nothing_heavy() -> None:
    assert loaded_after("import clipsearch.captions", (*HEAVY, "pyarrow", "rich")) == []
