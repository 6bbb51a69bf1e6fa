"""discover → read → encode → publish, overlapped, with bounded memory; one bad file is data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from clipsearch.encoders.base import Encoder
from clipsearch.encoders.long_texts import encode_texts
from clipsearch.errors import MediaError
from clipsearch.heads.sampling import crowded_notice
from clipsearch.ingest.batcher import Batcher, Encode, Part, PartialMedia
from clipsearch.ingest.changes import Candidate, Decider, Decision, candidates
from clipsearch.ingest.pooling import (
    crowded_windows,
    with_norms,
    with_windows,
)
from clipsearch.ingest.readahead import read_ahead
from clipsearch.ingest.reading import Chunk, Event, Hearing, Reader, Trouble
from clipsearch.ingest.scopes import Scope, is_below
from clipsearch.media import ReadSpec
from clipsearch.media.discover import Unreadable, WalkSpec, discover
from clipsearch.store.writer import UNPOOLED, Writer
from clipsearch.types import (
    EmbeddingBatch,
    EncodedMedia,
    Failure,
    FoundFile,
    IngestReport,
    MediaInfo,
    Source,
    StoredMedia,
)

if TYPE_CHECKING:
    from clipsearch.heads import Head

# A kill loses at most what was not published: a few seconds of work.
PUBLISH_SECONDS = 3.0
PUBLISH_ROWS = 8192

NO_EAR = (
    "sound files left out: {count}; this index has no encoder of sound, --audio-model clap gives "
    "it one"
)
EAR_OFF = "sound files left out: {count}; --audio takes them in"


@dataclass(frozen=True, slots=True)
class IngestSpec:
    """How to ingest: what to read of each file and how much at once."""

    read: ReadSpec
    window_seconds: float
    walk: WalkSpec = field(default_factory=WalkSpec)
    batch_size: int = 32
    workers: int = 2
    retry_failed: bool = False
    head: Head | None = None  # that pools windows beside the mean
    hearing: Hearing | None = None  # how sound is indexed; None: it is not
    texts: bool = False  # whether subtitles are indexed


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: files done, files there are if they were counted, units read."""

    done: int
    total: int | None
    units: int


@dataclass(frozen=True, slots=True)
class _Look:
    """What looking through a scope showed besides its files."""

    scope: Scope
    empty: set[str]  # parts of the scope that have no media
    unreadable: list[str] = field(default_factory=list)


