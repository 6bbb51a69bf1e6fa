"""Pictures, and windows of videos, that are stored more than once or nearly so.

Two are joined where the cosine of their vectors reaches a threshold, and a group is a connected
component: what is joined by way of others is of one group. Each is compared with each while there
are SCANNED_ROWS or fewer; beyond that with its nearest by the vector index.

Windows of one video that follow each other, each like the next, as where nothing moves, are one
member and no repetition. Groups of windows that follow each other in the same videos are one group:
a copy of a video is one, however long it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from clipsearch.errors import UsageError
from clipsearch.search.alike import Joined, groups_of, join_all
from clipsearch.search.compared import Compared
from clipsearch.search.hits import loose_hits
from clipsearch.store.lookup import NO_MEDIA, scored_units
from clipsearch.store.selection import Selection
from clipsearch.store.store import Store
from clipsearch.types import DuplicateGroup, Hit, HitKind, StoredMedia, UnitKind

KINDS: tuple[UnitKind, ...] = ("image", "video")
THRESHOLDS = {"builtin": 0.98}  # joins 1 in 1,200 pairs of faces: benchmarks/duplicates.py
OTHER_THRESHOLD = 0.96  # not measured here; CLIP tells pictures of one thing apart better
SCANNED_ROWS = 200_000  # minutes on two cores
ASKED_AT_ONCE = 256

Done = Callable[[int, int], None]  # rows done, rows there are


@dataclass(frozen=True, slots=True)
class DuplicateSpec:
    """What is compared, and the least cosine of duplicates. Raises UsageError."""

    threshold: float
    kinds: tuple[UnitKind, ...] = KINDS
    selection: Selection | None = None

    def __post_init__(self) -> None:
        check_threshold(self.threshold)

    @classmethod
    def of(
        cls, threshold: float, kind: str | Iterable[str] | None, selection: Selection | None
    ) -> DuplicateSpec:
        """From arguments of `Index.duplicates`. Raises UsageError."""
        kinds = KINDS if kind is None else ((kind,) if isinstance(kind, str) else tuple(kind))
        unknown = [name for name in kinds if name not in KINDS]
        if unknown or not kinds:
            given = ", ".join(map(repr, unknown)) or "none"
            raise UsageError(f"duplicates of kind {given}: use {' or '.join(KINDS)}")
        return cls(threshold, cast(tuple[UnitKind, ...], tuple(dict.fromkeys(kinds))), selection)


def check_threshold(threshold: float) -> None:
    """Raise UsageError unless it is a cosine above 0."""
    if not 0 < threshold <= 1:  # NaN neither
        raise UsageError(f"threshold {threshold}: use a cosine above 0, up to 1")


def default_threshold(model: str | None) -> float:
    """The least cosine of near-copies by the model's spec; None: vectors made elsewhere."""
    family = (model or "").partition(":")[0]
    return THRESHOLDS.get(family, OTHER_THRESHOLD)


def find_duplicates(
    store: Store, spec: DuplicateSpec, *, on_progress: Done = lambda *_: None
) -> list[DuplicateGroup]:
    """The groups of units with a cosine of `spec.threshold` or more to another of their kind.

    The first member of a group is of the file with the most pixels, of several the largest, of
    equal ones the oldest; the others follow by their likeness to it. Groups whose least similar
    members are most alike come first, of equal ones the larger.
    """
    groups: list[DuplicateGroup] = []
    for kind in spec.kinds:
        compared = Compared(store, kind, spec.selection)
        runs = compared.runs(spec.threshold)
        joined = Joined(len(np.unique(runs)))
        if len(compared) <= SCANNED_ROWS:
            join_all(joined, runs, compared.block, spec.threshold, on_progress)
        else:
            for first in range(0, len(compared), ASKED_AT_ONCE):
                numbers = np.arange(first, min(first + ASKED_AT_ONCE, len(compared)))
                compared.join_nearest(joined, runs, numbers, spec.threshold)
                on_progress(int(numbers[-1]) + 1, len(compared))
        firsts = np.searchsorted(runs, np.arange(len(joined.labels) + 1))
        found = [[_Part(*firsts[[i, i + 1]].tolist()) for i in g] for g in groups_of(joined)]
        groups += _Shown(store, compared, found).groups()
    return sorted(groups, key=_order)


def _order(group: DuplicateGroup) -> tuple[float, int, str, float]:
    least = min(hit.score for hit in group.members)
    first = group.members[0]
    return -round(least, 4), -len(group.members), str(first.path), first.start or 0.0


@dataclass(frozen=True, slots=True)
class _Part:
    """Neighbouring rows of one file, [first, end)."""

    first: int
    end: int


