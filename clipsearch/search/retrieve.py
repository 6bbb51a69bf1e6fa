"""A query vector to ranked hits: candidates, adjacent frames as one moment, one hit a video.

What a search looks for, by kind:

    image   stills
    frame   moments of videos: runs of neighbouring frames, with their best frame
    video   whole videos, by their best window's pooled vector
    span    the seconds of videos that stand out (clipsearch.search.whole)
    audio   moments of sound: runs of neighbouring windows, with their best one
    text    subtitles
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import UsageError
from clipsearch.search.sounds import heard_around
from clipsearch.search.subtitled import owners
from clipsearch.store.lookup import NO_MEDIA, Curve, parse_columns
from clipsearch.store.store import Store
from clipsearch.types import (
    HIT_KINDS,
    SOURCE_OF,
    SOURCES,
    UNIT_KINDS,
    Hit,
    HitKind,
    ScoredUnit,
    Source,
    UnitKind,
    Vectors,
)

PATH_COLUMN = "path"
WINDOW_KINDS: tuple[UnitKind, ...] = ("video", "pooled")
DEFAULT_KINDS: dict[Source, tuple[HitKind, ...]] = {
    "visual": ("image", "frame"),
    "audio": ("audio",),
    "text": ("text",),
}
MOMENT_KINDS: tuple[UnitKind, ...] = ("frame", "audio")  # neighbouring units are one hit
MERGE_GAP_SECONDS = 4.0
FIRST_CANDIDATES_PER_HIT = 8  # several frames usually share one moment
MORE_CANDIDATES = 4  # factor, while merging leaves too few hits


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """How many hits of which kinds, at least how good, and how frames merge into moments.

    Raises UsageError for values out of range.
    """

    top: int = 10
    kinds: tuple[HitKind, ...] = DEFAULT_KINDS["visual"]
    min_score: float = -1.0
    merge_gap_seconds: float = MERGE_GAP_SECONDS
    exact: bool = False
    windows: UnitKind = "video"  # what stands for whole videos: "video", or "pooled" by a head

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UsageError(f"top {self.top}: ask for 1 hit or more")
        if not self.merge_gap_seconds >= 0:
            raise UsageError(f"merge gap {self.merge_gap_seconds}: use 0 seconds or more")
        if math.isnan(self.min_score):
            raise UsageError("least score nan: use a cosine, -1 to 1")
        unknown = [kind for kind in self.kinds if kind not in HIT_KINDS]
        if unknown or not self.kinds:
            given = ", ".join(map(repr, unknown)) or "none"
            raise UsageError(f"kind {given}: use some of {', '.join(HIT_KINDS)}")
        object.__setattr__(self, "kinds", tuple(dict.fromkeys(self.kinds)))


def wanted_kinds(
    store: Store, kind: str | Iterable[str] | None, source: str | None, *, vector: bool
) -> dict[Source, tuple[HitKind, ...]]:
    """What is looked for, by source: some kinds, those of one source, or by default all that the
    index has; a vector is looked for among what is seen.

    Raises UsageError for kinds and sources that there are not, or that the index does not have.
    """
    if source not in (None, *SOURCES):
        raise UsageError(f"source {source!r}: use one of {', '.join(SOURCES)}")
    there = store.sources()  # looks at what was published since, and so at the manifest
    if kind is None:
        settled = {"audio": store.manifest.audio is not None, "text": store.manifest.texts}
        there = tuple(s for s in there if settled.get(s, True))
        has: tuple[Source, ...] = ("visual",) if vector else ("visual", *there)
        chosen = cast(Source, source)
        wanted = {s: DEFAULT_KINDS[s] for s in SOURCES if s in ((chosen,) if source else has)}
    else:
        kinds = (kind,) if isinstance(kind, str) else tuple(kind)
        spec = SearchSpec(kinds=cast(tuple[HitKind, ...], kinds))  # checks them
        wanted = {}
        for one in spec.kinds:
            own: Source = "visual" if one == "span" else SOURCE_OF[one]
            if source in (None, own):
                wanted[own] = (*wanted.get(own, ()), one)
        if not wanted:
            raise UsageError(f"nothing of kind {', '.join(kinds)} is of the source {source}")
    if "audio" in wanted and store.manifest.audio is None:
        raise UsageError("this index has no sound: index with --audio or --audio-model")
    if "text" in wanted and not store.manifest.texts:
        raise UsageError("this index has no subtitles: index with --subtitles")
    return wanted


def unit_kinds(spec: SearchSpec) -> tuple[UnitKind, ...]:
    """The kinds of single vectors that stand for what is looked for."""
    wanted = [spec.windows if kind == "video" else kind for kind in spec.kinds]
    return tuple(kind for kind in UNIT_KINDS if kind in wanted)


def retrieve(store: Store, query: Vectors, spec: SearchSpec) -> list[Hit]:
    """The `spec.top` best images, moments and videos for a (1, dim) unit row, best first.

    Fewer come back only when the index has no more that score `spec.min_score`.
    """
    videos = _Videos(store, query, spec)
    wanted = spec.top * FIRST_CANDIDATES_PER_HIT
    while True:
        kinds = unit_kinds(spec)
        found = store.search(query, k=wanted, kinds=kinds, exact=spec.exact)[0]
        good = [unit for unit in found if unit.score >= spec.min_score]
        chosen = _choose(good, videos, spec.top)
        if len(chosen) == spec.top or len(found) < wanted or len(good) < len(found):
            return _hits(store, chosen, videos)
        wanted *= MORE_CANDIDATES


def _choose(units: Iterable[ScoredUnit], videos: _Videos, top: int) -> list[ScoredUnit]:
    """The first `top` of the ranked units that are not part of a better hit."""
    chosen: list[ScoredUnit] = []
    best_windows: set[int] = set()
    videos.forget_moments()
    for unit in units:
        if len(chosen) == top:
            break
        if unit.media_id == NO_MEDIA:
            pass  # no file, so no neighbours
        elif unit.unit.kind in MOMENT_KINDS:
            if not videos.open_moment(unit):
                continue
        elif unit.unit.kind in WINDOW_KINDS:
            if unit.media_id in best_windows:
                continue
            best_windows.add(unit.media_id)
        chosen.append(unit)
    return chosen


def _hits(store: Store, chosen: Sequence[ScoredUnit], videos: _Videos) -> list[Hit]:
    media = store.catalog.media(unit.media_id for unit in chosen)
    films = owners(store.catalog, media.values())
    texts = _texts(store, [unit.id for unit in chosen if unit.unit.kind == "text"])
    hits = []
    for unit in chosen:
        owner, kind = media.get(unit.media_id), unit.unit.kind
        if unit.media_id == NO_MEDIA:
            hits += loose_hits(store, [unit])
            continue
        if owner is None:
            continue  # removed since the snapshot was taken
        start, end, moment = unit.unit.start_seconds, unit.unit.end_seconds, None
        if kind in MOMENT_KINDS:
            moment, (start, end) = start, videos.moments[unit.id]
            moment = max(moment or 0.0, start)  # windows of sound are narrowed, see sounds.py
        elif kind in WINDOW_KINDS:
            moment = videos.best_frame(unit)
        path = films.get(owner.id, owner).path
        place, text = (start, end, moment), texts.get(unit.id)
        hits.append(Hit(path, _hit_kind(kind), unit.score, *place, unit.id, text=text))
    return hits


def _texts(store: Store, ids: Sequence[int]) -> dict[int, str]:
    """What subtitles say, by the ids of their units."""
    if not ids:
        return {}
    rows, columns, _ = store.rows(np.array(ids, np.int64))
    found = zip(rows["id"].tolist(), parse_columns(columns), strict=True)
    return {id_: str(values.get("text", "")) for id_, values in found}


def loose_hits(store: Store, units: Sequence[ScoredUnit]) -> list[Hit]:
    """Hits of units that were added as vectors, with their columns."""
    _, columns, there = store.rows(np.array([unit.id for unit in units], np.int64))
    kept = [unit for unit, is_there in zip(units, there.tolist(), strict=True) if is_there]
    hits = []
    for found, values in zip(kept, parse_columns(columns), strict=True):
        path, unit = Path(str(values.pop(PATH_COLUMN, ""))), found.unit
        moment = unit.start_seconds if unit.kind == "frame" else None
        place = (unit.start_seconds, unit.end_seconds, moment)
        hits.append(Hit(path, _hit_kind(unit.kind), found.score, *place, found.id, values))
    return hits


def _hit_kind(kind: UnitKind) -> HitKind:
    return "video" if kind == "pooled" else kind


class _Videos:
    """The score curves of the videos that have hits, and the moments found on them."""

    def __init__(self, store: Store, query: Vectors, spec: SearchSpec) -> None:
        self._store, self._query, self._gap = store, query, spec.merge_gap_seconds
        typical = [kind for kind in unit_kinds(spec) if kind not in WINDOW_KINDS]
        self._typical = store.mean_score(query, typical)
        self._curves: dict[tuple[int, UnitKind], Curve] = {}
        self._taken: dict[tuple[int, UnitKind], NDArray[np.bool_]] = {}  # that are of a moment
        self.moments: dict[int, tuple[float, float]] = {}  # id of the best frame → start, end

    def forget_moments(self) -> None:
        """Start over, keeping the curves."""
        self._taken, self.moments = {}, {}

    def open_moment(self, peak: ScoredUnit) -> bool:
        """Make a moment of a frame, or a window of sound, that is the best of those left; False if
        it is in one already.

        The moment is the run of frames around the peak that score at least half as far above the
        collection's mean as the peak does, with gaps of at most the merge gap: its width at half
        maximum. Frames that near the run are part of it and open no moments of their own. In sound
        such a run is narrowed to what all its windows share (clipsearch.search.sounds).
        """
        kind = peak.unit.kind
        curve = self._curve(peak.media_id, kind)
        taken = self._taken.setdefault((peak.media_id, kind), np.zeros(len(curve.ids), np.bool_))
        at = int(np.searchsorted(curve.ids, peak.id))
        if at == len(curve.ids) or curve.ids[at] != peak.id or taken[at]:
            return False
        least = (peak.score + self._typical) / 2
        high = np.flatnonzero((curve.scores >= least) & ~taken)
        high = np.union1d(high, [at])
        breaks = curve.starts[high[1:]] - curve.ends[high[:-1]] > self._gap
        run = np.concatenate([[0], np.cumsum(breaks)])
        mine = high[run == run[np.searchsorted(high, at)]]
        start, end = float(curve.starts[mine[0]]), float(curve.ends[mine[-1]])
        taken |= (curve.starts <= end + self._gap) & (curve.ends >= start - self._gap)
        self.moments[peak.id] = start, end
        if kind == "audio":
            self.moments[peak.id] = heard_around(curve, at, least)
        return True

    def best_frame(self, window: ScoredUnit) -> float:
        """Where in a window the best matching frame starts, in seconds."""
        start, end = window.unit.start_seconds, window.unit.end_seconds
        assert start is not None, "windows have times"
        assert end is not None, "windows have times"
        curve = self._curve(window.media_id, "frame")
        inside = (curve.starts >= start) & (curve.starts < end)
        if not inside.any():
            return start
        return float(curve.starts[np.argmax(np.where(inside, curve.scores, -np.inf))])

    def _curve(self, media_id: int, kind: UnitKind) -> Curve:
        if (media_id, kind) not in self._curves:
            self._curves[media_id, kind] = self._store.curve(self._query, media_id, kind)
        return self._curves[media_id, kind]
