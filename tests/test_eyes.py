"""Terminals, sheets and pages are read back by other means than those that made them."""

from __future__ import annotations

import base64
import errno
import fcntl
import io
import os
import re
import select
import struct
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from clipsearch.engine import Index
from clipsearch.errors import MediaError, UsageError
from clipsearch.interfaces import preview as preview_module
from clipsearch.interfaces.cli import main
from clipsearch.interfaces.eyes import COLS, PREVIEW_HEIGHT, Eyes
from clipsearch.interfaces.preview import Preview, Screen, cells_of, device_attributes
from clipsearch.media import lettering as lettering_module
from clipsearch.media import sheet as sheet_module
from clipsearch.media import thumbnails as thumbnails_module
from clipsearch.media.lettering import Lettering
from clipsearch.media.pictures import hit_picture, hit_pictures
from clipsearch.media.sheet import Sheet, Tile
from clipsearch.types import Hit, HitKind
from tests.e2e.support import run
from tests.media_files import number_of, write_sound, write_video

QUARTERS = ((200, 0, 0), (0, 200, 0), (0, 0, 200), (220, 220, 220))
SCRIPTS = "Ärger Ωμέγα Жук שלום مرحبا नमस्ते สวัสดี 名前 ひらがな 한국어 🎞 a\u0301 \u202e x\u200by"
ENVIRONMENT = (
    *("TERM", "TERM_PROGRAM", "COLORTERM", "KITTY_PID", "KITTY_WINDOW_ID", "LC_TERMINAL"),
    *("WEZTERM_EXECUTABLE", "KONSOLE_VERSION", "VTE_VERSION", "TMUX", "STY", "NO_COLOR"),
)


def quartered(side: int = 60) -> NDArray[np.uint8]:
    """A picture of four colours."""
    half = side // 2
    top, bottom = (
        np.concatenate([np.full((half, half, 3), colour, np.uint8) for colour in row], axis=1)
        for row in (QUARTERS[:2], QUARTERS[2:])
    )
    return np.concatenate([top, bottom])


