"""The embeddings folder of clip-retrieval: what its `inference` writes and its `index` reads.

    img_emb/img_emb_{p}.npy         (n, dim) float16 unit rows
    text_emb/text_emb_{p}.npy       the same for texts
    metadata/metadata_{p}.parquet   row k describes row k of both

Its server opens every `image_path` that exists as a picture, and fails for a video. So moments of
videos are called `film.mp4#t=12.5`, which says when it is and is no file; the path itself is in the
column `path`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clipsearch.errors import MediaError, UsageError
from clipsearch.exchange.arrays import NpyFile
from clipsearch.exchange.importing import Facts
from clipsearch.exchange.job import Job
from clipsearch.exchange.parts import (
    Part,
    opened_array,
    paired,
)
from clipsearch.exchange.places import NOTE_FILE, Layout, check_folder, read_note, whole_folder
from clipsearch.exchange.rows import Record, put_aside
from clipsearch.types import Failure

IMAGES, TEXTS, METADATA = "img_emb", "text_emb", "metadata"
LAYOUT = Layout((IMAGES, TEXTS, METADATA))
PART_ROWS = 250_000
FIXED_TYPES = {
    "image_path": pa.string(),
    "caption": pa.string(),
    "clipsearch_id": pa.int64(),
    "path": pa.string(),
    "kind": pa.string(),
    "start": pa.float64(),
    "end": pa.float64(),
    "frame_number": pa.int64(),
}


def as_clip_retrieval(record: Record) -> Record:
    """A record under clip-retrieval's names: image_path, caption, and no `id`, which is its own."""
    values = dict(record)
    id_, path, start = values.pop("id"), values["path"], values["start"]
    text = values.pop("text", None) if values["kind"] == "text" else None
    if not isinstance(values.get("caption", ""), str | None):
        put_aside(values, "caption")
    caption = values.pop("caption", None)
    for name in ("image_path", "clipsearch_id"):
        if name in values:
            put_aside(values, name)
    own = {
        "image_path": path if start is None else f"{path}#t={round(start, 3)}",
        "caption": text if caption is None else caption,
        "clipsearch_id": id_,
    }
    return own | values


def check_target(target: Path, *, overwrite: bool) -> None:
    """Raise UsageError for a target that must not be written."""
    check_folder(target, LAYOUT, overwrite=overwrite)


def write_folder(job: Job, target: Path) -> int:
    """Write rows for `clip-retrieval index`; how many.

    Raises UsageError for a target that must not be written.
    """
    name = TEXTS if job.rows.source == "text" else IMAGES
    digits = len(str(max(-(-len(job.rows) // PART_ROWS) - 1, 0)))
    number = written = 0
    blocks = job.blocks()
    block = next(blocks, None)
    with whole_folder(target, LAYOUT, overwrite=job.overwrite) as folder:
        (folder / name).mkdir()
        (folder / METADATA).mkdir()
        while block is not None:
            part = f"{number:0{digits}}"
            with (
                NpyFile(folder / name / f"{name}_{part}.npy", job.dim) as vectors,
                pq.ParquetWriter(
                    folder / METADATA / f"{METADATA}_{part}.parquet", job.columns.schema
                ) as metadata,
            ):
                while block is not None and vectors.rows < PART_ROWS:
                    vectors.write(block.vectors)
                    metadata.write_table(job.columns.table(block.records))
                    block = next(blocks, None)
            number, written = number + 1, written + vectors.rows
        (folder / NOTE_FILE).write_text(job.note(written).to_json(), "utf-8")
    return written


def arrays_in(folder: Path) -> list[Path]:
    """The files of embeddings, in their order. Raises UsageError where there are none."""
    found = sorted((folder / IMAGES).glob("*.npy"))
    if found:
        return found
    if any((folder / TEXTS).glob("*.npy")):
        raise UsageError(
            f"{folder} has embeddings of texts only, and an index holds what is seen: there is no "
            f"{IMAGES}"
        )
    raise UsageError(
        f"{folder} is no embeddings folder of clip-retrieval: it has no {IMAGES}/*.npy"
    )


def look_at(folder: Path) -> Facts:
    """The dimension of the first file that can be read, and the note of an export of ours.

    Raises UsageError.
    """
    texts = any((folder / TEXTS).glob("*.npy"))
    told = (f"not imported: {TEXTS}, as a row of an index has one vector",) if texts else ()
    reason = ""
    for path in arrays_in(folder):
        try:
            return Facts(opened_array(path).shape[1], read_note(folder), told)
        except MediaError as error:
            reason = f"{path.name}: {error}"
    raise UsageError(f"{folder / IMAGES} holds no .npy file that can be read: {reason}")


def read_folder(folder: Path) -> Iterator[Part | Failure]:
    """The embeddings of pictures with their metadata, some at a time.

    A file that cannot be read, or has other rows than its metadata, is a Failure.
    """
    arrays = arrays_in(folder)
    tables = sorted((folder / METADATA).glob("*.parquet"))
    by_key = {_key(path): path for path in tables}
    if len(by_key) < len(tables) or not {_key(path) for path in arrays} & by_key.keys():
        by_key = {}  # other names: they go by their order, as in clip-retrieval itself
        if len(tables) != len(arrays):
            raise UsageError(
                f"{folder} has {len(arrays)} files of embeddings and {len(tables)} of metadata: "
                "they must be as many"
            )
    for number, path in enumerate(arrays):
        table = by_key.get(_key(path)) if by_key else tables[number]
        if table is None:
            yield Failure(path, f"there is no {METADATA}_{_key(path)}.parquet that describes it")
            continue
        try:
            yield from paired(path, table)
        except MediaError as error:
            yield Failure(path, str(error))
    used = {_key(path) for path in arrays}
    for key, path in by_key.items():
        if key not in used:
            yield Failure(path, f"there is no {IMAGES}_{key}.npy that it describes")


def _key(path: Path) -> str:
    return path.stem.rpartition("_")[2]