class Ingest:
    """One indexing run: `run` once, under the store's lock."""

    def __init__(
        self,
        writer: Writer,
        encoder: Encoder,
        spec: IngestSpec,
        *,
        on_failure: Callable[[Failure], None],
        on_progress: Callable[[Progress], None],
        count_files: bool = False,
    ) -> None:
        self._writer, self._encoder, self._spec = writer, encoder, spec
        self._on_failure, self._on_progress = on_failure, on_progress
        self._count_files = count_files
        self._decider = Decider(writer.catalog)
        self._reader = Reader(encoder, spec.read, spec.hearing, spec.texts)
        self._batcher = Batcher(self._encoders(), spec.batch_size)
        self._ready: list[EncodedMedia] = []
        self._ready_rows = 0
        self._moves: list[tuple[int, FoundFile]] = []
        self._published_at = time.monotonic()
        self._seen: set[int] = set()
        self._counts = dict.fromkeys(("added", "updated", "unchanged", "moved", "removed"), 0)
        self._failures: list[Failure] = []
        self._warnings: list[str] = []
        self._done = self._units = self._crowded = self._unheard = 0
        self._total: int | None = None

    def run(self, scopes: Sequence[Scope]) -> IngestReport:
        """Bring the index up to date with the files in `scopes`.

        Publishes every few seconds, and what is complete when it is interrupted.
        """
        if self._count_files:
            walks = (self._discover(scope, on_unreadable=lambda *_: None) for scope in scopes)
            self._total = sum(1 for walk in walks for _ in walk)
        for loss in self._writer.losses:
            self._warnings.append(f"{loss.reason}: {loss.files} files are read again")
            if loss.pooled:
                self._warnings.append(UNPOOLED)
        next_id = self._writer.catalog.next_media_id()
        looks = []
        try:
            for scope in scopes:
                looks.append(self._look_through(scope))
        finally:
            self._publish()
        for look in looks:  # last, as a file that is gone from one scope may turn up in another
            self._remove_gone(look, next_id)
        self._writer.catalog.prune_roots(keep=[scope.root for scope in scopes])
        self._writer.maintain()
        if self._crowded and self._spec.head is not None:
            self._warnings.append(crowded_notice(self._crowded, self._spec.head))
        if self._unheard:
            notice = EAR_OFF if self._encoder.supports_audio else NO_EAR
            self._warnings.append(notice.format(count=self._unheard))
        return IngestReport(
            **self._counts, failures=tuple(self._failures), warnings=tuple(self._warnings)
        )

    def _encoders(self) -> dict[Source, Encode]:
        encoder, hearing = self._encoder, self._spec.hearing
        found: dict[Source, Encode] = {
            "visual": lambda pictures: encoder.encode_images(pictures, normalize=False)
        }
        if hearing is not None:
            ear = hearing.encoder
            found["audio"] = lambda waves: ear.encode_audio(waves, normalize=False)
        if self._spec.texts:
            found["text"] = lambda texts: encode_texts(encoder, texts, normalize=False).vectors
        return found

    def _look_through(self, scope: Scope) -> _Look:
        self._writer.catalog.add_root(scope.root)
        look = _Look(scope, empty=set(scope.under))

        def on_unreadable(relative: str, reason: str) -> None:
            look.unreadable.append(relative)
            self._fail(scope.root / relative, reason)

        files = self._note_parts(self._discover(scope, on_unreadable), look.empty)
        reading = read_ahead(self._to_read(files), self._read, workers=self._spec.workers)
        with closing(reading):
            for candidate, events in reading:
                self._take(candidate, events)
                self._hand_over()
                self._tell(done=1)
        self._batcher.flush()
        self._hand_over()
        self._publish()
        return look

    def _note_parts(self, files: Iterator[FoundFile], empty: set[str]) -> Iterator[FoundFile]:
        """Pass files on, striking out the parts of the scope that have some."""
        for file in files:
            if empty:
                empty -= {part for part in empty if is_below(file.relative, part)}
            yield file

    def _to_read(self, files: Iterator[FoundFile]) -> Iterator[Candidate]:
        """The files that must be opened; the others are counted on the way."""
        for candidate in candidates(files, self._writer.catalog):
            known = candidate.known
            if known is not None:
                self._seen.add(known.id)
            again = known is None or not candidate.untouched or self._lacks(known)
            if known is None or again or self._is_retried(known):
                yield candidate
            elif known.state == "failed":
                self._fail(candidate.file.path, known.error or "failed before")
                self._tell(done=1)
            else:
                if known.error is not None:
                    self._warnings.append(f"{candidate.file.path}: {known.error}")
                self._counts["unchanged"] += 1
                self._tell(done=1)

    def _is_retried(self, known: StoredMedia) -> bool:
        """Whether a file that could not be read, or not all of it, is read again."""
        return self._spec.retry_failed and (known.state == "failed" or known.error is not None)

    def _lacks(self, known: StoredMedia) -> tuple[Source, ...]:
        """What was not looked at in a file yet: the index had no sound or texts then."""
        return tuple(s for s in self._reader.sources(known.kind) if s not in known.sources)

    def _read(self, candidate: Candidate) -> Iterator[Decision | Event]:
        """In a reader's thread: decide, and if need be decode and prepare."""
        decision = self._decider.decide(candidate)
        retry = decision.media is not None and self._is_retried(decision.media)
        same = decision.media if decision.action == "same" else None
        if retry or (same is not None and same.state == "failed" and self._lacks(same)):
            decision = Decision("read", decision.content_hash)
        sources = self._reader.sources(candidate.file.kind)
        info = None
        if decision.action == "same" and decision.media is not None:
            sources, info = self._lacks(decision.media), decision.media.info
            if sources:
                decision = replace(decision, action="more")
        yield decision
        if decision.action in ("read", "more"):
            yield from self._reader.events(candidate.file, sources, info)

    def _take(self, candidate: Candidate, events: Iterator[Decision | Event]) -> None:
        """Follow one file to its end; a file that cannot be read is noted and left."""
        media: PartialMedia | None = None
        decision: Decision | None = None
        try:
            for event in events:
                if isinstance(event, Decision):
                    decision = event
                    self._act(candidate, decision)
                elif isinstance(event, MediaInfo):
                    assert decision is not None, "readers decide before they open"
                    media = self._start(candidate, decision, event)
                elif isinstance(event, Trouble):
                    assert media is not None, "readers open before they meet trouble"
                    media.trouble = event.reason
                    self._warnings.append(f"{candidate.file.path}: {event.reason}")
                else:
                    assert media is not None, "readers open before they decode"
                    self._add_units(media, event)
        except MediaError as error:
            if media is not None:
                self._batcher.drop(media)
            self._fail(candidate.file.path, str(error))
            if decision is not None:  # its content was read, so the reason is lasting
                read = self._reader.sources(candidate.file.kind)
                self._writer.put_failure(candidate.file, decision.content_hash, str(error), read)
            return
        if media is not None:
            media.finished = True
            self._counts["added" if candidate.known is None else "updated"] += 1

    def _start(self, candidate: Candidate, decision: Decision, info: MediaInfo) -> PartialMedia:
        sources = self._reader.sources(candidate.file.kind)
        kept: tuple[Source, ...] = ()
        if decision.action == "more" and decision.media is not None:
            sources, kept = self._lacks(decision.media), decision.media.sources
        parts = {source: Part() for source in sources}
        media = PartialMedia(candidate.file, decision.content_hash, info, parts, kept)
        self._batcher.start(media)
        return media

    def _act(self, candidate: Candidate, decision: Decision) -> None:
        media = decision.media
        if media is None:
            return
        self._seen.add(media.id)
        if decision.action == "more":
            return
        self._moves.append((media.id, candidate.file))
        if media.state == "failed":
            self._fail(candidate.file.path, media.error or "failed before")
        else:
            self._counts["unchanged" if decision.action == "same" else "moved"] += 1

    def _add_units(self, media: PartialMedia, chunk: Chunk) -> None:
        for unit, content in chunk.pairs:
            self._batcher.add(media, chunk.source, unit, content)
        self._tell(units=len(chunk.pairs))
        self._hand_over()

    def _hand_over(self) -> None:
        """Move completed files from the batcher to the next publication; publish when due."""
        due = time.monotonic() - self._published_at >= PUBLISH_SECONDS
        if due:
            self._batcher.unblock()
        for media in self._batcher.completed():
            batches = {s: self._batch(s, part) for s, part in media.parts.items()}
            facts = media.file, media.content_hash, media.info
            encoded = EncodedMedia(*facts, batches, media.kept, media.trouble)
            self._ready.append(encoded)
            self._ready_rows += encoded.row_count
        if (self._ready or self._moves) and (due or self._ready_rows >= PUBLISH_ROWS):
            self._publish()
            self._writer.maintain()

    def _batch(self, source: Source, part: Part) -> EmbeddingBatch:
        head, seconds = self._spec.head, self._spec.window_seconds
        if not part.units:
            return EmbeddingBatch(np.empty((0, self._dim(source)), np.float32), ())
        rows, norms = with_norms(part.raw())
        if source != "visual":
            return EmbeddingBatch(rows, tuple(part.units), norms)
        if head is not None:
            self._crowded += crowded_windows(part.units, window_seconds=seconds, head=head)
        return with_windows(rows, norms, part.units, window_seconds=seconds, head=head)

    def _dim(self, source: Source) -> int:
        hearing = self._spec.hearing
        return hearing.encoder.dim if source == "audio" and hearing else self._encoder.dim

    def _publish(self) -> None:
        ready, self._ready, self._ready_rows = self._ready, [], 0
        moves, self._moves = self._moves, []
        self._writer.catalog.move_media(moves)
        self._writer.publish(ready)
        self._published_at = time.monotonic()

    def _remove_gone(self, look: _Look, next_id: int) -> None:
        """Forget files that are gone, except where there is no media at all any more."""
        scope = look.scope
        missing = [
            media
            for media in self._writer.catalog.all_media(scope.root)
            if media.id < next_id
            and media.id not in self._seen
            and scope.covers(media.relative)
            and not _below_any(media.relative, look.unreadable)
            and (not media.path.exists() or self._excluded(media))
        ]
        for part in sorted(look.empty):
            kept = [media for media in missing if is_below(media.relative, part)]
            if kept and (scope.root / part).is_dir():
                self._warnings.append(
                    f"{scope.root / part} has no media now but {len(kept)} indexed files: kept, "
                    "in case its disk is away"
                )
                missing = [media for media in missing if media not in kept]
        self._writer.catalog.remove_media([media.id for media in missing])
        self._counts["removed"] += len(missing)

    def _excluded(self, media: StoredMedia) -> bool:
        folders = media.relative.split("/")[:-1]
        return not self._spec.walk.exclude_dirs.isdisjoint(folders)

    def _discover(self, scope: Scope, on_unreadable: Unreadable) -> Iterator[FoundFile]:
        """The readable files of a scope; a name that no database can hold counts as unreadable."""
        for file in discover(
            scope.root, under=scope.under, on_unreadable=on_unreadable, spec=self._spec.walk
        ):
            if not self._reader.sources(file.kind):
                self._unheard += file.kind == "audio"
            elif _is_utf8(file.relative):
                yield file
            else:
                on_unreadable(file.relative, "its name is not valid UTF-8: rename it")

    def _tell(self, *, done: int = 0, units: int = 0) -> None:
        self._done += done
        self._units += units
        self._on_progress(Progress(self._done, self._total, self._units))

    def _fail(self, path: Path, reason: str) -> None:
        failure = Failure(path, reason)
        self._failures.append(failure)
        self._on_failure(failure)


def _below_any(relative: str, parts: Sequence[str]) -> bool:
    return any(is_below(relative, part) for part in parts)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
