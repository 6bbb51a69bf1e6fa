"""The command that finds what is stored more than once: duplicates."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.interfaces.console import say, write
from clipsearch.interfaces.filters import (
    AfterOption,
    BeforeOption,
    MaxDurationOption,
    MaxSizeOption,
    MinDurationOption,
    MinResolutionOption,
    MinSizeOption,
    PathGlobOption,
    WhereOption,
    where_of,
)
from clipsearch.interfaces.options import (
    EXIT_EMPTY,
    CsvOption,
    IndexOption,
    JsonlOption,
    JsonOption,
)
from clipsearch.interfaces.places import index_folder
from clipsearch.interfaces.render import Record, hit_record, output_format

if TYPE_CHECKING:
    from clipsearch.types import DuplicateGroup


def duplicates(
    index: IndexOption = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Least cosine of two that are the same, above 0 and up to 1. [default: what was "
            "measured for the model]",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="image, or video (windows of videos). [default: both]"),
    ] = None,
    where: WhereOption = None,
    path: PathGlobOption = None,
    after: AfterOption = None,
    before: BeforeOption = None,
    min_size: MinSizeOption = None,
    max_size: MaxSizeOption = None,
    min_duration: MinDurationOption = None,
    max_duration: MaxDurationOption = None,
    min_resolution: MinResolutionOption = None,
    filepath_only: Annotated[
        bool,
        typer.Option(
            "-f",
            "--filepath-only",
            help="Print only the files to spare, each once: all but the first of each group, and "
            "of videos those that are wholly in others. Look at them before you remove any.",
        ),
    ] = False,
    print0: Annotated[
        bool,
        typer.Option(
            "-0", "--print0", help="Print only the files to spare, ended by zero bytes (xargs -0)."
        ),
    ] = False,
    json: JsonOption = False,
    jsonl: JsonlOption = False,
    csv: CsvOption = False,
    fail_empty: Annotated[
        bool, typer.Option("--fail-empty", help="Exit with 1 if nothing was found.")
    ] = False,
) -> None:
    """Print pictures, and parts of videos, that are nearly the same, in groups.

    The first of a group has the most pixels; of several it is the largest file, then the oldest.
    score is the cosine to it. Groups that are most alike come first.
    """
    from clipsearch.engine import Index
    from clipsearch.interfaces.progress import progress_bar

    render = output_format(paths=filepath_only, paths0=print0, json=json, jsonl=jsonl, csv=csv)
    chosen = where_of(
        where,
        paths=path,
        after=after,
        before=before,
        min_size=min_size,
        max_size=max_size,
        min_duration=min_duration,
        max_duration=max_duration,
        min_resolution=min_resolution,
    )
    folder = index_folder(index, os.environ, Path.cwd())
    with Index.open(folder) as opened, progress_bar("comparing", ("vectors", "vectors")) as bar:
        groups = opened.duplicates(
            threshold=threshold, kind=kind or None, where=chosen, on_progress=bar.update
        )
    write(render(_spare(groups) if filepath_only or print0 else _records(groups)))
    if not groups:
        say("no duplicates found")
        if fail_empty:
            raise typer.Exit(EXIT_EMPTY)
    else:
        spare = len({path for group in groups for path in group.spare})
        say(f"groups: {len(groups)}, files to spare: {spare}")


def _records(groups: Sequence[DuplicateGroup]) -> list[Record]:
    return [
        {"group": number, **{name: record[name] for name in COLUMNS}}
        for number, group in enumerate(groups, start=1)
        for record in map(hit_record, group.members)
    ]


def _spare(groups: Sequence[DuplicateGroup]) -> list[Record]:
    return [{"path": str(path)} for group in groups for path in group.spare]


COLUMNS = ("score", "path", "kind", "start", "end")  # of a hit's record
COMMANDS: tuple[Callable[..., None], ...] = (duplicates,)
