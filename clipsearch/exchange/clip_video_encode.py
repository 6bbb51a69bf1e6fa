"""The output of clip-video-encode: `NAME.npy` with a vector for each frame that it looked at.

Beside it NAME.txt may hold a caption and NAME.json further columns. It notes no times, rate or
model, so these must be told.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from clipsearch.errors import MediaError, UsageError
from clipsearch.exchange.columns import OTHER, kind_of
from clipsearch.exchange.importing import Facts
from clipsearch.exchange.incoming import PATHS, TIMED
from clipsearch.exchange.parts import Part, array_blocks, opened_array
from clipsearch.exchange.rows import ROWS_AT_ONCE
from clipsearch.textfiles import read_bounded
from clipsearch.types import Failure

LARGEST_SIDECAR = 1 << 24
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".mpeg")


def arrays_in(folder: Path) -> list[Path]:
    """The files of embeddings, in their order. Raises UsageError where there are none."""
    found = [folder] if folder.is_file() else sorted(folder.rglob("*.npy"))
    if not found:
        hint = ": unpack them first" if any(folder.glob("*.tar")) else ""
        raise UsageError(f"{folder} holds no .npy files of clip-video-encode{hint}")
    return found


def look_at(folder: Path) -> Facts:
    """The dimension of the first file that can be read. Raises UsageError."""
    reason = ""
    for path in arrays_in(folder):
        try:
            return Facts(opened_array(path).shape[1])
        except MediaError as error:
            reason = f"{path.name}: {error}"
    raise UsageError(f"{folder} holds no .npy file that can be read: {reason}")


def read_folder(folder: Path, *, fps: float) -> Iterator[Part | Failure]:
    """The frames of each video, frame k at [k / fps, (k + 1) / fps) seconds.

    fps: of the frames that were encoded, so the video's own rate divided by take_every_nth. A file
    that cannot be read is a Failure.
    """
    for path in arrays_in(folder):
        try:
            vectors = opened_array(path)
            columns = _columns(path, folder)
        except (MediaError, UsageError) as error:
            yield Failure(path, str(error))
            continue
        for number, block in enumerate(array_blocks(vectors)):
            frames = np.arange(len(block)) + number * ROWS_AT_ONCE
            yield Part(path, block, _table(frames, fps, columns))


def _table(frames: np.ndarray, fps: float, columns: dict[str, Any]) -> pa.Table:
    fixed = {"kind": "frame", **columns}
    repeated = {name: [value] * len(frames) for name, value in fixed.items()}
    return pa.table({**repeated, "start": frames / fps, "end": (frames + 1) / fps})


def _columns(path: Path, folder: Path) -> dict[str, Any]:
    """What the files beside an array say, and the video that is meant. Raises UsageError or
    MediaError.
    """
    columns: dict[str, Any] = {}
    details, caption = path.with_suffix(".json"), path.with_suffix(".txt")
    if details.is_file():
        values = _parsed(details)
        reserved = {*PATHS[:2], *TIMED}
        columns = {f"source_{k}" if k in reserved else k: v for k, v in values.items()}
    if caption.is_file():
        text = read_bounded(caption, LARGEST_SIDECAR)
        columns["caption"] = text.decode("utf-8", "replace").strip()
    columns["path"] = _video_of(path, folder)
    try:
        json.dumps(columns, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise MediaError(
            f"its name, or what lies beside it, is not valid UTF-8: {error.reason}"
        ) from error
    return columns


def _parsed(file: Path) -> dict[str, Any]:
    """The values in a file, inner ones by names with dots. Raises UsageError."""
    try:
        values = json.loads(read_bounded(file, LARGEST_SIDECAR))
        if not isinstance(values, dict):
            raise ValueError("it is no object")
        flat = dict(_flattened(values))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file.name} beside it cannot be read: {error}") from error
    odd = [name for name, value in flat.items() if kind_of(value).endswith(OTHER)]
    return flat | {name: json.dumps(flat[name], ensure_ascii=False) for name in odd}


def _flattened(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flattened(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _video_of(path: Path, folder: Path) -> str:
    """The video beside an array, else its name below the folder without the suffix."""
    for suffix in VIDEO_SUFFIXES:
        video = path.with_suffix(suffix)
        if video.is_file():
            return os.path.abspath(video)  # noqa: PTH100
    return path.stem if path == folder else str(path.relative_to(folder).with_suffix(""))
