"""Reading vectors of others into an index. New format: one file and one line in `IMPORTS`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from clipsearch.encoders import parse_spec
from clipsearch.errors import EncoderError, UsageError
from clipsearch.exchange.adding import ImportListener, ImportReport, add_parts
from clipsearch.exchange.places import Note
from clipsearch.store.manifest import Manifest
from clipsearch.store.store import Store
from clipsearch.types import VECTOR_KINDS, Failure

if TYPE_CHECKING:
    from clipsearch.exchange.parts import Part

# Where the reader of each format is, and what tells its vectors' dimension and note.
IMPORTS = {
    "clip-retrieval": ("clipsearch.exchange.clip_retrieval", "read_folder", "look_at"),
    "clip-video-encode": ("clipsearch.exchange.clip_video_encode", "read_folder", "look_at"),
    "npy": ("clipsearch.exchange.array_files", "read_npy", "look_at_npy"),
    "parquet": ("clipsearch.exchange.array_files", "read_parquet", "look_at_parquet"),
}
NEEDS_RATE = ("clip-video-encode",)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of vectors before they are read."""

    dim: int
    note: Note | None = None  # of an export of clipsearch
    notices: tuple[str, ...] = ()  # what of the files is not read, in sentences


@dataclass(frozen=True, slots=True)
class ImportSpec:
    """How to read vectors of others.

    model: that made them; must be given for an index with a model unless an export says it.
    fps: the rate of the frames, of "clip-video-encode". wait: for another process that writes.
    """

    model: str | None = None
    fps: float | None = None
    wait: bool = True

    def __post_init__(self) -> None:
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise UsageError(f"fps {self.fps}: use the frames a second that were encoded, above 0")


def facts_of(source: Path, form: str) -> Facts:
    """What files of a format, a name of IMPORTS, tell of themselves. Raises UsageError."""
    if form not in IMPORTS:
        raise UsageError(f"format {form!r}: use one of {', '.join(IMPORTS)}")
    if not source.exists():
        raise UsageError(f"{source}: no such file or folder")
    module, _, name = IMPORTS[form]
    facts: Facts = getattr(import_module(module), name)(source)
    return facts


def check_fit(facts: Facts, manifest: Manifest, *, model: str | None) -> None:
    """Raise UsageError or EncoderError unless an index can hold the vectors.

    model: that made them, as the user says; None: only what an export says of itself is known.
    """
    note = facts.note
    check_kinds(facts)
    if facts.dim != manifest.dim:
        raise UsageError(f"these vectors have {facts.dim} dimensions, those of the index "
                         f"{manifest.dim}")  # fmt: skip
    if model is not None and manifest.encoder is None:
        raise UsageError("the index has no model, its vectors were made elsewhere: give no --model")
    if model is not None and str(parse_spec(model)) != manifest.encoder:
        raise EncoderError(
            f"the index was built with the model {manifest.encoder}, not {model}: name another one"
        )
    if manifest.encoder is None:
        return
    if note is not None and note.model is not None:
        if note.fingerprint != manifest.fingerprint:
            raise EncoderError(
                f"these vectors were made with {note.fingerprint}, those of the index with "
                f"{manifest.fingerprint}: name another index"
            )
    elif model is None:
        raise UsageError(
            f"the index was built with the model {manifest.encoder}: if that made these vectors, "
            f"too, say so with --model {manifest.encoder}; if not, name another index"
        )


def check_kinds(facts: Facts) -> None:
    """Raise UsageError for an export of rows that cannot be added as vectors."""
    if facts.note is not None and not set(facts.note.kinds) <= set(VECTOR_KINDS):
        raise UsageError(
            f"these are rows of kind {', '.join(facts.note.kinds)}: only {', '.join(VECTOR_KINDS)} "
            "can be imported; index the files themselves"
        )


def read_parts(source: Path, form: str, *, fps: float | None = None) -> Iterator[Part | Failure]:
    """The vectors in files of a format. Raises UsageError."""
    if (fps is None) == (form in NEEDS_RATE):
        needed = "needs" if fps is None else "has no"
        raise UsageError(f"{form} {needed} rate of its frames (fps)")
    module, name, _ = IMPORTS[form]
    read = getattr(import_module(module), name)
    parts: Iterator[Part | Failure] = read(source) if fps is None else read(source, fps=fps)
    return parts


def import_into(
    store: Store, source: Path, form: str, spec: ImportSpec, listener: ImportListener | None
) -> ImportReport:
    """Add what files of a format hold. Raises UsageError, EncoderError or IndexLockedError."""
    check_fit(facts_of(source, form), store.manifest, model=spec.model)
    parts = read_parts(source, form, fps=spec.fps)
    return add_parts(store, parts, wait=spec.wait, listener=listener)
