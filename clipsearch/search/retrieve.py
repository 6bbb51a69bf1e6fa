"""A query vector to ranked hits: candidates, adjacent frames as one moment, one hit a video.

What a search looks for, by kind:

    image   stills
    frame   moments of videos: runs of neighbouring frames, with their best frame
    video   whole videos, by their best window's pooled vector
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from clipsearch.errors import UsageError
from clipsearch.store.store import Store
from clipsearch.types import UNIT_KINDS, Hit, ScoredUnit, UnitKind, Vectors

DEFAULT_KINDS: tuple[UnitKind, ...] = ("image", "frame")
MERGE_GAP_SECONDS = 4.0
FIRST_CANDIDATES_PER_HIT = 8  # several frames usually share one moment
MORE_CANDIDATES = 4  # factor, while merging leaves too few hits


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """How many hits of which kinds, at least how good, and how frames merge into moments.

    Raises UsageError for values out of range.
    """

    top: int = 10
    kinds: tuple[UnitKind, ...] = DEFAULT_KINDS
    min_score: float = -1.0
    merge_gap_seconds: float = MERGE_GAP_SECONDS
    exact: bool = False

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UsageError(f"top {self.top}: ask for 1 hit or more")
        if not self.merge_gap_seconds >= 0:
            raise UsageError(f"merge gap {self.merge_gap_seconds}: use 0 seconds or more")
        if math.isnan(self.min_score):
            raise UsageError("least score nan: use a cosine, -1 to 1")
        unknown = [kind for kind in self.kinds if kind not in UNIT_KINDS]
        if unknown or not self.kinds:
            given = ", ".join(map(repr, unknown)) or "none"
            raise UsageError(f"kind {given}: use some of {', '.join(UNIT_KINDS)}")


@dataclass(slots=True)
class _Moment:
    """A hit in the making; `best` is its best unit."""

    best: ScoredUnit
    start: float | None
    end: float | None


def retrieve(store: Store, query: Vectors, spec: SearchSpec) -> list[Hit]:
    """The `spec.top` best hits for a (1, dim) unit row, best first.

    Fewer come back only when the index has no more that score `spec.min_score`.
    """
    typical = store.mean_score(query, [kind for kind in spec.kinds if kind != "video"] or ["video"])
    wanted = spec.top * FIRST_CANDIDATES_PER_HIT
    while True:
        found = store.search(query, k=wanted, kinds=spec.kinds, exact=spec.exact)[0]
        good = [unit for unit in found if unit.score >= spec.min_score]
        moments = _merge(good, spec.merge_gap_seconds, typical_score=typical)
        exhausted = len(found) < wanted or len(good) < len(found)
        if exhausted or len(moments) > spec.top:
            return _hits(store, query, moments[: spec.top])
        wanted *= MORE_CANDIDATES


def _merge(units: Iterable[ScoredUnit], gap: float, *, typical_score: float) -> list[_Moment]:
    """Candidates, best first, to moments, best first.

    The best frame of a moment opens it. A worse frame of the same video within `gap` seconds of
    it joins, and widens it if it scores at least half as far above `typical_score` as the best
    one does (the moment's width at half maximum). Of the windows of a video the best one stays.
    """
    moments: list[_Moment] = []
    of_media: dict[tuple[int, UnitKind], list[_Moment]] = {}
    for unit in units:
        siblings = of_media.setdefault((unit.media_id, unit.unit.kind), [])
        if siblings and (unit.unit.kind != "frame" or _joins(siblings, unit, gap, typical_score)):
            continue
        moment = _Moment(unit, unit.unit.start_seconds, unit.unit.end_seconds)
        moments.append(moment)
        siblings.append(moment)
    swallowed = {id(m) for siblings in of_media.values() for m in _fuse(siblings, gap)}
    return [moment for moment in moments if id(moment) not in swallowed]


def _fuse(moments: Sequence[_Moment], gap: float) -> list[_Moment]:
    """Join the moments of one video that have grown together into the best of each run; returns
    those that are no hits of their own any more.
    """
    swallowed = []
    in_time = sorted((m for m in moments if m.start is not None), key=lambda m: m.start or 0.0)
    last: _Moment | None = None
    for moment in in_time:
        assert moment.start is not None, "only timed moments are fused"
        assert moment.end is not None, "units with a start have an end"
        if last is None or last.end is None or moment.start > last.end + gap:
            last = moment
            continue
        keep, drop = (last, moment) if last.best.score >= moment.best.score else (moment, last)
        start, end = min(last.start or 0.0, moment.start), max(last.end, moment.end)
        keep.start, keep.end = start, end
        swallowed.append(drop)
        last = keep
    return swallowed


def _joins(moments: Sequence[_Moment], unit: ScoredUnit, gap: float, typical_score: float) -> bool:
    start, end = unit.unit.start_seconds, unit.unit.end_seconds
    assert start is not None, "frames have times"
    assert end is not None, "frames have times"
    for moment in moments:
        assert moment.start is not None, "frames have times"
        assert moment.end is not None, "frames have times"
        if start <= moment.end + gap and end >= moment.start - gap:
            if unit.score >= (moment.best.score + typical_score) / 2:
                moment.start, moment.end = min(moment.start, start), max(moment.end, end)
            return True
    return False


def _hits(store: Store, query: Vectors, moments: Sequence[_Moment]) -> list[Hit]:
    media = store.catalog.media(moment.best.media_id for moment in moments)
    hits = []
    for moment in moments:
        best, owner = moment.best, media.get(moment.best.media_id)
        if owner is None:
            continue  # removed since the snapshot was taken
        at = best.unit.start_seconds
        if best.unit.kind == "video":
            at = _best_frame(store, query, best)
        hits.append(Hit(owner.path, best.unit.kind, best.score, moment.start, moment.end, at))
    return hits


def _best_frame(store: Store, query: Vectors, window: ScoredUnit) -> float | None:
    """Where in a window the frame that matches best starts."""
    start, end = window.unit.start_seconds, window.unit.end_seconds
    assert start is not None, "windows have times"
    assert end is not None, "windows have times"
    frames = [
        frame
        for frame in store.scored_units(query, window.media_id, "frame")
        if frame.unit.start_seconds is not None and start <= frame.unit.start_seconds < end
    ]
    best = max(frames, key=lambda frame: frame.score, default=None)
    return best.unit.start_seconds if best else start
