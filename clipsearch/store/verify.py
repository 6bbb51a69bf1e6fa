"""Read everything an index holds and compare it with what was written; repair what can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from clipsearch.errors import IndexDamagedError
from clipsearch.store.catalog import Catalog
from clipsearch.store.lists import LISTS
from clipsearch.store.lookup import NO_MEDIA, parse_columns
from clipsearch.store.manifest import SEGMENTS, Manifest
from clipsearch.store.merge import live_mask
from clipsearch.store.quantiser import QUANTISERS, SUFFIX, Quantiser, QuantiserFacts
from clipsearch.store.segment import LOOKUP, ROWS, VECTORS, Rows, Segment, file_facts
from clipsearch.store.statements import SegmentEntry
from clipsearch.store.writer import Loss, Writer
from clipsearch.types import UNIT_KINDS, UNIT_NORM_TOLERANCE

BLOCK_ROWS = 32_768
OnStep = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in an index that is not as it was written."""

    path: Path
    what: str
    segment_id: int | None = None  # the segment that needs mending
    quantiser: str | None = None  # the quantiser that must be given up


def verify(
    folder: Path, manifest: Manifest, catalog: Catalog, on_step: OnStep = lambda _: None
) -> Iterator[Problem]:
    """Everything that is wrong with an index whose manifest and catalog can be opened."""
    for reason in catalog.problems():
        yield Problem(catalog.path, reason)
    writer = Writer(folder, manifest, catalog)
    for name in (SEGMENTS, QUANTISERS):
        if (folder / name).is_symlink():
            yield Problem(folder / name, "is a link")
    for facts in writer.quantisers():
        on_step(f"quantiser {facts.name}")
        found = list(_quantiser_problems(folder, manifest, facts))
        yield from found if facts in writer.quantisers() else ()
    seen: dict[int, list[Rows]] = {}
    for entry in catalog.segments():
        on_step(f"segment {entry.name}")
        yield from _settled(folder, manifest, catalog, entry.id, seen)
    for lost in _lost_segments(writer):
        yield Problem(catalog.path, f"has lost the segment {lost}")
    ids = np.concatenate([np.empty(0, np.int64), *(part for own in seen.values() for part in own)])
    if len(np.unique(ids)) < len(ids):
        yield Problem(catalog.path, "gives several rows the same id")
    if len(ids) and ids.max() >= catalog.next_unit_id():
        yield Problem(catalog.path, "would give an id out again: next_unit_id is too small")


def _quantiser_problems(
    folder: Path, manifest: Manifest, facts: QuantiserFacts
) -> Iterator[Problem]:
    path = folder / QUANTISERS / (facts.name + SUFFIX)
    try:
        _ = Quantiser(folder, facts, manifest.dim_of(facts.source)).index
    except FileNotFoundError:
        yield Problem(path, "is missing", quantiser=facts.name)
    except IndexDamagedError as error:
        yield replace(_problem(error, path, None), quantiser=facts.name)


def _settled(
    folder: Path, manifest: Manifest, catalog: Catalog, segment_id: int, seen: dict[int, list[Rows]]
) -> list[Problem]:
    """The problems of a segment that are none of a change that came in between."""
    entry = _entry(catalog, segment_id)
    while entry is not None:
        seen[segment_id] = []
        try:
            problems = list(_segment_problems(folder, manifest, catalog, entry, seen[segment_id]))
        except FileNotFoundError as error:  # at any step: a merge deletes what it replaces
            problems = [Problem(Path(error.filename), "is missing", entry.id)]
        before, entry = entry, _entry(catalog, segment_id)
        if not problems or entry == before:  # whatever happened to other segments
            return problems
    seen[segment_id] = []  # merged away
    return []


def _entry(catalog: Catalog, segment_id: int) -> SegmentEntry | None:
    return next((entry for entry in catalog.segments() if entry.id == segment_id), None)


def repair(writer: Writer, problems: list[Problem]) -> list[Loss]:
    """Write damaged segments anew from what is left of them and give damaged quantisers up.

    Returns what each damaged segment lost; mostly nothing.
    """
    bad = {problem.quantiser for problem in problems if problem.quantiser}
    writer.forget_quantisers(bad)
    losses = []
    wanted = {problem.segment_id: problem for problem in reversed(problems)}
    for entry in writer.catalog.segments():
        problem = wanted.get(entry.id)
        if problem is not None:
            reason = f"{problem.path} {problem.what}"
            losses.append(writer.rebuild(entry, reason, accept_loss=True))
    writer.sweep(accept_loss=True)
    return losses + writer.losses


def _lost_segments(writer: Writer) -> list[Path]:
    try:
        return list(writer.forgotten())
    except (IndexDamagedError, FileNotFoundError):
        return []  # a segment that cannot be opened was named already


