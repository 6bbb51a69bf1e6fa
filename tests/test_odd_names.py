"""Every odd file name through every output format, and back by another program's parser."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import subprocess
import unicodedata
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import numpy as np
import pytest
from PIL import Image

from clipsearch.interfaces.eyes import COLS, PREVIEW_HEIGHT, Eyes
from clipsearch.interfaces.render import FORMATS, Record, hit_record, media_record, span_record
from clipsearch.media import sheet as sheet_module
from clipsearch.types import Hit, Span, StoredMedia
from tests.e2e.support import COMMAND, run

NAMES = {
    "spaces": "two  words and more.png",
    "blanks around": "  blanks .png",
    "apostrophe": "it's.png",
    "quotes": 'a "quoted" name.png',
    "markup": "<b>&amp;\"'<!--.png",
    "url": "a#b?c=d&e%41%zz+f.png",
    "newline": "new\nline.png",
    "two line ends": "\r\n\n.png",
    "tab": "tab\tand\x0bvertical.png",
    "backslash": "back\\slash\\t\\x41.png",
    "escape": "esc\x1b[31mape\x07.png",
    "c1": "c1\x9b31m.png",
    "line separators": "a\u2028b\u2029c\x85d.png",
    "accents": "Ünïcödé.png",
    "decomposed": unicodedata.normalize("NFD", "Ünïcödé.png"),
    "scripts": "名前 ひらがな 한국어 नमस्ते.png",
    "right to left": "שלום مرحبا.png",
    "override": "a\u202egnp.exe.png",
    "emoji": "🎞️👩\u200d👩\u200d👧.png",
    "leading dash": "-rf --help.png",
    "operators": "2:a + b - @1:23.png",
    "shell": "$(touch x) `y` ${z} * ? [a] ~ | ; & !.png",
    "comma": "a,b;c\t|d.png",
    "markup of rich": "[red]x[bold] [] :smile:.png",
    "formula": "=1+1.png",
    "long": "x" * 200 + ".png",
    "long and wide": "名" * 80 + ".png",
    "not utf-8": os.fsdecode(b"bad\xff\xfe\xe9name.png"),
    "half utf-8": os.fsdecode("名前".encode()[:-1] + b".png"),
}
INVALID = ("not utf-8", "half utf-8")
FOLDER = Path('/photos of "us" & them/<b>\n')
every_name = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)


def records_of(name: str) -> list[Record]:
    """A hit, a span and a file, each with the name as path and in a text."""
    path = FOLDER / name
    media = StoredMedia(1, FOLDER, name, "image", 3, 0, "h", None, "failed", f"no {name}")
    return [
        hit_record(Hit(path, "text", 0.5, 1.0, 2.0, 1.0, text=name), query=name),
        span_record(path, Span(0.0, 1.0, 0.5, 0.5, 0.5, (0, 1))),
        media_record(media),
    ]


def through_bytes(text: str) -> str:
    """What a program reads that keeps names as they are, whatever bytes these have."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def from_json(text: str) -> list[str]:
    return [record["path"] for record in json.loads(text.encode("utf-8"))]  # strict: all is UTF-8


def from_lines(text: str) -> list[str]:
    lines = text.encode("utf-8").decode().splitlines()  # also where only Python ends a line
    return [json.loads(line)["path"] for line in lines]


def from_csv(text: str) -> list[str]:
    return [row["path"] for row in csv.DictReader(io.StringIO(through_bytes(text), newline=""))]


def from_zeros(text: str) -> list[str]:
    *paths, rest = through_bytes(text).split("\0")
    assert rest == ""
    return paths


@every_name
@pytest.mark.parametrize(
    ("name_of_format", "read"),
    [("json", from_json), ("jsonl", from_lines), ("csv", from_csv), ("paths0", from_zeros)],
)
def test_a_name_comes_back_byte_by_byte(
    name: str, name_of_format: str, read: Callable[[str], list[str]]
) -> None:
    for record in records_of(name):
        other = record | {"path": "/another"}
        text = FORMATS[name_of_format]([record, other])
        found = [os.fsencode(path) for path in read(text)]
        assert found == [os.fsencode(FOLDER / name), b"/another"]


