"""One vector per window of a video: the parameter-free pooling of CLIP4Clip.

Luo et al., "CLIP4Clip" (arXiv 2104.08860): normalise each frame, mean, normalise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clipsearch.media import windows
from clipsearch.types import EmbeddingBatch, Unit, Vectors

SMALLEST_NORM = 1e-6  # below: frames that cancel out, which have no direction to keep


def mean_pool(frames: Vectors) -> Vectors:
    """(dim,) unit vector of (n, dim) unit rows. Rows that cancel out give the first row."""
    mean = frames.mean(axis=0)
    norm = float(np.linalg.norm(mean))
    pooled: Vectors = (mean / norm if norm > SMALLEST_NORM else frames[0]).astype(np.float32)
    return pooled


def with_windows(
    vectors: Vectors, units: Sequence[Unit], *, window_seconds: float
) -> EmbeddingBatch:
    """The frames of one video, (n, dim) in order of time, followed by its pooled windows.

    A window is a run of frames that lasts at most `window_seconds`, or one frame that is on display
    for longer. Stills come back as they are.
    """
    if not units or units[0].kind != "frame":
        return EmbeddingBatch(vectors, tuple(units))
    pooled, added = [], []
    for window in windows(units, window_seconds=window_seconds):
        pooled.append(mean_pool(vectors[window.first : window.last_exclusive]))
        added.append(Unit("video", window.start_seconds, window.end_seconds))
    return EmbeddingBatch(np.vstack([vectors, *pooled]), (*units, *added))
