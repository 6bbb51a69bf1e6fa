"""Writing the rows of an index for others. New format: one file and one line in `EXPORTS`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clipsearch.errors import UsageError
from clipsearch.exchange.rows import IndexRows, Record
from clipsearch.ingest import Progress
from clipsearch.store.lookup import norms_of
from clipsearch.store.store import Store
from clipsearch.types import KINDS_OF, SOURCES, UNIT_KINDS, VECTOR_KINDS, UnitKind
from clipsearch.where import Condition

if TYPE_CHECKING:
    from clipsearch.exchange.columns import Columns
    from clipsearch.exchange.job import Job

Writer = Callable[["Job", Path], int]


@dataclass(frozen=True, slots=True)
class Format:
    """Where the writer of a format is, what refuses its target, and what renames its columns; the
    module's FIXED_TYPES are the columns that it always has.
    """

    module: str
    writer: str
    checker: str
    renamer: str = "as_they_are"


EXPORTS = {
    "clip-retrieval": Format(
        "clipsearch.exchange.clip_retrieval", "write_folder", "check_target", "as_clip_retrieval"
    ),
    "npy": Format("clipsearch.exchange.arrays", "write_npy", "check_npy"),
    "parquet": Format("clipsearch.exchange.arrays", "write_parquet", "check_parquet", "as_parquet"),
}
LEFT_NAMES = {
    "pooled": "windows pooled by a head",
    "audio": "windows of sound",
    "text": "subtitles",
}


@dataclass(frozen=True, slots=True)
class ExportSpec:
    """Which rows to export, and whether what an earlier export has written may be replaced.

    kinds: of one source; those of "visual" may be "image", "frame" and "video".
    """

    kinds: tuple[UnitKind, ...] = VECTOR_KINDS
    where: Condition | None = None
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class ExportReport:
    """How many rows were written, and what a user should know of them, in sentences."""

    rows: int
    notices: tuple[str, ...]


def kinds_to_export(names: Iterable[str] | None) -> tuple[UnitKind, ...]:
    """The kinds of rows that names stand for; None: what is seen. Raises UsageError."""
    allowed = (*VECTOR_KINDS, "audio", "text")
    chosen = list(VECTOR_KINDS if names is None else dict.fromkeys(names))
    for name in chosen:
        if name not in allowed:
            raise UsageError(f"kind {name!r}: use some of {', '.join(allowed)}")
    if not chosen:
        raise UsageError(f"no kind is given: use some of {', '.join(allowed)}")
    return tuple(kind for kind in UNIT_KINDS if kind in chosen)


def export(
    store: Store,
    target: Path,
    form: str,
    spec: ExportSpec,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> ExportReport:
    """Write rows of an index as `form`, a name of EXPORTS; whole or not at all.

    Raises UsageError for a target that must not be written, or when no rows are meant.
    """
    from clipsearch.exchange.job import Job

    if form not in EXPORTS:
        raise UsageError(f"format {form!r}: use one of {', '.join(EXPORTS)}")
    if Path(target).resolve().is_relative_to(store.folder.resolve()):
        raise UsageError(f"{target} is inside the index: name a place outside")
    found = EXPORTS[form]
    home = import_module(found.module)
    getattr(home, found.checker)(target, overwrite=spec.overwrite)
    renamed = getattr(home, found.renamer)
    rows = IndexRows(store, spec.kinds, spec.where)
    if not len(rows):
        meant = "" if spec.where is None else " for which the condition holds"
        raise UsageError(
            f"nothing to export: the index has no rows of kind {', '.join(spec.kinds)}{meant}"
        )
    columns = _columns(rows, renamed, home.FIXED_TYPES, on_progress)
    job = Job(rows, columns, renamed, store.manifest, spec.overwrite, on_progress)
    writer: Writer = getattr(home, found.writer)
    mixed = [
        f"the values of the column {name!r} are of several types: they were written as JSON"
        for name in columns.mixed
    ]
    return ExportReport(writer(job, target), (*mixed, *_left_behind(store, rows)))


def _columns(
    rows: IndexRows,
    renamed: Callable[[Record], Record],
    fixed: dict[str, Any],
    on_progress: Callable[[Progress], None],
) -> Columns:
    """The columns of all records, and their types."""
    from clipsearch.exchange.columns import Columns  # pyarrow takes a tenth of a second

    columns, count = Columns(fixed), 0
    for records in rows.records():
        columns.observe(map(renamed, records))
        count += len(records)
        on_progress(Progress(0, len(rows), count))  # looked at, and none is written yet
    return columns


def _left_behind(store: Store, rows: IndexRows) -> list[str]:
    """What the index has and the export has not."""
    told = []
    for source in SOURCES:
        live = {
            kind: sum(view.live((kind,))[1] for view in store.snapshot(source).views)
            for kind in KINDS_OF[source]
        }
        for kind, count in live.items():
            if not count or kind in rows.kinds or (kind in VECTOR_KINDS and source == rows.source):
                continue
            how = "" if kind == "pooled" else f", which lie in a space of their own: --kind {kind}"
            name = LEFT_NAMES.get(kind, f"rows of kind {kind}")
            told.append(f"not exported: {count} {name}{how}")
    if not np.isnan(norms_of(rows.sample())).all():
        told.append(
            "not exported: the lengths that vectors had before they were scaled, which only the "
            "training of a head needs"
        )
    return told