def _segment_problems(
    folder: Path, manifest: Manifest, catalog: Catalog, entry: SegmentEntry, seen: list[Rows]
) -> Iterator[Problem]:
    place = folder / SEGMENTS / entry.name

    def problem(name: str, what: str) -> Problem:
        return Problem(place / name if name else place, what, entry.id)

    try:
        segment = Writer(folder, manifest, catalog).open(entry)
    except IndexDamagedError as error:
        yield _problem(error, place, entry.id)
        return
    damaged = False
    for name, facts in segment.facts["files"].items():
        if file_facts(place / name) != facts:
            damaged = True
            yield problem(name, "is damaged: its checksum differs from the one written")
    if damaged:
        return
    if segment.row_count != entry.row_count:
        yield problem("", f"has {segment.row_count} rows, the catalog says {entry.row_count}")
        return
    try:
        yield from (problem(name, what) for name, what in _row_problems(segment, seen))
        if segment.lists is not None:
            yield from (problem(LISTS, what) for what in _list_problems(segment))
    except IndexDamagedError as error:
        yield _problem(error, place, entry.id)
        return
    yield from (problem(LOOKUP, what) for what in _range_problems(segment, entry, catalog))


def _row_problems(segment: Segment, seen: list[Rows]) -> Iterator[tuple[str, str]]:
    """Rows that fit their checksums but cannot be right."""
    sums = np.zeros_like(segment.sums)
    for first in range(0, segment.row_count, BLOCK_ROWS):
        count = min(BLOCK_ROWS, segment.row_count - first)
        vectors = segment.vectors(first, count).astype(np.float32)
        norms = np.linalg.norm(vectors, axis=1)
        bad = np.flatnonzero(~(np.abs(norms - 1) <= 2 * UNIT_NORM_TOLERANCE))
        if bad.size:
            yield VECTORS, f"has a row of norm {norms[bad[0]]:.4g}, row {first + bad[0]}"
        rows = segment.rows(first, count)
        parse_columns(segment.columns(rows))
        seen.append(rows["id"].copy())
        for number in np.unique(rows["kind"]).tolist():
            if number < len(UNIT_KINDS):
                sums[number] += vectors[rows["kind"] == number].sum(axis=0)
    if not np.allclose(sums, segment.sums, atol=1e-2 * max(1, segment.row_count) ** 0.5):
        yield "sums.npy", "does not add up"
    for number, kind in enumerate(UNIT_KINDS):
        block = slice(*segment.blocks[kind])
        rows = segment.rows(block.start, block.stop - block.start)
        if (rows["kind"] != number).any():
            yield LOOKUP, f"has rows of another kind among those of kind {kind}"
        if segment.version > 1 and (np.diff(rows["id"]) <= 0).any():
            yield LOOKUP, f"has ids out of order among those of kind {kind}"
    from clipsearch.store.rows import read_rows

    if segment.version > 1:
        table = read_rows(segment.folder / ROWS, segment.row_count)
        if (table["id"].to_numpy() != segment.rows(0, segment.row_count)["id"]).any():
            yield ROWS, "has other ids than lookup.npy"


def _list_problems(segment: Segment) -> Iterator[str]:
    lists = segment.lists
    assert lists is not None, "only called for segments with lists"
    held = [lists.members(number) for number in range(len(lists.table))]
    if (np.sort(np.concatenate(held)) != np.arange(segment.row_count)).any():
        yield "does not hold each row once"


def _range_problems(segment: Segment, entry: SegmentEntry, catalog: Catalog) -> Iterator[str]:
    """Whether the catalog and the rows agree on what is whose, and every row on live or dead."""
    alive = live_mask(segment.row_count, entry.dead)
    if entry.dead_rows != segment.row_count - int(alive.sum()):
        yield "is called dead twice by the catalog in some rows"
    rows = segment.rows(0, segment.row_count)
    owners, kinds = rows["media_id"], rows["kind"]
    claimed = owners == NO_MEDIA
    for part in catalog.ranges_in(entry.id):
        for item in part:
            mine = slice(item.first_row, item.first_row + item.row_count)
            if item.first_row < 0 or mine.stop > segment.row_count:
                yield f"does not have the rows {mine.start} to {mine.stop} of media {item.media_id}"
            elif (owners[mine] != item.media_id).any():
                yield f"gives rows of media {item.media_id} to another"
            elif (kinds[mine] != UNIT_KINDS.index(item.kind)).any():
                yield f"has rows of media {item.media_id} of another kind than {item.kind}"
            elif claimed[mine].any() or not alive[mine].all():
                yield f"has rows of media {item.media_id} that are dead or another's too"
            else:
                claimed[mine] = True
    if (alive & ~claimed).any():
        yield "has live rows that the catalog gives to no file"


def _problem(error: IndexDamagedError, place: Path, segment_id: int | None) -> Problem:
    """The error, with its file apart from what is wrong with it."""
    path = error.file or place
    what = str(error).removeprefix(str(path)).removesuffix(": run `clipsearch repair`")
    return Problem(path, what.strip(), segment_id)
