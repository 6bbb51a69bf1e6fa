"""Damage to every file of an index: an error that names the file, or the right answer.

Each case is a copy of one small index (`made`) with a file truncated, flipped, removed, replaced or
forged. Then every question that an index answers is asked of it in this process, `verify` has to
name the file, and `repair` has to save all that is left.

SQLite keeps no checksums: a flipped byte of the catalog may be read as another value. There either
`verify` says so or the answers must be right; with a silent `verify` nothing may be wrong.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch.engine import Index
from clipsearch.errors import (
    ClipsearchError,
    EncoderError,
    IndexDamagedError,
    UsageError,
)
from clipsearch.store import exact as exact_module
from clipsearch.store import snapshot as snapshot_module
from clipsearch.store import writer as writer_module
from clipsearch.store.checks import salt_of
from clipsearch.store.lists import ID_BYTES, LIST_TABLE, LIST_TYPE, LISTS
from clipsearch.store.lookup import LOOKUP_TYPE, NO_MEDIA
from clipsearch.store.manifest import Manifest, Tuning, load_manifest
from clipsearch.store.merge import live_mask
from clipsearch.store.segment import CHECKS, EXTRAS, FACTS, LOOKUP, ROWS, SUMS, VECTORS, file_facts
from clipsearch.store.store import Store
from clipsearch.store.upkeep import RepairReport
from clipsearch.store.vectors import blocks_of
from clipsearch.types import UNIT_KINDS, EncodedMedia, Vectors
from tests.vectors import DIM, ROOT, image, unit_rows, video

REPOSITORY = Path(__file__).parents[1]
CATALOG, MANIFEST, QUANTISER = "catalog.sqlite", "manifest.json", "quantiser"
NAMES = (VECTORS, CHECKS, LOOKUP, EXTRAS, ROWS, SUMS, FACTS)
# "big" and "loose" have inverted lists and dead rows, "big" and "media" rows of files, "big" and
# "loose" vectors with columns; "twin" is another segment of the size of "loose".
SEGMENT_FILES = (
    *(f"{role}/{name}" for role in ("big", "loose") for name in (*NAMES, LISTS, LIST_TABLE)),
    *(f"media/{name}" for name in NAMES),
)
FILES = (*SEGMENT_FILES, QUANTISER, CATALOG, MANIFEST)
EMPTY = "media/extras.bin"  # has no bytes to lose
SCANNED_ROWS, TRAINING_ROWS = 150, 1000
FLIPS, CATALOG_FLIPS, MANIFEST_FLIPS = 4, 60, 60  # of each file; of these two
QUERIES = unit_rows(4, 99)
MOST = 10_000  # more than there are rows

Answers = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """The undamaged index: where it is, what its segments are called, what it answers."""

    folder: Path
    segments: dict[str, str]  # role: folder below segments/
    quantiser: str
    answers: Answers
    rows: dict[int, tuple[Any, ...]]  # of each live id: its row, columns and vector

    def path(self, key: str, folder: Path) -> Path:
        """A file of the copy of the index in `folder`."""
        if key == QUANTISER:
            return folder / "quantisers" / f"{self.quantiser}.faiss"
        role, _, name = key.rpartition("/")
        return folder / "segments" / self.segments[role] / name if role else folder / name


# What there is to ask of an index


def ask(folder: Path, made_ids: range = range(MOST)) -> Answers:
    """The answer to every question, or the error that was raised instead."""
    try:
        store = Store.open(folder)
    except ClipsearchError as error:
        return dict.fromkeys(QUESTIONS, error)
    answers: Answers = {}
    with closing(store):
        for name, question in QUESTIONS.items():
            try:
                answers[name] = question(store)
            except ClipsearchError as error:
                answers[name] = error
    return answers


def by_id(store: Store, **wanted: Any) -> list[dict[int, Any]]:
    """What a search finds, by id: near ties may change places."""
    found = store.search(QUERIES, **wanted)
    return [{unit.id: (unit.media_id, unit.unit, unit.score) for unit in own} for own in found]


def ids_of(store: Store, **wanted: Any) -> list[dict[int, float]]:
    found = Index(store).search_vectors(QUERIES, **wanted)
    return [dict(zip(i.tolist(), s.tolist(), strict=True)) for s, i in zip(*found, strict=True)]


def hits_of(store: Store, kind: str | None) -> list[Any]:
    hits = [hit for query in QUERIES for hit in Index(store).search(query, kind=kind)]
    return [(h.id, str(h.path), h.kind, h.start, h.end, h.moment, h.columns, h.score) for h in hits]


def rows_of(store: Store) -> tuple[Any, ...]:
    rows, columns, there = store.rows(np.arange(MOST))
    return rows[[*LOOKUP_TYPE.names][:4]].tolist(), rows["kind"].tolist(), columns, there.tolist()


def dictionaries_of(store: Store) -> list[dict[str, Any]]:
    """Of ids that are there, so that a missing one is an error."""
    return Index(store).rows([1, 2, 3, *LIVE_IDS])


def counts_of(store: Store) -> tuple[Any, ...]:
    found = Index(store).status()
    counts = found.images, found.videos, found.failed, found.rows, found.dead_rows, found.segments
    return *counts, found.roots, found.model, found.dim


def media_of(store: Store) -> list[tuple[Any, ...]]:
    return [(m.id, str(m.path), m.kind, m.state, m.error) for m in store.catalog.all_media()]


LIVE_IDS: list[int] = []
QUESTIONS: dict[str, Callable[[Store], Any]] = {
    "exact": lambda store: by_id(store, k=25, exact=True),
    "probed": lambda store: by_id(store, k=25),
    "probed images": lambda store: by_id(store, k=5, kinds=("image",)),
    "ids, exact": lambda store: ids_of(store, top=10, exact=True),
    "ids, probed": lambda store: ids_of(store, top=10),
    "everything": lambda store: ids_of(store, top=MOST, kind=("video", "frame", "image")),
    "rows": rows_of,
    "dictionaries": dictionaries_of,
    "hits": lambda store: hits_of(store, None),
    "videos": lambda store: hits_of(store, "video"),
    "counts": counts_of,
    "media": media_of,
}
