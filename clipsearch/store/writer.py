"""The one writer of a store: publishes segments, merges small ones, trains the quantiser."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import IndexDamagedError, UsageError
from clipsearch.store.arrays import PageBudget
from clipsearch.store.catalog import Catalog
from clipsearch.store.changing import (
    StoppedError,
    alone,
    never,
    until,
    where_there_is_room,
)
from clipsearch.store.gpu import Gpu
from clipsearch.store.grouping import Plan, due_merges, groups
from clipsearch.store.layout import layout_of, pieces_of, row_count
from clipsearch.store.lookup import NO_MEDIA, Lookup
from clipsearch.store.manifest import SEGMENTS, Manifest, sync_folder
from clipsearch.store.merge import Merge, MergePart, live_mask, live_rows, runs_of
from clipsearch.store.pooling import PooledRows, PooledWindows, PoolingFacts
from clipsearch.store.quantiser import (
    QUANTISERS,
    Quantiser,
    QuantiserFacts,
    dump_facts,
    train,
)
from clipsearch.store.recipes import (
    AUTO,
    RETRAIN_GROWTH,
    SCANNED_ROWS,
    SMALLEST_TRAINING_ROWS,
    IndexRecipe,
    choose_recipe,
    get_recipe,
    training_rows,
)
from clipsearch.store.salvage import salvage, stored_ids
from clipsearch.store.segment import SEGMENT_VERSION, Piece, Segment, open_segment, write_segment
from clipsearch.store.statements import POOLED, NewMedia, NewSegment, SegmentEntry
from clipsearch.types import (
    SOURCES,
    UNIT_KINDS,
    EncodedMedia,
    FoundFile,
    Source,
    Stop,
)

DAMAGED = "damaged"  # what a repair gave up, for people to look into
TEMPORARY = ".tmp"

UNPOOLED = "videos go by their mean now: `clipsearch repool` makes the rows of a head anew"
TIDIED_ROWS = 600_000  # hashing and syncing so many, which cannot be given up, takes a second
DEAD_SHARE = 0.5  # a segment with more dead rows is written anew


@dataclass(frozen=True, slots=True)
class Loss:
    """What could not be saved of a damaged segment."""

    reason: str  # names the file
    files: int  # media that must be read again
    vectors: int  # rows that were added as vectors, and are gone
    pooled: bool = False  # whether the rows of the index's head were given up


class Writer:
    """What may change a store. Made by `Store.writing`, which holds the lock. Safe to share between
    threads, which wait for each other; a merge may take seconds.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, catalog: Catalog, gpu: Gpu | None = None
    ) -> None:
        """gpu: trains quantisers, if there is one."""
        self._folder, self._manifest, self.catalog = folder, manifest, catalog
        self._gpu = gpu
        self._budget = PageBudget()
        self._opened: dict[str, Quantiser] = {}
        self.losses: list[Loss] = []  # what `sweep` found damaged, for the user

    def follow(self, manifest: Manifest) -> None:
        """Go on by a manifest that was changed meanwhile."""
        self._manifest = manifest

    @alone
    def sweep(self, *, accept_loss: bool = False) -> None:
        """Save what is left of segments that cannot be opened any more; then remove what an
        interrupted writer left behind: folders that the catalog does not know.

        Raises IndexDamagedError when vectors would be lost that no file can bring back, unless
        `accept_loss`.
        """
        for name in (SEGMENTS, QUANTISERS, DAMAGED):  # what a link leads to is not ours to delete
            if (self._folder / name).is_symlink():
                raise IndexDamagedError(f"{self._folder / name} is a link", self._folder / name)
        (self._folder / SEGMENTS).mkdir(exist_ok=True)
        self._keep_quantisers([facts for facts in self.quantisers() if self._is_there(facts)])
        for entry in self.catalog.segments():
            try:
                self.open(entry)
            except IndexDamagedError as error:
                self.losses.append(self.rebuild(entry, str(error), accept_loss=accept_loss))
            except FileNotFoundError as error:
                reason = f"{error.filename} is missing"
                self.losses.append(self.rebuild(entry, reason, accept_loss=accept_loss))
        self._clear_segments()
        used = {self.open(entry).facts.get("quantiser") for entry in self.catalog.segments()}
        last = {facts.source: facts for facts in self.quantisers()}
        kept = [
            facts
            for facts in self.quantisers()
            if facts.name in used or facts == last[facts.source]
        ]
        self._keep_quantisers(kept)
        for file in (self._folder / QUANTISERS).glob("*"):
            if file.stem not in {facts.name for facts in kept}:
                _remove(file)

    def _clear_segments(self) -> None:
        """Delete folders of segments that are unfinished or were replaced. One that is whole but
        was never published is put aside: the catalog may have lost its newest transactions.

        Raises IndexDamagedError for one that was published for certain.
        """
        for folder in self.forgotten():
            raise IndexDamagedError(
                f"the catalog {self.catalog.path} has lost the segment {folder}: put the catalog "
                "back from a copy, or move that folder away to go on without its vectors",
                self.catalog.path,
            )
        known = {entry.name for entry in self.catalog.segments()}
        retired = self.catalog.retired()
        next_id = self.catalog.next_unit_id()
        for folder in (self._folder / SEGMENTS).iterdir():
            whole = folder.suffix != TEMPORARY and folder.name not in {*known, *retired}
            if whole and (stored_ids(folder) >= next_id).any():
                (self._folder / DAMAGED).mkdir(exist_ok=True)
                folder.rename(self._folder / DAMAGED / folder.name)
            elif folder.name not in known:
                _remove(folder)
        if retired:
            self.catalog.set_setting("retired", "[]")

    def forgotten(self) -> Iterator[Path]:
        """Folders of segments that hold published rows but are not in the catalog.

        What an interrupted publication left has ids that were not given yet, what an interrupted
        merge left has rows of segments that are still there.
        """
        # In this order nothing looks forgotten that another process publishes or merges meanwhile.
        folders = sorted((self._folder / SEGMENTS).glob("*"))
        next_id = self.catalog.next_unit_id()
        entries = self.catalog.segments()
        known = {*self.catalog.retired(), *(entry.name for entry in entries)}
        for folder in folders:
            if folder.name in known or folder.suffix == TEMPORARY:
                continue
            ids = stored_ids(folder)
            missing = ids[ids < next_id]
            for entry in entries:
                missing = missing[self.open(entry).find(missing) < 0]
            if len(missing):
                yield folder

    @alone
    def publish(self, media: Sequence[EncodedMedia]) -> None:
        """Make files searchable: one new segment a source, one catalog transaction.

        A file that is known already is replaced, but for the sources that it keeps. All of this is
        visible at once or not at all.
        """
        if not media:
            return
        ids, unit_id = self.catalog.ids_for([item.file for item in media])
        segments = []
        for source in SOURCES:
            rows = row_count(media, source)
            if rows:
                segments.append(self._write(pieces_of(media, ids, unit_id, source), rows, source))
                unit_id += rows
        next_id = self.catalog.next_media_id()
        entries = [
            NewMedia(
                id_, item.file, item.content_hash, item.info, item.trouble, own,
                read=tuple(item.batches), kept=item.kept if id_ < next_id else (),
            )
            for id_, item, own in zip(ids, media, layout_of(media), strict=True)
        ]  # fmt: skip
        self.catalog.add_segments(segments, entries)

    @alone
    def publish_vectors(
        self, vectors: NDArray[np.float16], rows: Lookup, columns: Sequence[bytes]
    ) -> NDArray[np.int64]:
        """Make (n, dim) unit rows searchable that belong to no file; their ids.

        rows: kinds, times and frame numbers. columns: JSON for each. One segment, one transaction.
        """
        _, first_id = self.catalog.ids_for([])
        ids = np.arange(first_id, first_id + len(rows))
        rows = rows.copy()
        rows["id"], rows["media_id"] = ids, NO_MEDIA
        pieces = []
        for number, kind in enumerate(UNIT_KINDS):
            mine = np.flatnonzero(rows["kind"] == number)
            if len(mine):
                own = [columns[at] for at in mine.tolist()]
                pieces.append(Piece(kind, vectors[mine], rows[mine], own))
        self.catalog.add_segments([self._write(iter(pieces), len(rows), "visual")])
        return ids

    @alone
    def remove_vectors(self, ids: NDArray[np.int64]) -> int:
        """Make rows dead that were added as vectors; how many there were.

        Raises UsageError, and changes nothing, if an id is that of a file's row.
        """
        dead: dict[int, list[tuple[int, int]]] = {}
        count = 0
        for entry in self.catalog.segments():
            segment = self.open(entry)
            rows = np.unique(segment.find(ids))
            rows = rows[rows >= 0]
            for first, size in entry.dead:
                rows = rows[(rows < first) | (rows >= first + size)]
            found = segment.take_rows(rows)
            of_files = found["media_id"] != NO_MEDIA
            if of_files.any():
                raise UsageError(
                    f"id {found['id'][of_files][0]} is of an indexed file: remove the file, "
                    "then index its folder again"
                )
            if len(rows):
                dead[entry.id] = runs_of(rows)
                count += len(rows)
        if dead:
            self.catalog.kill_rows(dead)
        return count

    @alone
    def publish_pooled(
        self, facts: PoolingFacts | None, pooled: Iterable[PooledWindows], count: int
    ) -> None:
        """Put the rows of a head in the place of those of any other: one segment of `count`
        rows and one transaction. None and no rows take them away.
        """
        rows = PooledRows(pooled, self.catalog.next_unit_id())
        segment = self._write(rows.pieces(), count, "visual") if count else None
        self.catalog.replace_pooled(facts, segment, rows.ranges)

    @alone
    def put_failure(
        self,
        file: FoundFile,
        content_hash: str,
        reason: str,
        read: tuple[Source, ...] = ("visual",),
    ) -> None:
        """Remember that this content cannot be read; what was indexed of the file is dropped."""
        ids, _ = self.catalog.ids_for([file])
        self.catalog.put_failure(NewMedia(ids[0], file, content_hash, None, reason, {}, read))

    @alone
    def maintain(self) -> None:
        """Merge small segments, write those with many dead rows anew, and make lists where they are
        missing.

        With a recipe that was chosen by hand, train its quantiser once there are rows enough. A
        disk that is too full for that is left to the next time: everything is published already.
        """
        with where_there_is_room():
            self._maintain()

    @alone
    def tidy(self, stop: Stop = never) -> None:
        """Merge small segments between publications: no large ones, and without lists, so that it
        takes seconds at most. `maintain` does the rest at the end.

        stop: asked often; when it says so, the merge in progress is given up.
        """
        with where_there_is_room(), suppress(StoppedError):
            for group in due_merges(self.catalog.segments()):
                if sum(entry.live_rows for entry in group) <= TIDIED_ROWS:
                    self._merge(group, None, stop)

    def _maintain(self) -> None:
        wish = self._manifest.recipe
        for source in self.sources():
            if wish != AUTO and get_recipe(wish).has_ann and not self.quantisers(source):
                rows = sum(entry.live_rows for entry in self._entries(source))
                if rows >= SMALLEST_TRAINING_ROWS:
                    self.compact(memory=0)
                    return
        for group in due_merges(self.catalog.segments()):
            self._merge(group, self._current(group[0].source))
        for entry in self.catalog.segments():
            if entry.dead_rows > entry.row_count * DEAD_SHARE or self._lacks_lists(entry):
                self._merge([entry], self._current(entry.source))

    def _entries(self, source: Source) -> list[SegmentEntry]:
        return [entry for entry in self.catalog.segments() if entry.source == source]

    def sources(self) -> list[Source]:
        """Those with segments or quantisers, and the one that every index has."""
        used = {entry.source for entry in self.catalog.segments()} | {"visual"}
        used |= {facts.source for facts in self.quantisers()}
        return [source for source in SOURCES if source in used]

    def plan(self, memory: int, source: Source = "visual") -> Plan:
        """What `compact` would do for a source on a machine with so many bytes of memory."""
        entries = self._entries(source)
        rows = sum(entry.live_rows for entry in entries)
        wish = self._manifest.recipe
        dim = self._manifest.dim_of(source)
        name = choose_recipe(rows, dim, memory) if wish == AUTO else wish
        recipe = get_recipe(name)
        trained = self.quantisers(source)  # once: another process may compact meanwhile
        current = trained[-1] if trained else None
        retrain = (
            recipe.has_ann
            and rows >= SMALLEST_TRAINING_ROWS
            and (current is None or current.recipe != name or rows >= RETRAIN_GROWTH * current.rows)
        )
        return Plan(recipe, rows, current, retrain)

    @alone
    def compact(
        self, *, memory: int, retrain: bool = False, on_step: Callable[[str], None] = lambda _: None
    ) -> None:
        """Merge segments into few large ones without dead rows, each in a transaction of its own.

        Changes the recipe when the rows or the wish call for another, and trains a quantiser anew
        when there are RETRAIN_GROWTH times the rows it was trained for: for each source its own.
        Nothing is encoded anew. Readers go on with what they have; an interrupted run keeps the
        groups that it finished.
        """
        for source in self.sources():
            self._compact(source, self.plan(memory, source), retrain, on_step)
        self.sweep()

    def _compact(
        self, source: Source, plan: Plan, retrain: bool, on_step: Callable[[str], None]
    ) -> None:
        old = self.quantisers(source)
        new: Quantiser | None = None
        if plan.recipe.has_ann and plan.rows >= SMALLEST_TRAINING_ROWS:
            assert plan.current is not None or plan.retrain, "no quantiser means training one"
            if plan.retrain or retrain:
                on_step(f"training {plan.recipe.name} for {plan.rows} vectors")
                sample = self._sample(plan.recipe, source)
                clusterer = self._gpu.clusterer(sample.shape[1]) if self._gpu else None
                facts = train(sample, plan.recipe, plan.rows, self._folder, clusterer=clusterer)
                facts = replace(facts, source=source)
                self.catalog.set_setting("quantisers", dump_facts([*self.quantisers(), facts]))
                new = self._quantiser(facts)
            else:
                new = self._quantiser(old[-1])
        for group in groups(self._entries(source)):
            if not self._is_compact(group, new):
                rows = sum(entry.live_rows for entry in group)
                on_step(f"writing {rows} vectors")
                self._merge(group, new)
        if new is None and old:
            kept = [facts for facts in self.quantisers() if facts.source != source]
            self.catalog.set_setting("quantisers", dump_facts(kept))

    @alone
    def rebuild(self, entry: SegmentEntry, reason: str, *, accept_loss: bool) -> Loss:
        """Write a damaged segment anew from what is left of it; media that lost rows are read
        again by the next `index`. If all that they lost is what a head made of them, which their
        frames can give again, they are kept, and the index goes without the head.

        Raises IndexDamagedError when rows are gone that were added as vectors, unless
        `accept_loss`: the damaged files are then kept in the folder `damaged`.
        """
        folder = self._folder / SEGMENTS / entry.name
        left = salvage(folder, entry, self._manifest.dim_of(entry.source))
        loose = ~left.good & live_mask(entry.row_count, entry.dead)
        files: set[int] = set()
        unpooled: set[int] = set()
        for part in self.catalog.ranges_in(entry.id):
            for item in part:
                mine = slice(item.first_row, item.first_row + item.row_count)
                if not left.good[mine].all():
                    (unpooled if item.kind == POOLED else files).add(item.media_id)
                loose[mine] = False
        lost = np.flatnonzero(loose)
        if len(lost) and not accept_loss:
            raise IndexDamagedError(
                f"{reason}; {len(lost)} vectors that were added without media would be lost: put "
                "the file back, or run `clipsearch repair` to go on without them"
            )
        if len(lost):
            kept = self._folder / DAMAGED / entry.name
            kept.parent.mkdir(exist_ok=True)
            if folder.is_dir():
                shutil.copytree(folder, kept, symlinks=True, dirs_exist_ok=True)
        give_up = bool(unpooled - files)
        if give_up:
            self.catalog.replace_pooled(None)
        self.catalog.lose(files, {entry.id: runs_of(lost)}, entry.source)
        [now] = [e for e in self.catalog.segments() if e.id == entry.id]
        self._merge_parts([left.part(now)], [now], self._current(entry.source))
        return Loss(reason, len(files), len(lost), give_up)

    def open(self, entry: SegmentEntry) -> Segment:
        """A published segment. Raises FileNotFoundError or IndexDamagedError."""
        folder = self._folder / SEGMENTS / entry.name
        known = {facts.name: facts for facts in self.quantisers()}

        def find(name: str) -> Quantiser | None:
            return self._quantiser(known[name]) if name in known else None

        dim = self._manifest.dim_of(entry.source)
        return open_segment(folder, entry, dim, self._budget, find)

    @alone
    def forget_quantisers(self, names: Collection[str]) -> None:
        """Give quantisers up: segments with lists of theirs are scanned until `compact`."""
        self._keep_quantisers([facts for facts in self.quantisers() if facts.name not in names])

    def quantisers(self, source: Source | None = None) -> tuple[QuantiserFacts, ...]:
        """Those that the catalog knows, of one source or all; the last one of a source is for its
        new segments.
        """
        found = self.catalog.quantisers()
        return tuple(facts for facts in found if source in (None, facts.source))

    def _quantiser(self, facts: QuantiserFacts) -> Quantiser:
        if facts.name not in self._opened:
            dim = self._manifest.dim_of(facts.source)
            self._opened[facts.name] = Quantiser(self._folder, facts, dim)
        return self._opened[facts.name]

    def _current(self, source: Source) -> Quantiser | None:
        """The quantiser in force, unless its file is damaged: segments are then scanned."""
        trained = self.quantisers(source)
        if not trained:
            return None
        try:
            quantiser = self._quantiser(trained[-1])
            _ = quantiser.index
        except (FileNotFoundError, IndexDamagedError):
            return None
        return quantiser

    def _lacks_lists(self, entry: SegmentEntry) -> bool:
        """Whether a compaction was interrupted before it came to a segment."""
        if entry.live_rows < SCANNED_ROWS or self._current(entry.source) is None:
            return False
        return self.open(entry).facts.get("quantiser") is None

    def _is_there(self, facts: QuantiserFacts) -> bool:
        try:
            dim = self._manifest.dim_of(facts.source)
            quantiser = Quantiser(self._folder, facts, dim)
            return quantiser.path.stat().st_size == facts.bytes
        except (FileNotFoundError, IndexDamagedError):
            return False

    def _keep_quantisers(self, kept: Sequence[QuantiserFacts]) -> None:
        if len(kept) < len(self.quantisers()):
            self.catalog.set_setting("quantisers", dump_facts(kept))

    def _write(
        self,
        pieces: Iterator[Piece],
        rows: int,
        source: Source,
        quantiser: Quantiser | None = None,
    ) -> NewSegment:
        name = uuid.uuid4().hex
        target = self._folder / SEGMENTS / name
        temporary = target.with_name(name + TEMPORARY)
        try:
            digest = write_segment(
                temporary,
                name,
                pieces,
                shape=(rows, self._manifest.dim_of(source)),
                quantiser=quantiser if rows >= SCANNED_ROWS else None,
            )
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        temporary.rename(target)
        sync_folder(target.parent)
        return NewSegment(name, rows, digest, source)

    def _sample(self, recipe: IndexRecipe, source: Source) -> NDArray[np.float32]:
        """Vectors of a uniform random sample of the rows of a source; dead ones are as good for
        training.
        """
        entries = self._entries(source)
        total = sum(entry.row_count for entry in entries)
        size = training_rows(recipe, total)
        chosen = np.sort(np.random.default_rng(0).choice(total, size, replace=False))
        sample = np.empty((size, self._manifest.dim_of(source)), np.float32)
        start = 0
        for entry in entries:
            mine = np.flatnonzero((chosen >= start) & (chosen < start + entry.row_count))
            if len(mine):
                sample[mine] = self.open(entry).take(chosen[mine] - start)
            start += entry.row_count
        return sample

    def _is_compact(self, group: Sequence[SegmentEntry], quantiser: Quantiser | None) -> bool:
        if len(group) > 1 or group[0].dead:
            return False
        segment = self.open(group[0])
        wanted = quantiser.facts.name if quantiser and segment.row_count >= SCANNED_ROWS else None
        return segment.version == SEGMENT_VERSION and segment.facts["quantiser"] == wanted

    def _merge(
        self, entries: Sequence[SegmentEntry], quantiser: Quantiser | None, stop: Stop = never
    ) -> None:
        """Make one segment of several, without their dead rows; with lists if it is large.

        Raises StoppedError.
        """
        parts = []
        for entry in entries:
            segment = self.open(entry)
            live = live_rows(segment.blocks, segment.row_count, entry.dead)
            parts.append(MergePart(entry.id, segment, segment.row_count, live))
        self._merge_parts(parts, entries, quantiser, stop)

    def _merge_parts(
        self,
        parts: Sequence[MergePart],
        entries: Sequence[SegmentEntry],
        quantiser: Quantiser | None,
        stop: Stop = never,
    ) -> None:
        merge = Merge(parts)
        new = None
        if merge.row_count:
            [source] = {entry.source for entry in entries}
            pieces = until(stop, merge.pieces(self._manifest.dim_of(source)))
            new = self._write(pieces, merge.row_count, source, quantiser)
        try:
            self.catalog.replace_segments(new, merge.moves(), stop)
        except StoppedError:
            if new is not None:
                _remove(self._folder / SEGMENTS / new.name)
            raise
        for entry in entries:
            _remove(self._folder / SEGMENTS / entry.name)


def _remove(path: Path) -> None:
    """Delete a folder, or what lies in the place of one; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path)
