"""Deleting an index, and nothing else that lies in its folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from clipsearch.store.backgrounds import BACKGROUND_FILE, BACKGROUND_TEMPORARY
from clipsearch.store.database import CATALOG_FILES, drop_catalog
from clipsearch.store.holder import LOCK_FILE, NOTE_FILE, locked
from clipsearch.store.manifest import MANIFEST_FILE, SEGMENTS, load_manifest
from clipsearch.store.quantiser import QUANTISERS
from clipsearch.store.writer import DAMAGED, TEMPORARY

# The manifest is last: what is left after an interruption is an index still, and can be deleted.
_PARTS = (
    SEGMENTS,
    QUANTISERS,
    DAMAGED,
    BACKGROUND_FILE,
    BACKGROUND_TEMPORARY,
    *CATALOG_FILES,
    MANIFEST_FILE + TEMPORARY,
    MANIFEST_FILE,
)


def delete_index(folder: Path, *, wait: bool = True) -> None:
    """Delete the index in `folder`, and the folder if nothing else is in it; media are not touched.

    Raises IndexMissingError if there is none, IndexDamagedError for a manifest that cannot be
    read, IndexLockedError when another process writes and `wait` is false.
    """
    load_manifest(folder)
    with locked(folder, wait=wait):
        manifest = load_manifest(folder)  # again: another process may have been first
        if manifest.catalog is not None:
            drop_catalog(manifest.catalog, folder)
        for name in _PARTS:
            path = folder / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    for name in (LOCK_FILE, NOTE_FILE):
        (folder / name).unlink(missing_ok=True)
    if not any(folder.iterdir()):
        folder.rmdir()
