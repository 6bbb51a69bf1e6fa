"""The grammar of queries: a truth table, and that what is said again means the same."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from clipsearch.durations import parse_seconds
from clipsearch.errors import UsageError
from clipsearch.search.grammar import Term, parse_line, parse_terms, said
from clipsearch.search.query import Query
from clipsearch.search.sniff import HEAD_BYTES, content_of

FILES = (
    "dog.jpg",
    "film.mp4",
    "song.wav",
    "lines.srt",
    "notes.txt",
    "my dog.jpg",
    "my film.mp4",
    "a+b.jpg",
    "film@2.mp4",
    "film.mp4@7",
    "-x.jpg",
    "+.jpg",
    "2:3.jpg",
    'the "one".jpg',
    "it's.jpg",
    "new\nline.jpg",
    "tab\there.jpg",
    "ünïcode → 名前.jpg",
    "back\\slash.jpg",
    "\\dog.jpg",
    "UPPER.JPG",
    "plain",
    "picture",
    "~tilde.jpg",
    "100% öl.jpg",
    "sub/inner.png",
    "by\udcffte.jpg",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds; only `picture`, which has no suffix, holds what its name says."""
    place = tmp_path_factory.mktemp("named")
    (place / "sub").mkdir()
    (place / "folder.jpg").mkdir()
    for name in FILES:
        (place / name).write_bytes(b"made for its name")
    Image.new("RGB", (8, 8), "red").save(place / "picture", "PNG")
    return place


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))
    return folder


def words(text: str, weight: float = 1.0) -> Term:
    return Term("words", text, weight)


def picture(path: str, weight: float = 1.0) -> Term:
    return Term("picture", path, weight)


def frame(path: str, seconds: float, weight: float = 1.0) -> Term:
    return Term("frame", path, weight, seconds)


def video(path: str, weight: float = 1.0) -> Term:
    return Term("video", path, weight)


def sound(path: str, seconds: float | None = None, weight: float = 1.0) -> Term:
    return Term("sound", path, weight, seconds)


