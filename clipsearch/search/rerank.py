"""The best videos of a search, scored once more by a head that looks at text and frames together.

Luo et al., "CLIP4Clip" (arXiv 2104.08860), calls this the tight type: its score belongs to a pair,
so no index can rank by it. What an index ranked first is scored again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipsearch.errors import UsageError
from clipsearch.heads.sampling import count_crowded, crowded_notice
from clipsearch.store.lookup import NO_MEDIA
from clipsearch.store.store import Store
from clipsearch.types import Hit, Vectors

if TYPE_CHECKING:
    from clipsearch.heads import Head

CANDIDATES = 50  # below a second of CPU time at 12 frames


@dataclass(frozen=True, slots=True)
class Rerank:
    """Score the `candidates` best videos again with the head in the file `weights`.

    Raises UsageError for fewer candidates than one.
    """

    weights: Path | str
    head: str = "tight"
    candidates: int = CANDIDATES

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise UsageError(f"{self.candidates} candidates: score 1 or more again")


def rerank(
    store: Store,
    hits: Sequence[Hit],
    text: Vectors,
    head: Head,
    *,
    on_notice: Callable[[str], None],
) -> list[Hit]:
    """Videos by the head's score of their window's frames with a text, (dim,) not normalised.

    Best first; equal scores keep the order of `hits`. Vectors that were added without a file have
    no frames and are left out, as are files that were removed since. `on_notice` is told of windows
    with more frames than the head takes.
    """
    from clipsearch.heads.apply import score_videos

    rows, _, there = store.rows(np.array([hit.id for hit in hits], np.int64))
    owners = iter(rows["media_id"].tolist())
    found, frames = [], []
    for hit, is_there in zip(hits, there.tolist(), strict=True):
        owner = next(owners) if is_there else NO_MEDIA
        inside = _frames_inside(store, owner, hit) if owner != NO_MEDIA else None
        if inside is not None:
            found.append(hit)
            frames.append(inside)
    if not found:
        return []
    crowded = count_crowded(map(len, frames), head)
    if crowded:
        on_notice(crowded_notice(crowded, head))
    scores = score_videos(head, text, frames)
    order = np.argsort(-scores, kind="stable")
    return [replace(found[at], score=float(scores[at])) for at in order.tolist()]


def _frames_inside(store: Store, media_id: int, hit: Hit) -> Vectors | None:
    """(frames, dim) raw rows of the frames of a window; None if the file is gone or is another."""
    windows = store.windows(media_id).starts
    at = np.flatnonzero(windows == hit.start)
    if not len(at):
        return None
    run = store.frames(media_id).raw_runs(windows)[int(at[0])]
    return run if len(run) else None
