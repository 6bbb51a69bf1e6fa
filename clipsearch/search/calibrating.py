"""The background of one index: read from beside it, measured where there is none."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import Encoder
from clipsearch.errors import EncoderError
from clipsearch.search.background import Background, Scale, breadths_of
from clipsearch.search.unrelated import BANK, unrelated_texts
from clipsearch.store.backgrounds import StoredBackground, background_stamp, load_background
from clipsearch.store.store import Store
from clipsearch.types import SOURCE_OF, SOURCES, Source, UnitKind, Vectors

BANKS = "banks"  # the folder in a cache
CHANGED_SHARE = 0.1  # of the rows, since it was measured
TOGETHER: tuple[tuple[UnitKind, ...], ...] = (
    ("image", "frame"),  # what is shown first, by default
    ("video",),
    ("pooled",),
    ("audio",),
    ("text",),
)
Banks = dict[Source, NDArray[np.float16]]


class Calibration:
    """What cosines are compared with in one store. Safe to share between threads.

    encoder, ear: of texts for what is seen and said, and for what is heard; they are asked for
    only when the bank must be encoded.
    """

    def __init__(
        self,
        store: Store,
        encoder: Callable[[], Encoder],
        ear: Callable[[], Encoder | None],
        *,
        on_notice: Callable[[str], None],
    ) -> None:
        self._store, self._encoder, self._ear = store, encoder, ear
        self._on_notice = on_notice
        self._guard = threading.Lock()
        self._known: StoredBackground | None = None
        self._background: Background | None = None  # the same, ready for use
        self._stamp: object = None  # of the file when it was looked at
        self._measured_here = False

    def background(self, needed: bool) -> Background | None:
        """What is stored, if it is of this index; where it is `needed` and lacks a kind that the
        index has, it is measured for this process. None for an index that encodes no text.

        Raises EncoderError.
        """
        with self._guard:
            stamp = background_stamp(self._store.folder)
            if stamp != self._stamp:
                self._use(self._stored(), here=False)
                self._stamp = stamp
            if needed and not self._is_enough():
                banks = self._banks(self._known)
                if banks:
                    self._on_notice(
                        "measuring what unrelated texts score here, which the index does not know "
                        "yet: `clipsearch index` keeps it"
                    )
                    self._use(self._measured(banks), here=True)
            return self._background

    def _use(self, stored: StoredBackground | None, *, here: bool) -> None:
        self._known, self._measured_here = stored, here
        self._background = None if stored is None else self._ready(stored)

    def keep(self, cache: Path | None = None) -> None:
        """Measure and store it if many rows changed since; only by the holder of the index's lock.

        The bank is encoded once for each encoder; with a folder as cache, once for all indexes of
        this machine. Raises EncoderError.
        """
        self._store.refresh()
        stored = self._stored()
        if any(self._rows().values()) and (stored is None or self._is_due(stored.facts)):
            banks = self._cached_banks(cache) if stored is None and cache else self._banks(stored)
            if banks:
                self._measured(banks).save(self._store.folder)

    def _cached_banks(self, cache: Path) -> Banks:
        """From the cache, else encoded and put there; one that fails is as if there were none."""
        spaces = self._spaces()
        folder = cache / BANKS / hashlib.sha256(json.dumps(spaces).encode()).hexdigest()[:16]
        cached = load_background(folder)
        if cached is not None and cached.facts["spaces"] != spaces:
            cached = None
        banks = self._banks(cached)
        if cached is None and banks:
            facts = {"spaces": spaces, "live": {}, "next_unit_id": 0, "scales": {}}
            with suppress(OSError):
                folder.mkdir(parents=True, exist_ok=True)
                StoredBackground(facts, {str(name): rows for name, rows in banks.items()}).save(
                    folder
                )
        return banks

    def keep_up(self) -> None:
        """As `keep`, for an index that knows it already: without its encoders."""
        self._store.refresh()
        stored = self._stored()
        if stored is not None and self._lacks_no_bank(stored):
            self.keep()

    def _lacks_no_bank(self, stored: StoredBackground) -> bool:
        return "visual" in stored.rows and (self._hears_alike() or "audio" in stored.rows)

    def _is_enough(self) -> bool:
        """Whether every kind that the index has was measured, and here not too long ago."""
        if self._known is None:
            return False
        if self._measured_here:
            return not self._is_due(self._known.facts)
        scales = self._known.facts["scales"]
        return all(kind in scales for kind, rows in self._rows().items() if rows)

    def _is_due(self, facts: Mapping[str, Any]) -> bool:
        """Whether a tenth of the rows is new or gone, or the first of a kind came."""
        now, before = self._rows(), facts["live"]
        if any(rows and not before.get(kind) for kind, rows in now.items()):
            return True
        added = self._store.catalog.next_unit_id() - facts["next_unit_id"]
        gone = sum(before.values()) + added - sum(now.values())
        return bool(added + gone > CHANGED_SHARE * sum(before.values()))

    def _rows(self) -> dict[UnitKind, int]:
        """Live rows by kind."""
        return {
            kind: sum(view.count(kind) for view in self._store.snapshot(source).views)
            for kind, source in SOURCE_OF.items()
        }

    def _stored(self) -> StoredBackground | None:
        """What is beside the index, as far as it was made with the encoders of the index."""
        self._store.snapshot()  # looks at the manifest
        stored, now = load_background(self._store.folder), self._spaces()
        if stored is None:
            return None
        facts = stored.facts
        made = facts["spaces"]
        if (made["visual"], made["bank"]) != (now["visual"], now["bank"]):
            return None
        if made["audio"] == now["audio"]:
            return stored
        kept = {name: _without_audio(facts[name]) for name in ("scales", "live")}
        return StoredBackground({**facts, **kept}, _without_audio(stored.rows))

    def _spaces(self) -> dict[str, str]:
        """What tells spaces of texts apart, and banks."""
        manifest = self._store.manifest
        heard = "" if manifest.audio is None else manifest.audio.fingerprint
        bank = hashlib.sha256(BANK.encode()).hexdigest()
        return {"visual": manifest.fingerprint, "audio": heard, "bank": bank}

    def _banks(self, stored: StoredBackground | None) -> Banks:
        """The bank in half precision, as it is kept, by the sources whose space differs."""
        found: Banks = {}
        if self._store.manifest.encoder is None:
            return found
        known = stored.rows if stored is not None else {}
        sources: tuple[Source, ...] = ("visual",) if self._hears_alike() else ("visual", "audio")
        for source in sources:
            if source in known:
                found[source] = known[source]
                continue
            encoder = self._ear_if_any() if source == "audio" else self._encoder()
            if encoder is not None and encoder.supports_text:
                found[source] = encoder.encode_text(unrelated_texts()).astype(np.float16)
        return found

    def _ear_if_any(self) -> Encoder | None:
        """None also where it cannot be had: what is seen can be judged all the same."""
        with suppress(EncoderError):
            return self._ear()
        return None

    def _hears_alike(self) -> bool:
        """Whether sounds, if there are any, lie in the space of pictures."""
        manifest = self._store.manifest
        return manifest.audio is None or manifest.audio.encoder == manifest.encoder

    def _unit_rows(self, banks: Mapping[Any, NDArray[np.float16]]) -> dict[Source, Vectors]:
        """(texts, dim) unit rows, but for rounding, in the space of each source."""
        found = {name: rows.astype(np.float32) for name, rows in banks.items()}
        own: dict[Source, str] = {"audio": "visual" if self._hears_alike() else "audio"}
        by_source = {source: own.get(source, "visual") for source in SOURCES}
        return {source: found[name] for source, name in by_source.items() if name in found}

    def _measured(self, banks: Banks) -> StoredBackground:
        live, units = self._rows(), self._store.catalog.next_unit_id()
        scales: dict[UnitKind, dict[str, float]] = {}
        rows = self._unit_rows(banks)
        for kinds in TOGETHER:
            there = [kind for kind in kinds if live[kind]]
            bank = rows.get(SOURCE_OF[kinds[0]])
            if bank is None or not there:
                continue
            scores, _ = self._store.search_ids(bank, k=1, kinds=there, exact=False)
            found = scores[:, 0] > -np.inf  # else all were removed meanwhile
            if found.all():
                scale = Scale.fit(scores[:, 0].astype(np.float64), breadths_of(bank, bank))
                scales |= {kind: asdict(scale) for kind in there}
        facts = {"spaces": self._spaces(), "live": live, "next_unit_id": units, "scales": scales}
        return StoredBackground(facts, {str(source): bank for source, bank in banks.items()})

    def _ready(self, stored: StoredBackground) -> Background:
        rows = self._unit_rows(stored.rows)
        scales: dict[UnitKind, Scale] = {
            kind: Scale(**stored.facts["scales"][kind])
            for kind, source in SOURCE_OF.items()
            if source in rows and kind in stored.facts["scales"]
        }
        return Background(scales, {kind: rows[SOURCE_OF[kind]] for kind in scales})


def _without_audio(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "audio"}
