"""`manifest.json`: what an index is made of. An index exists when its manifest does."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from clipsearch.errors import IndexDamagedError, IndexMissingError, UsageError
from clipsearch.store.arrays import read_file
from clipsearch.store.recipes import AUTO, check_recipe
from clipsearch.types import Source

FORMAT_VERSION = 5
FORMAT_NAME = "clipsearch-index"
MANIFEST_FILE = "manifest.json"
SEGMENTS = "segments"
DIGEST = "sha256"  # of the other values
FIELD_TYPES: dict[str, tuple[type, ...]] = {
    "encoder": (str, type(None)),
    "fingerprint": (str,),
    "dim": (int,),
    "recipe": (str,),
    "sampling": (dict,),
    "catalog": (str, type(None)),
    "written_by": (str,),
    "texts": (bool,),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Recall@k as it was measured, by the kind of query: "text", "image"."""

    k: int
    rows: int  # in the index then
    recall: dict[str, float]
    cpu_ms: dict[str, float]  # median of a query


@dataclass(frozen=True, slots=True)
class Tuning:
    """How widely to search, tuned or as the recipe says, and what was measured with it."""

    quantiser: str  # the name of the one it is for
    nprobe: int
    candidates: int
    measured: Measured | None = None


@dataclass(frozen=True, slots=True)
class AudioSettings:
    """How an index hears: an encoder, which may be the index's own, and its windows of sound."""

    encoder: str  # an encoder spec
    fingerprint: str
    dim: int
    window_seconds: float
    hop_seconds: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """The specs that an index was built with. `sampling` is empty until media are first added."""

    encoder: str | None  # an encoder spec, as `--model` takes it; None: vectors are made elsewhere
    fingerprint: str
    dim: int
    recipe: str  # the name of one, or "auto"
    sampling: dict[str, Any]
    catalog: str | None = None  # a database URL; None: catalog.sqlite inside the index
    written_by: str = ""
    tuning: Tuning | None = None
    audio: AudioSettings | None = None  # None: sound is not indexed
    texts: bool = False  # whether subtitles are indexed
    format_version: int = FORMAT_VERSION  # as it was read

    def dim_of(self, source: Source) -> int:
        """Length of the vectors of a source. Raises IndexDamagedError if it is not known."""
        if source != "audio":
            return self.dim
        if self.audio is None:
            raise IndexDamagedError(
                "the manifest knows of no sound, but there are vectors of sound: put the manifest "
                "back from a copy"
            )
        return self.audio.dim

    def save(self, folder: Path) -> None:
        """Write atomically and durably."""
        values = {"format": FORMAT_NAME, **asdict(self), "format_version": FORMAT_VERSION}
        text = json.dumps({**values, DIGEST: _digest(values)}, indent=2)
        temporary = folder / (MANIFEST_FILE + ".tmp")
        temporary.unlink(missing_ok=True)  # it may be a link
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / MANIFEST_FILE)
        sync_folder(folder)


def load_manifest(folder: Path) -> Manifest:
    """Read `folder/manifest.json`. Raises IndexMissingError, IndexDamagedError or UsageError."""
    path = folder / MANIFEST_FILE
    if folder.is_file():
        raise UsageError(f"{folder} is a file: an index is a folder, name another with --index")
    try:
        if not folder.is_dir():
            raise FileNotFoundError
        values = json.loads(read_file(path))
    except FileNotFoundError:
        if holds_segments(folder):
            raise IndexDamagedError(
                f"{path} is missing, though the folder holds an index: put it back from a copy",
                path,
            ) from None
        raise IndexMissingError(
            f"no index at {folder}: build one with `clipsearch index FOLDER`, "
            "or name one with --index"
        ) from None
    except (ValueError, RecursionError) as error:
        raise IndexDamagedError(f"{path} cannot be read: {error}", path) from error
    return _parse(path, values)


def holds_segments(folder: Path) -> bool:
    """Whether vectors were published into a folder, with or without a manifest."""
    try:
        return any(entry.suffix != ".tmp" for entry in (folder / SEGMENTS).iterdir())
    except OSError:
        return False


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _parse(path: Path, values: Any) -> Manifest:
    if not isinstance(values, dict) or values.get("format") != FORMAT_NAME:
        raise IndexDamagedError(f"{path} is not the manifest of a clipsearch index", path)
    digest = values.pop(DIGEST, None)
    right_digest = _digest(values)
    version = values.pop("format_version", None)
    if not isinstance(version, int) or version < 1:
        raise IndexDamagedError(f"{path} has format version {version!r}: need a whole number")
    if version > FORMAT_VERSION:
        raise IndexDamagedError(
            f"{path} has format version {version}, this clipsearch reads up to {FORMAT_VERSION}: "
            f"install clipsearch {values.get('written_by', '')} or newer"
        )
    if version > 1 and digest != right_digest:
        raise IndexDamagedError(f"{path} was changed: it does not fit the checksum in it", path)
    try:
        if version == 1:  # a recipe with its numbers; flat was what one got without asking
            name = values["recipe"]["name"]
            values["recipe"] = AUTO if name == "flat" else name
        known = {field.name for field in fields(Manifest)}
        manifest = Manifest(
            **{k: v for k, v in values.items() if k in known - {"tuning", "audio"}},
            tuning=_parse_tuning(values.get("tuning")),
            audio=_parse_audio(values.get("audio")),
            format_version=version,
        )
        check_recipe(manifest.recipe)
        for name, kinds in FIELD_TYPES.items():
            if type(getattr(manifest, name)) not in kinds:
                raise TypeError(f"{name} is {getattr(manifest, name)!r}")
    except (KeyError, TypeError, AttributeError, UsageError) as error:
        raise IndexDamagedError(f"{path} lacks a part or has a wrong one: {error}", path) from error
    if manifest.dim < 1:
        raise IndexDamagedError(f"{path} has dim {manifest.dim!r}: need a whole number", path)
    return manifest


def _parse_tuning(values: Any) -> Tuning | None:
    if values is None:
        return None
    measured = values.pop("measured", None)
    tuning = Tuning(**values, measured=None if measured is None else Measured(**measured))
    for width in (tuning.nprobe, tuning.candidates):
        if type(width) is not int or width < 1:
            raise TypeError(f"tuning has {width!r}: need whole numbers")
    return tuning


def _parse_audio(values: Any) -> AudioSettings | None:
    if values is None:
        return None
    audio = AudioSettings(**values)
    texts = (audio.encoder, audio.fingerprint)
    seconds = (audio.window_seconds, audio.hop_seconds)
    right = all(type(text) is str for text in texts) and type(audio.dim) is int and audio.dim > 0
    if not right or not all(isinstance(s, int | float) and s > 0 for s in seconds):
        raise TypeError(f"audio is {audio}")
    return audio


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
