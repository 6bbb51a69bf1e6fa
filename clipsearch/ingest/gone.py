"""Forget files that are gone, except where there is no media at all any more."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from clipsearch.ingest.scopes import Scope, is_below
from clipsearch.media.files import is_gone
from clipsearch.store.catalog import Catalog
from clipsearch.types import StoredMedia


@dataclass(frozen=True, slots=True)
class Gone:
    """What looking through a scope showed besides its files."""

    scope: Scope
    empty: set[str]  # parts of the scope that have no media
    unreadable: list[str] = field(default_factory=list)


def forget_gone(
    catalog: Catalog,
    look: Gone,
    seen: Collection[int],
    *,
    next_id: int,
    exclude_dirs: Collection[str],
) -> tuple[int, list[str]]:
    """Take files out of the index that were known before the run (their ids are below `next_id`),
    not seen in it, and are not there; how many they were, and what to warn of.
    """
    scope = look.scope
    missing = [
        media
        for media in catalog.all_media(scope.root)
        if media.id < next_id
        and media.id not in seen
        and scope.covers(media.relative)
        and not _below_any(media.relative, look.unreadable)
        and (is_gone(media.path) or _excluded(media, exclude_dirs))
    ]
    warnings = []
    for part in sorted(look.empty):
        kept = [media for media in missing if is_below(media.relative, part)]
        if kept and (scope.root / part).is_dir():
            warnings.append(
                f"{scope.root / part} has no media now but {len(kept)} indexed files: kept, "
                "in case its disk is away"
            )
            missing = [media for media in missing if media not in kept]
    catalog.remove_media([media.id for media in missing])
    return len(missing), warnings


def _excluded(media: StoredMedia, exclude_dirs: Collection[str]) -> bool:
    return not set(exclude_dirs).isdisjoint(media.relative.split("/")[:-1])


def _below_any(relative: str, parts: Sequence[str]) -> bool:
    return any(is_below(relative, part) for part in parts)
