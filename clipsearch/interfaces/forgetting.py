"""The commands that take things out of an index, or remove it: prune, reset."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from clipsearch.errors import UsageError
from clipsearch.interfaces.console import escaped, say, write
from clipsearch.interfaces.options import (
    CsvOption,
    IndexOption,
    JsonlOption,
    JsonOption,
    NoWaitOption,
    PathsOnlyOption,
    Print0Option,
)
from clipsearch.interfaces.places import index_folder
from clipsearch.interfaces.render import media_record, output_format


def prune(
    given_up: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATHS]...",
            help="Only files in these folders, also of a disk that is away for good.",
        ),
    ] = None,
    index: IndexOption = None,
    dry_run: Annotated[
        bool, typer.Option("-n", "--dry-run", help="Print what would leave, and change nothing.")
    ] = False,
    no_wait: NoWaitOption = False,
    filepath_only: PathsOnlyOption = False,
    print0: Print0Option = False,
    json: JsonOption = False,
    jsonl: JsonlOption = False,
    csv: CsvOption = False,
) -> None:
    """Take files that are gone out of the index, without looking for new ones, and print them.

    A folder of which nothing is there keeps its files, as its disk may be away: name it to forget
    them.
    """
    from clipsearch.engine import Index

    render = output_format(paths=filepath_only, paths0=print0, json=json, jsonl=jsonl, csv=csv)
    with Index.open(index_folder(index, os.environ, Path.cwd())) as opened:
        report = opened.prune(given_up or (), dry_run=dry_run, wait=not no_wait)
        path = opened.path
    write(render([media_record(media) for media in report.gone]))
    for folder, count in report.away:
        say(
            f"{escaped(str(folder))} has none of its {count} indexed files now: kept, in case its "
            "disk is away; `clipsearch prune` with its name forgets them"
        )
    say(f"{'would remove' if dry_run else 'removed'} {len(report.gone)}: {path}")


def reset(
    index: IndexOption = None,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
    no_wait: NoWaitOption = False,
) -> None:
    """Delete the index. Pictures, videos and sounds are not touched."""
    from clipsearch.store.manifest import load_manifest
    from clipsearch.store.reset import delete_index

    folder = index_folder(index, os.environ, Path.cwd())
    load_manifest(folder)  # there must be one
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"{folder} would be deleted: give -y if that is meant")
        typer.confirm(f"Delete the index {escaped(str(folder))}?", abort=True, err=True)
    delete_index(folder, wait=not no_wait)
    say(f"deleted {escaped(str(folder))}")


COMMANDS: tuple[Callable[..., None], ...] = (prune, reset)
