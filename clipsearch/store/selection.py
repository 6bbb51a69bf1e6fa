"""Which rows a search may find."""

from __future__ import annotations

from dataclasses import dataclass

from clipsearch.where import Condition


@dataclass(frozen=True, slots=True)
class Selection:
    """Rows of files for which `where` holds, but none of media ids `without`, and none of unit ids
    `without_ids`.
    """

    where: Condition | None = None
    without: frozenset[int] = frozenset()
    without_ids: frozenset[int] = frozenset()