def corners(pixels: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """The colours in the middle of the four quarters."""
    lines, columns = pixels.shape[:2]
    places = [(y, x) for y in (1, 3) for x in (1, 3)]
    return [tuple(map(int, pixels[lines * y // 4, columns * x // 4, :3])) for y, x in places]


def assert_quartered(pixels: NDArray[np.uint8], tolerance: int = 15) -> None:
    assert np.abs(np.array(corners(pixels)) - QUARTERS).max() <= tolerance


def saved(path: Path, pixels: NDArray[np.uint8]) -> Path:
    Image.fromarray(pixels).save(path)
    return path


# --- the picture of a hit


def test_a_picture_comes_upright_in_the_wanted_height(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    wide = quartered(400)[:200]  # 400 x 200: red left, green right
    Image.fromarray(wide).save(tmp_path / "a.png", exif=exif)
    pixels = hit_picture(tmp_path / "a.png", None, height=100)
    assert pixels.shape == (100, 50, 3)
    assert np.abs(pixels[25, 25].astype(int) - QUARTERS[0]).max() < 5
    assert np.abs(pixels[75, 25].astype(int) - QUARTERS[1]).max() < 5


def test_a_picture_is_never_enlarged(tmp_path):
    assert hit_picture(saved(tmp_path / "a.png", quartered(20)), None, height=90).shape[:2] == (
        20,
        20,
    )


@pytest.mark.parametrize(
    ("size", "shown"),
    [((20_000, 50), (1600, 4)), ((20_000, 400), (1600, 32)), ((50, 20_000), (1, 100))],
)
def test_a_strip_is_whole_and_takes_no_more_memory_than_others(tmp_path, size, shown):
    Image.new("RGB", size, QUARTERS[0]).save(tmp_path / "a.png")
    pixels = hit_picture(tmp_path / "a.png", None, height=100)
    assert pixels.shape == (*shown[::-1], 3)


def test_the_frame_at_a_time_and_the_first_one(tmp_path):
    path = write_video(tmp_path / "v.mp4")
    assert number_of(hit_picture(path, 1.0, height=32)) == 25
    assert number_of(hit_picture(path, None, height=32)) == 0
    assert hit_picture(path, 0.5, height=32).shape == (32, 64, 3)


def test_what_has_no_picture(tmp_path):
    damaged = saved(tmp_path / "a.png", quartered(200))
    damaged.write_bytes(damaged.read_bytes()[:200])
    (tmp_path / "x.srt").touch()
    video = write_video(tmp_path / "v.mp4")
    cases: list[tuple[Path, float | None, str]] = [
        (damaged, None, "truncated"),
        (tmp_path / "gone.jpg", None, "no such file"),
        (tmp_path / "x.srt", 1.0, "subtitles"),
        (tmp_path / "noun", None, "not a media file"),
        (write_sound(tmp_path / "s.mp4"), 0.5, "no video stream"),
        (video, 9.0, r"shows nothing at 9\.0 s"),
    ]
    for path, moment, reason in cases:
        with pytest.raises(MediaError, match=reason):
            hit_picture(path, moment, height=32)
    with pytest.raises(UsageError):
        hit_picture(video, 0.0, height=0)


def test_many_pictures_are_the_same_as_each_alone(tmp_path, monkeypatch):
    video, text = write_video(tmp_path / "v.mp4"), tmp_path / "text.mp4"
    text.write_text("no video")
    picture = saved(tmp_path / "a.png", quartered(100))
    places = [(video, 1.5), (picture, None), (text, 1.0), (video, 0.2), (video, 99.0)]
    places += [(video, None), (picture, 3.0), (video, 1.5), (text, 2.0), (tmp_path / "x", None)]
    opened = []
    read = thumbnails_module.thumbnails
    monkeypatch.setattr(
        *(thumbnails_module, "thumbnails"),
        lambda path, *rest, **options: (opened.append(path), read(path, *rest, **options))[1],
    )
    found = list(hit_pictures(places, height=40))
    assert sorted(opened) == [text, video]
    for (path, moment), many in zip(places, found, strict=True):
        if isinstance(many, MediaError):
            with pytest.raises(MediaError, match=f"^{re.escape(str(many))}$"):
                hit_picture(path, moment, height=40)
        else:
            assert np.array_equal(many, hit_picture(path, moment, height=40))
    assert [isinstance(one, MediaError) for one in found].count(True) == 4


# --- in a terminal


@pytest.fixture
def terminal(monkeypatch) -> Iterator[Callable[..., int]]:
    """Call it with variables to have a terminal of 80 x 24 characters of 10 x 20 pixels at stdin
    and stdout; it gives the other end.
    """
    try:
        preview_module.check_library()
    except UsageError as error:
        pytest.skip(str(error))
    opened: list[int] = []
    streams: list[IO[str]] = []
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)

    def at(**variables: str) -> int:
        near, far = os.openpty()
        opened.extend((near, far))
        tty.setraw(far)
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 800, 480))
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        streams.extend((os.fdopen(os.dup(far), "r"), os.fdopen(os.dup(far), "w")))
        monkeypatch.setattr(sys, "stdin", streams[0])
        monkeypatch.setattr(sys, "stdout", streams[1])
        monkeypatch.setattr(os, "tcgetpgrp", lambda descriptor: os.getpgrp())
        monkeypatch.setattr(preview_module, "ANSWER_SECONDS", 20)
        return near

    yield at
    for stream in streams:
        stream.close()
    for descriptor in opened:
        os.close(descriptor)


def of_kitty(text: str) -> NDArray[np.uint8]:
    """https://sw.kovidgoyal.net/kitty/graphics-protocol/"""
    commands = re.findall(r"\x1b_G([^;\x1b]*);?([^\x1b]*)\x1b\\", text)
    keys = dict(key.split("=") for key in commands[0][0].split(","))
    assert (keys["a"], keys["f"]) == ("T", "32")
    content = b"".join(base64.b64decode(data) for _, data in commands)
    return np.frombuffer(content, np.uint8).reshape(int(keys["v"]), int(keys["s"]), 4)


def of_iterm2(text: str) -> NDArray[np.uint8]:
    """https://iterm2.com/documentation-images.html"""
    match = re.fullmatch(r"\x1b\]1337;File=([^:]*):([^\x07]*)\x07", text)
    assert match is not None
    assert "inline=1" in match[1]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(match[2]))).convert("RGB"))