# Arguments as a program gets them, from a shell that has taken its quotes away.
ARGUMENTS: tuple[tuple[Sequence[str], Sequence[Term]], ...] = (
    # words
    (["horse"], [words("horse")]),
    (["a", "red", "door"], [words("a red door")]),
    (["a red door"], [words("a red door")]),
    (["a red", "door"], [words("a red door")]),
    (["two  spaces"], [words("two  spaces")]),
    (["a", "", "door"], [words("a door")]),
    (["名前", "→"], [words("名前 →")]),
    (["it's", "rock'n'roll"], [words("it's rock'n'roll")]),
    (['"quoted"'], [words('"quoted"')]),
    (["and/or"], [words("and/or")]),
    (["e.g.", "jpg"], [words("e.g. jpg")]),
    ([".jpg"], [words(".jpg")]),
    (["me@home"], [words("me@home")]),
    (["plain"], [words("plain")]),  # a file, but not of a medium
    (["notes.txt"], [words("notes.txt")]),
    (["gone dog.jpg"], [words("gone dog.jpg")]),  # white space, and no such file
    (["sub"], [words("sub")]),
    (["--"], [words("--")]),
    (["-5"], [words("-5")]),
    (["+5"], [words("+5")]),
    (["a+b"], [words("a+b")]),
    (["dog-cat"], [words("dog-cat")]),
    (["dog", "--", "cat"], [words("dog -- cat")]),
    # operators
    (["horse", "+", "stripes"], [words("horse"), words("stripes")]),
    (["horse", "-", "grass"], [words("horse"), words("grass", -1)]),
    (["a", "horse", "-", "green", "grass"], [words("a horse"), words("green grass", -1)]),
    (["+", "horse"], [words("horse")]),
    (["-", "horse"], [words("horse", -1)]),
    (["a", "+", "b", "-", "c", "+", "d"], [words("a"), words("b"), words("c", -1), words("d")]),
    (["a + b"], [words("a + b")]),
    (["a", "-b"], [words("a -b")]),
    # weights
    (["2:stripes"], [words("stripes", 2)]),
    (["0.5:stripes"], [words("stripes", 0.5)]),
    ([".5:stripes"], [words("stripes", 0.5)]),
    (["2.:stripes"], [words("stripes", 2)]),
    (["2:black", "stripes"], [words("black stripes", 2)]),
    (["horse", "+", "2:stripes"], [words("horse"), words("stripes", 2)]),
    (["horse", "-", "2:stripes"], [words("horse"), words("stripes", -2)]),
    (["2:3"], [words("3", 2)]),
    (["2:3:4"], [words("3:4", 2)]),
    (["at", "2:30"], [words("at 2:30")]),  # a weight stands before a term, and not inside
    (["red", "2:door"], [words("red 2:door")]),
    (["x2:stripes"], [words("x2:stripes")]),
    (["-2:stripes"], [words("-2:stripes")]),
    (["1e3:stripes"], [words("1e3:stripes")]),
    (["٢:stripes"], [words("٢:stripes")]),
    (["2:./dog.jpg"], [picture("dog.jpg", 2)]),
    (["2:dog.jpg", "red"], [picture("dog.jpg", 2), words("red")]),
    (["dog.jpg", "2:red", "door"], [picture("dog.jpg"), words("red door", 2)]),
    (["red", "2:dog.jpg"], [words("red"), picture("dog.jpg", 2)]),
    (["2:film.mp4@1:23"], [frame("film.mp4", 83, 2)]),
    # files
    (["dog.jpg"], [picture("dog.jpg")]),
    (["./dog.jpg"], [picture("dog.jpg")]),
    (["sub/../dog.jpg"], [picture("sub/../dog.jpg")]),
    (["sub/inner.png"], [picture("sub/inner.png")]),
    (["UPPER.JPG"], [picture("UPPER.JPG")]),
    (["dog.jpg", "film.mp4"], [picture("dog.jpg"), video("film.mp4")]),
    (["red", "dog.jpg", "door"], [words("red"), picture("dog.jpg"), words("door")]),
    (["film.mp4"], [video("film.mp4")]),
    (["song.wav"], [sound("song.wav")]),
    (["sound:film.mp4"], [sound("film.mp4")]),
    (["sound:song.wav"], [sound("song.wav")]),
    (["sound:", "film.mp4"], [words("sound:"), video("film.mp4")]),
    (["sound:bells"], [words("sound:bells")]),
    (["./picture"], [picture("picture")]),
    (["horse", "-", "./dog.jpg"], [words("horse"), picture("dog.jpg", -1)]),
    (["a", "-", "dog.jpg", "b"], [words("a"), picture("dog.jpg", -1), words("b", -1)]),
    (["my dog.jpg"], [picture("my dog.jpg")]),
    (["my", "dog.jpg"], [picture("my dog.jpg")]),
    (["./my", "dog.jpg"], [picture("my dog.jpg")]),
    (["2:my", "dog.jpg"], [picture("my dog.jpg", 2)]),
    (["red", "+", "my", "dog.jpg"], [words("red"), picture("my dog.jpg")]),
    (["your", "dog.jpg"], [words("your"), picture("dog.jpg")]),
    # times
    (["film.mp4@83"], [frame("film.mp4", 83)]),
    (["film.mp4@83s"], [frame("film.mp4", 83)]),
    (["film.mp4@1m23s"], [frame("film.mp4", 83)]),
    (["film.mp4@1:23"], [frame("film.mp4", 83)]),
    (["./film.mp4@0:01:23.5"], [frame("film.mp4", 83.5)]),
    (["film.mp4@0"], [frame("film.mp4", 0)]),
    (["my", "film.mp4@1:23"], [frame("my film.mp4", 83)]),
    (["song.wav@5"], [sound("song.wav", 5)]),
    (["sound:film.mp4@5"], [sound("film.mp4", 5)]),
    (["film@2.mp4"], [video("film@2.mp4")]),
    (["film@2.mp4@3"], [frame("film@2.mp4", 3)]),
    (["film.mp4@x"], UsageError),
    # odd names
    (["a+b.jpg"], [picture("a+b.jpg")]),
    (["+.jpg"], [picture("+.jpg")]),
    (["./-x.jpg"], [picture("-x.jpg")]),
    (["-x.jpg"], [picture("-x.jpg")]),
    (["2:3.jpg"], [picture("2:3.jpg")]),  # a file of just that name comes first
    (["./2:3.jpg"], [picture("2:3.jpg")]),
    (['the "one".jpg'], [picture('the "one".jpg')]),
    (["the", '"one".jpg'], [picture('the "one".jpg')]),
    (["it's.jpg"], [picture("it's.jpg")]),
    (["new\nline.jpg"], [picture("new\nline.jpg")]),
    (["tab\there.jpg"], [picture("tab\there.jpg")]),
    (["ünïcode → 名前.jpg"], [picture("ünïcode → 名前.jpg")]),
    (["back\\slash.jpg"], [picture("back\\slash.jpg")]),
    (["./\\dog.jpg"], [picture("\\dog.jpg")]),
    (["./~tilde.jpg"], [picture("~tilde.jpg")]),
    (["by\udcffte.jpg"], [picture("by\udcffte.jpg")]),
    # stored vectors
    (["id:12"], [Term("unit", "12")]),
    (["2:id:12", "-", "id:7"], [Term("unit", "12", 2), Term("unit", "7", -1)]),
    (["id:x"], [words("id:x")]),
    # words whatever they look like
    (["\\+"], [words("+")]),
    (["a", "\\+", "b"], [words("a + b")]),
    (["\\2:3"], [words("2:3")]),
    (["2:\\3:4"], [words("3:4", 2)]),
    (["\\dog.jpg"], [words("dog.jpg")]),
    (["\\my", "dog.jpg"], [words("my"), picture("dog.jpg")]),
    (["red", "\\dog.jpg"], [words("red dog.jpg")]),
    (["\\./gone.jpg"], [words("./gone.jpg")]),
    (["\\id:12"], [words("id:12")]),
    (["\\http://example.org"], [words("http://example.org")]),
    (["\\\\x"], [words("\\x")]),
    (["\\"], [words("\\")]),
    # nothing
    ([], []),
    (["", " "], []),
    # what cannot be
    (["gone.jpg"], UsageError),
    (["./gone"], UsageError),
    (["gone.mp4@5"], UsageError),
    (["red", "gone.jpg"], UsageError),
    (["folder.jpg"], UsageError),
    (["./sub"], UsageError),
    (["./plain"], UsageError),
    (["lines.srt"], UsageError),
    (["./notes.txt"], UsageError),
    (["dog.jpg@5"], UsageError),
    (["sound:dog.jpg"], UsageError),
    (["http://example.org/dog.jpg"], UsageError),
    (["HTTPS://example.org"], UsageError),
    (["file://elsewhere/dog.jpg"], UsageError),
    (["~nobody_here/dog.jpg"], UsageError),
    (["2:"], UsageError),
    (["2:", "stripes"], UsageError),
    (["0:stripes"], UsageError),
    (["9" * 400 + ":stripes"], UsageError),
    (["id:" + "9" * 30], UsageError),
    (["+"], UsageError),
    (["-"], UsageError),
    (["horse", "+"], UsageError),
    (["horse", "+", "-", "grass"], UsageError),
    (["horse", "-", ""], UsageError),
)


