"""Where the rows of encoded files go in the new segment of a source: by kind, then by file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import numpy as np

from clipsearch.store.lookup import lookup_rows, rounded_norms, set_norms
from clipsearch.store.segment import Piece
from clipsearch.types import KINDS_OF, EncodedMedia, Norms, Source, Unit, UnitKind, Vectors


def layout_of(media: Sequence[EncodedMedia]) -> list[dict[UnitKind, tuple[int, int]]]:
    """Where each file's rows of each kind lie in the segment of the kind's source."""
    layout: list[dict[UnitKind, tuple[int, int]]] = [{} for _ in media]
    for source, kinds in KINDS_OF.items():
        cursor = 0
        for kind in kinds:
            for own, item in zip(layout, media, strict=True):
                count = sum(unit.kind == kind for unit in _units(item, source))
                if count:
                    own[kind] = (cursor, count)
                    cursor += count
    return layout


def row_count(media: Sequence[EncodedMedia], source: Source) -> int:
    """How many rows of a source files have."""
    return sum(len(_units(item, source)) for item in media)


def _units(item: EncodedMedia, source: Source) -> tuple[Unit, ...]:
    batch = item.batches.get(source)
    return batch.units if batch else ()


def as_stored(vectors: Vectors, norms: Norms) -> Vectors:
    """(n, dim) rows as the encoder gave them, from unit rows and norms, rounded as the store rounds
    both: what is computed from these can be computed again from what the store has, to the bit.
    """
    kept: Vectors = vectors.astype(np.float16).astype(np.float32)
    return kept * rounded_norms(norms)[:, None]


def pieces_of(
    media: Sequence[EncodedMedia], ids: Sequence[int], unit_id: int, source: Source
) -> Iterator[Piece]:
    """The rows of one source themselves; unit ids count up from `unit_id`."""
    for kind in KINDS_OF[source]:
        vectors, norms, owners, units = [], [], [], []
        for media_id, item in zip(ids, media, strict=True):
            batch = item.batches.get(source)
            if batch is None:
                continue
            mine = [i for i, unit in enumerate(batch.units) if unit.kind == kind]
            if not mine:
                continue
            vectors.append(batch.vectors[mine])
            unknown = np.full(len(mine), np.nan, np.float32)
            norms.append(unknown if batch.norms is None else batch.norms[mine])
            owners += [media_id] * len(mine)
            units += [batch.units[i] for i in mine]
        if units:
            rows = lookup_rows(unit_id, owners, units)
            set_norms(rows, np.concatenate(norms))
            unit_id += len(units)
            columns = unit_columns(units)
            yield Piece(kind, np.concatenate(vectors).astype(np.float16), rows, columns)


def unit_columns(units: Sequence[Unit]) -> list[bytes]:
    """JSON of what units have besides times: empty, or one for each unit, b"" for none."""
    columns = [_columns(unit) for unit in units]
    return columns if any(columns) else []


def _columns(unit: Unit) -> bytes:
    values: dict[str, str | float] = {}
    if unit.text is not None:
        values["text"] = unit.text
    if unit.padding_seconds:
        values["padding_seconds"] = unit.padding_seconds
    return json.dumps(values, ensure_ascii=False).encode() if values else b""
