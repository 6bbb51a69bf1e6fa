"""Which frames of a video a head sees when there are more than it takes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import UsageError

if TYPE_CHECKING:
    from clipsearch.heads.modules import Head


def sampled(count: int, most: int) -> NDArray[np.int64]:
    """Positions of at most `most` of `count` frames, evenly from the first to the last.

    All of them if they are no more; else as CLIP4Clip's authors choose, who round down.
    """
    if count < 0 or most < 1:
        raise UsageError(f"{most} of {count} frames: use at least 1 of 0 or more")
    if count <= most:
        return np.arange(count, dtype=np.int64)
    return np.linspace(0, count - 1, most, dtype=np.int64)


def count_crowded(frames: Iterable[int], head: Head) -> int:
    """How many windows, of so many frames each, have more than a head takes."""
    most = head.max_frames
    return 0 if most is None else sum(count > most for count in frames)


def crowded_notice(count: int, head: Head) -> str:
    """What a user should know when `count` windows were too long for a head."""
    return (
        f"windows with more frames than the {head.max_frames} that the head takes: {count}; of "
        f"each it saw {head.max_frames}, evenly over its time"
    )