def of_sixels(text: str) -> NDArray[np.uint8]:
    """https://vt100.net/docs/vt3xx-gp/chapter14.html"""
    match = re.fullmatch(r'\x1bP[\d;]*q"\d+;\d+;(\d+);(\d+)(.*)\x1b\\', text, re.DOTALL)
    assert match is not None
    width, height = int(match[1]), int(match[2])
    pixels = np.zeros((height + 6, width, 3), np.uint8)
    colours: dict[int, tuple[int, ...]] = {}
    colour, x, y = 0, 0, 0
    tokens = re.findall(r"#(\d+)((?:;\d+)*)|!(\d+)([?-~])|([?-~])|([$-])", match[3])
    for number, definition, times, repeated, one, control in tokens:
        if number:
            colour = int(number)
            if definition:
                colours[colour] = tuple(round(2.55 * int(c)) for c in definition.split(";")[2:])
        elif control:
            x, y = 0, y + 6 * (control == "-")
        else:
            count, bits = int(times or 1), ord(repeated or one) - 63
            for bit in range(6):
                if bits >> bit & 1:
                    pixels[y + bit, x : x + count] = colours[colour]
            x += count
    return pixels[:height]


@pytest.mark.parametrize(
    ("variables", "way", "read"),
    [
        ({"TERM": "xterm-kitty"}, "kitty", of_kitty),
        ({"TERM": "xterm-256color", "KITTY_PID": "9"}, "kitty", of_kitty),
        ({"TERM": "xterm-ghostty"}, "kitty", of_kitty),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2", of_iterm2),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm2", of_iterm2),
        ({"TERM": "foot"}, "sixels", of_sixels),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "sixels", of_sixels),
    ],
)
def test_a_terminal_that_can_gets_the_picture(terminal, variables, way, read):
    terminal(**variables)
    preview = Preview(4)
    assert (preview.way, preview.pixel_height) == (way, 80)
    pixels = read(preview.drawn(quartered()))
    assert_quartered(pixels)
    assert abs(pixels.shape[0] - 80) <= 6  # four lines of 20, in steps of six for sixels
    assert abs(pixels.shape[1] - 80) <= 5


def answering(near: int, answer: bytes) -> threading.Thread:
    def answer_once() -> None:
        if os.read(near, 100) == b"\x1b[c":
            os.write(near, answer)

    thread = threading.Thread(target=answer_once)
    thread.start()
    return thread


def test_a_terminal_that_says_that_it_knows_sixels(terminal):
    near = terminal(TERM="xterm-256color")
    thread = answering(near, b"\x1b[?62;4;22c")
    preview = Preview(4)
    thread.join()
    assert preview.way == "sixels"
    assert_quartered(of_sixels(preview.drawn(quartered())))


@pytest.mark.parametrize(
    "variables",
    [
        {"TERM": "tmux-256color", "KITTY_PID": "1"},
        {"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2", "TMUX": "/tmp/tmux"},
        {"TERM": "screen", "WEZTERM_EXECUTABLE": "x"},
        {"TERM": "xterm-kitty", "STY": "1.pts"},
    ],
)
def test_what_hides_the_terminal_must_say_that_it_knows_sixels(terminal, variables):
    near = terminal(**variables)
    thread = answering(near, b"\x1b[?1;2c")
    assert Preview(4).way == "symbols"
    thread.join()
    thread = answering(near, b"\x1b[?1;2;4c")
    assert Preview(4).way == "sixels"
    thread.join()


