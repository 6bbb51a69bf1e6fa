"""`--heatmap`: where in the pictures it is what was looked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.errors import EncoderError, MediaError, UsageError
from clipsearch.interfaces.console import escaped, say
from clipsearch.interfaces.files import write_whole
from clipsearch.types import Hit

if TYPE_CHECKING:
    from clipsearch.encoders import Encoder
    from clipsearch.engine import Index

HeatmapOption = Annotated[
    Path | None,
    typer.Option(
        "--heatmap",
        metavar="DIR",
        help="Write a picture of each hit into this new or empty folder: coloured where it matches "
        "the words, with a box around the best part if any matches well.",
    ),
]
LEAST_RELEVANCE = 0.1  # of the best place of a picture that gets a box: else it would mislead
NAME_BYTES = 200  # of a hit's file name that its heat map keeps; file systems take 255


def check(folder: Path | None) -> None:
    """Raise UsageError for a folder that cannot be written to, before any work."""
    if folder is None:
        return
    if folder.is_dir():
        if any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty: heat maps go into a new or an empty folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(f"{folder} cannot be written to: name another folder")
    elif folder.exists() or folder.is_symlink():
        raise UsageError(f"{folder} is a file: heat maps go into a new or an empty folder")
    elif not folder.absolute().parent.is_dir():
        raise UsageError(f"{folder}: there is no folder {folder.absolute().parent}, make it first")


def check_model(encoder: Encoder) -> None:
    """Raise EncoderError for a model that cannot make heat maps, before any work."""
    if not encoder.supports_patches:
        raise EncoderError(
            f"--heatmap: the model {encoder.spec} has no features of places: use an index of a ViT"
            " or a ResNet of CLIP, of a SigLIP, or of builtin"
        )


def write(index: Index, hits: Sequence[Hit], words: str, folder: Path) -> None:
    """One overlay a hit, named by its rank and its file; what has none is said on stderr.

    Raises UsageError without words, and EncoderError for a model that has no features of places.
    """
    from clipsearch.locating import Locator, best_box
    from clipsearch.media.overlay import overlay

    if not words.strip():
        raise UsageError("--heatmap shows where words match: give words, not pictures or sounds")
    seen = [(rank, hit) for rank, hit in enumerate(hits, 1) if hit.source == "visual"]
    locator = Locator(lambda: index.encoder)
    written = 0
    for rank, hit in seen:
        try:
            pixels = locator.picture(hit)
        except MediaError as error:
            say(f"no heat map of {escaped(str(hit.path))}: {escaped(str(error))}")
            continue
        relevance = locator.relevance(pixels, words)
        target = folder / _name(rank, hit)
        box = best_box(relevance) if relevance.max() >= LEAST_RELEVANCE else None
        folder.mkdir(exist_ok=True)
        write_whole(target, overlay(pixels, relevance, box))
        written += 1
    rest = len(hits) - len(seen)
    without = f"; {rest} of the hits {'is' if rest == 1 else 'are'} heard or said" if rest else ""
    place = f" in {escaped(str(folder))}" if written else ""
    say(f"{written} heat map{'' if written == 1 else 's'}{place}{without}")


def _name(rank: int, hit: Hit) -> str:
    """003-holiday.mp4@12.4s.jpg, so that a folder lists them as they were found."""
    from clipsearch.media.pictures import moment_of

    name = os.fsdecode(os.fsencode(hit.path.name)[:NAME_BYTES])
    moment = moment_of(hit)
    return f"{rank:03d}-{name}{'' if moment is None else f'@{moment:.1f}s'}.jpg"
