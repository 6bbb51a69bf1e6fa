"""`--cut` and `--export-clips`: what was found, as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from clipsearch.errors import MediaError, UsageError
from clipsearch.interfaces.clips import MANIFEST_FILE, Piece, export_clips
from clipsearch.interfaces.console import escaped, say
from clipsearch.interfaces.durations import seconds
from clipsearch.types import Failure

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
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Let --cut replace a file that exists.")
]


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
        cls, cut: Path | None, folder: Path | None, pad: str, *, reencode: bool, overwrite: bool
    ) -> Export:
        """From the options. Raises UsageError for a length that is none."""
        return cls(cut, folder, seconds(pad, "--pad"), reencode, overwrite)

    def write(self, pieces: Sequence[Piece]) -> int:
        """Cut what was asked for, and say on stderr what came of it; how many could not be cut."""
        failures: list[Failure] = []
        if self.cut is not None:
            self._cut_best(pieces, self.cut)
        if self.folder is not None:
            made = export_clips(
                pieces,
                self.folder,
                pad_seconds=self.pad_seconds,
                reencode=self.reencode,
                on_failure=failures.append,
            )
            for failure in failures:
                say(f"skipping {escaped(str(failure.path))}: {escaped(failure.reason)}")
            say(f"{len(made)} clips: {escaped(str(self.folder))}")
        return len(failures)

    def _cut_best(self, pieces: Sequence[Piece], target: Path) -> None:
        from clipsearch.media.clips import cut

        best = next((piece for piece in pieces if piece.end is not None), None)
        if best is None or best.start is None or best.end is None:
            raise UsageError(f"nothing was found to cut into {target}")
        start, end = max(best.start - self.pad_seconds, 0.0), best.end + self.pad_seconds
        try:
            clip = cut(
                best.path, start, end, target, reencode=self.reencode, overwrite=self.overwrite
            )
        except MediaError as error:
            raise MediaError(f"{best.path}: {error}") from error
        for note in clip.notes:
            say(f"{escaped(str(target))}: {escaped(note)}")
        say(f"{escaped(str(target))}: seconds {clip.start:.3f} to {clip.end:.3f}")
