"""`--preview`, `--contact-sheet` and `--html`: what was found, for eyes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.errors import MediaError, UsageError
from clipsearch.interfaces.console import escaped, say, write
from clipsearch.interfaces.files import check_target, write_whole
from clipsearch.interfaces.render import clock
from clipsearch.types import Hit

if TYPE_CHECKING:
    from clipsearch.interfaces.html import Entry
    from clipsearch.interfaces.preview import Preview
    from clipsearch.media.sheet import Sheet
    from clipsearch.types import Pixels

PreviewOption = Annotated[
    bool,
    typer.Option(
        "-p",
        "--preview",
        help="Show the pictures in the terminal: by kitty's, iTerm2's or sixel graphics, else as "
        "coloured symbols. Needs clipsearch[preview].",
    ),
]
PreviewHeightOption = Annotated[
    int, typer.Option("-H", "--preview-height", min=1, help="Lines of a picture of --preview.")
]
ContactSheetOption = Annotated[
    Path | None,
    typer.Option(
        "--contact-sheet",
        help="Write one picture of all hits, with name, score and time under each: a .jpg, .png "
        "or .webp file.",
    ),
]
ColsOption = Annotated[
    int, typer.Option("--cols", min=1, help="Pictures in a row of --contact-sheet.")
]
HtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html", help="Write a page of all hits, with films and sounds that play from there."
    ),
]
PREVIEW_HEIGHT = 10
COLS = 5
PICTURE_HEIGHT = 240  # pixels, of sheets and pages
SOUND = "sound"  # in place of a picture


@dataclass(frozen=True, slots=True)
class Eyes:
    """What is to be shown, as the options say."""

    preview: bool
    preview_height: int
    contact_sheet: Path | None
    cols: int
    html: Path | None
    overwrite: bool = False

    @classmethod
    def of(
        cls,
        preview: bool,
        preview_height: int,
        contact_sheet: Path | None,
        cols: int,
        html: Path | None,
        *,
        overwrite: bool,
    ) -> Eyes:
        """From the options. Raises UsageError for what cannot be written, before any work."""
        eyes = cls(preview, preview_height, contact_sheet, cols, html, overwrite)
        if contact_sheet is not None:
            from clipsearch.media.sheet import check_suffix

            check_suffix(contact_sheet)
            if html is not None and html.absolute() == contact_sheet.absolute():
                raise UsageError(f"--html and --contact-sheet name the same file {html}")
        eyes._check([])
        if preview:
            from clipsearch.interfaces.preview import check_library, is_screen

            if is_screen():
                check_library()
        return eyes

    @property
    def wanted(self) -> bool:
        """Whether anything is to be shown."""
        return self.preview or self.contact_sheet is not None or self.html is not None

    def show(self, hits: Sequence[Hit], title: str) -> None:
        """Show the hits of a query; what could not be shown is said on stderr.

        Raises UsageError for a sheet that would be too large, or would replace a file that was
        found, and OSError.
        """
        if not self.wanted:
            return
        self._check([hit.path for hit in hits])
        heading = escaped(title)
        preview = self._preview() if self.preview else None
        sheet = self._sheet(hits, heading) if self.contact_sheet is not None else None
        entries: list[Entry] = []
        height = max(preview.pixel_height if preview else 1, PICTURE_HEIGHT)
        for rank, shown in enumerate(_all_shown(hits, height), 1):
            if preview is not None:
                shown.to_terminal(preview, rank)
            if sheet is not None:
                shown.to_sheet(sheet)
            if self.html is not None:
                entries.append(shown.as_entry())
        if sheet is not None and self.contact_sheet is not None:
            write_whole(self.contact_sheet, sheet.encoded())
            say(f"wrote {escaped(str(self.contact_sheet))}")
        if self.html is not None:
            from clipsearch.interfaces.html import page

            write_whole(self.html, page(heading, entries).encode())
            say(f"wrote {escaped(str(self.html))}")

    def _check(self, found: Sequence[Path]) -> None:
        found = [path for path in found if os.path.exists(path)]  # noqa: PTH110 - never raises
        for target in (self.contact_sheet, self.html):
            if target is not None:
                check_target(target, inputs=found, overwrite=self.overwrite)

    def _preview(self) -> Preview | None:
        from clipsearch.interfaces.preview import Preview, is_screen

        if is_screen():
            return Preview(self.preview_height)
        reason = "this terminal shows text only" if sys.stdout.isatty() else "stdout is no terminal"
        say(f"no preview: {reason}")
        return None

    def _sheet(self, hits: Sequence[Hit], heading: str) -> Sheet:
        from clipsearch.media.sheet import Sheet

        assert self.contact_sheet is not None
        lines = max((len(_lines(hit)) for hit in hits), default=0)
        suffix = self.contact_sheet.suffix
        return Sheet(heading, count=len(hits), cols=self.cols, lines=lines, suffix=suffix)


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """A hit with its picture, or with words in its place."""

    hit: Hit
    picture: Pixels | None
    words: str

    def to_terminal(self, preview: Preview, rank: int) -> None:
        write(f"{rank}. " + "  ".join(_lines(self.hit)) + "\n")
        if self.picture is not None:
            write(preview.drawn(self.picture) + "\n")
        elif self.words:
            write(f"   ({self.words})\n")

    def to_sheet(self, sheet: Sheet) -> None:
        from clipsearch.media.sheet import Tile

        said = _line(self.hit.text) if self.hit.text else ""
        sheet.add(Tile(self.picture, _lines(self.hit), self.words or said))

    def as_entry(self) -> Entry:
        from clipsearch.interfaces.html import Entry
        from clipsearch.media.sheet import thumbnail

        hit, picture = self.hit, self.picture
        text = "\n".join(map(escaped, hit.text.splitlines())) if hit.text else None
        return Entry(
            path=hit.path,
            name=escaped(hit.path.name),
            folder=escaped(str(hit.path.parent)),
            facts=[*_facts(hit), *_time(hit)],
            picture=None if picture is None else thumbnail(picture),
            words="" if self.words == SOUND else self.words,
            span=None if hit.start is None or hit.end is None else (hit.start, hit.end),
            text=text,
        )


def _all_shown(hits: Sequence[Hit], height: int) -> Iterator[_Shown]:
    """Each hit with its picture; trouble is said on stderr."""
    from clipsearch.media.kinds import kind_of
    from clipsearch.media.pictures import hit_pictures, moment_of

    seen = [hit for hit in hits if kind_of(hit.path.name) not in ("audio", "subtitles")]
    pictures = hit_pictures([(hit.path, moment_of(hit)) for hit in seen], height=height)
    for hit in hits:
        if kind_of(hit.path.name) in ("audio", "subtitles"):
            yield _Shown(hit, None, "" if hit.text else SOUND)
            continue
        picture = next(pictures)
        if isinstance(picture, MediaError):
            reason = escaped(str(picture))
            say(f"no picture of {escaped(str(hit.path))}: {reason}")
            yield _Shown(hit, None, f"no picture: {reason}")
        else:
            yield _Shown(hit, picture, "")


def _facts(hit: Hit) -> list[str]:
    facts = [f"{hit.score:.3f}"]
    if hit.relevance is not None:
        facts.append(f"relevance {hit.relevance:.3f}")
    return facts if hit.kind in ("image", "frame") else [*facts, hit.kind]


def _time(hit: Hit) -> list[str]:
    if hit.start is None or hit.end is None:
        return []
    return [f"{clock(hit.start)} - {clock(hit.end)}"]


def _lines(hit: Hit) -> list[str]:
    """What stands under a picture."""
    said = [_line(hit.text)] if hit.text else []
    return [escaped(hit.path.name), "  ".join(_facts(hit)), *_time(hit), *said]


def _line(text: str) -> str:
    return escaped(" ".join(text.split()))
