"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.errors import UsageError

if TYPE_CHECKING:
    from clipsearch.heads.choose import PoolingSpec

EXIT_EMPTY = 1  # nothing was found, and that matters
EXIT_INTERRUPTED = 130

IndexOption = Annotated[
    str | None,
    typer.Option(
        "--index",
        help="Name or path of the index [env: CLIPSEARCH_INDEX; default: indexes/default here or "
        "in the nearest parent folder].",
        show_default=False,
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
PathsOnlyOption = Annotated[
    bool, typer.Option("-f", "--filepath-only", help="Print paths only, each once.")
]
Print0Option = Annotated[
    bool, typer.Option("-0", "--print0", help="Print paths only, ended by zero bytes (xargs -0).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON array.")]
JsonlOption = Annotated[bool, typer.Option("--jsonl", help="Print one JSON object a line.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
NoWaitOption = Annotated[
    bool, typer.Option("--no-wait", help="Fail if another process is writing to the index.")
]
PoolingWeightsOption = Annotated[
    Path | None,
    typer.Option(help="File of a trained head, of `clipsearch train-head` or of CLIP4Clip."),
]
MaxFramesOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Frames of a window that the head takes at most, evenly over its time. "
        "[default: as many as it was trained with]",
    ),
]


def pooling_spec(
    pooling: str | None, weights: Path | None, max_frames: int | None
) -> PoolingSpec | None:
    """What the options ask for; None if they are silent. Raises UsageError."""
    from clipsearch.heads.choose import PoolingSpec

    if pooling is None and (weights is not None or max_frames is not None):
        raise UsageError(
            "--pooling-weights and --max-frames are for a head: name it with --pooling"
        )
    return None if pooling is None else PoolingSpec(pooling, weights, max_frames)
