"""Text on pictures, in whatever script: a font that has the letter, or the nearest there is."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cached_property
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path

from PIL import ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# The first that has a character draws it; Pillow's own, of few characters, is always there.
SYSTEM_FONTS = (
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "NotoSansCJK-Regular.ttc",
    "DroidSansFallbackFull.ttf", "wqy-zenhei.ttc", "NotoSansArabic-Regular.ttf",
    "NotoSansHebrew-Regular.ttf", "NotoSansDevanagari-Regular.ttf", "NotoSansThai-Regular.ttf",
    "Symbola.ttf",
)  # fmt: skip
NO_CHARACTER = "\uffff"  # Unicode promises that no font has it
INSTEAD = "?"
ELLIPSIS = "..."


class Lettering:
    """Draws lines of text of one size in pixels."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._known: dict[str, tuple[Font, str]] = {}

    @property
    def line_height(self) -> int:
        """Pixels from one line to the next."""
        return round(1.35 * self._size)

    def draw(
        self, draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, *, fill: str
    ) -> None:
        """One line, `at` its left end and the middle of its height. What no font has is left out
        of accents or becomes a question mark.
        """
        x, y = at
        for font, run in self._runs(text):
            anchor = "lm" if isinstance(font, ImageFont.FreeTypeFont) else None
            draw.text((x, y), run, fill=fill, font=font, anchor=anchor, direction=_direction(font))
            x += font.getlength(run)

    def width(self, text: str) -> float:
        """Pixels of one line."""
        return sum(font.getlength(run) for font, run in self._runs(text))

    def elided(self, text: str, width: float) -> str:
        """The text, or its beginning and end if it is wider than `width` pixels."""
        if self.width(text) <= width:
            return text
        low, high = 0, len(text)  # characters that are kept: low fit, high do not
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._fits(text, middle, width) else (low, middle)
        return _middle_out(text, low)

    def _fits(self, text: str, kept: int, width: float) -> bool:
        return self.width(_middle_out(text, kept)) <= width

    def wrapped(self, text: str, width: float, *, lines: int) -> list[str]:
        """At most so many lines of at most `width` pixels; the last one ends elided if need be."""
        found: list[str] = []
        for word in text.split():
            longer = f"{found[-1]} {word}" if found else word
            if found and self.width(longer) <= width:
                found[-1] = longer
            else:
                found.append(word)
        if len(found) > lines:
            found[lines - 1 :] = [" ".join(found[lines - 1 :])]
        return [self.elided(line, width) for line in found]

    def _runs(self, text: str) -> Iterator[tuple[Font, str]]:
        """Pieces of the text with the font that has them; marks stay with what they stand on."""
        drawn: list[tuple[Font, str]] = []
        for letter in unicodedata.normalize("NFC", text):
            if unicodedata.combining(letter):
                if drawn and _has(drawn[-1][0], letter):
                    drawn.append((drawn[-1][0], letter))
            elif unicodedata.category(letter) not in ("Cf", "Mn", "Me"):
                drawn.append(self._drawn(letter))
        for _, run in groupby(drawn, key=lambda one: id(one[0])):
            pieces = list(run)
            yield pieces[0][0], "".join(piece for _, piece in pieces)

    def _drawn(self, letter: str) -> tuple[Font, str]:
        """A font and what of the letter it can draw."""
        if letter not in self._known:
            self._known[letter] = self._looked_up(" " if letter.isspace() else letter)
        return self._known[letter]

    def _looked_up(self, letter: str) -> tuple[Font, str]:
        plain = unicodedata.normalize("NFKD", letter)[:1]
        for wanted in (letter, plain):
            for font in self._fonts:
                if _has(font, wanted):
                    return font, wanted
        return self._fonts[-1], INSTEAD

    @cached_property
    def _fonts(self) -> list[Font]:
        found: list[Font] = []
        for name in (*_packaged(), *SYSTEM_FONTS):
            try:
                found.append(ImageFont.truetype(name, self._size))
            except OSError:
                continue
        return [*found, ImageFont.load_default(self._size)]


def _middle_out(text: str, kept: int) -> str:
    """The text with `kept` of its characters, more of them from its beginning."""
    end = kept // 2
    return text[: kept - end] + ELLIPSIS + (text[-end:] if end else "")


def _direction(font: Font) -> str | None:
    """Left to right as a whole, as file names go, also where Arabic or Hebrew is in it."""
    engine = font.layout_engine if isinstance(font, ImageFont.FreeTypeFont) else None
    return "ltr" if engine == ImageFont.Layout.RAQM else None


def _packaged() -> list[str]:
    """The font that matplotlib carries, where that is installed."""
    spec = find_spec("matplotlib")
    if spec is None or spec.origin is None:
        return []
    return [str(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf")]


def _has(font: Font, letter: str) -> bool:
    if letter == " ":
        return True
    if not isinstance(font, ImageFont.FreeTypeFont):
        return letter.isascii()
    shape, nothing = font.getmask(letter), font.getmask(NO_CHARACTER)
    return (shape.size, bytes(shape)) != (nothing.size, bytes(nothing))
