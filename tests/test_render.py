from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from clipsearch.errors import UsageError
from clipsearch.interfaces.render import (
    FORMATS,
    clock,
    hit_record,
    media_record,
    output_format,
)
from clipsearch.types import Hit, MediaInfo, StoredMedia

ODD_NAMES = [
    "two words.jpg",
    "double \" and single '.jpg",
    "new\nline.jpg",
    "tab\there.jpg",
    "carriage\rreturn.jpg",
    "back\\slash.jpg",
    "back\\there.jpg",
    "ünïcode → 名前 🎞.jpg",
    "-dash.jpg",
    "comma, semicolon;.jpg",
    " blanks around .jpg ",
]
STILL = Hit(Path("/media/a.jpg"), "image", 0.123456789)
MOMENT = Hit(Path("/media/b.mp4"), "frame", -0.5, 6.0, 12.0404, 7.25)


def still(name: str) -> dict[str, object]:
    return hit_record(Hit(Path("/media") / name, "image", 0.5))


def unescaped(cell: str) -> str:
    """The inverse of what a TSV cell does to a text."""
    text, escaped = "", False
    for letter in cell:
        if escaped:
            text, escaped = text + {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}[letter], False
        elif letter == "\\":
            escaped = True
        else:
            text += letter
    assert not escaped
    return text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "00:00:00.0"),
        (82.04, "00:01:22.0"),
        (59.96, "00:01:00.0"),
        (3599.99, "01:00:00.0"),
        (360_000.0, "100:00:00.0"),
    ],
)
def test_clock(seconds, shown):
    assert clock(seconds) == shown


def test_a_hit_as_values():
    assert hit_record(STILL) == {
        "score": 0.123457,
        "relevance": None,
        "path": "/media/a.jpg",
        "kind": "image",
        "start": None,
        "end": None,
        "moment": None,
        "text": None,
    }
    assert hit_record(MOMENT)["end"] == 12.04


def test_of_many_queries_a_record_says_which():
    record = hit_record(replace(STILL, relevance=0.98765432), "a\tdog")
    assert list(record)[:4] == ["query", "score", "relevance", "path"]
    assert (record["query"], record["relevance"]) == ("a\tdog", 0.987654)
    assert FORMATS["tsv"]([record]) == (
        "query\tscore\tpath\tstart\tend\na\\tdog\t0.123\t/media/a.jpg\t\t\n"
    )
    assert list(csv.reader(io.StringIO(FORMATS["csv"]([record]), newline="")))[1][:3] == [
        *("a\tdog", "0.123457", "0.987654")
    ]


def test_the_table_shows_relevance_where_it_is_known():
    hits = [replace(STILL, relevance=0.98765432), STILL]
    lines = FORMATS["table"]([hit_record(hit) for hit in hits]).splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["score", "relevance"],
        ["0.123", "0.988"],
        ["0.123", "/media/a.jpg"],
    ]


def test_lists_are_one_cell():
    record = {"path": "/a.jpg", "tags": ["dog", "a, b"]}
    assert json.loads(FORMATS["json"]([record])) == [record]
    assert FORMATS["tsv"]([record]) == "path\ttags\n/a.jpg\tdog, a, b\n"
    assert list(csv.reader(io.StringIO(FORMATS["csv"]([record]), newline="")))[1] == [
        *("/a.jpg", "dog, a, b")
    ]


def test_tsv_has_four_columns_and_three_decimals():
    text = FORMATS["tsv"]([hit_record(STILL), hit_record(MOMENT)])
    assert text == (
        "score\tpath\tstart\tend\n0.123\t/media/a.jpg\t\t\n-0.500\t/media/b.mp4\t6.000\t12.040\n"
    )


