"""The command that searches by example: more-like."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.errors import UsageError
from clipsearch.interfaces.exports import (
    CutOption,
    Export,
    ExportOption,
    OverwriteOption,
    PadOption,
    ReencodeOption,
)
from clipsearch.interfaces.eyes import (
    COLS,
    PREVIEW_HEIGHT,
    ColsOption,
    ContactSheetOption,
    Eyes,
    HtmlOption,
    PreviewHeightOption,
    PreviewOption,
)
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
from clipsearch.interfaces.looking import Look
from clipsearch.interfaces.options import (
    CsvOption,
    DedupeOption,
    DedupeThresholdOption,
    DeviceOption,
    ExactOption,
    FailEmptyOption,
    IndexOption,
    JsonlOption,
    JsonOption,
    KindOption,
    MergeGapOption,
    MinCosineOption,
    MinScoreOption,
    PathsOnlyOption,
    PoolingOption,
    Print0Option,
    SourceOption,
    TopOption,
    dedupe_of,
)
from clipsearch.interfaces.places import index_folder
from clipsearch.interfaces.render import output_format
from clipsearch.interfaces.showing import Showing

if TYPE_CHECKING:
    from clipsearch.search.asked import SearchOptions
    from clipsearch.search.grammar import Term


def more_like(
    example: Annotated[
        str,
        typer.Argument(
            metavar="ID|PATH[@TIME]",
            help="A stored vector by the id that --json prints, or a picture, a sound or a video, "
            "a moment of it with a time behind @, indexed or not.",
        ),
    ],
    index: IndexOption = None,
    top: TopOption = 10,
    kind: KindOption = None,
    source: SourceOption = None,
    where: WhereOption = None,
    path: PathGlobOption = None,
    after: AfterOption = None,
    before: BeforeOption = None,
    min_size: MinSizeOption = None,
    max_size: MaxSizeOption = None,
    min_duration: MinDurationOption = None,
    max_duration: MaxDurationOption = None,
    min_resolution: MinResolutionOption = None,
    min_score: MinScoreOption = 0.0,
    min_cosine: MinCosineOption = -1.0,
    dedupe: DedupeOption = False,
    dedupe_threshold: DedupeThresholdOption = None,
    merge_gap: MergeGapOption = 4.0,
    pooling: PoolingOption = None,
    exact: ExactOption = False,
    filepath_only: PathsOnlyOption = False,
    print0: Print0Option = False,
    json: JsonOption = False,
    jsonl: JsonlOption = False,
    csv: CsvOption = False,
    preview: PreviewOption = False,
    preview_height: PreviewHeightOption = PREVIEW_HEIGHT,
    contact_sheet: ContactSheetOption = None,
    cols: ColsOption = COLS,
    html: HtmlOption = None,
    cut: CutOption = None,
    export_clips: ExportOption = None,
    pad: PadOption = "0s",
    reencode: ReencodeOption = False,
    overwrite: OverwriteOption = False,
    fail_empty: FailEmptyOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Print what is most like a stored vector or a file, which itself is left out."""
    from clipsearch.search.query import Query

    showing = Showing.of(
        output_format(paths=filepath_only, paths0=print0, json=json, jsonl=jsonl, csv=csv),
        Export.of(cut, export_clips, pad, reencode=reencode, overwrite=overwrite),
        Eyes.of(preview, preview_height, contact_sheet, cols, html, overwrite=overwrite),
        fail_empty=fail_empty,
    )
    options: SearchOptions = {
        "top": top,
        "kind": kind or None,
        "source": source,
        "where": where_of(
            where,
            paths=path,
            after=after,
            before=before,
            min_size=min_size,
            max_size=max_size,
            min_duration=min_duration,
            max_duration=max_duration,
            min_resolution=min_resolution,
        ),
        "min_score": min_score,
        "min_cosine": min_cosine,
        "dedupe": dedupe_of(dedupe, dedupe_threshold),
        "merge_gap": merge_gap,
        "pooling": pooling,
        "exact": exact,
    }
    asked = Query(terms=[_term(example)])
    look = Look(index_folder(index, os.environ, Path.cwd()), device, options)
    look.ask(asked, showing, title=f"like {asked}")


def _term(example: str) -> Term:
    """An id, unless a file is called so, or a file, which the index may know while it is away."""
    from clipsearch.durations import parse_seconds
    from clipsearch.media import kind_of
    from clipsearch.search.grammar import Term
    from clipsearch.search.named import existing_file

    number = re.fullmatch(r"(?:id:)?([0-9]+)", example)
    if number and not Path(example).is_file():
        return Term("unit", number[1])
    for text in (example, f"./{example}"):
        if (named := existing_file(text)) is not None:
            return Term(named.kind, named.path, seconds=named.seconds)
    head, _, time = example.rpartition("@")
    seconds = parse_seconds(time)
    path = example if seconds is None else head
    kind = kind_of(path)
    if kind == "video":
        return Term("video" if seconds is None else "frame", path, seconds=seconds)
    if kind == "audio":
        return Term("sound", path, seconds=seconds)
    if kind == "image" and seconds is None:
        return Term("picture", path)
    raise UsageError(
        f"{example}: no such file, and no id: give a file with a time behind @, or a number"
    )


COMMANDS: tuple[Callable[..., None], ...] = (more_like,)
