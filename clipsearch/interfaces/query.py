"""The command that searches: query."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.errors import UsageError
from clipsearch.interfaces.batch import Batch
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
from clipsearch.interfaces.heatmaps import HeatmapOption
from clipsearch.interfaces.looking import Look, rerank_of
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
    PoolingWeightsOption,
    Print0Option,
    PromptsOption,
    SourceOption,
    TopOption,
    dedupe_of,
)
from clipsearch.interfaces.places import index_folder
from clipsearch.interfaces.render import output_format
from clipsearch.interfaces.showing import Showing
from clipsearch.interfaces.standard_input import shown, terms_of_stdin

if TYPE_CHECKING:
    from clipsearch.search.asked import SearchOptions
    from clipsearch.search.grammar import Term
    from clipsearch.search.query import Query


def query(
    terms: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TERMS",
            help="What to look for: words, files of pictures, videos and sounds, film.mp4@1:23 for "
            "a frame, added by + and subtracted by -, with weights: horse + 2:stripes - "
            "./grass.jpg. '\\dog.jpg' is words.",
        ),
    ] = None,
    add: Annotated[
        list[str] | None, typer.Option("-a", "--add", metavar="TERM", help="Add this term.")
    ] = None,
    subtract: Annotated[
        list[str] | None, typer.Option("-s", "--sub", metavar="TERM", help="Subtract this term.")
    ] = None,
    audio_file: Annotated[
        list[str] | None,
        typer.Option(help="Look for this sound, or the sound of this video; may be repeated."),
    ] = None,
    stdin: Annotated[
        bool,
        typer.Option(
            "--stdin",
            help="Add what comes on stdin: a picture, a sound, a video, or a line of terms.",
        ),
    ] = False,
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|-",
            help="Ask the queries of a file, or of stdin, one a line; records then begin with the "
            'query. "…" keeps a name with spaces together.',
        ),
    ] = None,
    probe: Annotated[
        Path | None,
        typer.Option(help="Look for what this file of `clipsearch probe train` has learned."),
    ] = None,
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
    prompts: PromptsOption = "none",
    merge_gap: MergeGapOption = 4.0,
    pooling: PoolingOption = None,
    rerank: Annotated[
        str | None,
        typer.Option(
            help="Score the best videos again by a head that sees words and frames together: "
            "tight. Needs --pooling-weights; hits are whole videos."
        ),
    ] = None,
    pooling_weights: PoolingWeightsOption = None,
    candidates: Annotated[
        int, typer.Option(min=1, help="How many videos --rerank scores again.")
    ] = 50,
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
    heatmap: HeatmapOption = None,
    cut: CutOption = None,
    export_clips: ExportOption = None,
    pad: PadOption = "0s",
    reencode: ReencodeOption = False,
    overwrite: OverwriteOption = False,
    fail_empty: FailEmptyOption = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 4 if a line of --batch was skipped.")
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Print the images, moments, videos, spans, sounds or subtitles that match best."""
    showing = Showing.of(
        output_format(paths=filepath_only, paths0=print0, json=json, jsonl=jsonl, csv=csv),
        Export.of(cut, export_clips, pad, reencode=reencode, overwrite=overwrite),
        Eyes.of(preview, preview_height, contact_sheet, cols, html, overwrite=overwrite),
        heatmap=heatmap,
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
        "dedupe": dedupe_of(dedupe, dedupe_threshold, terms),
        "prompts": prompts,
        "merge_gap": merge_gap,
        "pooling": pooling,
        "rerank": rerank_of(rerank, pooling_weights, candidates),
        "exact": exact,
    }
    look = Look(index_folder(index, os.environ, Path.cwd()), device, options)
    given = bool(terms or add or subtract or audio_file or stdin)
    if batch is not None:
        _refuse_with_batch(given, probe, showing)
        lines = Batch(batch, showing.render, streamed=jsonl)
        look.ask_batch(lines, fail_empty=fail_empty, strict=strict)
    elif probe is not None:
        if given:
            raise UsageError("--probe says what to look for: leave out other terms")
        look.ask_probe(probe, showing)
    else:
        with terms_of_stdin() if stdin else nullcontext(()) as more:
            asked = _query(terms or (), audio_file or (), (add or (), subtract or ()), more)
            look.ask(asked, showing, title=shown(str(asked), more))


def _query(
    text: Sequence[str],
    sounds: Sequence[str],
    flags: tuple[Sequence[str], Sequence[str]],
    more: Sequence[Term],
) -> Query:
    from clipsearch.search.query import Query

    if not more:
        return Query.of_terms(text, sounds, add=flags[0], subtract=flags[1])
    rest = (*text, *sounds, *flags[0], *flags[1])
    own = Query.of_terms(text, sounds, add=flags[0], subtract=flags[1]).terms if rest else ()
    return Query(terms=[*own, *more])


def _refuse_with_batch(given: bool, probe: Path | None, showing: Showing) -> None:
    if given or probe is not None:
        raise UsageError("--batch has its queries in the file: leave out others and --probe")
    if showing.files:
        raise UsageError("--batch only prints: leave out previews, sheets, pages, maps and clips")


COMMANDS: tuple[Callable[..., None], ...] = (query,)
