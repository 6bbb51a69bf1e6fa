"""Contact sheets: many pictures on one, with words under each."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from clipsearch.errors import UsageError
from clipsearch.media.lettering import Lettering
from clipsearch.types import Pixels

# What a file of that name can hold, in pixels a side.
LARGEST_SIDE: dict[str, int] = {".jpg": 65_500, ".jpeg": 65_500, ".png": 1_000_000, ".webp": 16_383}
MOST_MEGAPIXELS = 400.0  # 1.2 GB while it is drawn
QUALITY = 88

PICTURE_WIDTH, PICTURE_HEIGHT = 320, 240
GAP = 16
TEXT_SIZE, TITLE_SIZE = 15, 24
PAPER, INK, FAINT, GRAY = "#ffffff", "#1a1a1a", "#666666", "#e8e8e8"


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One place of a sheet: a picture, or words where there is none, and lines under it."""

    picture: Pixels | None
    lines: Sequence[str]
    words: str = ""


class Sheet:
    """A contact sheet that is filled row by row, `cols` in each.

    lines: under each picture at most. Raises UsageError where `count` tiles need more pixels than
    a file of that suffix (a key of LARGEST_SIDE) can hold.
    """

    def __init__(self, title: str, *, count: int, cols: int, lines: int, suffix: str) -> None:
        self._cols = max(1, min(cols, count))
        self._text, self._heading = Lettering(TEXT_SIZE), Lettering(TITLE_SIZE)
        self._row_height = PICTURE_HEIGHT + lines * self._text.line_height + 2 * GAP
        self._top = self._heading.line_height + 2 * GAP
        self._suffix = suffix.lower()
        self._count = 0
        rows = -(-count // self._cols)
        width = self._cols * (PICTURE_WIDTH + GAP) + GAP
        height = self._top + rows * self._row_height
        self._check(width, height, count)
        self._canvas = Image.new("RGB", (width, height), PAPER)
        self._draw = ImageDraw.Draw(self._canvas)
        heading = self._heading.elided(title, width - 2 * GAP)
        self._heading.draw(self._draw, (GAP, self._top / 2), heading, fill=INK)

    def _check(self, width: int, height: int, count: int) -> None:
        side = LARGEST_SIDE[self._suffix]
        if max(width, height) > side or width * height > MOST_MEGAPIXELS * 1e6:
            raise UsageError(
                f"{count} pictures, {self._cols} in a row, make a sheet of {width}x{height} pixels:"
                f" a {self._suffix} file holds {side} a side and this program draws"
                f" {MOST_MEGAPIXELS:g} megapixels; use another --cols or a smaller --top"
            )

    def add(self, tile: Tile) -> None:
        """Draw the next tile."""
        row, column = divmod(self._count, self._cols)
        self._count += 1
        left = GAP + column * (PICTURE_WIDTH + GAP)
        top = self._top + row * self._row_height
        box = (left, top, left + PICTURE_WIDTH, top + PICTURE_HEIGHT)
        self._draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=GRAY)
        if tile.picture is None:
            self._write(tile.words, box)
        else:
            small = _fitted(tile.picture, PICTURE_WIDTH, PICTURE_HEIGHT)
            at = (
                left + (PICTURE_WIDTH - small.width) // 2,
                top + (PICTURE_HEIGHT - small.height) // 2,
            )
            self._canvas.paste(small, at)
        line = self._text.line_height
        for number, text in enumerate(tile.lines):
            middle = box[3] + GAP / 4 + (number + 0.5) * line
            shown = self._text.elided(text, PICTURE_WIDTH)
            self._text.draw(self._draw, (left, middle), shown, fill=FAINT if number else INK)

    def _write(self, words: str, box: tuple[int, int, int, int]) -> None:
        """Words in the middle of a tile, as many as fit."""
        line, width = self._text.line_height, PICTURE_WIDTH - 2 * GAP
        lines = self._text.wrapped(words, width, lines=(PICTURE_HEIGHT - 2 * GAP) // line)
        first = (box[1] + box[3] - line * (len(lines) - 1)) / 2
        for number, text in enumerate(lines):
            left = (box[0] + box[2] - self._text.width(text)) / 2
            self._text.draw(self._draw, (left, first + number * line), text, fill=FAINT)

    def encoded(self) -> bytes:
        """The sheet as a file of its suffix."""
        return _encoded(self._canvas, self._suffix)


def check_suffix(target: Path) -> None:
    """Raise UsageError unless the name says a format that a sheet can have."""
    if target.suffix.lower() not in LARGEST_SIDE:
        raise UsageError(
            f"--contact-sheet {str(target)!r}: use a name ending in {', '.join(LARGEST_SIDE)}"
        )


def thumbnail(pixels: Pixels) -> bytes:
    """(h, w, 3) pixels as a JPEG file as high as the tiles of sheets, and twice as wide at most."""
    return _encoded(_fitted(pixels, 2 * PICTURE_WIDTH, PICTURE_HEIGHT), ".jpg")


def _encoded(picture: Image.Image, suffix: str) -> bytes:
    name = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}[suffix]
    content = io.BytesIO()
    picture.save(content, name, quality=QUALITY)
    return content.getvalue()


def _fitted(pixels: Pixels, most_columns: int, most_lines: int) -> Image.Image:
    """As large as fits, not enlarged."""
    height, width = pixels.shape[:2]
    scale = min(1.0, most_columns / width, most_lines / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.LANCZOS)
