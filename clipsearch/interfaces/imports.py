"""`clipsearch import`: vectors of others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.errors import EncoderError, IndexExistsError, IndexMissingError, UsageError
from clipsearch.interfaces.console import escaped, say
from clipsearch.interfaces.options import (
    EXIT_INTERRUPTED,
    DeviceOption,
    IndexOption,
    NoWaitOption,
)
from clipsearch.interfaces.places import index_folder

if TYPE_CHECKING:
    from clipsearch.engine import Index
    from clipsearch.exchange.adding import ImportReport
    from clipsearch.exchange.importing import Facts
    from clipsearch.types import Failure

EXIT_NOTHING, EXIT_SKIPPED = 1, 4
NO_MODEL = "none"

ModelOption = Annotated[
    str | None,
    typer.Option(
        help="The model that made the vectors, named as for `index`, so that words can be asked "
        "for; none: vectors alone. [default: what an export of clipsearch says, else none]",
        show_default=False,
    ),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Exit with 4 if a file was skipped.")]


def import_clip_retrieval(
    folder: Annotated[Path, typer.Argument(help="With img_emb and metadata in it.")],
    index: IndexOption = None,
    model: ModelOption = None,
    strict: StrictOption = False,
    no_wait: NoWaitOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Add an embeddings folder of clip-retrieval, or of `export clip-retrieval`."""
    _import("clip-retrieval", folder, index, model, strict=strict, wait=not no_wait, device=device)


def import_clip_video_encode(
    folder: Annotated[Path, typer.Argument(help="With a .npy file for each video.")],
    fps: Annotated[
        float,
        typer.Option(help="Frames a second that were encoded: the video's over take_every_nth."),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="The model that made the vectors, named as for `index`; none: vectors alone. Its "
            "own default is ViT-B-32/laion2b_s34b_b79k."
        ),
    ],
    index: IndexOption = None,
    strict: StrictOption = False,
    no_wait: NoWaitOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Add the output of clip-video-encode: frames of videos, scaled to unit length."""
    _import(
        "clip-video-encode", folder, index, model,
        strict=strict, wait=not no_wait, device=device, fps=fps,
    )  # fmt: skip


def import_parquet(
    source: Annotated[Path, typer.Argument(help="A file or folder with path and vector.")],
    index: IndexOption = None,
    model: ModelOption = None,
    strict: StrictOption = False,
    no_wait: NoWaitOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Add Parquet files as `export parquet` writes them."""
    _import("parquet", source, index, model, strict=strict, wait=not no_wait, device=device)


def import_npy(
    folder: Annotated[Path, typer.Argument(help="With vectors.npy and rows.parquet in it.")],
    index: IndexOption = None,
    model: ModelOption = None,
    strict: StrictOption = False,
    no_wait: NoWaitOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Add a folder as `export npy` writes it."""
    _import("npy", folder, index, model, strict=strict, wait=not no_wait, device=device)


def _import(
    form: str,
    source: Path,
    index: str | None,
    model: str | None,
    *,
    strict: bool,
    wait: bool,
    device: str,
    fps: float | None = None,
) -> None:
    from clipsearch.exchange.adding import ImportListener
    from clipsearch.exchange.importing import ImportSpec, facts_of
    from clipsearch.interfaces.progress import progress_bar

    facts = facts_of(source, form)
    spec = ImportSpec(None if model == NO_MODEL else model, fps, wait)
    for notice in facts.notices:
        say(escaped(notice))
    folder = index_folder(index, os.environ, Path.cwd())
    with (
        _open_or_create(folder, facts, model, device) as opened,
        progress_bar("importing", ("rows", "rows")) as bar,
    ):
        listener = ImportListener(
            on_failure=lambda failure: bar.say(_skipped(failure)),
            on_progress=bar.update,
            on_wait=lambda who: bar.say(f"waiting for {escaped(who)}"),
        )
        try:
            report = opened.import_from(source, form, spec, listener=listener)
        except KeyboardInterrupt:
            bar.say("interrupted: what was added so far is kept, run it again to go on")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        advice = opened.status().advice
    say(f"{_counts(report)}: {escaped(str(folder))}")
    if advice is not None:
        say(advice)
    if strict and (report.failures or report.unusable):
        raise typer.Exit(EXIT_SKIPPED)
    if not report.added and not report.known:
        raise typer.Exit(EXIT_NOTHING)


def _counts(report: ImportReport) -> str:
    left = f", without a vector or a path {report.unusable}" if report.unusable else ""
    counts = f"added {report.added}, there already {report.known}{left}"
    return f"{counts}, skipped files {len(report.failures)}"


def _open_or_create(folder: Path, facts: Facts, model: str | None, device: str) -> Index:
    """The index, or a new one for vectors like these."""
    from clipsearch.encoders import AUTO
    from clipsearch.engine import Index
    from clipsearch.exchange.importing import check_kinds

    check_kinds(facts)
    if model == AUTO:
        raise UsageError("--model auto: name the model that made these vectors, or none")
    try:
        return Index.open(folder, device=device)
    except IndexMissingError:
        pass
    note = facts.note
    if model is None and note is not None and note.model is not None:
        model = note.model
        say(f"these vectors were made with {escaped(model)}")
    try:
        if model is None or model == NO_MODEL:
            say(f"a new index of vectors without a model: {escaped(str(folder))}")
            return Index.create(folder, model=None, dim=facts.dim)
        _check_model(model, facts, device)
        return Index.create(folder, model=model, device=device, on_notice=say)
    except IndexExistsError:  # another process was first
        return Index.open(folder, device=device)


def _check_model(model: str, facts: Facts, device: str) -> None:
    """Raise EncoderError, before there is an index, unless a model can have made the vectors."""
    from clipsearch.encoders import load_encoder, parse_spec

    encoder = load_encoder(parse_spec(model), device=device)
    if encoder.dim != facts.dim:
        raise EncoderError(
            f"these vectors have {facts.dim} dimensions, those of {model} {encoder.dim}: name the "
            "model that made them with --model, or none"
        )
    if facts.note is not None and facts.note.fingerprint not in ("", encoder.fingerprint):
        raise EncoderError(
            f"these vectors were made with {facts.note.fingerprint}, but {model} is "
            f"{encoder.fingerprint} here: install the weights that made them, or --model none"
        )


def _skipped(failure: Failure) -> str:
    return f"skipping {escaped(str(failure.path))}: {escaped(failure.reason)}"


IMPORT_COMMANDS: dict[str, Callable[..., None]] = {
    "clip-retrieval": import_clip_retrieval,
    "clip-video-encode": import_clip_video_encode,
    "parquet": import_parquet,
    "npy": import_npy,
}
