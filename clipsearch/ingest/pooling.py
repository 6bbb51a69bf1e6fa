"""One vector per window of a video: the parameter-free pooling of CLIP4Clip, and a head's.

Luo et al., "CLIP4Clip" (arXiv 2104.08860): normalise each frame, mean, normalise. What a trained
head (clipsearch.heads) makes of the same window is kept beside that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from clipsearch.encoders.values import unit_rows
from clipsearch.heads.sampling import count_crowded
from clipsearch.media import windows
from clipsearch.store.layout import as_stored
from clipsearch.types import EmbeddingBatch, Norms, Unit, Vectors

if TYPE_CHECKING:
    from clipsearch.heads import Head

SMALLEST_NORM = 1e-6  # below: frames that cancel out, which have no direction to keep


def mean_pool(frames: Vectors) -> Vectors:
    """(dim,) unit vector of (n, dim) unit rows. Rows that cancel out give the first row."""
    mean = frames.mean(axis=0)
    norm = float(np.linalg.norm(mean))
    pooled: Vectors = (mean / norm if norm > SMALLEST_NORM else frames[0]).astype(np.float32)
    return pooled


def with_norms(raw: Vectors) -> tuple[Vectors, Norms]:
    """(n, dim) unit rows of what an encoder gave, and (n,) its lengths."""
    return unit_rows(raw), np.linalg.norm(raw.astype(np.float64), axis=1).astype(np.float32)


def with_windows(
    vectors: Vectors,
    norms: Norms,
    units: Sequence[Unit],
    *,
    window_seconds: float,
    head: Head | None = None,
) -> EmbeddingBatch:
    """The frames of one video, (n, dim) in order of time, followed by its pooled windows, those of
    the mean and then, if there is one, those of a head.

    A window is a run of frames that lasts at most `window_seconds`, or one frame that is on display
    for longer. Stills come back as they are.
    """
    if not units or units[0].kind != "frame":
        return EmbeddingBatch(vectors, tuple(units), norms)
    found = windows(units, window_seconds=window_seconds)
    runs = [slice(window.first, window.last_exclusive) for window in found]
    times = [(window.start_seconds, window.end_seconds) for window in found]
    rows = [vectors, *(mean_pool(vectors[run]) for run in runs)]
    added = [Unit("video", *time) for time in times]
    if head is not None:
        raw = as_stored(vectors, norms)
        rows.append(pool(head, [raw[run] for run in runs]))
        added += [Unit("pooled", *time) for time in times]
    unknown = np.full(len(added), np.nan, np.float32)
    return EmbeddingBatch(np.vstack(rows), (*units, *added), np.concatenate([norms, unknown]))


def pool(head: Head, frames: Sequence[Vectors]) -> Vectors:
    """(n, dim) unit rows that a head makes of n windows, (frames, dim) as stored each."""
    from clipsearch.heads import apply

    pooled: Vectors = apply.pool(head, frames)
    return pooled


def crowded_windows(units: Sequence[Unit], *, window_seconds: float, head: Head) -> int:
    """How many windows of a video have more frames than a head takes: it sees some, evenly."""
    if not units or units[0].kind != "frame":
        return 0
    found = windows(units, window_seconds=window_seconds)
    return count_crowded((window.last_exclusive - window.first for window in found), head)
