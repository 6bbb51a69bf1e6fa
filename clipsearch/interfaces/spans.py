"""The commands that look into one video: span and align."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from clipsearch.errors import IndexMissingError, MediaError, UsageError
from clipsearch.interfaces.clips import Piece
from clipsearch.interfaces.console import escaped, say, write
from clipsearch.interfaces.durations import seconds
from clipsearch.interfaces.exports import (
    CutOption,
    Export,
    ExportOption,
    OverwriteOption,
    PadOption,
    ReencodeOption,
)
from clipsearch.interfaces.files import check_target, write_whole
from clipsearch.interfaces.options import (
    EXIT_EMPTY,
    CsvOption,
    DeviceOption,
    IndexOption,
    JsonlOption,
    JsonOption,
)
from clipsearch.interfaces.places import VARIABLE, index_folder, is_offline
from clipsearch.interfaces.render import output_format, span_record
from clipsearch.interfaces.scripts import SCRIPT_FORMATS, ScriptLine, read_script
from clipsearch.types import Span

if TYPE_CHECKING:
    from clipsearch.search.spans import ScoreName, SpanMethod, SpanOptions, SpanSearch
    from clipsearch.video import Curves, Video

DEFAULT_FPS = 1.0
STDOUT = Path("-")
CUE_FORMATS = ("srt", "vtt")

VideoArgument = Annotated[Path, typer.Argument(help="A video, indexed or not.")]
ModelOption = Annotated[
    str | None,
    typer.Option(
        help="Encode the video with this model, whatever is indexed; names as for `index`. "
        "[default: the index's model; without an index auto]"
    ),
]
FpsOption = Annotated[
    float | None,
    typer.Option(help="Encode so many frames a second of the video, whatever is indexed."),
]
MinOption = Annotated[str, typer.Option("--min", help="Least length of a span.")]
MaxOption = Annotated[
    str | None, typer.Option("--max", help="Largest length of a span. [default: any]")
]
PlotOption = Annotated[
    Path | None,
    typer.Option(help="Draw the similarity over time: a .png, .svg, .pdf or .jpg file."),
]


def span(
    video: VideoArgument,
    text: Annotated[list[str], typer.Argument(help="What to look for, in words.")],
    index: IndexOption = None,
    top: Annotated[int, typer.Option("-k", "--top", "-t", min=1, help="Spans to print.")] = 5,
    min_: MinOption = "2s",
    max_: MaxOption = None,
    score: Annotated[
        str,
        typer.Option(
            help="scan (what stands out most, no length to choose), mean (the densest, of the "
            "least length), sum, or a power of the length from 0 to 1."
        ),
    ] = "scan",
    overlap: Annotated[
        float, typer.Option(min=0.0, help="Most that two spans may overlap (IoU).")
    ] = 0.0,
    method: Annotated[
        str,
        typer.Option(
            help="scan (one best span after the other) or disjoint (those with the largest sum "
            "together)."
        ),
    ] = "scan",
    tau: Annotated[
        float | None,
        typer.Option(help="Subtracted from the z-scored curve. [default: 0; disjoint 0.25]"),
    ] = None,
    smooth: Annotated[
        str, typer.Option(help="Width of the smoothing of the curve; 0: none.")
    ] = "1s",
    step: Annotated[
        str | None, typer.Option(help="Downsample the curve to such steps. [default: frames]")
    ] = None,
    search: Annotated[
        str, typer.Option(help="multiscale (exact) or brute (every span, to compare with).")
    ] = "multiscale",
    json: JsonOption = False,
    jsonl: JsonlOption = False,
    csv: CsvOption = False,
    plot: PlotOption = None,
    cut: CutOption = None,
    export_clips: ExportOption = None,
    pad: PadOption = "0s",
    reencode: ReencodeOption = False,
    overwrite: OverwriteOption = False,
    fail_empty: Annotated[
        bool, typer.Option("--fail-empty", help="Exit with 1 if nothing stands out.")
    ] = False,
    model: ModelOption = None,
    fps: FpsOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Print the seconds of one video that match words best, ranked."""
    from clipsearch.search.spans import SpanSpec, check_ranking

    render = output_format(json=json, jsonl=jsonl, csv=csv)
    export = Export.of(cut, export_clips, pad, reencode=reencode, overwrite=overwrite, source=video)
    _check_plot(plot, [video], overwrite=overwrite)
    _check_fps(fps)
    options: SpanOptions = {
        "min_seconds": seconds(min_, "--min"),
        "max_seconds": None if max_ is None else seconds(max_, "--max"),
        "score": _score(score),
        "smooth_seconds": seconds(smooth, "--smooth"),
        "step_seconds": None if step is None else seconds(step, "--step"),
        "search": cast("SpanSearch", search),
    }
    if tau is not None:
        options["tau"] = tau
    words, way = " ".join(text), cast("SpanMethod", method)
    SpanSpec(**options)
    check_ranking(top, overlap, way, options["search"])
    opened = _video(video, index, model=model, fps=fps, device=device)
    found = opened.spans(words, k=top, overlap=overlap, method=way, **options)
    write(render([span_record(opened.path, each) for each in found]))
    if plot is not None:
        _plot(plot, opened, [words], opened.curves([words]), [found])
    if found:
        export.write([Piece(opened.path, s.start, s.end, s.score, words) for s in found])
        return
    say(_why_nothing(opened, options["min_seconds"]))
    if fail_empty or export.wanted:
        raise typer.Exit(EXIT_EMPTY)


