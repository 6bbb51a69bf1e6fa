"""discover → read → encode → publish, overlapped, with bounded memory; one bad file is data."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from clipsearch.encoders.base import Encoder, Feeding
from clipsearch.encoders.long_texts import encode_texts
from clipsearch.heads.sampling import crowded_notice
from clipsearch.ingest.changes import Candidate, Decision
from clipsearch.ingest.encoding import Encode, leavable
from clipsearch.ingest.finding import Finder, Unread
from clipsearch.ingest.flow import Encoders, Flow
from clipsearch.ingest.gone import Gone, forget_gone
from clipsearch.ingest.intake import Finisher, Intake
from clipsearch.ingest.readahead import Message, read_ahead
from clipsearch.ingest.reading import Chunk, Event, Hearing, Reader, Trouble
from clipsearch.ingest.scopes import Scope
from clipsearch.media import ReadSpec
from clipsearch.media.discover import WalkSpec
from clipsearch.store.writer import UNPOOLED, Writer
from clipsearch.types import Failure, IngestReport, Source

if TYPE_CHECKING:
    from clipsearch.heads import Head

TRIALS = "trials.json"  # in the cache
NO_EAR = (
    "sound files left out: {count}; this index has no encoder of sound, --audio-model clap gives "
    "it one"
)
EAR_OFF = "sound files left out: {count}; --audio takes them in"

Found = Candidate | Unread
Heard = Decision | Event


@dataclass(frozen=True, slots=True)
class IngestSpec:
    """How to ingest: what to read of each file and how much at once."""

    read: ReadSpec
    window_seconds: float
    walk: WalkSpec = field(default_factory=WalkSpec)
    batch_size: int | None = None  # None: as the encoder is fed fastest
    workers: int = 2
    retry_failed: bool = False
    cache: Path | None = None  # where it is remembered how encoders run fastest
    head: Head | None = None  # that pools windows beside the mean
    hearing: Hearing | None = None  # how sound is indexed; None: it is not
    texts: bool = False  # whether subtitles are indexed


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is: files done, files there are if they were counted, units read."""

    done: int
    total: int | None
    units: int


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
        on_notice: Callable[[str], None] = lambda _: None,
        count_files: bool = False,
    ) -> None:
        self._writer, self._encoder, self._spec = writer, encoder, spec
        self._on_failure, self._on_progress = on_failure, on_progress
        self._on_notice = on_notice
        self._count_files = count_files
        self._stop = threading.Event()  # set when nobody takes any more what readers read
        reader = Reader(encoder, spec.read, spec.hearing, spec.texts, self._stop.is_set)
        self._finder = Finder(writer.catalog, reader, spec.walk, retry_failed=spec.retry_failed)
        hearing = spec.hearing
        dims: dict[Source, int] = {"visual": encoder.dim, "text": encoder.dim}
        dims["audio"] = hearing.encoder.dim if hearing else encoder.dim
        self._finisher = Finisher(spec.window_seconds, dims, spec.head)
        self._seen: set[int] = set()
        self._counts = dict.fromkeys(("added", "updated", "unchanged", "moved", "removed"), 0)
        self._failures: list[Failure] = []
        self._warnings: list[str] = []
        self._done = self._units = self._unheard = 0
        self._total: int | None = None

    def run(self, scopes: Sequence[Scope]) -> IngestReport:
        """Bring the index up to date with the files in `scopes`.

        Publishes every few seconds, and what is complete when it is interrupted.
        """
        if self._count_files:
            self._total = sum(self._finder.count(scope) for scope in scopes)
        for loss in self._writer.losses:
            self._warnings.append(f"{loss.reason}: {loss.files} files are read again")
            if loss.pooled:
                self._warnings.append(UNPOOLED)
        next_id = self._writer.catalog.next_media_id()
        with Flow(self._writer, self._encoders(), self._finisher) as flow:
            looks = [self._look_through(scope, flow) for scope in scopes]
        for look in looks:  # last, as a file that is gone from one scope may turn up in another
            self._remove_gone(look, next_id)
        self._writer.catalog.prune_roots(keep=[scope.root for scope in scopes])
        self._writer.maintain()
        if self._finisher.crowded and self._spec.head is not None:
            self._warnings.append(crowded_notice(self._finisher.crowded, self._spec.head))
        if self._unheard:
            notice = EAR_OFF if self._encoder.supports_audio else NO_EAR
            self._warnings.append(notice.format(count=self._unheard))
        return IngestReport(
            **self._counts, failures=tuple(self._failures), warnings=tuple(self._warnings)
        )

    def _encoders(self) -> Encoders:
        encoder, hearing, spec = self._encoder, self._spec.hearing, self._spec
        found: dict[Source, Encode] = {
            "visual": lambda pictures: encoder.encode_images(pictures, normalize=False)
        }
        if hearing is not None:
            ear = hearing.encoder
            found["audio"] = lambda waves: ear.encode_audio(waves, normalize=False)
        if spec.texts:
            found["text"] = lambda texts: encode_texts(encoder, texts, normalize=False).vectors

        def feeding() -> Feeding:
            fed = encoder.feeding
            return fed if spec.batch_size is None else replace(fed, batch=spec.batch_size)

        return Encoders(found, feeding, None if spec.cache is None else self._tune)

    def _tune(self) -> None:
        assert self._spec.cache is not None, "only asked for with a place to remember"
        memory = self._spec.cache / TRIALS
        notice = leavable(lambda: self._encoder.tune(memory))  # seconds, with a large model
        if notice is not None:
            self._on_notice(notice)

    def _look_through(self, scope: Scope, flow: Flow) -> Gone:
        self._writer.catalog.add_root(scope.root)
        self._stop.clear()
        look = Gone(scope, empty=set(scope.under))
        intake = flow.intake(self._finder.sources, self._finder.lacks)
        reading = read_ahead(
            self._finder.found(scope),
            lambda found: self._finder.read(cast("Candidate", found)),
            workers=self._spec.workers,
            passed=lambda found: isinstance(found, Unread),
            stop=self._stop,
            on_idle=flow.advance,
        )
        with closing(reading):
            for message in reading:
                if isinstance(message.item, Unread):
                    intake.batcher.settle(message.number)
                    self._note(message.item, look)
                else:
                    self._take(message, message.item, intake, flow)
                flow.advance()
        flow.finish()
        return look

    def _note(self, unread: Unread, look: Gone) -> None:
        """Count what needs no reading."""
        look.empty.difference_update(unread.parts)
        self._unheard += unread.unheard
        for relative, reason in unread.unreadable:
            look.unreadable.append(relative)
            self._fail(look.scope.root / relative, reason)
        for candidate in unread.untouched:
            known = candidate.known
            assert known is not None, "what is not known is read"
            self._seen.add(known.id)
            if known.state == "failed":
                self._fail(candidate.file.path, known.error or "failed before")
            else:
                if known.error is not None:
                    self._warnings.append(f"{candidate.file.path}: {known.error}")
                self._counts["unchanged"] += 1
            self._tell(done=1)

    def _take(
        self, message: Message[Found, Heard], candidate: Candidate, intake: Intake, flow: Flow
    ) -> None:
        """Follow one file a step further; one that cannot be read is noted and left."""
        if candidate.known is not None:
            self._seen.add(candidate.known.id)
        for event in message.events:
            if isinstance(event, Decision):
                self._act(candidate, event, flow)
            elif isinstance(event, Trouble):
                self._warnings.append(f"{candidate.file.path}: {event.reason}")
            intake.take(message.number, candidate, event)
            if isinstance(event, Chunk):
                self._tell(units=len(event.pairs))
        if not message.ended:
            return
        failed = message.error is not None
        following = intake.end(message.number, failed=failed)
        if message.error is not None:
            self._fail(candidate.file.path, str(message.error))
            if following.decision is not None:  # its content was read, so the reason is lasting
                digest, read = following.decision.content_hash, self._finder.sources(candidate)
                flow.publishing.put_failure(candidate.file, digest, str(message.error), read)
        elif following.media is not None:
            self._counts["added" if candidate.known is None else "updated"] += 1
        self._tell(done=1)

    def _act(self, candidate: Candidate, decision: Decision, flow: Flow) -> None:
        media = decision.media
        if media is None:
            return
        self._seen.add(media.id)
        if decision.action == "more":
            return
        flow.move(media.id, candidate.file)
        if media.state == "failed":
            self._fail(candidate.file.path, media.error or "failed before")
        else:
            self._counts["unchanged" if decision.action == "same" else "moved"] += 1

    def _remove_gone(self, look: Gone, next_id: int) -> None:
        removed, warnings = forget_gone(
            self._writer.catalog,
            look,
            self._seen,
            next_id=next_id,
            exclude_dirs=self._spec.walk.exclude_dirs,
        )
        self._counts["removed"] += removed
        self._warnings += warnings

    def _tell(self, *, done: int = 0, units: int = 0) -> None:
        self._done += done
        self._units += units
        self._on_progress(Progress(self._done, self._total, self._units))

    def _fail(self, path: Path, reason: str) -> None:
        failure = Failure(path, reason)
        self._failures.append(failure)
        self._on_failure(failure)
