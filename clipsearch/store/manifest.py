"""`manifest.json`: what an index is made of. An index exists when its manifest does."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from clipsearch.errors import IndexDamagedError, IndexMissingError, UsageError
from clipsearch.store.recipes import AUTO, check_recipe

FORMAT_VERSION = 2
FORMAT_NAME = "clipsearch-index"
MANIFEST_FILE = "manifest.json"


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
    format_version: int = FORMAT_VERSION  # as it was read

    def save(self, folder: Path) -> None:
        """Write atomically and durably."""
        text = json.dumps(
            {"format": FORMAT_NAME, **asdict(self), "format_version": FORMAT_VERSION}, indent=2
        )
        temporary = folder / (MANIFEST_FILE + ".tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
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
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise IndexMissingError(
            f"no index at {folder}: build one with `clipsearch index FOLDER`, "
            "or name one with --index"
        ) from None
    except (OSError, ValueError) as error:
        raise IndexDamagedError(f"{path} cannot be read: {error}") from error
    return _parse(path, values)


def _parse(path: Path, values: Any) -> Manifest:
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT_NAME:
        raise IndexDamagedError(f"{path} is not the manifest of a clipsearch index")
    version = values.pop("format_version", None)
    if not isinstance(version, int) or version < 1:
        raise IndexDamagedError(f"{path} has format version {version!r}: need a whole number")
    if version > FORMAT_VERSION:
        raise IndexDamagedError(
            f"{path} has format version {version}, this clipsearch reads up to {FORMAT_VERSION}: "
            f"install clipsearch {values.get('written_by', '')} or newer"
        )
    try:
        if version == 1:  # a recipe with its numbers; flat was what one got without asking
            name = values["recipe"]["name"]
            values["recipe"] = AUTO if name == "flat" else name
        known = {field.name for field in fields(Manifest)}
        manifest = Manifest(
            **{k: v for k, v in values.items() if k in known and k != "tuning"},
            tuning=_parse_tuning(values.get("tuning")),
            format_version=version,
        )
        check_recipe(manifest.recipe)
    except (KeyError, TypeError, UsageError) as error:
        raise IndexDamagedError(f"{path} lacks a part or has a wrong one: {error}") from error
    if not isinstance(manifest.dim, int) or manifest.dim < 1:
        raise IndexDamagedError(f"{path} has dim {manifest.dim!r}: need a whole number")
    return manifest


def _parse_tuning(values: Any) -> Tuning | None:
    if values is None:
        return None
    measured = values.pop("measured", None)
    return Tuning(**values, measured=None if measured is None else Measured(**measured))


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
