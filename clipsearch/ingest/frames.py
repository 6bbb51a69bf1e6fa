"""The frames of one video as vectors, without an index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from clipsearch.encoders.base import Encoder, Prepared
from clipsearch.errors import MediaError, UsageError
from clipsearch.ingest.pooling import with_norms
from clipsearch.ingest.readahead import read_ahead
from clipsearch.ingest.run import Progress
from clipsearch.media import ReadSpec, kind_of, open_media
from clipsearch.types import Unit, VideoFrames

BATCH_FRAMES = 32

Chunk = list[tuple[Unit, Prepared]]


def check_video(path: Path) -> None:
    """Raise UsageError for a path that is not that of a video."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name one video")
    if not path.exists():
        raise UsageError(f"{path}: no such file")
    if kind_of(path.name) != "video":
        raise UsageError(f"{path}: its name is not that of a video, and spans are parts of videos")


def read_frames(
    path: Path, encoder: Encoder, spec: ReadSpec, *, on_progress: Callable[[Progress], None]
) -> VideoFrames:
    """Decode and encode the frames that sampling chooses; decoding runs ahead in a thread.

    Raises UsageError for what is no video, MediaError for one that cannot be read.
    """
    check_video(path)

    def prepared(file: Path) -> Iterator[Chunk]:
        chunk: Chunk = []
        for unit, pixels in open_media(file, spec).units:
            chunk.append((unit, encoder.prepare(pixels)))
            if len(chunk) == BATCH_FRAMES:
                yield chunk
                chunk = []
        yield chunk

    units: list[Unit] = []
    raw = [np.empty((0, encoder.dim), np.float32)]
    try:
        with closing(read_ahead([path], prepared, workers=1)) as reading:
            for _, chunks in reading:
                for chunk in chunks:
                    prepared_frames = [picture for _, picture in chunk]
                    raw.append(encoder.encode_images(prepared_frames, normalize=False))
                    units += [unit for unit, _ in chunk]
                    on_progress(Progress(0, 1, len(units)))
    except MediaError as error:
        raise MediaError(f"{path}: {error}") from error
    vectors, norms = with_norms(np.concatenate(raw))
    return VideoFrames(
        vectors,
        np.array([unit.start_seconds for unit in units], np.float64),
        np.array([unit.end_seconds for unit in units], np.float64),
        norms,
    )
