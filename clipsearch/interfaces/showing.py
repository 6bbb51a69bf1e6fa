"""What was found, on all the ways out that a command was asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from clipsearch.interfaces import heatmaps
from clipsearch.interfaces.clips import Piece
from clipsearch.interfaces.console import escaped, say, write
from clipsearch.interfaces.exports import Export
from clipsearch.interfaces.eyes import Eyes
from clipsearch.interfaces.files import check_target
from clipsearch.interfaces.options import EXIT_EMPTY
from clipsearch.interfaces.render import (
    Format,
    Record,
    as_csv,
    as_json,
    as_jsonl,
    hit_record,
)
from clipsearch.types import Hit

if TYPE_CHECKING:
    from clipsearch.engine import Index


WITH_IDS = (as_json, as_jsonl, as_csv)  # formats for programs, which may ask for more like a hit


def record_of(hit: Hit, render: Format, query: str | None = None) -> Record:
    """A hit as plain values for a format; `query`: of many, which."""
    record = hit_record(hit, query)
    return {**record, "id": hit.id} if render in WITH_IDS else record


@dataclass(frozen=True, slots=True)
class Showing:
    """Where the hits of a query go. Its parts were checked before any work."""

    render: Format
    export: Export
    eyes: Eyes
    heatmap: Path | None = None
    fail_empty: bool = False

    @classmethod
    def of(
        cls,
        render: Format,
        export: Export,
        eyes: Eyes,
        *,
        heatmap: Path | None = None,
        fail_empty: bool = False,
    ) -> Showing:
        """From the options. Raises UsageError for what cannot be written, before any work."""
        if heatmap is not None:
            heatmaps.check(heatmap)
        return cls(render, export, eyes, heatmap, fail_empty)

    def keep(self, inputs: Sequence[Path]) -> None:
        """Raise UsageError if a file of the query would be replaced, before any work."""
        there = [path for path in inputs if os.path.exists(path)]  # noqa: PTH110 - never raises
        for target in (self.eyes.contact_sheet, self.eyes.html, self.export.cut):
            if target is not None:
                check_target(target, inputs=there, overwrite=True)

    @property
    def files(self) -> bool:
        """Whether more is wanted than to print them."""
        return self.export.wanted or self.eyes.wanted or self.heatmap is not None

    @property
    def _leaves_files(self) -> bool:
        eyes = (self.eyes.contact_sheet, self.eyes.html)
        return self.export.wanted or any(file is not None for file in (*eyes, self.heatmap))

    def show(self, index: Index, hits: Sequence[Hit], *, title: str, words: str = "") -> None:
        """Print hits, then write what else is wanted; exits with 1 where that matters.

        title: the query, for eyes and the names of clips. words: what to point at in heat maps.
        """
        from clipsearch.media import kind_of

        write(self.render([record_of(hit, self.render) for hit in hits]))
        if not hits:
            say("nothing found")
            if self.fail_empty or self._leaves_files:
                raise typer.Exit(EXIT_EMPTY)
            return
        if self.eyes.wanted or self.heatmap is not None:
            _say_changed(index, hits)
        self.eyes.show(hits, title)
        if self.heatmap is not None:
            heatmaps.write(index, hits, words, self.heatmap)
        pieces = [
            Piece(hit.path, hit.start, hit.end, hit.score, title)
            for hit in hits
            if kind_of(hit.path.name) not in ("audio", "subtitles")  # clips are of videos
        ]
        self.export.write(pieces, is_current=index.is_current)


def _say_changed(index: Index, hits: Sequence[Hit]) -> None:
    """The pictures of other files than those that were searched would mislead."""
    for path in dict.fromkeys(hit.path for hit in hits):
        if os.path.exists(path) and not index.is_current(path):  # noqa: PTH110 - never raises
            say(f"{escaped(str(path))} changed since it was indexed: index it again")
