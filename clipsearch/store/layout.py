"""Where the rows of encoded files go in a new segment: by kind, then by file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from clipsearch.store.lookup import lookup_rows
from clipsearch.store.segment import Piece
from clipsearch.types import UNIT_KINDS, EncodedMedia, UnitKind


def layout_of(media: Sequence[EncodedMedia]) -> list[dict[UnitKind, tuple[int, int]]]:
    """Where each file's rows of each kind lie: sorted by kind, then by file."""
    layout: list[dict[UnitKind, tuple[int, int]]] = [{} for _ in media]
    cursor = 0
    for kind in UNIT_KINDS:
        for own, item in zip(layout, media, strict=True):
            count = sum(unit.kind == kind for unit in item.batch.units)
            if count:
                own[kind] = (cursor, count)
                cursor += count
    return layout


def pieces_of(media: Sequence[EncodedMedia], ids: Sequence[int], unit_id: int) -> Iterator[Piece]:
    """The rows themselves; unit ids count up from `unit_id`."""
    for kind in UNIT_KINDS:
        vectors, owners, units = [], [], []
        for media_id, item in zip(ids, media, strict=True):
            mine = [i for i, unit in enumerate(item.batch.units) if unit.kind == kind]
            vectors.append(item.batch.vectors[mine])
            owners += [media_id] * len(mine)
            units += [item.batch.units[i] for i in mine]
        if units:
            rows = lookup_rows(unit_id, owners, units)
            unit_id += len(units)
            yield Piece(kind, np.concatenate(vectors).astype(np.float16), rows)
