"""What is to be read in a scope, and how a file is read: found in one thread, read in others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

from clipsearch.ingest.changes import LOOKUP_FILES, Candidate, Decider, Decision
from clipsearch.ingest.reading import Event, Reader
from clipsearch.ingest.scopes import Scope, is_below
from clipsearch.media.discover import WalkSpec, discover
from clipsearch.store.catalog import Catalog
from clipsearch.textfiles import is_unicode
from clipsearch.types import FoundFile, Source, StoredMedia

NOT_UTF8 = "its name is not valid UTF-8: rename it"


@dataclass(frozen=True, slots=True)
class Unread:
    """Some of what needs no reading.

    untouched: files as the catalog has them. unreadable: paths relative to the root, with the
    reason. unheard: how many sound files an index without sound leaves out. parts: of the scope
    that have media.
    """

    untouched: tuple[Candidate, ...]
    unreadable: tuple[tuple[str, str], ...]
    unheard: int
    parts: frozenset[str]


class Finder:
    """Looks through scopes and reads what is new. Its methods may run in several threads."""

    def __init__(
        self, catalog: Catalog, reader: Reader, walk: WalkSpec, *, retry_failed: bool
    ) -> None:
        self._catalog, self._reader, self._walk = catalog, reader, walk
        self._retry_failed = retry_failed
        self._decider = Decider(catalog)

    def sources(self, candidate: Candidate) -> tuple[Source, ...]:
        """What is looked at in a file."""
        return self._reader.sources(candidate.file.kind)

    def lacks(self, known: StoredMedia) -> tuple[Source, ...]:
        """What was not looked at in a file yet: the index had no sound or texts then."""
        return tuple(s for s in self._reader.sources(known.kind) if s not in known.sources)

    def count(self, scope: Scope) -> int:
        """How many files there are to look at."""
        return sum(1 for _ in self._files(scope, _Walk(set())))

    def found(self, scope: Scope) -> Iterator[Candidate | Unread]:
        """The files that must be opened, in order, and before them what needs no reading; a few
        hundred files at a time.
        """
        walk = _Walk(set(scope.under))
        files = self._files(scope, walk)
        while True:
            chunk = list(itertools.islice(files, LOOKUP_FILES))
            known = self._catalog.media_at(chunk)
            some = [Candidate(file, known.get((file.root, file.relative))) for file in chunk]
            kept = [one for one in some if not self._is_to_read(one)]
            yield Unread(tuple(kept), *walk.noted())
            yield from (one for one in some if self._is_to_read(one))
            if not chunk:
                return

    def read(self, candidate: Candidate) -> Iterator[Decision | Event]:
        """Decide by the content, and if need be decode and prepare. Raises MediaError."""
        decision = self._decider.decide(candidate)
        retry = decision.media is not None and self._is_retried(decision.media)
        same = decision.media if decision.action == "same" else None
        if retry or (same is not None and same.state == "failed" and self.lacks(same)):
            decision = Decision("read", decision.content_hash)
        sources = self.sources(candidate)
        info = None
        if decision.action == "same" and decision.media is not None:
            sources, info = self.lacks(decision.media), decision.media.info
            if sources:
                decision = replace(decision, action="more")
        yield decision
        if decision.action in ("read", "more"):
            yield from self._reader.events(candidate.file, sources, info)

    def _is_to_read(self, candidate: Candidate) -> bool:
        known = candidate.known
        if known is None or not candidate.untouched or self.lacks(known):
            return True
        return self._is_retried(known)

    def _is_retried(self, known: StoredMedia) -> bool:
        """Whether a file that could not be read, or not all of it, is read again."""
        return self._retry_failed and (known.state == "failed" or known.error is not None)

    def _files(self, scope: Scope, walk: _Walk) -> Iterator[FoundFile]:
        """The readable files of a scope; a name that no database can hold counts as unreadable."""
        for file in discover(
            scope.root, under=scope.under, on_unreadable=walk.on_unreadable, spec=self._walk
        ):
            if not self._reader.sources(file.kind):
                walk.unheard += file.kind == "audio"
            elif is_unicode(file.relative):
                walk.strike_out(file.relative)
                yield file
            else:
                walk.on_unreadable(file.relative, NOT_UTF8)


class _Walk:
    """What a walk showed besides files, since it was asked last."""

    def __init__(self, empty: set[str]) -> None:
        self._empty, self._parts = empty, set[str]()
        self._unreadable: list[tuple[str, str]] = []
        self.unheard = 0

    def on_unreadable(self, relative: str, reason: str) -> None:
        self._unreadable.append((relative, reason))

    def strike_out(self, relative: str) -> None:
        """The parts of the scope that a file lies in have some."""
        if self._empty:
            parts = {part for part in self._empty if is_below(relative, part)}
            self._parts |= parts
            self._empty -= parts

    def noted(self) -> tuple[tuple[tuple[str, str], ...], int, frozenset[str]]:
        noted = tuple(self._unreadable), self.unheard, frozenset(self._parts)
        self._unreadable, self.unheard, self._parts = [], 0, set()
        return noted