@pytest.mark.parametrize("answer", [b"\x1b[?62;22c", b"hello", b""])
def test_a_terminal_that_does_not_gets_symbols(terminal, monkeypatch, answer):
    near = terminal(TERM="xterm-256color")
    if not answer.endswith(b"c"):
        monkeypatch.setattr(preview_module, "ANSWER_SECONDS", 0.05)
    usual = termios.tcgetattr(sys.stdin.fileno())
    usual[3] |= termios.ECHO | termios.ICANON
    termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, usual)
    before = termios.tcgetattr(sys.stdin.fileno())
    thread = answering(near, answer)
    preview = Preview(4)
    thread.join()
    assert termios.tcgetattr(sys.stdin.fileno()) == before
    assert preview.way == "symbols"
    lines = preview.drawn(quartered()).split("\n")
    assert len(lines) == 4
    for line, (left, right) in ((lines[0], QUARTERS[:2]), (lines[3], QUARTERS[2:])):
        seen = re.findall(r"[34]8;2;(\d+);(\d+);(\d+)", line)
        assert {left, right} <= {tuple(map(int, colour)) for colour in seen}
        assert len(re.sub(r"\x1b\[[\d;]*m", "", line)) == 8  # 80 pixels wide too


def test_symbols_without_colour_where_none_is_wanted(terminal, monkeypatch):
    terminal(TERM="xterm-256color", COLORTERM="truecolor", NO_COLOR="1")
    monkeypatch.setattr(sys, "stdin", io.StringIO())  # is not asked
    drawn = Preview(4).drawn(quartered())
    assert re.findall(r"\x1b\[[\d;]*[34]8;", drawn) == []
    assert "█" in drawn
    terminal(TERM="xterm-kitty", NO_COLOR="1")
    assert_quartered(of_kitty(Preview(4).drawn(quartered())))


def refuse(descriptor: int) -> int:
    raise OSError(errno.ENOTTY, "not a terminal of this session")


@pytest.mark.parametrize("case", ["pipe", "background", "terminal of others"])
def test_a_terminal_that_must_not_be_asked_is_not(terminal, monkeypatch, case):
    near = terminal(TERM="xterm-256color")
    if case == "pipe":
        monkeypatch.setattr(sys, "stdin", io.StringIO("a dog"))
    elif case == "background":
        monkeypatch.setattr(os, "tcgetpgrp", lambda descriptor: os.getpgrp() + 1)
    else:
        monkeypatch.setattr(os, "tcgetpgrp", refuse)
    assert device_attributes() == frozenset()
    assert select.select([near], [], [], 0)[0] == []


@pytest.mark.parametrize(
    ("shape", "cells"),
    [((60, 60), (20, 10)), ((60, 120), (40, 10)), ((10, 1000), (79, 0)), ((1000, 10), (1, 10))],
)
def test_a_picture_fits_between_the_lines_and_into_them(shape, cells):
    columns, lines = cells_of(np.zeros((*shape, 3), np.uint8), Screen(80, (10, 20)), 10)
    assert (columns, lines) == (cells[0], max(1, cells[1]))


@contextmanager
def read_by(near: int) -> Iterator[list[bytes]]:
    """What is written meanwhile, up to "end of test"; more than a terminal holds unread."""
    pieces: list[bytes] = []

    def read_on() -> None:
        while not b"".join(pieces[-2:]).endswith(b"end of test"):
            pieces.append(os.read(near, 65536))

    thread = threading.Thread(target=read_on, daemon=True)
    thread.start()
    yield pieces
    thread.join(20)
    assert not thread.is_alive()


def eyes(**options: object) -> Eyes:
    given = {
        "preview": False,
        "preview_height": PREVIEW_HEIGHT,
        "contact_sheet": None,
        "cols": COLS,
        "html": None,
        "overwrite": False,
    }
    return Eyes.of(**(given | options))  # type: ignore[arg-type]


def test_a_preview_is_a_line_and_a_picture_for_each_hit(terminal, tmp_path, capfd):
    near = terminal(TERM="xterm-kitty")
    picture = saved(tmp_path / "a\x1b[31m.png", quartered())
    hits = [
        Hit(picture, "image", 0.5, relevance=0.75),
        Hit(tmp_path / "gone.mp4", "frame", 0.25, 1.0, 2.0, 1.5),
        Hit(tmp_path / "s.wav", "audio", 0.25, 1.0, 2.0, 1.5),
    ]
    with read_by(near) as pieces:
        eyes(preview=True, preview_height=2).show(hits, "title")
        sys.stdout.write("end of test")
        sys.stdout.flush()
    shown = b"".join(pieces).decode()
    assert shown.startswith("1. a\\x1b[31m.png  0.500  relevance 0.750\n\x1b_G")
    assert_quartered(of_kitty(shown))
    assert "\n2. gone.mp4  0.250  00:00:01.0 - 00:00:02.0\n   (no picture: no such file" in shown
    assert "\n3. s.wav  0.250  audio  00:00:01.0 - 00:00:02.0\n   (sound)\n" in shown
    assert capfd.readouterr().err.count("no picture of") == 1


