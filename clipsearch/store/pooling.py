"""Windows of videos pooled by a trained head: which head, and putting its rows in the index.

The rows of kind "pooled" of an index all come from one head. Its facts are kept in the catalog, in
the transaction that enters the rows, so that a reader never takes one head's rows for another's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from clipsearch.store.lookup import Lookup, lookup_rows
from clipsearch.store.segment import Piece
from clipsearch.types import Unit, Vectors, check_unit_rows

SETTING = "pooling"
PIECE_ROWS = 8192


@dataclass(frozen=True, slots=True)
class PoolingFacts:
    """The head whose rows an index has beside those of the mean."""

    name: str  # a pooling: seqlstm, seqtransf
    fingerprint: str  # of the head's weights
    weights: str  # the file they were read from, absolute
    weights_from_index: str  # the same, relative to the index: survives moving both together
    max_frames: int | None  # that it was told to take at most; None: as the file says

    @classmethod
    def of(
        cls, name: str, fingerprint: str, weights: Path, *, max_frames: int | None, index: Path
    ) -> PoolingFacts:
        """The facts of a head in a file, for the index in a folder; both paths absolute."""
        beside = Path(os.path.relpath(weights, index)).as_posix()
        return cls(name, fingerprint, str(weights), beside, max_frames)

    def file(self, index: Path) -> Path:
        """Where the weights are: as recorded, or beside the index when both were moved."""
        beside = Path(os.path.normpath(index / self.weights_from_index))
        recorded = Path(self.weights)
        return beside if beside.exists() and not recorded.exists() else recorded


@dataclass(frozen=True, slots=True)
class PooledWindows:
    """The windows of one file, in order of time, with a (windows, dim) unit row for each.

    Raises UsageError for rows that are not of unit length, NaN among them.
    """

    media_id: int
    windows: tuple[tuple[float, float], ...]  # seconds, [start, end)
    vectors: Vectors

    def __post_init__(self) -> None:
        check_unit_rows(self.vectors)


def dump_facts(facts: PoolingFacts | None) -> str:
    """What the catalog keeps; "" for no head."""
    return "" if facts is None else json.dumps(asdict(facts), sort_keys=True)


def parse_facts(text: str) -> PoolingFacts | None:
    """The reverse of `dump_facts`. Raises ValueError, KeyError or TypeError for anything else."""
    if not text:
        return None
    facts = PoolingFacts(**json.loads(text))
    texts = (facts.name, facts.fingerprint, facts.weights, facts.weights_from_index)
    if not all(type(value) is str for value in texts):
        raise ValueError(f"the pooling is {facts}")
    if facts.max_frames is not None and type(facts.max_frames) is not int:
        raise ValueError(f"the pooling is {facts}")
    return facts


class PooledRows:
    """Pieces of a new segment from windows as they come, and which rows are whose.

    `ranges` is complete when `pieces` has been read to its end.
    """

    def __init__(self, pooled: Iterable[PooledWindows], first_id: int) -> None:
        self._pooled, self._first_id = pooled, first_id
        self.ranges: dict[int, tuple[int, int]] = {}  # media id → first row, count

    def pieces(self) -> Iterator[Piece]:
        """The rows, those of several files at a time: each piece is a row group of rows.parquet."""
        cursor, written, vectors, rows = 0, 0, [], []
        for item in self._pooled:
            count = len(item.windows)
            if not count:
                continue
            self.ranges[item.media_id] = (cursor, count)
            vectors.append(item.vectors.astype(np.float16))
            rows.append(self._rows(item, cursor))
            cursor += count
            if cursor - written >= PIECE_ROWS:
                yield Piece("pooled", np.concatenate(vectors), np.concatenate(rows))
                written, vectors, rows = cursor, [], []
        if rows:
            yield Piece("pooled", np.concatenate(vectors), np.concatenate(rows))

    def _rows(self, item: PooledWindows, cursor: int) -> Lookup:
        units = [Unit("pooled", start, end) for start, end in item.windows]
        return lookup_rows(self._first_id + cursor, [item.media_id] * len(units), units)
