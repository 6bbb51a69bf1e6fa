"""Where the rows of encoded files go in a new segment: by kind, then by file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from clipsearch.store.lookup import lookup_rows, rounded_norms, set_norms
from clipsearch.store.segment import Piece
from clipsearch.types import UNIT_KINDS, EncodedMedia, Norms, UnitKind, Vectors


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


def as_stored(vectors: Vectors, norms: Norms) -> Vectors:
    """(n, dim) rows as the encoder gave them, from unit rows and norms, rounded as the store rounds
    both: what is computed from these can be computed again from what the store has, to the bit.
    """
    kept: Vectors = vectors.astype(np.float16).astype(np.float32)
    return kept * rounded_norms(norms)[:, None]


def pieces_of(media: Sequence[EncodedMedia], ids: Sequence[int], unit_id: int) -> Iterator[Piece]:
    """The rows themselves; unit ids count up from `unit_id`."""
    for kind in UNIT_KINDS:
        vectors, norms, owners, units = [], [], [], []
        for media_id, item in zip(ids, media, strict=True):
            batch = item.batch
            mine = [i for i, unit in enumerate(batch.units) if unit.kind == kind]
            vectors.append(batch.vectors[mine])
            unknown = np.full(len(mine), np.nan, np.float32)
            norms.append(unknown if batch.norms is None else batch.norms[mine])
            owners += [media_id] * len(mine)
            units += [batch.units[i] for i in mine]
        if units:
            rows = lookup_rows(unit_id, owners, units)
            set_norms(rows, np.concatenate(norms))
            unit_id += len(units)
            yield Piece(kind, np.concatenate(vectors).astype(np.float16), rows)