@pytest.mark.parametrize(("arguments", "terms"), ARGUMENTS, ids=[repr(a) for a, _ in ARGUMENTS])
def test_arguments(here: Path, arguments: Sequence[str], terms: object) -> None:
    if terms is UsageError:
        with pytest.raises(UsageError):
            parse_terms(arguments)
    else:
        assert list(parse_terms(arguments)) == terms


# Lines of a batch: `"…"` does what a shell's quotes do, and makes an operator a word.
LINES: tuple[tuple[str, object], ...] = (
    ("a red door", [words("a red door")]),
    ("  a   red\tdoor \r\n", [words("a red door")]),
    (
        "horse + 2:stripes - ./dog.jpg",
        [words("horse"), words("stripes", 2), picture("dog.jpg", -1)],
    ),
    ('"two  spaces"', [words("two  spaces")]),
    ('rock "+" roll', [words("rock + roll")]),
    ('"+"', [words("+")]),
    ('"a + b"', [words("a + b")]),
    ('2:"black  stripes" red', [words("black  stripes red", 2)]),
    ('"2:black  stripes"', [words("black  stripes", 2)]),
    ('sound:"my film.mp4"@3', [sound("my film.mp4", 3)]),
    ('"my dog.jpg"', [picture("my dog.jpg")]),
    ("my dog.jpg", [picture("my dog.jpg")]),
    ('red "my dog.jpg"', [words("red"), picture("my dog.jpg")]),
    ('"my film.mp4"@1:23', [frame("my film.mp4", 83)]),
    ('"the \\"one\\".jpg"', [picture('the "one".jpg')]),
    ('the "one".jpg', UsageError),  # one.jpg, which is not there
    ("it's rock 'n' roll", [words("it's rock 'n' roll")]),
    ('a 24" screen', [words('a 24" screen')]),
    ('"a\\\\b"', [words("a\\b")]),
    ('"a\\nb"', [words("a\\nb")]),
    ("a\\b", [words("a\\b")]),
    ('\\"tis so', [words('"tis so')]),
    ("\\dog.jpg", [words("dog.jpg")]),
    ('"\\\\dog.jpg"', [words("dog.jpg")]),
    ('"new\nline.jpg"', [picture("new\nline.jpg")]),
    ("", []),
    ("   ", []),
    ('""', []),
    ('"not closed', UsageError),
    ('red 2:"not closed', UsageError),
    ("red + ", UsageError),
)


