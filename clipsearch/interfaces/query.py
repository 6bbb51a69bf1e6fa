"""The command that searches: query."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.errors import UsageError
from clipsearch.interfaces.clips import Piece
from clipsearch.interfaces.console import say, write
from clipsearch.interfaces.exports import (
    CutOption,
    Export,
    ExportOption,
    OverwriteOption,
    PadOption,
    ReencodeOption,
)
from clipsearch.interfaces.options import (
    EXIT_EMPTY,
    CsvOption,
    DeviceOption,
    IndexOption,
    JsonlOption,
    JsonOption,
    PathsOnlyOption,
    PoolingWeightsOption,
    Print0Option,
)
from clipsearch.interfaces.places import index_folder
from clipsearch.interfaces.render import hit_record, output_format

if TYPE_CHECKING:
    from clipsearch.search.rerank import Rerank


def query(
    text: Annotated[
        list[str] | None,
        typer.Argument(help="What to look for, in words; a file of sound stands for its sound."),
    ] = None,
    audio_file: Annotated[
        list[str] | None,
        typer.Option(help="Look for this sound, or the sound of this video; may be repeated."),
    ] = None,
    index: IndexOption = None,
    top: Annotated[int, typer.Option("-t", "--top", "-k", min=1, help="Hits to print.")] = 10,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="image, frame (moments of videos), video (whole videos), span (the seconds of "
            "videos that stand out), audio (moments of sound) or text (subtitles); may be "
            "repeated. [default: image, frame, audio and text]"
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Only what is seen (visual), heard (audio) or said (text).")
    ] = None,
    min_score: Annotated[float, typer.Option(help="Least cosine of a hit.")] = -1.0,
    merge_gap: Annotated[
        float,
        typer.Option(
            min=0.0, help="Frames, and windows of sound, at most so many seconds apart are one hit."
        ),
    ] = 4.0,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="Whole videos by the vectors of this pooling: mean, or the index's head. "
            "[default: the head if there is one]"
        ),
    ] = None,
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
    exact: Annotated[
        bool,
        typer.Option(
            "--exact",
            help="Scan every vector, for spans every video, instead of probing the index.",
        ),
    ] = False,
    filepath_only: PathsOnlyOption = False,
    print0: Print0Option = False,
    json: JsonOption = False,
    jsonl: JsonlOption = False,
    csv: CsvOption = False,
    cut: CutOption = None,
    export_clips: ExportOption = None,
    pad: PadOption = "0s",
    reencode: ReencodeOption = False,
    overwrite: OverwriteOption = False,
    fail_empty: Annotated[
        bool, typer.Option("--fail-empty", help="Exit with 1 if nothing was found.")
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Print the images, moments, videos, spans, sounds or subtitles that match words best."""
    from clipsearch.engine import Index
    from clipsearch.media import kind_of
    from clipsearch.search.query import Query

    render = output_format(paths=filepath_only, paths0=print0, json=json, jsonl=jsonl, csv=csv)
    export = Export.of(cut, export_clips, pad, reencode=reencode, overwrite=overwrite)
    asked = Query.of_terms(text or [], audio_file or [])
    again = _rerank(rerank, pooling_weights, candidates)
    folder = index_folder(index, os.environ, Path.cwd())
    with Index.open(folder, device=device, on_notice=say) as opened:
        hits = opened.search(
            asked,
            top=top,
            kind=kind or None,
            source=source,
            min_score=min_score,
            merge_gap=merge_gap,
            exact=exact,
            pooling=pooling,
            rerank=again,
        )
        write(render([hit_record(hit) for hit in hits]))
        name = " ".join([asked.words, *map(str, asked.sounds)]).strip()
        pieces = [
            Piece(hit.path, hit.start, hit.end, hit.score, name)
            for hit in hits
            if kind_of(hit.path.name) not in ("audio", "subtitles")  # clips are of videos
        ]
        if hits:
            export.write(pieces, is_current=opened.is_current)
    if not hits:
        say("nothing found")
        if fail_empty or export.wanted:
            raise typer.Exit(EXIT_EMPTY)


def _rerank(head: str | None, weights: Path | None, candidates: int) -> Rerank | None:
    from clipsearch.heads.choose import PoolingSpec
    from clipsearch.search.rerank import Rerank

    if head is None:
        if weights is not None:
            raise UsageError("--pooling-weights is for --rerank: an index knows its head's file")
        return None
    spec = PoolingSpec(head, weights)  # refuses a head without weights
    if spec.weights is None:
        raise UsageError("--rerank mean: the mean is what videos are ranked by already; use tight")
    return Rerank(spec.weights, head, candidates)


COMMANDS: tuple[Callable[..., None], ...] = (query,)
