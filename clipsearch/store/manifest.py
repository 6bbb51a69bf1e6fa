"""`manifest.json`: what an index is made of. An index exists when its manifest does."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from clipsearch.errors import IndexDamagedError, IndexMissingError, UsageError
from clipsearch.store.recipes import IndexRecipe

FORMAT_VERSION = 1
FORMAT_NAME = "clipsearch-index"
MANIFEST_FILE = "manifest.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The specs that an index was built with. `sampling` is empty until media are first added."""

    encoder: str  # an encoder spec, as `--model` takes it
    fingerprint: str
    dim: int
    recipe: IndexRecipe
    sampling: dict[str, Any]
    catalog: str | None = None  # a database URL; None: catalog.sqlite inside the index
    written_by: str = ""

    def save(self, folder: Path) -> None:
        """Write atomically and durably."""
        text = json.dumps(
            {"format": FORMAT_NAME, "format_version": FORMAT_VERSION, **asdict(self)}, indent=2
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
        recipe = IndexRecipe(**values.pop("recipe"))
        known = {field.name for field in fields(Manifest)}
        manifest = Manifest(recipe=recipe, **{k: v for k, v in values.items() if k in known})
    except (KeyError, TypeError) as error:
        raise IndexDamagedError(f"{path} lacks a part or has a wrong one: {error}") from error
    if not isinstance(manifest.dim, int) or manifest.dim < 1:
        raise IndexDamagedError(f"{path} has dim {manifest.dim!r}: need a whole number")
    return manifest


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