@pytest.mark.parametrize("name", ODD_NAMES)
def test_every_name_comes_back_from_json_jsonl_and_csv(name):
    record = still(name)
    assert json.loads(FORMATS["json"]([record, record])) == [record, record]
    assert [json.loads(line) for line in FORMATS["jsonl"]([record] * 2).splitlines()] == [
        record,
        record,
    ]
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"]([record]), newline="")))
    assert [row["path"] for row in rows] == [f"/media/{name}"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_every_name_is_one_tsv_cell_that_can_be_undone(name):
    header, line, rest = FORMATS["tsv"]([still(name)]).split("\n")
    assert rest == ""
    assert "\r" not in line
    cells = dict(zip(header.split("\t"), line.split("\t"), strict=True))
    assert unescaped(cells["path"]) == f"/media/{name}"


def test_other_names_make_other_tsv_cells():
    cells = [FORMATS["tsv"]([still(name)]) for name in ODD_NAMES]
    assert len(set(cells)) == len(ODD_NAMES)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_paths_are_raw(name):
    assert FORMATS["paths"]([still(name)]) == f"/media/{name}\n"
    assert FORMATS["paths0"]([still(name)]) == f"/media/{name}\0"


def test_paths_come_once_in_the_order_of_the_hits():
    records = [still(name) for name in ("b.jpg", "a.jpg", "b.jpg")]
    assert FORMATS["paths"](records) == "/media/b.jpg\n/media/a.jpg\n"
    assert FORMATS["paths0"](records) == "/media/b.jpg\0/media/a.jpg\0"


def test_no_hits():
    assert json.loads(FORMATS["json"]([])) == []
    for name in ("jsonl", "paths", "paths0", "table"):
        assert FORMATS[name]([]) == ""


def test_the_table_has_a_clock_and_paths_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    records = [
        hit_record(Hit(tmp_path / "here" / "a.mp4", "frame", 0.5, 82.0, 83.5, 82.0)),
        hit_record(Hit(Path("/elsewhere/b.jpg"), "image", 0.25)),
    ]
    header, first, second = FORMATS["table"](records).splitlines()
    assert header.split() == ["score", "path", "kind", "start", "end", "moment"]
    assert first.split() == [
        "0.500",
        "here/a.mp4",
        "frame",
        "00:01:22.0",
        "00:01:23.5",
        "00:01:22.0",
    ]
    assert second.split() == ["0.250", "/elsewhere/b.jpg", "image"]


def test_the_table_has_no_empty_columns():
    assert FORMATS["table"]([hit_record(STILL)]).split()[:3] == ["score", "path", "kind"]


@pytest.mark.parametrize("name", ["esc\x1b[31mape.jpg", "bell\x07.jpg", "c1\x9b31m.jpg"])
def test_a_name_cannot_steer_the_terminal(name):
    shown = FORMATS["table"]([still(name)])
    assert not any(letter in shown for letter in "\x1b\x07\x9b")


@pytest.mark.parametrize("name", ["[red]markup[/red].jpg", ":smile:.jpg", "[/].jpg"])
def test_a_name_is_no_markup(name):
    assert name in FORMATS["table"]([still(name)])


def test_long_paths_are_folded_not_cut(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    name = "x" * 150 + ".jpg"
    shown = FORMATS["table"]([still(name)])
    assert "".join(shown.split()).count("x") == 150
    assert max(map(len, shown.splitlines())) <= 60


def test_only_paths_may_be_asked_for_in_both_ways():
    assert output_format(paths=True, paths0=True, json=False) is FORMATS["paths0"]  # -f -0
    for flags in ({"json", "csv"}, {"paths", "json"}, {"paths", "paths0", "json"}):
        with pytest.raises(UsageError, match="choose one"):
            output_format(**dict.fromkeys(flags, True))


def test_a_file_as_values():
    ready = StoredMedia(
        1, Path("/media"), "b.mp4", "video", 9, 0, "h", MediaInfo(64, 48, 2.5), "ready"
    )
    failed = StoredMedia(2, Path("/media"), "c.jpg", "image", 3, 0, "h", None, "failed", "no")
    assert media_record(ready) == {
        "path": "/media/b.mp4",
        "kind": "video",
        "state": "ready",
        "size_bytes": 9,
        "duration": 2.5,
        "width": 64,
        "height": 48,
        "error": None,
    }
    assert (media_record(failed)["error"], media_record(failed)["width"]) == ("no", None)
    lines = FORMATS["tsv"]([media_record(ready), media_record(failed)]).splitlines()
    columns = ["path", "kind", "state", "size_bytes", "duration", "width", "height", "error"]
    assert lines[0].split("\t") == columns
    assert lines[2].split("\t") == ["/media/c.jpg", "image", "failed", "3", "", "", "", "no"]
