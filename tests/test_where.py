"""The language of conditions: its grammar, its values, and patterns against SQLite's own."""

from __future__ import annotations

import random
import sqlite3
import time
from datetime import datetime
from typing import Any

import pytest

from clipsearch.errors import UsageError
from clipsearch.interfaces.filters import where_of
from clipsearch.where import FIELDS, Test, all_of, any_of, columns_of, fields_of, matches, parse
from clipsearch.where.globs import matcher, standard

HOUR = 3600 * 10**9


def ns(*when: int) -> int:
    """A local time as nanoseconds."""
    return int(datetime(*when).timestamp()) * 10**9  # type: ignore[arg-type]


FILM: dict[str, Any] = {
    "path": "holiday/2024/sea.mp4",
    "absolute path": "/media/holiday/2024/sea.mp4",
    "name": "sea.mp4",
    "kind": "video",
    "size": 12_000_000,
    "date": ns(2024, 5, 31, 14, 0, 30),
    "duration": 90.5,
    "width": 1920,
    "height": 1080,
    "tag": ("dog", "it's"),
    "label": "red",
    "rank": 3,
    "good": True,
    "words": ["sand", "sea"],
}
STILL = {**FILM, "kind": "image", "duration": None, "tag": ()}
SOUND = {**STILL, "kind": "audio", "width": None, "height": None}

# What is asked; whether it holds for the film, the still, the sound.
TRUTH = [
    ("kind = 'video'", "100"),
    ("KIND == \"video\"", "100"),
    ("kind != 'video'", "011"),
    ("kind <> 'video'", "011"),
    ("kind in ('video', 'audio')", "101"),
    ("kind not in ('video', 'audio')", "010"),
    ("size = 12MB", "111"),
    ("size = 12000000", "111"),
    ("size > 12mb", "000"),
    ("size >= 11.4MiB and size < 12.1MB", "111"),
    ("size > 11.5MiB", "000"),
    ("size between 12MB and 13MB", "111"),
    ("size not between 12MB and 13MB", "000"),
    ("size in (1, 12MB)", "111"),
    ("duration > 1:30", "100"),
    ("duration > 90", "100"),
    ("duration >= 90.5s", "100"),
    ("duration = 1m30.5s", "100"),
    ("duration < 2m", "100"),
    ("duration < 0.5h", "100"),
    ("duration != 5", "100"),  # not known is not different
    ("not duration = 5", "111"),
    ("not duration > 5", "011"),
    ("duration is null", "011"),
    ("duration is not null", "100"),
    ("not (duration is not null)", "011"),
    ("duration not in (5, 6)", "100"),
    ("date = 2024", "111"),
    ("date = 2024-05", "111"),
    ("date = 2024-05-31", "111"),
    ("date = '2024-05-31 14:00'", "111"),
    ("date = 2024-05-31T14:00:30", "111"),
    ("date = '2024-05-31 14:01'", "000"),
    ("date != 2024-05", "000"),
    ("date > 2024-05", "000"),
    ("date >= 2024-05", "111"),
    ("date <= 2024-05-31", "111"),
    ("date < 2024-05-31", "000"),
    ("date > 2024-05-30", "111"),
    ("date between 2024-04 and 2024-05", "111"),
    ("date between 2024-06 and 2024-07", "000"),
    ("date in (2023, 2024-05-31)", "111"),
    ("resolution = 1920x1080", "110"),
    ("resolution >= 1280x720", "110"),
    ("resolution >= 720x1280", "000"),
    ("resolution > 1920x1080", "000"),
    ("resolution > 1920x1079", "110"),
    ("resolution <= 1920x1080", "110"),
    ("resolution < 4000x1080", "110"),
    ("resolution != 1920x1080", "000"),
    ("resolution is null", "001"),
    ("width = 1920 and height <= 1080.5", "110"),
    ("megapixels > 2", "110"),
    ("megapixels = 2.0736", "110"),
    ("megapixels is null", "001"),
    ("path = 'holiday/2024/sea.mp4'", "111"),
    ("path = '/media/holiday/2024/sea.mp4'", "111"),
    ("path glob 'holiday/*'", "111"),
    ("path glob '/media/*.mp4'", "111"),
    ("path glob '*.mp4'", "111"),
    ("path glob 'HOLIDAY/*'", "000"),
    ("path glob '*/20[0-2][!0-3]/*'", "111"),
    ("path not glob 'holiday/*'", "000"),
    ("name = 'sea.mp4'", "111"),
    ("name glob 's?a.*'", "111"),
    ("name glob '*/sea*'", "000"),
    ("tag = 'dog'", "100"),
    ("tag = 'it''s'", "100"),
    ("tag = \"it's\"", "100"),
    ("tag != 'dog'", "011"),
    ("tag in ('cat', 'dog')", "100"),
    ("tag not in ('cat', 'dog')", "011"),
    ("tag glob 'd*'", "100"),
    ("tag not glob 'd*'", "011"),
    ("tag is null", "011"),
    ("tag is not null", "100"),
    ("label = 'red'", "111"),
    ("label < 'sea'", "111"),
    ("label = 3", "000"),
    ("label in ('blue', 'red')", "111"),
    ("label glob 'r*'", "111"),
    ("rank = 3", "111"),
    ("rank >= -3.5", "111"),
    ("rank = '3'", "000"),
    ("rank in (1, 3)", "111"),
    ("good = true", "111"),
    ("good = 1", "000"),
    ("good != false and rank != true", "111"),
    ("words = true", "000"),
    ("words = 'sea'", "111"),
    ("words != 'sea'", "000"),
    ("words = 'sun'", "000"),
    ("other = 3", "000"),
    ("other != 3", "000"),
    ("not other = 3", "111"),
    ("other is null", "111"),
    ("\"label\" = 'red'", "111"),
    ("\"size\" is null", "000"),
    # or, and, not: loosest to closest
    ("kind = 'image' or kind = 'video' and duration > 100", "010"),
    ("(kind = 'image' or kind = 'video') and duration < 100", "100"),
    ("not kind = 'image' and not kind = 'video'", "001"),
    ("not (kind = 'image' or kind = 'video')", "001"),
    ("not not kind = 'video'", "100"),
    ("kind='video'AND(size>1)Or(kind=\"audio\")", "101"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), TRUTH)
