"""`clipsearch export`: vectors for others; and the groups of this and `clipsearch import`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from clipsearch.interfaces.console import escaped, say
from clipsearch.interfaces.filters import WhereOption, where_of
from clipsearch.interfaces.imports import IMPORT_COMMANDS
from clipsearch.interfaces.options import EXIT_INTERRUPTED, IndexOption
from clipsearch.interfaces.places import index_folder

KindOption = Annotated[
    list[str] | None,
    typer.Option(
        help="image, frame (moments of videos) or video (their windows); may be repeated. By "
        "itself audio (windows of sound) or text (subtitles). [default: image, frame and video]",
        show_default=False,
    ),
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace what an earlier export has written.")
]


def export_clip_retrieval(
    folder: Annotated[Path, typer.Argument(help="New folder, for `clip-retrieval index`.")],
    index: IndexOption = None,
    kind: KindOption = None,
    where: WhereOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write the embeddings folder of clip-retrieval: float16 arrays and metadata."""
    _export("clip-retrieval", folder, index, kind, where, overwrite=overwrite)


def export_parquet(
    target: Annotated[Path, typer.Argument(help="A file NAME.parquet, or a new folder.")],
    index: IndexOption = None,
    kind: KindOption = None,
    where: WhereOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write Parquet: a row for each vector, itself in the column `vector`."""
    _export("parquet", target, index, kind, where, overwrite=overwrite)


def export_npy(
    folder: Annotated[Path, typer.Argument(help="New folder, for vectors.npy and rows.parquet.")],
    index: IndexOption = None,
    kind: KindOption = None,
    where: WhereOption = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Write a NumPy array of float16 and a Parquet table whose row k describes its row k."""
    _export("npy", folder, index, kind, where, overwrite=overwrite)


def _export(
    form: str,
    target: Path,
    index: str | None,
    kind: list[str] | None,
    where: str | None,
    *,
    overwrite: bool,
) -> None:
    from clipsearch.engine import Index
    from clipsearch.exchange.exporting import ExportSpec, kinds_to_export
    from clipsearch.interfaces.progress import progress_bar

    spec = ExportSpec(kinds_to_export(kind or None), where_of(where), overwrite)
    with (
        Index.open(index_folder(index, os.environ, Path.cwd())) as opened,
        progress_bar("exporting", ("rows", "rows")) as bar,
    ):
        try:
            report = opened.export_to(target, form, spec, on_progress=bar.update)
        except KeyboardInterrupt:
            bar.say("interrupted: nothing was written")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    for notice in report.notices:
        say(escaped(notice))
    say(f"{report.rows} rows: {escaped(str(target))}")


Command = Callable[..., None]
EXPORT_COMMANDS: dict[str, Command] = {
    "clip-retrieval": export_clip_retrieval,
    "parquet": export_parquet,
    "npy": export_npy,
}
GROUPS: dict[str, tuple[str, dict[str, Command]]] = {
    "export": ("Write vectors and what is known of them for other programs.", EXPORT_COMMANDS),
    "import": ("Add vectors that were made elsewhere.", IMPORT_COMMANDS),
}
