"""The `clipsearch` command: parse, call `Index`, render. Results to stdout, the rest to stderr."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.errors import (
    ClipsearchError,
    IndexExistsError,
    IndexMissingError,
    UsageError,
)
from clipsearch.interfaces import (
    classify,
    cutting,
    duplicates,
    exchange,
    forgetting,
    heads,
    more_like,
    probes,
    query,
    spans,
    tags,
    upkeep,
)
from clipsearch.interfaces.console import escaped, prepare_streams, say, write
from clipsearch.interfaces.looking import TermsCommand
from clipsearch.interfaces.options import (
    EXIT_INTERRUPTED,
    CsvOption,
    DeviceOption,
    IndexOption,
    JsonlOption,
    JsonOption,
    MaxFramesOption,
    NoWaitOption,
    PathsOnlyOption,
    PoolingWeightsOption,
    Print0Option,
    pooling_spec,
)
from clipsearch.interfaces.places import cache_folder, index_folder, is_offline
from clipsearch.interfaces.render import (
    as_json_object,
    as_lines,
    media_record,
    output_format,
    plain,
)
from clipsearch.interfaces.tree import lazy_tree
from clipsearch.types import Failure
from clipsearch.version import VERSION

if TYPE_CHECKING:
    from clipsearch.media import SamplingSpec

EXIT_SKIPPED = 4

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"clipsearch {VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Search pictures and videos by words: the images, the videos and the seconds that match."""