def test_truth(text: str, expected: str) -> None:
    condition = parse(text)
    assert "".join(str(int(matches(condition, v))) for v in (FILM, STILL, SOUND)) == expected
    assert hash(parse(text)) == hash(condition)


WRONG = [
    ("", "at its end: expected a field: path, name"),
    ("size", "at its end: expected one of = == !="),
    ("size >", "at its end: expected a value"),
    ("size > > 5", "at character 8, '> 5': expected a value"),
    ("size > 5 5", "at character 10, '5': expected `and`, `or` or the end"),
    ("5 < size", "at character 1, '5 < size': expected a field"),
    ("and size > 1", "at character 1"),
    ("(size > 1", r"expected `\)`"),
    ("size > 1)", "at character 9"),
    ("kind = video", "put text in quotes: 'video'"),
    ("kind = 'film'", "use one of image, video, audio, subtitles"),
    ("kind > 'image'", "kind has no order"),
    ("name = 5", "put text in quotes: name = '5'"),
    ("name = 'x", 'at character 8, "\'x": this quote has no end'),
    ("size > 5; drop table media", "at character 9, '; drop table media': this means nothing"),
    ("size > 5 -- x", "this means nothing here"),
    ("size glob '5*'", "size is no text"),
    ("path glob 'a['", r"a set that opens with \[ needs a \]"),
    ("path glob 5", "put patterns in quotes"),
    ("size = 5 apples", "expected `and`"),
    ("size = 5apples", "size '5apples': use bytes"),
    ("duration = 10MB", "duration '10MB': use seconds"),
    ("duration = -5", "duration '-5': use seconds"),
    ("duration = 5\u017f", "duration '5\u017f': use seconds"),  # a long s
    ("duration = '5m\u0131n'", "duration '5m\u0131n': use seconds"),  # a dotless i
    ("width = 1:30", "width '1:30': use a number"),
    ("date = yesterday", "put text in quotes"),
    ("date = 2024-13", "date '2024-13': use for example"),
    ("date = 2024-02-30", "date '2024-02-30'"),
    ("date = 31.5.2024", "date '31.5.2024'"),
    ("resolution = 1080", "resolution '1080': use for example 1920x1080"),
    ("size in 5", r"expected `\(`"),
    ("size in ()", "expected a value"),
    ("size in (5,", "expected a value"),
    ("size in (5 6)", r"expected `,` or `\)`"),
    ("size between 5", "expected `and` and the other value"),
    ("size is 5", "expected `null` or `not null`"),
    ("size is not 5", "expected `null`"),
    ("size not = 5", "at character 10"),
    ("good > true", "true and false have no order"),
    ("label = 2024-05-31", "is no number: put text in quotes"),
    ("size = " + "9" * 400, "use bytes"),
    ("name = 'a\0b'", "zero byte"),
    ("name = 'a\udcffb'", "valid UTF-8"),
    ("(" * 60 + "size > 1" + ")" * 60, "more than 50 parentheses"),
    ("not " * 4000 + "size > 1", "more than 50 parentheses or nots"),
    (" or ".join(f"size = {n}" for n in range(300)), "300 tests"),
    (f"name in ({','.join(map(repr, 'x' * 2500))})", None),
    ("name in (" + ",".join(f"'{n}'" for n in range(2500)) + ")", "2500 values"),
    ("size > 1 " + " " * 30_000, "30009 characters"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_wrong_is_told_with_its_place(text: str, message: str | None) -> None:
    if message is None:  # the same value again and again is one
        assert parse(text) == Test("name", "in", ("x",))
        return
    with pytest.raises(UsageError, match=message):
        parse(text)


def test_any_text_is_a_condition_or_a_usage_error() -> None:
    pick = random.Random(5)
    whole = ["size = 5", "not kind = 'image'", "(tag is null)", "and", "or", "and", "or", "not"]
    others = """and or not in ( ) = < 'a' glob 5 1:30 , between is null 2024-05 1920x1080 " ' -- ;
        é [ %"""
    pieces = [*FIELDS, *others.split(), "\n"]
    good = 0
    for _ in range(3000):
        text = " ".join(pick.choices(pick.choice([pieces, whole]), k=pick.randint(1, 8)))
        try:
            matches(parse(text), FILM)
            good += 1
        except UsageError:
            pass
    assert good > 100


def test_patterns_match_as_in_sqlite() -> None:
    pick = random.Random(3)
    database = sqlite3.connect(":memory:")
    characters = "ab/]-[^!.*?é\n"
    seen = set()
    for _ in range(4000):
        pattern = "".join(pick.choices("ab*?[]^-/.é!", k=pick.randint(0, 9)))
        text = "".join(pick.choices(characters, k=pick.randint(0, 6)))
        plain = standard(pattern)
        if plain is None:
            unclosed = database.execute("SELECT ? GLOB ?", (text, pattern)).fetchone()[0]
            assert not unclosed or "[" not in pattern.partition("[")[0], (text, pattern)
            continue
        [expected] = database.execute("SELECT ? GLOB ?", (text, plain)).fetchone()
        assert (matcher(plain).fullmatch(text) is not None) == bool(expected), (text, plain)
        seen.add(bool(expected))
    assert seen == {True, False}
    database.close()


def test_many_stars_take_no_time() -> None:
    start = time.process_time()
    pattern = "*a" * 200 + "*b"
    assert matcher(pattern).fullmatch("a" * 4000) is None
    assert time.process_time() - start < 1


def test_conditions_are_joined() -> None:
    small, film = parse("size < 5"), parse("kind = 'video' and size < 5")
    assert all_of() is None
    assert any_of(None, None) is None
    assert all_of(None, small) == small
    assert all_of(small, film, small) == all_of(small, parse("kind = 'video'"))
    assert fields_of(parse("path glob '/x*' or tag = 'a' and label = 1")) == {"path", "tag"}
    assert columns_of(parse("path glob '/x*' or tag = 'a' and label = 1")) == {"label"}


def test_options_say_the_same_as_conditions() -> None:
    assert where_of() is None
    assert where_of(
        "tag = 'dog'",
        after="2024-05",
        before="2025",
        min_size="1MB",
        max_size="1GiB",
        min_duration="90",
        max_duration="1h",
        min_resolution="1280x720",
    ) == parse(
        "tag = 'dog' and date >= 2024-05 and date < 2025 and size >= 1MB and size <= 1GiB and "
        "duration >= 1:30 and duration <= 3600 and resolution >= 1280x720"
    )
    assert where_of(paths=["*.jpg", "./a/*"]) == parse("path glob '*.jpg' or path glob 'a/*'")
    assert where_of(paths=["a/b/"]) == parse("path = 'a/b' or path glob 'a/b/*'")
    for wrong, message in [
        ({"after": "soon"}, "--after: date 'soon': use"),
        ({"min_size": "big"}, "--min-size: size 'big': use bytes"),
        ({"max_duration": "-1"}, "--max-duration: duration '-1'"),
        ({"min_resolution": "720p"}, "--min-resolution: resolution '720p'"),
        ({"paths": ["./"]}, r"--path '\./': name a file"),
        ({"paths": ["a[b"]}, r"--path 'a\[b': a set"),
    ]:
        with pytest.raises(UsageError, match=message):
            where_of(None, **wrong)  # type: ignore[arg-type]