class _Shown:
    """Groups of parts of files as hits."""

    def __init__(self, store: Store, compared: Compared, groups: Sequence[list[_Part]]) -> None:
        self._store, self._compared = store, compared
        ids = {int(compared.media[part.first]) for group in groups for part in group}
        self._media = store.catalog.media(ids - {NO_MEDIA})
        self._groups = [sorted(group, key=self._rank) for group in groups]

    def groups(self) -> list[DuplicateGroup]:
        """With the files that have nothing of their own; no files that were removed since."""
        shown = [self._members(pieces) for pieces in self._merged()]
        shown = [members for members in shown if len(members) > 1]
        spare = self._spare_files() | self._spare_pictures(shown)
        return [
            DuplicateGroup(members, tuple({m.path: m for m in members if m.path in spare}))
            for members in shown
        ]

    def _owner(self, part: _Part) -> StoredMedia | None:
        return self._media.get(int(self._compared.media[part.first]))

    def _rank(self, part: _Part) -> tuple[int, int, int, str, int]:
        """Ascending, what is rather kept first."""
        media = self._owner(part)
        if media is None:
            return 0, 0, 0, "", part.first
        pixels = media.info.width * media.info.height if media.info else 0
        facts = -pixels, -media.size_bytes, media.modified_ns
        return *facts, str(media.path), part.first

    def _merged(self) -> list[list[list[_Part]]]:
        """Groups that follow each other in the same different files, as one list of groups each."""
        merged: list[list[list[_Part]]] = []
        following: dict[tuple[int, ...], list[list[_Part]]] = {}
        for group in sorted(self._groups, key=lambda group: group[0].first):
            media = [int(self._compared.media[part.first]) for part in group]
            known = following.pop(tuple(part.first for part in group), None)
            before = [int(self._compared.media[part.first]) for part in known[-1]] if known else []
            if known is None or before != media or len(set(media)) < len(media):
                known = []
                merged.append(known)
            known.append(group)
            if NO_MEDIA not in media:
                following[tuple(part.end for part in group)] = known
        return merged

    def _members(self, pieces: Sequence[Sequence[_Part]]) -> tuple[Hit, ...]:
        """One hit for each place in the groups, over the time of all of them."""
        hits: list[Hit] = []
        for at, part in enumerate(pieces[0]):
            score = min(self._cosine(group[0], group[at]) for group in pieces) if at else 1.0
            rows = self._compared.rows(np.array([part.first, pieces[-1][at].end - 1]))
            [unit] = scored_units(rows[:1], np.array([score], np.float32))
            if unit.unit.kind == "video":
                last = float(rows["end_seconds"][1])
                unit = replace(unit, unit=replace(unit.unit, end_seconds=last))
            place, owner = unit.unit, self._owner(part)
            start, end = place.start_seconds, place.end_seconds
            if unit.media_id == NO_MEDIA:
                hits += loose_hits(self._store, [unit])
            elif owner is not None:  # else removed since the snapshot was taken
                kind: HitKind = "image" if place.kind == "image" else "video"
                hits.append(Hit(owner.path, kind, unit.score, start, end, start, unit.id))
        return (*hits[:1], *sorted(hits[1:], key=lambda hit: -hit.score))

    def _cosine(self, one: _Part, other: _Part) -> float:
        """Of the two rows that are most alike."""
        vectors = [self._compared.block(part.first, part.end) for part in (one, other)]
        return min(1.0, float((vectors[0] @ vectors[1].T).max()))

    def _spare_files(self) -> set[Path]:
        """Files of which every row is in a group behind the first, so that a file that is none of
        these has it too.
        """
        behind: dict[int, int] = {}
        replaced: dict[tuple[int, int], bool] = {}
        for first, part in ((group[0], part) for group in self._groups for part in group[1:]):
            both = int(self._compared.media[first.first]), int(self._compared.media[part.first])
            if both not in replaced:
                replaced[both] = _replaces(self._owner(first), self._owner(part))
            if replaced[both]:
                behind[both[1]] = behind.get(both[1], 0) + part.end - part.first
        ids, counts = np.unique(self._compared.media, return_counts=True)
        whole = dict(zip(ids.tolist(), counts.tolist(), strict=True))
        return {self._media[i].path for i, rows in behind.items() if rows == whole[i]}

    def _spare_pictures(self, shown: Sequence[Sequence[Hit]]) -> set[Path]:
        """Paths of pictures that were added as vectors, where none is the first of a group."""
        known = {media.path for media in self._media.values()}
        kept = {members[0].path for members in shown}
        behind = {hit.path for members in shown for hit in members[1:] if hit.kind == "image"}
        return behind - kept - known - {Path()}


def _replaces(first: StoredMedia | None, other: StoredMedia | None) -> bool:
    """Whether a file may go where another has the same: that one is as it was indexed, and is not
    the same file by way of a link.
    """
    if first is None or other is None or first.id == other.id:
        return False
    try:
        facts = first.path.stat()
    except OSError:
        return not os.path.lexists(other.path)  # both are away
    is_as_indexed = (facts.st_size, facts.st_mtime_ns) == (first.size_bytes, first.modified_ns)
    return is_as_indexed and os.path.realpath(first.path) != os.path.realpath(other.path)