@app.command()
def index(
    paths: Annotated[list[Path], typer.Argument(help="Folders and files to index.")],
    index: IndexOption = None,
    model: Annotated[
        str,
        typer.Option(
            help="For a new index: auto, builtin, or an open_clip model such as "
            "ViT-B-32/laion2b_s34b_b79k, hf-hub:ORG/NAME, ViT-B-32//path/weights.pt, "
            "clip4clip:FILE, the CLIP of a CLIP4Clip checkpoint, or audioclip:FILE."
        ),
    ] = "auto",
    recipe: Annotated[
        str | None,
        typer.Option(
            help="For a new index: auto, flat (exact), ivfpq, ivfpq-large, ivfpq8 or rabitq. "
            "[default: auto]"
        ),
    ] = None,
    catalog: Annotated[
        str | None, typer.Option(help="For a new index: database URL instead of an SQLite file.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="Frames a second of video. [default: 1]")
    ] = None,
    sampling: Annotated[
        str | None, typer.Option(help="auto or fps, keyframes (fast) or uniform:N. [default: fps]")
    ] = None,
    keep_all_frames: Annotated[
        bool, typer.Option("--keep-all-frames", help="Keep black and repeated frames.")
    ] = False,
    window_seconds: Annotated[
        float | None,
        typer.Option(help="Longest window pooled into one vector of a video. [default: 30]"),
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="For a new index: how a window's frames become one vector: mean, or by a trained "
            "head seqlstm or seqtransf, kept beside the mean. [default: mean]"
        ),
    ] = None,
    pooling_weights: PoolingWeightsOption = None,
    max_frames: MaxFramesOption = None,
    audio: Annotated[
        bool | None,
        typer.Option(
            "--audio/--no-audio",
            help="Index sound files and the sound of videos. [default: as the index has it; for a "
            "new one whether there is an encoder of sound]",
            show_default=False,
        ),
    ] = None,
    audio_model: Annotated[
        str | None,
        typer.Option(
            help="An encoder of sound with a space of its own: clap, clap:ORG/NAME, clap:./folder, "
            "audioclip:FILE or builtin. [default: the model, if it takes sound]"
        ),
    ] = None,
    audio_window: Annotated[
        float | None, typer.Option(help="Seconds of sound in one vector. [default: 10]")
    ] = None,
    audio_hop: Annotated[
        float | None,
        typer.Option(help="Seconds from one window to the next. [default: half a window]"),
    ] = None,
    subtitles: Annotated[
        bool | None,
        typer.Option(
            "--subtitles/--no-subtitles",
            help="Index .srt and .vtt files and the subtitles in videos. [default: as the index "
            "has it; for a new one yes]",
            show_default=False,
        ),
    ] = None,
    exclude_dir: Annotated[
        list[str] | None, typer.Option(help="Folder name to leave out; may be repeated.")
    ] = None,
    include_hidden: Annotated[
        bool, typer.Option("--include-hidden", help="Also hidden files and folders.")
    ] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "-b",
            "--batch-size",
            min=1,
            help="Pictures encoded in one step. [default: what suits the encoder and the device]",
        ),
    ] = None,
    compile_model: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Have torch compile the model first: takes minutes, and may pay on a GPU.",
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "-j", "--workers", min=1, help="Threads that read files. [default: one per core]"
        ),
    ] = None,
    max_image_megapixels: Annotated[
        float | None, typer.Option(help="Refuse larger pictures undecoded. [default: 256]")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Read unchanged files again that failed before.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 4 if a file was skipped.")
    ] = False,
    no_wait: NoWaitOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Index folders and files: new and changed ones are read, moved ones keep their vectors."""
    from clipsearch.encoders import AUTO
    from clipsearch.engine import Index
    from clipsearch.ingest import AddListener, AddOptions
    from clipsearch.interfaces.progress import progress_bar
    from clipsearch.media.spec import MAX_IMAGE_MEGAPIXELS

    options = AddOptions(
        sampling=_sampling(None, sampling, fps, keep_all_frames),
        window_seconds=window_seconds,
        exclude_dirs=tuple(exclude_dir or ()),
        include_hidden=include_hidden,
        batch_size=batch_size,
        workers=workers,
        cache=cache_folder(os.environ),
        max_image_megapixels=(
            MAX_IMAGE_MEGAPIXELS if max_image_megapixels is None else max_image_megapixels
        ),
        retry_failed=retry_failed,
        audio=audio,
        audio_model=audio_model,
        audio_window_seconds=audio_window,
        audio_hop_seconds=audio_hop,
        subtitles=subtitles,
        wait=not no_wait,
    )
    head = pooling_spec(pooling, pooling_weights, max_frames)
    folder = index_folder(index, os.environ, Path.cwd())
    try:
        opened = Index.open(folder, device=device)
    except IndexMissingError:
        if not any(path.exists() for path in paths):
            raise UsageError(f"{', '.join(map(str, paths))}: no such file or folder") from None
        try:
            opened = Index.create(
                folder,
                model=model,
                recipe=recipe or AUTO,
                catalog=catalog,
                pooling=head,
                device=device,
                offline=is_offline(os.environ),
                on_notice=say,
            )
        except IndexExistsError:  # another process was first
            opened = Index.open(folder, device=device)
    with opened, progress_bar() as bar:
        opened.require(model=model, recipe=recipe, catalog=catalog, pooling=head)
        if compile_model:
            opened.encoder.compile()
        wanted = _sampling(opened.sampling, sampling, fps, keep_all_frames)
        options = replace(options, sampling=wanted)
        listener = AddListener(
            on_failure=lambda failure: bar.say(_skipped(failure)),
            on_progress=bar.update,
            on_wait=lambda who: bar.say(f"waiting for {escaped(who)}"),
            on_notice=bar.say,
            count_files=sys.stderr.isatty(),
        )
        try:
            report = opened.add(paths, options=options, listener=listener)
        except KeyboardInterrupt:
            bar.say("interrupted: what was indexed so far is kept, run it again to go on")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        advice = opened.status().advice
    for warning in report.warnings:
        say(f"warning: {escaped(warning)}")
    counts = ("added", "updated", "unchanged", "moved", "removed")
    summary = ", ".join(f"{name} {getattr(report, name)}" for name in counts)
    say(f"{summary}, skipped {len(report.failures)}: {opened.path}")
    if advice is not None:
        say(advice)
    if strict and report.failures:
        raise typer.Exit(EXIT_SKIPPED)


for _command in (*query.COMMANDS, *more_like.COMMANDS):
    app.command(cls=TermsCommand)(_command)


@app.command()
def status(
    index: IndexOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print what the index holds and how it was built."""
    from clipsearch.engine import Index

    with Index.open(index_folder(index, os.environ, Path.cwd())) as opened:
        values = asdict(opened.status())
    values = {name: plain(value) for name, value in values.items()}
    if not json:
        values = {name: value for name, value in values.items() if value is not None}
    write(as_json_object(values) if json else as_lines(values))