def test_the_command_shows_pictures_behind_its_table(terminal, tmp_path):
    saved(tmp_path / "a.png", quartered(100))
    run("index", tmp_path / "a.png", "--model", "fake", "--index", tmp_path / "x").ok()
    near = terminal(TERM="xterm-kitty")
    with read_by(near) as pieces:
        with suppress(SystemExit):
            main(["query", "red", "--index", str(tmp_path / "x"), "-p", "-H", "2"])
        sys.stdout.write("end of test")
        sys.stdout.flush()
    shown = b"".join(pieces).decode()
    assert shown.index("score") < shown.index("1. a.png") < shown.index("\x1b_G")
    assert_quartered(of_kitty(shown))


@pytest.mark.parametrize("term", ["dumb", None])
def test_no_pictures_where_nothing_shows_them(terminal, tmp_path, capfd, term):
    hits = [Hit(saved(tmp_path / f"{n}.png", quartered()), "image", 0.5) for n in range(3)]
    if term is not None:
        terminal(TERM=term)
    eyes(preview=True).show(hits, "title")
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.count("no preview") == 1
    assert len(said.err.splitlines()) == 1


def test_what_is_missing_is_said_before_any_work(terminal, monkeypatch):
    terminal(TERM="xterm-kitty")
    monkeypatch.setitem(sys.modules, "chafa", None)
    with pytest.raises(UsageError, match=r"clipsearch\[preview\]"):
        eyes(preview=True)


# --- contact sheets


def tile_box(number: int, cols: int, lines: int) -> tuple[int, int]:
    """Where the picture of a tile begins, (left, top)."""
    module, text = sheet_module, Lettering(sheet_module.TEXT_SIZE)
    row, column = divmod(number, cols)
    top = 2 * module.GAP + Lettering(module.TITLE_SIZE).line_height
    height = module.PICTURE_HEIGHT + 2 * module.GAP + lines * text.line_height
    return module.GAP + column * (module.PICTURE_WIDTH + module.GAP), top + row * height


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".webp"])
def test_a_sheet_has_every_picture_in_its_place(suffix):
    colours = [(250, 10 * n, 30) for n in range(7)]
    sheet = Sheet("seven", count=7, cols=3, lines=1, suffix=suffix)
    for colour in colours:
        sheet.add(Tile(np.full((480, 640, 3), colour, np.uint8), ["a name"]))
    picture = np.asarray(Image.open(io.BytesIO(sheet.encoded())).convert("RGB")).astype(int)
    assert picture.shape[1] == 3 * 320 + 4 * sheet_module.GAP
    for number, colour in enumerate(colours):
        left, top = tile_box(number, 3, 1)
        assert np.abs(picture[top + 4 : top + 236, left + 4 : left + 316] - colour).max() < 12
        assert picture[top + 244 : top + 262, left : left + 60].min() < 100, "no letters below"
        assert picture[top + 244 : top + 262, left + 150 : left + 300].min() > 240
    left, top = tile_box(8, 3, 1)
    assert picture[top : top + 240, left : left + 320].min() > 240, "an eighth tile"


def test_a_tall_and_a_wide_picture_are_whole():
    sheet = Sheet("", count=2, cols=2, lines=0, suffix=".png")
    sheet.add(Tile(quartered(400)[:, 150:250], []))
    sheet.add(Tile(quartered(400)[150:250], []))
    picture = np.asarray(Image.open(io.BytesIO(sheet.encoded())))
    (left, top), (second, _) = tile_box(0, 2, 0), tile_box(1, 2, 0)
    assert_quartered(picture[top : top + 240, left + 130 : left + 190])
    assert_quartered(picture[top + 80 : top + 160, second : second + 320])
    assert tuple(picture[top + 5, second + 5]) == (232, 232, 232)


