"""Forgetting files that are gone, also those of a folder or disk that is given up."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clipsearch.media.files import is_gone
from clipsearch.store.catalog import Catalog
from clipsearch.types import StoredMedia


@dataclass(frozen=True, slots=True)
class PruneReport:
    """Files that are forgotten, and folders with the numbers of files in them that were kept, as
    nothing of them is there: their disk may be away.
    """

    gone: tuple[StoredMedia, ...]
    away: tuple[tuple[Path, int], ...]


def find_gone(catalog: Catalog, given_up: Sequence[Path] = ()) -> PruneReport:
    """The indexed files that are no more, by root and path.

    Where none of the files of an indexed folder is there, they are kept, but for those in a folder
    or file of `given_up`; if any of these are named, nothing outside of them is looked at.
    """
    named = [Path(os.path.abspath(path)) for path in given_up]  # noqa: PTH100, as links are indexed
    gone: list[StoredMedia] = []
    away: list[tuple[Path, int]] = []
    for root in catalog.roots():
        missing, there = [], 0
        for media in catalog.all_media(root):
            if named and not any(media.path.is_relative_to(path) for path in named):
                continue
            if is_gone(media.path, follow_links=False):
                missing.append(media)
            else:
                there += 1
        if missing and not there and not named:
            away.append((root, len(missing)))
        else:
            gone += missing
    return PruneReport(tuple(gone), tuple(away))
