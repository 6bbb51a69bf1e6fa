"""Which film a subtitle file belongs to: the one beside it with the same name."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from clipsearch.media import SUFFIXES, subtitle_stems
from clipsearch.store.catalog import Catalog
from clipsearch.types import FoundFile, StoredMedia
from clipsearch.where import All, Test

_WITH_SUBTITLES = sorted(SUFFIXES["video"]) + sorted(SUFFIXES["audio"])  # in the order of choice


def owners(catalog: Catalog, media: Iterable[StoredMedia]) -> dict[int, StoredMedia]:
    """The indexed film or sound of each subtitle file among `media` that has one, by its id."""
    places = {item.id: _places(item) for item in media if item.kind == "subtitles"}
    if not places:
        return {}
    asked = {(file.root, file.relative): file for files in places.values() for file in files}
    known = catalog.media_at(list(asked.values()))
    found = {}
    for id_, files in places.items():
        there = (known.get((file.root, file.relative)) for file in files)
        film = next((one for one in there if one is not None and one.state == "ready"), None)
        if film is not None:
            found[id_] = film
    return found


def subtitles_of(catalog: Catalog, films: Iterable[StoredMedia]) -> set[int]:
    """Ids of the indexed subtitle files that belong to these films and sounds."""
    found: set[int] = set()
    for film in films:
        if film.kind not in ("video", "audio"):
            continue
        stem = re.sub(r"[*?\[]", r"[\g<0>]", posixpath.splitext(film.relative)[0])
        beside = All((Test("kind", "=", "subtitles"), Test("path", "glob", f"{stem}.*")))
        owned = owners(catalog, catalog.media_where(beside))
        found.update(id_ for id_, owner in owned.items() if owner.id == film.id)
    return found


def _places(subtitles: StoredMedia) -> list[FoundFile]:
    """Where the film may be."""
    return [
        FoundFile(subtitles.root, stem + written, "video", 0, 0)
        for stem in subtitle_stems(subtitles.relative)
        for suffix in _WITH_SUBTITLES
        for written in (suffix, suffix.upper())
    ]