@pytest.mark.parametrize(("line", "terms"), LINES, ids=[repr(line) for line, _ in LINES])
def test_lines(here: Path, line: str, terms: object) -> None:
    if terms is UsageError:
        with pytest.raises(UsageError):
            parse_line(line)
    else:
        assert list(parse_line(line)) == terms


def test_addresses_and_homes_of_files(here: Path) -> None:
    path = str(here / "100% öl.jpg")
    address = Path(path).as_uri()
    assert "%20" in address
    assert parse_terms([address]) == (picture(path),)
    assert parse_terms([address.replace("file://", "FILE://localhost")]) == (picture(path),)
    assert parse_terms(["~/dog.jpg"]) == (picture(str(here / "dog.jpg")),)
    film = (here / "film.mp4").as_uri()
    assert parse_terms([f"{film}@5"]) == (frame(str(here / "film.mp4"), 5),)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.jpg"], r"gone\.jpg: no such file; if it is words, put a backslash"),
        (["./sub"], r"\./sub: is a folder: name a file in it"),
        (["http://a.org/b.jpg"], r"http://a\.org/b\.jpg: download it first"),
        (["lines.srt"], r"lines\.srt is text: give its words"),
        (["./plain"], r"plain is no picture, video or sound"),
        (["dog.jpg@5"], r"dog\.jpg is a picture: it has no time @5"),
        (["film.mp4@1:2x"], r"film\.mp4@1:2x: '1:2x' is no time: use seconds, or .* 1:23"),
        (["horse", "-"], r"nothing follows the '-': .*subtract, or put a backslash"),
        (["2:", "red"], r"2:: a weight stands right before its term, as in 2:stripes"),
        (["0:red"], r"weight 0: use a number above 0"),
    ],
)
def test_messages_say_what_to_do(here: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_terms(arguments)


@pytest.mark.parametrize(("arguments", "terms"), ARGUMENTS, ids=[repr(a) for a, _ in ARGUMENTS])
def test_what_is_said_again_means_the_same(
    here: Path, arguments: Sequence[str], terms: object
) -> None:
    if terms is UsageError or not terms:
        return
    query = Query.of_terms(arguments)
    assert Query.parse(str(query)) == query


def test_random_queries_are_said_again(here: Path) -> None:
    chance = random.Random(7)
    pieces = (
        "+",
        "-",
        "\\",
        '"',
        "2:",
        "id:3",
        "dog",
        ".jpg",
        "./",
        " ",
        "  ",
        "\n",
        "@",
        "9",
        "é",
    )
    for _ in range(400):
        terms = []
        for _ in range(chance.randint(1, 3)):
            text = "".join(chance.choices(pieces, k=chance.randint(1, 5)))
            weight = chance.choice((1.0, -1.0, 2.5, -1 / 3, 1e-7, 1e20))
            if chance.random() < 0.3:
                path, seconds = chance.choice(("film.mp4", "my film.mp4", "film@2.mp4")), 1e6 / 7
                terms.append(Term(chance.choice(("frame", "sound")), path, weight, seconds))
            elif text.strip():
                terms.append(Term("words", text, weight))
        if terms:
            assert parse_line(said(terms)) == tuple(terms), said(terms)


def test_a_query_whose_file_is_gone_can_still_be_named() -> None:
    query = Query("red", pictures=["gone away.jpg"], sounds="gone.mp4")
    assert str(query) == 'red + sound:gone.mp4 + "gone away.jpg"'


def test_terms_of_options_are_one_each(here: Path) -> None:
    query = Query.of_terms(
        ["horse"], ["film.mp4"], add=["2:my dog.jpg", "+"], subtract=["0.5:green grass", "dog.jpg"]
    )
    assert query.terms == (
        words("horse"),
        sound("film.mp4"),
        picture("my dog.jpg", 2),
        words("+"),
        words("green grass", -0.5),
        picture("dog.jpg", -1),
    )
    with pytest.raises(UsageError, match="a term is empty"):
        Query.of_terms(["horse"], add=[" "])


def test_a_query_tells_what_it_is_made_of() -> None:
    query = Query("a red door", ("low.wav",), pictures=[Path("a/b.jpg")])
    assert (query.words, query.sounds, query.pictures) == ("a red door", ("low.wav",), ("a/b.jpg",))
    assert query.kinds == {"words", "sound", "picture"}
    assert not query.is_words
    assert Query("red").is_plain
    assert Query(terms=[words("red"), words("blue", -1)]).is_words
    assert not Query(terms=[words("red"), words("blue", -1)]).is_plain
    assert Query(terms=[words("red"), words("door"), words("blue", -1)]).words == "red door"
    for nothing in ({}, {"words": " "}, {"terms": ()}):
        with pytest.raises(UsageError, match="the query is empty"):
            Query(**nothing)


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "smell", "content": "x"},
        {"kind": "words", "content": " "},
        {"kind": "words", "content": "x", "weight": 0.0},
        {"kind": "words", "content": "x", "weight": float("nan")},
        {"kind": "words", "content": "x", "seconds": 1.0},
        {"kind": "frame", "content": "x.mp4"},
        {"kind": "frame", "content": "x.mp4", "seconds": -1.0},
        {"kind": "frame", "content": "x.mp4", "seconds": float("inf")},
        {"kind": "video", "content": "x.mp4", "seconds": 1.0},
        {"kind": "unit", "content": "-1"},
        {"kind": "unit", "content": "٣"},
    ],
)
def test_terms_that_cannot_be(values: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        Term(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("83.5", 83.5),
        (".5", 0.5),
        ("2h", 7200.0),
        ("1h2m3s", 3723.0),
        ("1:02:03.25", 3723.25),
        ("90:00", 5400.0),
        ("", None),
        ("s", None),
        ("1:2x", None),
        ("-5", None),
        ("1:2:3:4", None),
        ("٣", None),
    ],
)
def test_times(text: str, seconds: float | None) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000"])
def test_pictures_are_known_by_their_first_bytes(tmp_path: Path, kind: str) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "it", kind)
    content = content_of((tmp_path / "it").read_bytes()[:HEAD_BYTES])
    assert content is not None
    assert content.kind == "image"


@pytest.mark.parametrize(
    "text",
    ["", "B", "BM cars on a road", "the wide sea", "Going to Gdansk, the G of it", "P6 players",
     "P1 2 cars", "ID", "MM", "RIFF of a guitar", "FLV", "red\ndoor", "\ufeffred", "OggS"[:3]],
)  # fmt: skip
def test_text_is_no_medium(text: str) -> None:
    assert content_of(text.encode()) is None
    assert content_of(text.encode("utf-16")) is None
