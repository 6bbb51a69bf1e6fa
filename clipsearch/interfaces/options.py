"""Options that several commands have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.errors import UsageError

if TYPE_CHECKING:
    from clipsearch.heads.choose import PoolingSpec

EXIT_EMPTY = 1  # nothing was found, and that matters
EXIT_SKIPPED = 4  # --strict: not all could be done
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

TopOption = Annotated[int, typer.Option("-t", "--top", "-k", min=1, help="Hits to print.")]
KindOption = Annotated[
    list[str] | None,
    typer.Option(
        help="image, frame (moments of videos), video (whole videos), span (the seconds of "
        "videos that stand out), audio (moments of sound) or text (subtitles); may be "
        "repeated. [default: image, frame, audio and text; for pictures and frames the first two]"
    ),
]
SourceOption = Annotated[
    str | None, typer.Option(help="Only what is seen (visual), heard (audio) or said (text).")
]
MinScoreOption = Annotated[
    float,
    typer.Option(
        help="Least relevance of a hit, 0 to 1: the chance that six unrelated texts, drawn at "
        "random, all score lower in this index."
    ),
]
MinCosineOption = Annotated[float, typer.Option(help="Least cosine of a hit.")]
MergeGapOption = Annotated[
    float,
    typer.Option(
        min=0.0, help="Frames, and windows of sound, at most so many seconds apart are one hit."
    ),
]
PoolingOption = Annotated[
    str | None,
    typer.Option(
        help="Whole videos by the vectors of this pooling: mean, or the index's head. "
        "[default: the head if there is one]"
    ),
]
ExactOption = Annotated[
    bool,
    typer.Option(
        "--exact",
        help="Scan every vector, for spans every video, instead of probing the index.",
    ),
]
DedupeOption = Annotated[
    bool,
    typer.Option("--dedupe", help="Leave out hits that are nearly the same as a better one."),
]
DedupeThresholdOption = Annotated[
    float | None,
    typer.Option(
        help="--dedupe with this least cosine of two that are the same. "
        "[default: as measured for the model]"
    ),
]
PromptsOption = Annotated[
    str,
    typer.Option(
        help="Put words into sentences and take the mean: none, simple (7, such as 'a bad photo "
        "of the …') or imagenet (80). For what is seen."
    ),
]
FailEmptyOption = Annotated[
    bool, typer.Option("--fail-empty", help="Exit with 1 if nothing was found.")
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


def dedupe_of(
    wanted: bool, threshold: float | None, terms: Sequence[str] | None = None
) -> bool | float:
    """What `Index.search` takes for `--dedupe` and `--dedupe-threshold`.

    Raises UsageError for a threshold that stands behind `--dedupe`, where it would be words.
    """
    for term in (terms or ()) if wanted else ():
        if re.fullmatch(r"0?\.[0-9]+", term):
            raise UsageError(f"{term}: a threshold goes behind --dedupe-threshold")
    return wanted if threshold is None else threshold