@every_name
def test_every_text_comes_back_from_json_and_csv(name: str) -> None:
    for record in records_of(name):
        texts = {key: value for key, value in record.items() if isinstance(value, str)}
        for text in (FORMATS["json"]([record])[1:-2], FORMATS["jsonl"]([record])):
            assert json.loads(text) == record
        (row,) = csv.DictReader(io.StringIO(through_bytes(FORMATS["csv"]([record])), newline=""))
        assert {key: row[key] for key in texts} == texts


def undone(cell: str) -> str:
    """A cell of TSV as any other language with such escapes reads it."""
    letters, at = [], 0
    while at < len(cell):
        if cell[at] != "\\":
            letters.append(cell[at])
            at += 1
        elif cell[at + 1] in "tnr\\":
            letters.append({"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}[cell[at + 1]])
            at += 2
        else:
            digits = cell[at + 2 :]
            length = 4 if digits[:2] in ("20", "dc") else 2
            letters.append(chr(int(digits[:length], 16)))
            at += 2 + length
    return "".join(letters)


@every_name
def test_a_name_is_one_cell_of_tsv(name: str) -> None:
    for record in records_of(name):
        lines = FORMATS["tsv"]([record]).encode("utf-8").decode().splitlines()
        assert len(lines) == 2
        header, cells = (line.split("\t") for line in lines)
        assert undone(dict(zip(header, cells, strict=True))["path"]) == str(FOLDER / name)


@every_name
def test_a_name_is_whole_in_a_table_and_steers_nothing(name: str, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for record in records_of(name):
        path = {"path": record["path"]}
        text = FORMATS["table"]([path])
        letters = set(text.encode("utf-8").decode()) - {"\n"}
        assert not any(
            unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in letters
        )
        cell = FORMATS["tsv"]([path]).splitlines()[1]
        assert "".join(text.split()) == "path" + "".join(cell.split())


# --- pictures of that name


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> dict[str, Path]:
    """A picture of its own colour for each name."""
    folder = tmp_path_factory.mktemp("m") / "odd 'folder' & <more>"
    folder.mkdir()
    found = {}
    for number, (label, name) in enumerate(NAMES.items()):
        found[label] = folder / name
        with found[label].open("wb") as file:
            Image.new("RGB", (64, 48), colour_of(number)).save(file, "PNG")
    return found


def colour_of(number: int) -> tuple[int, int, int]:
    return 40 + 50 * (number % 4), 40 + 50 * (number // 4 % 4), 40 + 50 * (number // 16)


def shown(pictures: dict[str, Path], page: Path | None, sheet: Path | None) -> None:
    eyes = Eyes.of(False, PREVIEW_HEIGHT, sheet, COLS, page, overwrite=True)
    hits = [Hit(path, "image", 0.5) for path in pictures.values()]
    eyes.show(hits, " ".join(NAMES.values()))


class Figures(HTMLParser):
    """Of each figure: where its link leads, the bytes of its picture, and all of its text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.pictures: list[bytes] = []
        self.texts: list[str] = []
        self.title = ""
        self._in: list[str] = []
        self.feed(content)
        self.close()
        assert self._in == [], "an element that does not end"

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        assert {key for key, _ in attrs} <= {
            *("href", "title", "src", "alt", "loading", "class", "lang", "charset"),
            *("name", "content"),
        }, "a name became an attribute"
        if tag == "figure":
            self.texts.append("")
        if tag == "img":
            assert values["src"].startswith("data:image/jpeg;base64,")
            self.pictures.append(base64.b64decode(values["src"].partition(",")[2]))
        if tag == "a" and self._in[-1] == "figcaption":
            self.links.append(values["href"])
        if tag not in ("img", "meta"):
            self._in.append(tag)

    def handle_endtag(self, tag):
        assert self._in.pop() == tag

    def handle_data(self, data):
        if "figcaption" in self._in and "a" in self._in:
            self.texts[-1] += data
        if self._in[-1:] == ["title"]:
            self.title += data


def test_every_name_on_a_page(pictures, tmp_path):
    target = tmp_path / "page.html"
    shown(pictures, target, None)
    figures = Figures(target.read_bytes().decode("utf-8"))
    assert len(figures.links) == len(figures.pictures) == len(NAMES)
    for number, path in enumerate(pictures.values()):
        address = urlsplit(figures.links[number])
        assert (address.scheme, address.netloc, address.query, address.fragment) == (
            *("file", "", "", ""),
        )
        assert unquote_to_bytes(address.path) == os.fsencode(path)
        assert undone(figures.texts[number]) == path.name
        with Image.open(io.BytesIO(figures.pictures[number])) as picture:
            assert np.abs(np.asarray(picture).astype(int) - colour_of(number)).max() < 8
    assert undone(figures.title) == " ".join(NAMES.values())


def test_every_name_on_a_sheet(pictures, tmp_path):
    target = tmp_path / "sheet.png"
    shown(pictures, None, target)
    with Image.open(target) as sheet:
        pixels = np.asarray(sheet).astype(int)
    rows = -(-len(NAMES) // COLS)
    top = sheet_module.Lettering(sheet_module.TITLE_SIZE).line_height + 2 * sheet_module.GAP
    height = (pixels.shape[0] - top) // rows
    for number in range(len(NAMES)):
        row, column = divmod(number, COLS)
        x = sheet_module.GAP + column * (sheet_module.PICTURE_WIDTH + sheet_module.GAP)
        y = top + row * height
        assert tuple(pixels[y + 120, x + 160]) == colour_of(number)
        under = pixels[y + 241 : y + 241 + 24, x : x + sheet_module.PICTURE_WIDTH]
        assert under.min() < 128, "no name under it"
        gap = pixels[y + 241 : y + height, x + sheet_module.PICTURE_WIDTH + 2 : x + 334]
        assert gap.min() > 240, "a name that runs into the next"


# --- the whole command


@pytest.fixture(scope="module")
def indexed(tmp_path_factory) -> tuple[Path, list[Path]]:
    """An index of pictures of all names that an index may have, which are valid UTF-8."""
    folder = tmp_path_factory.mktemp("i")
    names = [name for label, name in NAMES.items() if label not in INVALID]
    (folder / "m").mkdir()
    for number, name in enumerate(names):
        with (folder / "m" / name).open("wb") as file:
            Image.new("RGB", (32, 32), colour_of(number)).save(file, "PNG")
    run("index", folder / "m", "--model", "fake", "--index", folder / "x").ok()
    return folder / "x", [folder / "m" / name for name in names]


@pytest.mark.parametrize(
    ("flag", "read"),
    [("--json", from_json), ("--jsonl", from_lines), ("--csv", from_csv), ("-0", from_zeros)],
)
def test_the_command_prints_every_name(indexed, flag, read):
    index, paths = indexed
    out = run("query", "red", "--index", index, "-t", 100, flag).ok().out
    assert sorted(read(out)) == sorted(map(str, paths))


def test_the_bytes_that_xargs_reads(indexed):
    index, paths = indexed
    command = [COMMAND, "query", "red", "--index", index, "-t", "100", "-0"]
    out = subprocess.run(command, capture_output=True, check=True).stdout
    assert sorted(out.split(b"\0")[:-1]) == sorted(os.fsencode(path) for path in paths)


def test_the_command_shows_every_name(indexed, tmp_path):
    index, paths = indexed
    page, sheet = tmp_path / "a page's.html", tmp_path / "-sheet.jpg"
    options = ["--html", page, "--contact-sheet", sheet, "--cols", 7]
    ran = run("query", "red", "--index", index, "-t", 100, *options).ok()
    assert "no picture" not in ran.err
    links = [unquote_to_bytes(link[7:]) for link in Figures(page.read_text("utf-8")).links]
    assert sorted(links) == sorted(os.fsencode(path) for path in paths)
    with Image.open(sheet) as picture:
        assert picture.width == 7 * (sheet_module.PICTURE_WIDTH + sheet_module.GAP) + 16