def test_a_sheet_that_no_file_holds():
    with pytest.raises(UsageError, match=r"65500 a side.*--cols"):
        Sheet("", count=1000, cols=1, lines=2, suffix=".jpg")
    with pytest.raises(UsageError, match="megapixels"):
        Sheet("", count=100_000, cols=300, lines=2, suffix=".png")


def drawn(text: str) -> bytes:
    """The pixels of a line."""
    picture = Image.new("L", (100, 40), 255)
    Lettering(15).draw(ImageDraw.Draw(picture), (5, 20), text, fill="black")
    assert picture.getextrema()[0] < 128
    return picture.tobytes()


@pytest.mark.parametrize("only_pillow", [False, True])
def test_every_script_can_be_written(monkeypatch, only_pillow):
    if only_pillow:
        monkeypatch.setattr(lettering_module, "SYSTEM_FONTS", ())
        monkeypatch.setattr(lettering_module, "_packaged", list)
    sheet = Sheet(SCRIPTS, count=1, cols=1, lines=1, suffix=".png")
    sheet.add(Tile(None, [SCRIPTS], "\x00\x1b\ud800 " + SCRIPTS * 20))
    assert len(sheet.encoded()) > 3000
    if only_pillow:
        for letter, plain in (("ä", "a"), ("ǖ", "u"), ("①", "1")):
            assert drawn(letter) == drawn(plain)
        assert drawn("名") == drawn("?") != drawn("a")
        assert drawn("a\u202eb\u0301") == drawn("ab")


@pytest.mark.parametrize("text", ["x" * 300 + ".jpg", "名前 " * 80, "a", ""])
def test_what_is_too_wide_loses_its_middle(text):
    letters = Lettering(15)
    shown = letters.elided(text, 200)
    assert letters.width(shown) <= 200
    if shown != text:
        beginning, end = shown.split("...")
        assert text.startswith(beginning)
        assert text.endswith(end)
        longer = text[: len(beginning) + 1] + "..." + text[len(text) - len(end) - 1 :]
        assert letters.width(longer) > 200


def test_wrapped_words_are_all_there_or_elided():
    letters = Lettering(15)
    words = "one two three four five six seven eight nine ten"
    lines = letters.wrapped(words, 120, lines=9)
    assert " ".join(lines) == words
    assert max(map(letters.width, lines)) <= 120
    fewer = letters.wrapped(words, 120, lines=2)
    assert len(fewer) == 2
    assert fewer[0] == lines[0]
    assert "..." in fewer[1]


# --- pages