def align(
    video: VideoArgument,
    script: Annotated[
        Path, typer.Argument(help="A text with a line for each scene, or subtitles (.srt, .vtt).")
    ],
    index: IndexOption = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write to this file. [default: stdout]")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(help="srt, vtt, json or tsv. [default: as the file is named, else srt]"),
    ] = None,
    interval: Annotated[
        str | None,
        typer.Option(
            help="Find one span for some lines together: 3:7 for T_3 to T_7, the first line being "
            "T_0; auto finds the lines as well."
        ),
    ] = None,
    max_texts: Annotated[int, typer.Option(min=1, help="Most lines of --interval auto.")] = 8,
    tau: Annotated[
        float | None,
        typer.Option(
            help="How many standard deviations a frame must stand out. [default: for each line, "
            "halfway up its best span]"
        ),
    ] = None,
    min_: MinOption = "2s",
    max_: MaxOption = None,
    skip: Annotated[
        float | None,
        typer.Option(help="What leaving a line out costs; 0: nothing. [default: none is left out]"),
    ] = None,
    plot: PlotOption = None,
    overwrite: OverwriteOption = False,
    model: ModelOption = None,
    fps: FpsOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Give each line of a script its seconds of a video, in order."""
    from clipsearch.search.spans import SpanSpec

    form = _script_format(format, output)
    if interval is not None and not (tau is None and skip is None):
        raise UsageError("--tau and --skip are for lines in order: leave them or --interval out")
    if output is not None and output != STDOUT:
        check_target(output, inputs=[video, script], overwrite=overwrite)
        if plot is not None and os.path.realpath(plot) == os.path.realpath(output):
            raise UsageError(f"{output} is given for both --output and --plot: name two files")
    _check_plot(plot, [video, script], overwrite=overwrite)
    _check_fps(fps)
    lines = read_script(script)
    limits: SpanOptions = {
        "min_seconds": seconds(min_, "--min"),
        "max_seconds": None if max_ is None else seconds(max_, "--max"),
    }
    SpanSpec(**limits)
    texts = None if interval in (None, "auto") else _texts(str(interval), len(lines))
    opened = _video(video, index, model=model, fps=fps, device=device)
    found = (
        _in_order(opened, lines, limits, tau=tau, skip=skip)
        if interval is None
        else _together(opened, lines, limits, texts=texts, max_texts=max_texts)
    )
    if found is None:
        say(_why_nothing(opened, limits["min_seconds"]))
        if not (output is None and plot is None):
            raise typer.Exit(EXIT_EMPTY)
        return
    text = SCRIPT_FORMATS[form](found.cues if form in CUE_FORMATS else found.lines)
    if output is None or output == STDOUT:
        write(text)
    else:
        write_whole(output, text.encode())
    if plot is not None:
        curves = found.curves()
        spans = [[] if span is None else [span] for _, span in found.cues]
        _plot(plot, opened, [label for label, _ in found.cues], curves, spans)


@dataclass(frozen=True, slots=True)
class _Aligned:
    """What `align` prints: a row for each line of the script, or the cues, which may join lines."""

    lines: Sequence[ScriptLine]
    cues: Sequence[ScriptLine]
    curves: Callable[[], Curves]  # of the cues


def _in_order(
    video: Video,
    lines: Sequence[str],
    limits: SpanOptions,
    *,
    tau: float | None,
    skip: float | None,
) -> _Aligned:
    spans = video.align(
        lines,
        tau=tau,
        skip=skip,
        min_seconds=limits["min_seconds"],
        max_seconds=limits["max_seconds"],
    )
    if None in spans:
        say(f"{spans.count(None)} of {len(lines)} lines were left out")
    rows = list(zip(lines, spans, strict=True))
    return _Aligned(rows, rows, lambda: video.curves(lines))


def _together(
    video: Video,
    lines: Sequence[str],
    limits: SpanOptions,
    *,
    texts: slice | None,
    max_texts: int,
) -> _Aligned | None:
    if texts is None:
        both = video.interval(lines, max_texts=max_texts, **limits)
        if both is None:
            return None
        texts, span = both[0], both[1]
    else:
        one = video.joint_span(lines, texts, **limits)
        if one is None:
            return None
        span = one
    say(f"lines {texts.start}:{texts.stop - 1}")
    mine = range(len(lines))[texts]
    rows = [(line, span if k in mine else None) for k, line in enumerate(lines)]
    joined = [(" ".join(lines[texts]), span)]
    return _Aligned(rows, joined, lambda: video.joint_curve(lines, texts))


def _video(
    path: Path, index: str | None, *, model: str | None, fps: float | None, device: str
) -> Video:
    """The video's frames from the index that it is in, or encoded as that index does it."""
    from clipsearch.encoders import AUTO
    from clipsearch.engine import Index
    from clipsearch.interfaces.progress import progress_bar
    from clipsearch.video import Video

    with progress_bar("reading") as bar:
        if model is None:
            folder = index_folder(index, os.environ, Path.cwd())
            try:
                with Index.open(folder, device=device, on_notice=bar.say) as opened:
                    return opened.video(path, fps=fps, on_progress=bar.update)
            except IndexMissingError:
                if index is not None or os.environ.get(VARIABLE):
                    raise
        return Video.open(
            path,
            model=model or AUTO,
            fps=DEFAULT_FPS if fps is None else fps,
            device=device,
            offline=is_offline(os.environ),
            on_notice=bar.say,
            on_progress=bar.update,
        )


