"""`--cut` and `--export-clips`: what was found, as files."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from clipsearch.errors import MediaError, UsageError
from clipsearch.interfaces.clips import MANIFEST_FILE, Piece, export_clips
from clipsearch.interfaces.console import escaped, say
from clipsearch.interfaces.durations import seconds
from clipsearch.interfaces.files import check_target
from clipsearch.types import Failure

EXIT_NOT_CUT = 1

CutOption = Annotated[Path | None, typer.Option(help="Cut the best one out into this video file.")]
ExportOption = Annotated[
    Path | None,
    typer.Option(help=f"Cut all of them out into this folder, listed in its {MANIFEST_FILE}."),
]
PadOption = Annotated[
    str, typer.Option(help="Of --cut and --export-clips: so much more at both ends.")
]
ReencodeOption = Annotated[
    bool,
    typer.Option(
        "--reencode",
        help="Of --cut and --export-clips: exact ends. Without it packets are copied, from the key "
        "frame before.",
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]


@dataclass(frozen=True, slots=True)
class Export:
    """What is to be cut, as the options say."""

    cut: Path | None
    folder: Path | None
    pad_seconds: float
    reencode: bool
    overwrite: bool

    @classmethod
    def of(
        cls,
        cut: Path | None,
        folder: Path | None,
        pad: str,
        *,
        reencode: bool,
        overwrite: bool,
        source: Path | None = None,
    ) -> Export:
        """From the options. Raises UsageError for what cannot be written, before any work."""
        if cut is not None:
            from clipsearch.media.clips import check_clip

            check_clip(cut, source=source, overwrite=overwrite)
        if folder is not None and folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file: clips need a folder")
        return cls(cut, folder, seconds(pad, "--pad"), reencode, overwrite)

    @property
    def wanted(self) -> bool:
        """Whether anything is to be cut."""
        return self.cut is not None or self.folder is not None

    def write(
        self, pieces: Sequence[Piece], *, is_current: Callable[[Path], bool] = lambda _: True
    ) -> None:
        """Cut what was asked for, and say on stderr what came of it.

        is_current: whether a video is still the one that was searched. Exits with 1 when anything
        could not be cut.
        """
        if not self.wanted:
            return
        if self.cut is not None:
            for piece in pieces:  # --overwrite must not destroy what is cut next
                check_target(self.cut, inputs=[piece.path], overwrite=True)
        failures = [
            Failure(piece.path, "it changed since it was indexed: index it again")
            for piece in pieces
            if not is_current(piece.path)
        ]
        changed = {failure.path for failure in failures}
        if self.folder is not None:
            made = export_clips(
                [piece for piece in pieces if piece.path not in changed],
                self.folder,
                pad_seconds=self.pad_seconds,
                reencode=self.reencode,
                on_failure=failures.append,
            )
            count = f"{len(made)} clip{'' if len(made) == 1 else 's'}"
            say(f"{count}: {escaped(str(self.folder))}")
        if self.cut is not None:
            failures += self._cut_best(pieces, self.cut, changed)
        for failure in failures:
            say(f"skipping {escaped(str(failure.path))}: {escaped(failure.reason)}")
        if failures:
            raise typer.Exit(EXIT_NOT_CUT)

    def _cut_best(
        self, pieces: Sequence[Piece], target: Path, changed: Container[Path]
    ) -> list[Failure]:
        from clipsearch.media.clips import cut

        best = next((piece for piece in pieces if piece.end is not None), None)
        if best is None or best.start is None or best.end is None:
            return [Failure(target, "nothing was found that could be cut out")]
        if best.path in changed:
            return []  # told already
        start, end = max(best.start - self.pad_seconds, 0.0), best.end + self.pad_seconds
        try:
            clip = cut(
                best.path, start, end, target, reencode=self.reencode, overwrite=self.overwrite
            )
        except MediaError as error:
            return [Failure(best.path, str(error))]
        for note in clip.notes:
            say(f"{escaped(str(target))}: {escaped(note)}")
        say(f"{escaped(str(target))}: seconds {clip.start:.3f} to {clip.end:.3f}")
        return []
