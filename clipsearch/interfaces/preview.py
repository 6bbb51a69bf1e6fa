"""Pictures in a terminal: kitty's, iTerm2's or sixel graphics by chafa, else coloured symbols."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from clipsearch.errors import UsageError
from clipsearch.types import Pixels

# How long a terminal has to say what it can: those afar, over SSH, take a tenth of a second.
ANSWER_SECONDS = 0.5
USUAL_CELL = (10, 20)  # pixels of a character where the terminal does not tell
SYMBOL_CELL = (8, 16)  # pixels that a symbol makes something of
CANNOT = ("", "dumb")  # TERM of what is no screen


@dataclass(frozen=True, slots=True)
class Screen:
    """What a terminal is: characters in a line, and the pixels of one."""

    columns: int
    cell: tuple[int, int]


def check_library() -> None:
    """Raise UsageError where chafa, or the GLib that it needs, is not installed."""
    try:
        import chafa  # noqa: F401
    except (ImportError, OSError) as error:
        raise UsageError(
            f"--preview needs chafa and GLib: pip install 'clipsearch[preview]' ({error})"
        ) from error


def is_screen() -> bool:
    """Whether stdout goes to eyes, and can be steered."""
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in CANNOT


def cells_of(pixels: Pixels, screen: Screen, height: int) -> tuple[int, int]:
    """(columns, lines) for a picture in its own shape: `height` lines, less if it is too wide."""
    lines, columns = pixels.shape[:2]
    wide = height * screen.cell[1] * columns / lines / screen.cell[0]
    shrunk = min(1.0, (screen.columns - 1) / wide)
    return max(1, round(wide * shrunk)), max(1, round(height * shrunk))


class Preview:
    """Draws pictures on the terminal at stdout, as well as that one can."""

    def __init__(self, height: int) -> None:
        """height: lines of a picture at most. The terminal may be asked what it can."""
        import chafa

        self._height = height
        self._terminal = chafa.TermDb().detect()
        self._mode = self._detected()
        self._screen = _screen(sys.stdout.fileno())

    @property
    def pixel_height(self) -> int:
        """Lines of pixels that a picture should have."""
        cell = SYMBOL_CELL if self.way == "symbols" else self._screen.cell
        return self._height * cell[1]

    @property
    def way(self) -> str:
        """kitty, iterm2, sixels or symbols."""
        return str(self._mode.name).rpartition("_")[2].lower()

    def drawn(self, pixels: Pixels) -> str:
        """What to write for a picture; it ends on the last of its lines."""
        import chafa

        config = chafa.CanvasConfig()
        config.width, config.height = cells_of(pixels, self._screen, self._height)
        config.cell_width, config.cell_height = self._screen.cell
        config.pixel_mode = self._mode
        config.canvas_mode = self._colours()
        canvas = chafa.Canvas(config)
        height, width = pixels.shape[:2]
        kind = chafa.PixelType.CHAFA_PIXEL_RGB8
        canvas.draw_all_pixels(kind, bytearray(pixels.tobytes()), width, height, 3 * width)
        sequences: bytes = canvas.print(self._terminal, fallback=True)
        return sequences.decode()

    def _detected(self) -> Any:
        """The best of what the environment tells, and of what the terminal answers."""
        from chafa import PixelMode, TermSeq

        for sequence, mode in (
            (
                TermSeq.CHAFA_TERM_SEQ_BEGIN_KITTY_IMMEDIATE_IMAGE_V1,
                PixelMode.CHAFA_PIXEL_MODE_KITTY,
            ),
            (TermSeq.CHAFA_TERM_SEQ_BEGIN_ITERM2_IMAGE, PixelMode.CHAFA_PIXEL_MODE_ITERM2),
            (TermSeq.CHAFA_TERM_SEQ_BEGIN_SIXELS, PixelMode.CHAFA_PIXEL_MODE_SIXELS),
        ):
            if self._terminal.have_seq(sequence) and not _multiplexed():
                return mode
        if SIXEL_GRAPHICS in device_attributes():
            return PixelMode.CHAFA_PIXEL_MODE_SIXELS
        return PixelMode.CHAFA_PIXEL_MODE_SYMBOLS

    def _colours(self) -> Any:
        from chafa import CanvasMode, TermSeq

        if self.way == "symbols" and os.environ.get("NO_COLOR"):  # https://no-color.org
            return CanvasMode.CHAFA_CANVAS_MODE_FGBG
        for sequence, mode in (
            (TermSeq.CHAFA_TERM_SEQ_SET_COLOR_FGBG_DIRECT, CanvasMode.CHAFA_CANVAS_MODE_TRUECOLOR),
            (TermSeq.CHAFA_TERM_SEQ_SET_COLOR_FGBG_256, CanvasMode.CHAFA_CANVAS_MODE_INDEXED_240),
            (TermSeq.CHAFA_TERM_SEQ_SET_COLOR_FGBG_16, CanvasMode.CHAFA_CANVAS_MODE_INDEXED_16),
        ):
            if self._terminal.have_seq(sequence):
                return mode
        return CanvasMode.CHAFA_CANVAS_MODE_FGBG


def _multiplexed() -> bool:
    """Inside tmux or screen, which hand no graphics on unless they say so themselves, whatever the
    variables of the terminal around them tell.
    """
    inside = os.environ.get("TERM", "").startswith(("tmux", "screen"))
    return inside or bool(os.environ.get("TMUX") or os.environ.get("STY"))


# The question that every terminal answers, and the number in an answer that means sixels:
# https://vt100.net/docs/vt510-rm/DA1.html
WHAT_ARE_YOU = b"\x1b[c"
SIXEL_GRAPHICS = 4
_ANSWER = re.compile(rb"\x1b\[\?([\d;]+)c")


def device_attributes() -> frozenset[int]:
    """What the terminal at stdin and stdout says that it can; empty if it does not answer."""
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()):
        return frozenset()
    keyboard = sys.stdin.fileno()
    if not _in_foreground(keyboard):
        return frozenset()
    sys.stdout.flush()
    with _unbuffered(keyboard):
        os.write(sys.stdout.fileno(), WHAT_ARE_YOU)
        answer = b""
        while not (found := _ANSWER.search(answer)):
            ready, _, _ = select.select([keyboard], [], [], ANSWER_SECONDS)
            more = os.read(keyboard, 256) if ready else b""
            if not more:
                return frozenset()
            answer += more
    return frozenset(int(number) for number in found[1].split(b";") if number)


def _in_foreground(keyboard: int) -> bool:
    """A process in the background is stopped when it changes its terminal."""
    try:
        return os.tcgetpgrp(keyboard) == os.getpgrp()
    except OSError:  # the terminal of others
        return False


@contextmanager
def _unbuffered(keyboard: int) -> Iterator[None]:
    """What is typed, or answered, comes at once and is not shown."""
    before = termios.tcgetattr(keyboard)
    tty.setcbreak(keyboard, termios.TCSANOW)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSANOW, before)


def _screen(descriptor: int) -> Screen:
    """What the terminal driver knows, and the usual where it does not."""
    answer = fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8))
    lines, columns, width, height = struct.unpack("HHHH", answer)
    cell = (width // columns, height // lines) if lines and columns else (0, 0)
    return Screen(columns or 80, cell if min(cell) > 0 else USUAL_CELL)