def _score(text: str) -> ScoreName | float:
    """A score's name, or a power; `SpanSpec` refuses others."""
    try:
        return float(text)
    except ValueError:
        return cast("ScoreName", text)


def _script_format(name: str | None, output: Path | None) -> str:
    if name is None:
        name = output.suffix.lstrip(".").lower() if output is not None else ""
        name = name if name in SCRIPT_FORMATS else "srt"
    if name not in SCRIPT_FORMATS:
        raise UsageError(f"--format {name!r}: use one of {', '.join(SCRIPT_FORMATS)}")
    return name


def _texts(interval: str, count: int) -> slice:
    """`3:7` as the lines T_3 to T_7 of `count`. Raises UsageError for lines that there are not."""
    first, mark, last = interval.partition(":")
    if not (mark and first.strip().isdecimal() and last.strip().isdecimal()):
        raise UsageError(f"--interval {interval!r}: use FIRST:LAST, for example 3:7, or auto")
    chosen = slice(int(first), int(last) + 1)
    if not chosen.start < chosen.stop <= count:
        raise UsageError(f"--interval {interval}: the script has lines 0 to {count - 1}")
    return chosen


def _why_nothing(video: Video, least: float) -> str:
    if video.seconds < least:
        return f"nothing found: the video lasts {video.seconds:g} s, less than --min {least:g} s"
    return "nothing stands out"


def _check_fps(fps: float | None) -> None:
    from clipsearch.media import SamplingSpec

    if fps is not None:
        SamplingSpec(fps=fps)


def _check_plot(target: Path | None, inputs: Sequence[Path], *, overwrite: bool) -> None:
    if target is not None:
        from clipsearch.interfaces.plot import check_plot

        check_plot(target)
        check_target(target, inputs=inputs, overwrite=overwrite)


def _plot(
    target: Path,
    video: Video,
    labels: Sequence[str],
    curves: Curves,
    spans: Sequence[Sequence[Span]],
) -> None:
    from clipsearch.interfaces.curves import PlotCurve
    from clipsearch.interfaces.plot import (
        THUMBNAIL_COUNT,
        THUMBNAIL_HEIGHT,
        plot_curves,
        thumbnail_times,
    )
    from clipsearch.media.thumbnails import thumbnails

    times = thumbnail_times(float(curves.times[-1]), THUMBNAIL_COUNT)
    try:
        pictures = thumbnails(video.path, times, height=THUMBNAIL_HEIGHT)
    except MediaError as error:  # the index may have a video whose disk is away
        say(f"{escaped(str(video.path))}: {escaped(str(error))}; drawn without pictures")
        pictures = [None for _ in times]
    strip = [
        (t, picture) for t, picture in zip(times, pictures, strict=True) if picture is not None
    ]
    rows = zip(labels, curves.similarities, spans, strict=True)
    drawn = [PlotCurve(label, curves.times, values, own) for label, values, own in rows]
    plot_curves(target, video.path.name, drawn, strip=strip)


COMMANDS: tuple[Callable[..., None], ...] = (span, align)