@app.command("list")
def list_(
    index: IndexOption = None,
    failed: Annotated[
        bool,
        typer.Option("--failed", help="Only files that could not be read, or not all of them."),
    ] = False,
    filepath_only: PathsOnlyOption = False,
    print0: Print0Option = False,
    json: JsonOption = False,
    jsonl: JsonlOption = False,
    csv: CsvOption = False,
) -> None:
    """Print the files that the index knows."""
    from clipsearch.engine import Index

    render = output_format(paths=filepath_only, paths0=print0, json=json, jsonl=jsonl, csv=csv)
    with Index.open(index_folder(index, os.environ, Path.cwd())) as opened:
        chosen = [
            media
            for media in opened.media()
            if not failed or media.state == "failed" or media.error is not None
        ]
        own = opened.tags_of(media.id for media in chosen)
        records = [
            {**media_record(media), "tags": tags.shown(own.get(media.id, ()), listed=json or jsonl)}
            for media in chosen
        ]
    write(render(records))


@cache
def _tree() -> Callable[..., object]:
    return lazy_tree(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with its code; every foreseen error is one line on stderr."""
    prepare_streams()
    warnings.filterwarnings("ignore", module="PIL")  # broken EXIF: the picture is read all the same
    try:
        _tree()(arguments, standalone_mode=True)
    except ClipsearchError as error:
        say(f"error: {escaped(str(error))}")
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno is None:
            raise
        hint = ": free some space and run it again" if error.errno == errno.ENOSPC else ""
        where = f" ({error.filename})" if error.filename else ""
        say(f"error: {os.strerror(error.errno)}{where}{hint}")
        sys.exit(ClipsearchError.exit_code)


def _sampling(
    recorded: SamplingSpec | None, method: str | None, fps: float | None, keep_all_frames: bool
) -> SamplingSpec | None:
    """What the flags ask for, the index's own sampling where they are silent; None: all silent."""
    from clipsearch.media import SamplingSpec, parse_sampling

    if method is None and fps is None and not keep_all_frames:
        return None
    base = recorded or SamplingSpec()
    own_method = f"uniform:{base.count}" if base.method == "uniform" else base.method
    return parse_sampling(
        method or own_method,
        fps=base.fps if fps is None else fps,
        keep_all_frames=keep_all_frames or base.keep_all_frames,
    )


def _skipped(failure: Failure) -> str:
    return f"skipping {escaped(str(failure.path))}: {escaped(failure.reason)}"


for _command in (
    *spans.COMMANDS,
    *cutting.COMMANDS,
    *classify.COMMANDS,
    *tags.COMMANDS,
    *duplicates.COMMANDS,
    *heads.COMMANDS,
    *upkeep.COMMANDS,
    *forgetting.COMMANDS,
):
    app.command()(_command)

evaluation = typer.Typer(help="Measure an index on known answers.", no_args_is_help=True)
for _command in heads.EVAL_COMMANDS:
    evaluation.command()(_command)
app.add_typer(evaluation, name="eval")

probing = typer.Typer(help="Learn from a few examples what to look for.", no_args_is_help=True)
for _name, _command in probes.PROBE_COMMANDS.items():
    probing.command(_name)(_command)
app.add_typer(probing, name="probe")

for _group, (_help, _commands) in exchange.GROUPS.items():
    _exchanging = typer.Typer(help=_help, no_args_is_help=True)
    for _name, _command in _commands.items():
        _exchanging.command(_name)(_command)
    app.add_typer(_exchanging, name=_group)


if __name__ == "__main__":
    main()
