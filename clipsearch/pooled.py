"""The trained heads of an index: which one pools its windows, loaded once and checked."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from clipsearch.encoders.base import Encoder
from clipsearch.encoders.devices import pick_device
from clipsearch.errors import EncoderError, UsageError
from clipsearch.heads import POOLINGS
from clipsearch.heads.choose import MEAN, PoolingSpec, trained_head
from clipsearch.ingest.repool import RepoolReport, lost_notices, repool
from clipsearch.ingest.run import Progress
from clipsearch.store.pooling import SETTING, PoolingFacts, dump_facts
from clipsearch.store.store import Store
from clipsearch.types import UnitKind

if TYPE_CHECKING:
    from clipsearch.heads import Head, LoadedHead

T = TypeVar("T")


class Heads:
    """Loads heads for the vectors of one index. Safe to share between threads."""

    def __init__(self, folder: Path, encoder: Callable[[], Encoder], *, device: str) -> None:
        """folder: of the index. encoder: called when a head is first needed. device: as for
        `load_encoder`.
        """
        self._folder, self._encoder, self._device = folder, encoder, device
        self._loaded: dict[tuple[PoolingSpec, Path, int], LoadedHead] = {}
        self._guard = threading.Lock()

    def load(self, spec: PoolingSpec) -> LoadedHead:
        """The head in a file. Raises UsageError or EncoderError."""
        path = Path(os.path.abspath(spec.weights or ""))  # noqa: PTH100
        try:
            key = (spec, path, path.stat().st_mtime_ns)
        except OSError as error:
            raise EncoderError(f"the weights {path} cannot be read: {error.strerror}") from error
        with self._guard:
            if key not in self._loaded:
                found = trained_head(replace(spec, weights=path), self._encoder())
                found.head.to(pick_device(self._device))
                self._loaded[key] = found
            return self._loaded[key]

    def choose(self, spec: PoolingSpec) -> PoolingFacts | None:
        """What an index has to note of a pooling; None for the mean.

        Raises UsageError for one that gives no vectors, EncoderError.
        """
        if spec.name == "tight":
            raise UsageError(
                "a tight head scores pairs and gives no vectors to keep: use it with "
                "`clipsearch query --rerank tight`"
            )
        if spec.weights is None:
            return None
        path = Path(os.path.abspath(spec.weights))  # noqa: PTH100
        fingerprint, most = self.load(spec).fingerprint, spec.max_frames
        return PoolingFacts.of(spec.name, fingerprint, path, max_frames=most, index=self._folder)

    def recorded(self, facts: PoolingFacts | None) -> Head | None:
        """The head that an index pools with; None for the mean alone.

        Raises EncoderError when its file is gone or holds another one.
        """
        if facts is None:
            return None
        remedy = (
            f"name its file with --pooling {facts.name} --pooling-weights FILE, or do without it: "
            "`clipsearch repool --pooling mean`"
        )
        pools = f"the index pools with {facts.fingerprint}"
        try:
            weights = facts.file(self._folder)
            loaded = self.load(PoolingSpec(facts.name, weights, facts.max_frames))
        except (EncoderError, UsageError) as error:  # such as fewer places than it recorded
            raise EncoderError(f"{pools}, but {error}; {remedy}") from error
        if loaded.fingerprint != facts.fingerprint:
            raise EncoderError(f"{pools}, but {weights} is {loaded.fingerprint}: {remedy}")
        head: Head = loaded.head
        return head


def fingerprint_of(facts: PoolingFacts | None) -> str:
    """What an index is pooled by, in a word."""
    return MEAN if facts is None else facts.fingerprint


def window_kind(facts: PoolingFacts | None, pooling: str | None) -> UnitKind:
    """Which rows stand for videos: None asks for those of the index's head, if it has one.

    Raises UsageError for a pooling that the index does not have.
    """
    if pooling == MEAN or (pooling is None and facts is None):
        return "video"
    if pooling is None:
        return "pooled"
    if pooling not in POOLINGS:
        hint = "; a tight head scores found videos again (--rerank)" if pooling == "tight" else ""
        raise UsageError(f"videos pooled by {pooling!r}: use one of {', '.join(POOLINGS)}{hint}")
    if facts is None or facts.name != pooling:
        has = MEAN if facts is None else f"{MEAN} and {facts.name}"
        raise UsageError(
            f"the index has no videos pooled by {pooling!r}, only by {has}: `clipsearch repool` "
            "makes them"
        )
    return "pooled"


def ask_alike(
    store: Store, pooling: str | None, ask: Callable[[UnitKind], T]
) -> tuple[T, PoolingFacts | None]:
    """What `ask` finds with the rows that stand for videos, all pooled alike: it is asked again if
    the head changed meanwhile. And the head that the index had. Raises UsageError as `window_kind`.
    """
    while True:
        facts = store.snapshot().pooling
        found = ask(window_kind(facts, pooling))
        if store.snapshot().pooling == facts:
            return found, facts


def change_pooling(
    store: Store,
    heads: Heads,
    facts: PoolingFacts | None,
    *,
    wait: bool,
    on_progress: Callable[[Progress], None],
) -> RepoolReport:
    """Pool every window anew with another head; None takes the head's rows away."""
    with store.writing(wait=wait) as writer:
        store.refresh()
        head = heads.recorded(facts)
        if head is None or facts is None:
            writer.publish_pooled(None, (), 0)
            writer.maintain()
            counts = store.catalog.row_counts("video")
            notices = tuple(lost_notices(writer))
            return RepoolReport(len(counts), sum(counts.values()), notices)
        return repool(store, writer, head, facts, on_progress=on_progress)


def check_pooling(store: Store, heads: Heads, wanted: PoolingSpec) -> None:
    """Raise EncoderError or UsageError unless an index pools as is wanted; note where the file of
    its head is now.
    """
    has, asked = store.catalog.pooling(), heads.choose(wanted)
    if fingerprint_of(has) != fingerprint_of(asked):
        raise UsageError(
            f"{store.folder} pools by {fingerprint_of(has)}, not by {fingerprint_of(asked)}: "
            "change it with `clipsearch repool`"
        )
    if has != asked:
        with store.writing() as writer:
            if fingerprint_of(writer.catalog.pooling()) == fingerprint_of(asked):
                writer.catalog.set_setting(SETTING, dump_facts(asked))