class Reader(HTMLParser):
    """The elements of a page with their attributes, and its texts."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(content)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def media_hit(path: Path, kind: HitKind, text: str | None = None) -> Hit:
    return Hit(path, kind, 0.25, 0.52, 1.5, 1.0, text=text, relevance=0.875)


def test_a_page_plays_what_was_found(tmp_path):
    picture = saved(tmp_path / "a.png", quartered(300))
    video = write_video(tmp_path / "v #1?%.mp4")
    words = "<b>said</b> & done\nin two lines"
    hits = [
        Hit(picture, "image", 0.5),
        media_hit(video, "frame"),
        media_hit(tmp_path / "s.wav", "audio"),
        media_hit(video, "text", words),
        media_hit(tmp_path / "alone.srt", "text", words),
    ]
    target = tmp_path / "out.html"
    eyes(html=target).show(hits, 'what <script>alert("1")</script>')
    content = target.read_text("utf-8")
    page = Reader(content)
    assert page.of("script") == []
    assert 'what <script>alert("1")</script>' in page.texts
    (image,) = page.of("img")
    shown = np.asarray(Image.open(io.BytesIO(of_data(image["src"]))))
    assert shown.shape[0] == 240
    assert_quartered(shown)
    first, second = page.of("video")
    assert first["src"] == f"{tmp_path.as_uri()}/v%20%231%3F%25.mp4#t=0.520,1.500" == second["src"]
    assert number_of(np.asarray(Image.open(io.BytesIO(of_data(first["poster"]))))) == 25
    assert {"controls", "preload"} <= set(first)
    assert first["aria-label"] == "v #1?%.mp4"
    (sound,) = page.of("audio")
    assert sound["src"] == f"{tmp_path.as_uri()}/s.wav#t=0.520,1.500"
    assert page.texts.count(words) == 2
    assert page.texts.count("relevance 0.875") == 4
    assert "00:00:00.5 - 00:00:01.5" in page.texts
    addresses = re.findall(r'(?:src|href|poster)="([^"]*)"', content)
    assert {urlsplit(address).scheme for address in addresses} == {"data", "file"}


def test_where_no_moment_is_the_best_the_picture_is_of_the_middle(tmp_path):
    video, target = write_video(tmp_path / "v.mp4"), tmp_path / "out.html"
    hits = [
        Hit(video, "video", 0.5, 0.0, 1.0),
        Hit(video, "span", 0.5, 0.4, 1.2, 0.6),
        Hit(video, "text", 0.5, 0.4, 1.2, text="said"),
    ]
    eyes(html=target).show(hits, "x")
    posters = [of_data(film["poster"]) for film in Reader(target.read_text("utf-8")).of("video")]
    numbers = [number_of(np.asarray(Image.open(io.BytesIO(poster)))) for poster in posters]
    assert numbers == [12, 15, 10]


def of_data(address: str | None) -> bytes:
    assert address is not None
    head, content = address.split(",")
    assert head == "data:image/jpeg;base64"
    return base64.b64decode(content)


def test_a_path_that_is_nowhere_is_no_link(tmp_path):
    target = tmp_path / "out.html"
    eyes(html=target).show([Hit(Path("s3:/bucket/a.jpg"), "image", 0.5)], "x")
    page = Reader(target.read_text("utf-8"))
    assert page.of("a") == []
    assert "no picture: no such file or directory" in page.texts


# --- what is written where


def test_one_bad_file_loses_nothing(tmp_path, capsys):
    good = saved(tmp_path / "good.png", quartered(300))
    bad = saved(tmp_path / "bad.png", quartered(300))
    bad.write_bytes(bad.read_bytes()[:100])
    long = Path("/" + "x" * 300 + ".jpg")
    hits = [Hit(path, "image", 0.5) for path in (bad, good, long, good)]
    page, sheet = tmp_path / "out.html", tmp_path / "out.png"
    for _ in range(2):  # the second time both files are there, and the paths are compared
        eyes(html=page, contact_sheet=sheet, cols=2, overwrite=True).show(hits, "x")
    assert len(Reader(page.read_text("utf-8")).of("img")) == 2
    picture = np.asarray(Image.open(sheet))
    for number, has_picture in enumerate((False, True, False, True)):
        left, top = tile_box(number, 2, 2)
        middle = picture[top : top + 240, left + 40 : left + 280]
        if has_picture:
            assert_quartered(middle)
        else:
            assert tuple(middle[5, 5]) == (232, 232, 232)
            assert middle.min() < 160, "no reason in it"
    said = capsys.readouterr().err.splitlines()[:4]
    assert [line.startswith("no picture of ") for line in said] == [True, True, False, False]
    assert said[2:] == [f"wrote {sheet}", f"wrote {page}"]


@pytest.mark.parametrize("size", [(70_000, 20), (3, 4000), (1, 1)])
def test_a_picture_of_any_shape(tmp_path, terminal, size):
    near = terminal(TERM="xterm-kitty")
    path = tmp_path / "a.png"
    Image.new("RGB", size, QUARTERS[0]).save(path)
    page, sheet = tmp_path / "out.html", tmp_path / "out.png"
    with read_by(near) as pieces:
        eyes(html=page, contact_sheet=sheet, preview=True).show([Hit(path, "image", 0.5)], "x")
        sys.stdout.write("end of test")
        sys.stdout.flush()
    (image,) = Reader(page.read_text("utf-8")).of("img")
    with Image.open(io.BytesIO(of_data(image["src"]))) as shown:
        assert shown.width <= 640
        assert shown.height <= 240
    with Image.open(sheet) as drawn:
        left, top = tile_box(0, 1, 2)
        tile = np.asarray(drawn)[top : top + 240, left : left + 320].astype(int)
    assert (np.abs(tile - QUARTERS[0]).max(axis=2) < 5).any()
    assert of_kitty(b"".join(pieces).decode()).shape[1] <= 790


def test_targets_are_checked_before_any_work(tmp_path):
    (tmp_path / "there.html").touch()
    for options, reason in (
        ({"html": tmp_path / "there.html"}, "--overwrite"),
        ({"html": tmp_path / "none" / "a.html"}, "no folder"),
        ({"html": tmp_path}, "is a folder"),
        ({"contact_sheet": tmp_path / "a.gif"}, r"\.jpg, \.jpeg, \.png, \.webp"),
        ({"contact_sheet": tmp_path / "a.png", "html": tmp_path / "a.png"}, "the same file"),
    ):
        with pytest.raises(UsageError, match=reason):
            eyes(**options)


def test_a_file_that_was_found_is_never_replaced(tmp_path):
    picture = saved(tmp_path / "a.png", quartered())
    before = picture.read_bytes()
    with pytest.raises(UsageError, match="is what is read"):
        eyes(contact_sheet=picture, overwrite=True).show([Hit(picture, "image", 0.5)], "x")
    assert picture.read_bytes() == before


def test_a_picture_that_is_another_now_is_told(tmp_path):
    saved(tmp_path / "a.png", quartered(100))
    saved(tmp_path / "b.png", 255 - quartered(100))
    saved(tmp_path / "gone.png", quartered(100)[:50])
    run("index", tmp_path, "--model", "fake", "--index", tmp_path / "x").ok()
    saved(tmp_path / "a.png", quartered(80))
    os.utime(tmp_path / "b.png")
    (tmp_path / "gone.png").unlink()
    ran = run("query", "red", "--index", tmp_path / "x", "--html", tmp_path / "o.html").ok()
    told = [line for line in ran.err.splitlines() if "changed since" in line]
    assert told == [f"{tmp_path / 'a.png'} changed since it was indexed: index it again"]
    assert "changed" not in run("query", "red", "--index", tmp_path / "x").ok().err


def test_files_of_added_vectors_count_as_unchanged(tmp_path):
    video = write_video(tmp_path / "v.mp4")
    with Index.create(tmp_path / "x", model=None, dim=2) as index:
        columns = {"path": [str(video)], "kind": ["frame"], "start": [0.0], "end": [1.0]}
        index.add_vectors(np.eye(2, dtype=np.float32)[:1], columns)
        assert index.is_current(video)


@pytest.mark.parametrize("option", ["--contact-sheet", "--html", "--cut"])
def test_a_file_of_the_query_is_never_replaced(tmp_path, option):
    """It is left out of what is found, so this must be seen before."""
    saved(tmp_path / "a.png", quartered(100))
    run("index", tmp_path / "a.png", "--model", "fake", "--index", tmp_path / "x").ok()
    own = tmp_path / ("own.mp4" if option == "--cut" else "own.png")
    if option == "--cut":
        write_video(own)
    else:
        saved(own, 255 - quartered(100))
    before = own.read_bytes()
    ran = run("query", own, "--index", tmp_path / "x", option, own, "--overwrite")
    assert (ran.code, ran.out) == (2, "")
    assert "is what is read" in ran.err
    assert own.read_bytes() == before


def test_nothing_found_is_a_page_and_a_sheet_without_pictures(tmp_path):
    page, sheet = tmp_path / "a.html", tmp_path / "a.jpg"
    eyes(html=page, contact_sheet=sheet).show([], "a query")
    assert "0 hits" in Reader(page.read_text("utf-8")).texts
    with Image.open(sheet) as picture:
        assert picture.height < 200


def test_without_an_option_nothing_is_shown(capfd):
    quiet = eyes()
    assert not quiet.wanted
    quiet.show([Hit(Path("/none.jpg"), "image", 0.5)], "x")
    assert capfd.readouterr() == ("", "")
