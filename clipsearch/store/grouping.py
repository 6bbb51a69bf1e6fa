"""Which segments become one, and what compaction would do: decisions on numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from clipsearch.store.quantiser import QuantiserFacts
from clipsearch.store.recipes import IndexRecipe
from clipsearch.store.statements import SegmentEntry
from clipsearch.types import Source

# Log-structured merging: eight segments of one size class become one of the next, so a store of n
# rows has O(log n) segments and each row is copied O(log n) times.
MERGE_FACTOR = 8
SMALLEST_CLASS_ROWS = 512
LARGEST_SEGMENT_ROWS = 5_000_000  # making the lists of one takes 0.2 KB of memory a row


@dataclass(frozen=True, slots=True)
class Plan:
    """What compaction would do: the recipe for the live rows, and whether a quantiser is due."""

    recipe: IndexRecipe
    rows: int
    current: QuantiserFacts | None
    retrain: bool


def groups(entries: Sequence[SegmentEntry]) -> Iterator[list[SegmentEntry]]:
    """What compaction makes one segment of: neighbours, of up to LARGEST_SEGMENT_ROWS."""
    group: list[SegmentEntry] = []
    rows = 0
    for entry in entries:
        if group and rows + entry.live_rows > LARGEST_SEGMENT_ROWS:
            yield group
            group, rows = [], 0
        group.append(entry)
        rows += entry.live_rows
    if group:
        yield group


def due_merges(entries: Sequence[SegmentEntry]) -> Iterator[list[SegmentEntry]]:
    """Segments of one source and size class, when there are enough of them."""
    classes: dict[tuple[Source, int], list[SegmentEntry]] = {}
    for entry in entries:
        size = max(1.0, entry.live_rows / SMALLEST_CLASS_ROWS)
        size_class = int(math.log(size, MERGE_FACTOR))
        classes.setdefault((entry.source, size_class), []).append(entry)
    for group in classes.values():
        rows = sum(entry.live_rows for entry in group)
        if len(group) >= MERGE_FACTOR and rows <= LARGEST_SEGMENT_ROWS:
            yield group
