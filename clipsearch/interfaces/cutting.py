"""The command that cuts a piece out of a video: cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from clipsearch.interfaces.console import escaped, say
from clipsearch.interfaces.durations import seconds
from clipsearch.interfaces.exports import OverwriteOption


def cut(
    video: Annotated[Path, typer.Argument(help="The video; it is not changed.")],
    start: Annotated[str, typer.Option("-s", "--start", help="From here on, as 1:15.5 or 75s.")],
    end: Annotated[str, typer.Option("-e", "--end", help="Up to here.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The file to write, .mp4 or another.")],
    reencode: Annotated[
        bool,
        typer.Option(
            "--reencode",
            help="Exact ends. Without it packets are copied, from the key frame before.",
        ),
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Cut the piece between two times out of a video, with its sound."""
    from clipsearch.media.clips import cut as cut_out

    first, last = seconds(start, "--start"), seconds(end, "--end")
    clip = cut_out(video, first, last, out, reencode=reencode, overwrite=overwrite)
    for note in clip.notes:
        say(f"{escaped(str(out))}: {escaped(note)}")
    say(f"{escaped(str(out))}: seconds {clip.start:.3f} to {clip.end:.3f}")


COMMANDS: tuple[Callable[..., None], ...] = (cut,)
