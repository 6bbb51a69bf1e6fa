"""Found units as hits: where they are, when, and what was stored with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clipsearch.search.moments import MOMENT_KINDS, WINDOW_KINDS, Videos
from clipsearch.store.lookup import parse_columns
from clipsearch.store.store import Store
from clipsearch.types import Hit, HitKind, ScoredUnit, UnitKind

PATH_COLUMN = "path"


def hit_of(path: Path, unit: ScoredUnit, videos: Videos, text: str | None) -> Hit:
    """A hit of a unit of a file. videos: has its moment. text: what is said in it."""
    kind, start, end = unit.unit.kind, unit.unit.start_seconds, unit.unit.end_seconds
    moment = None
    if kind in MOMENT_KINDS:
        moment, (start, end) = start, videos.moments[unit.id]
        moment = max(moment or 0.0, start)  # windows of sound are narrowed, see sounds.py
    elif kind in WINDOW_KINDS:
        moment = videos.best_frame(unit)
    return Hit(path, _hit_kind(kind), unit.score, start, end, moment, unit.id, text=text)


def texts_of(store: Store, ids: Sequence[int]) -> dict[int, str]:
    """What subtitles say, by the ids of their units."""
    if not ids:
        return {}
    rows, columns, _ = store.rows(np.array(ids, np.int64))
    found = zip(rows["id"].tolist(), parse_columns(columns), strict=True)
    return {id_: str(values.get("text", "")) for id_, values in found}


def loose_hits(store: Store, units: Sequence[ScoredUnit]) -> list[Hit]:
    """Hits of units that were added as vectors, with their columns."""
    return [hit for hit in loose_or_none(store, units) if hit is not None]


def loose_or_none(store: Store, units: Sequence[ScoredUnit]) -> list[Hit | None]:
    """The same, None for what was removed since."""
    if not units:
        return []
    _, columns, there = store.rows(np.array([unit.id for unit in units], np.int64))
    known = iter(parse_columns(columns))
    hits: list[Hit | None] = []
    for found, is_there in zip(units, there.tolist(), strict=True):
        if not is_there:
            hits.append(None)
            continue
        values, unit = next(known), found.unit
        path = Path(str(values.pop(PATH_COLUMN, "")))
        moment = unit.start_seconds if unit.kind == "frame" else None
        place = (unit.start_seconds, unit.end_seconds, moment)
        hits.append(Hit(path, _hit_kind(unit.kind), found.score, *place, found.id, values))
    return hits


def _hit_kind(kind: UnitKind) -> HitKind:
    return "video" if kind == "pooled" else kind
