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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from clipsearch.errors import UsageError
from clipsearch.search.dedupe import Distinct, StoredRows
from clipsearch.search.hits import hit_of, loose_or_none, texts_of
from clipsearch.search.moments import MOMENT_KINDS, WINDOW_KINDS, Videos
from clipsearch.search.subtitled import owners
from clipsearch.store.lookup import NO_MEDIA
from clipsearch.store.selection import Selection
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

DEFAULT_KINDS: dict[Source, tuple[HitKind, ...]] = {
    "visual": ("image", "frame"),
    "audio": ("audio",),
    "text": ("text",),
}
MERGE_GAP_SECONDS = 4.0
FIRST_CANDIDATES_PER_HIT = 8  # several frames usually share one moment
MORE_CANDIDATES = 4  # factor, while merging leaves too few hits


@dataclass(frozen=True, slots=True)
class SearchSpec:
    """How many hits of which kinds, at least how good, and how frames merge into moments.

    bars: the least cosine by kind of unit, where it is above `min_cosine`; a span's is that of
    frames. selection: which rows may be hits; None: all. dedupe: the least cosine of a hit to a
    better one that makes it the same, and none of its own.

    Raises UsageError for values out of range.
    """

    top: int = 10
    kinds: tuple[HitKind, ...] = DEFAULT_KINDS["visual"]
    min_cosine: float = -1.0
    merge_gap_seconds: float = MERGE_GAP_SECONDS
    exact: bool = False
    windows: UnitKind = "video"  # what stands for whole videos: "video", or "pooled" by a head
    selection: Selection | None = None
    bars: Mapping[UnitKind, float] = field(default_factory=dict)
    dedupe: float | None = None

    def __post_init__(self) -> None:
        if self.top < 1:
            raise UsageError(f"top {self.top}: ask for 1 hit or more")
        if not self.merge_gap_seconds >= 0:
            raise UsageError(f"merge gap {self.merge_gap_seconds}: use 0 seconds or more")
        if math.isnan(self.min_cosine):
            raise UsageError("least cosine nan: use -1 to 1")
        unknown = [kind for kind in self.kinds if kind not in HIT_KINDS]
        if unknown or not self.kinds:
            given = ", ".join(map(repr, unknown)) or "none"
            raise UsageError(f"kind {given}: use some of {', '.join(HIT_KINDS)}")
        object.__setattr__(self, "kinds", tuple(dict.fromkeys(self.kinds)))

    def least(self, kind: UnitKind) -> float:
        """The least cosine of a unit of this kind."""
        return max(self.min_cosine, self.bars.get(kind, -1.0))


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


def span_kinds(spec: SearchSpec) -> tuple[UnitKind, ...]:
    """The same, with the frames that spans are made of."""
    kinds = unit_kinds(spec)
    return (*kinds, "frame") if "span" in spec.kinds and "frame" not in kinds else kinds


def retrieve(store: Store, query: Vectors, spec: SearchSpec) -> list[Hit]:
    """The `spec.top` best images, moments and videos for a (1, dim) unit row, best first.

    Fewer come back only when the index has no more that `spec` lets through.
    """
    return retrieve_each(store, query, [spec])[0]


def retrieve_each(store: Store, queries: Vectors, specs: Sequence[SearchSpec]) -> list[list[Hit]]:
    """The same for (m, dim) unit rows, searched together as far as their selections are the same.

    The m specs differ in their selections and bars alone.
    """
    if not specs:
        return []
    kinds, wanted = unit_kinds(specs[0]), specs[0].top * FIRST_CANDIDATES_PER_HIT
    pairs = zip(np.split(queries, len(specs)), specs, strict=True)
    asked = [_Asked(store, query, kinds, spec) for query, spec in pairs]
    waiting = asked
    while waiting:
        for selection in dict.fromkeys(one.spec.selection for one in waiting):
            group = [one for one in waiting if one.spec.selection == selection]
            rows = np.concatenate([one.query for one in group])
            found = store.search(
                rows, k=wanted, kinds=kinds, exact=specs[0].exact, selection=selection
            )
            for one, units in zip(group, found, strict=True):
                one.choose(units, wanted)
        waiting = [one for one in waiting if not one.settled]
        wanted *= MORE_CANDIDATES
    return _hits(store, asked)


class _Asked:
    """One query: what was found for it so far."""

    def __init__(
        self, store: Store, query: Vectors, kinds: tuple[UnitKind, ...], spec: SearchSpec
    ) -> None:
        self.query, self.spec = query, spec
        self.videos = Videos(store, query, kinds, spec.merge_gap_seconds)
        self.chosen: list[ScoredUnit] = []
        self.settled = False
        self._lowest = min(spec.least(kind) for kind in kinds)
        self._stored = StoredRows(store, SOURCE_OF[kinds[0]])

    def choose(self, units: Sequence[ScoredUnit], wanted: int) -> None:
        """Take hits from the best units, `wanted` of them or all that there are."""
        good = [unit for unit in units if unit.score >= self.spec.least(unit.unit.kind)]
        self.chosen = []
        self.videos.forget_moments()
        best_windows: set[int] = set()
        distinct = None if self.spec.dedupe is None else Distinct(self.spec.dedupe)
        for at, unit in enumerate(good):
            if len(self.chosen) == self.spec.top:
                break
            if not self._opens(unit, best_windows):
                continue
            if distinct is not None and not distinct.admit(self._stored.row(good, at)):
                continue
            self.chosen.append(unit)
        low = bool(units) and units[-1].score < self._lowest
        self.settled = len(self.chosen) == self.spec.top or len(units) < wanted or low

    def _opens(self, unit: ScoredUnit, best_windows: set[int]) -> bool:
        """Whether a unit is no part of a better hit."""
        if unit.media_id == NO_MEDIA:
            return True  # no file, so no neighbours
        if unit.unit.kind in MOMENT_KINDS:
            return self.videos.open_moment(unit)
        if unit.unit.kind in WINDOW_KINDS:
            known = unit.media_id in best_windows
            best_windows.add(unit.media_id)
            return not known
        return True


def _hits(store: Store, asked: Sequence[_Asked]) -> list[list[Hit]]:
    every = [unit for one in asked for unit in one.chosen]
    media = store.catalog.media({unit.media_id for unit in every} - {NO_MEDIA})
    films = owners(store.catalog, media.values())
    texts = texts_of(store, sorted({unit.id for unit in every if unit.unit.kind == "text"}))
    loose = iter(loose_or_none(store, [unit for unit in every if unit.media_id == NO_MEDIA]))
    results = []
    for one in asked:
        hits: list[Hit | None] = []
        for unit in one.chosen:
            owner = media.get(unit.media_id)
            if unit.media_id == NO_MEDIA:
                hits.append(next(loose))
            elif owner is not None:  # else removed since the snapshot was taken
                path = films.get(owner.id, owner).path
                hits.append(hit_of(path, unit, one.videos, texts.get(unit.id)))
        results.append([hit for hit in hits if hit is not None])
    return results
