"""Search pictures and videos by words: the images, the videos and the seconds that match.

    import clipsearch

    with clipsearch.Index.create("indexes/holiday", model="builtin") as index:
        index.add(["./photos", "./videos"])
        for hit in index.search("a cup of coffee", top=5):
            print(hit.score, hit.path, hit.moment)

Names load their modules when first used, so that importing clipsearch is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clipsearch.version import VERSION

if TYPE_CHECKING:
    from clipsearch.engine import Index
    from clipsearch.errors import (
        ClipsearchError,
        EncoderError,
        IndexDamagedError,
        IndexExistsError,
        IndexLockedError,
        IndexMissingError,
        MediaError,
        UsageError,
    )
    from clipsearch.ingest import AddListener, AddOptions, Progress
    from clipsearch.media.sampling import SamplingSpec, parse_sampling
    from clipsearch.types import Failure, Hit, IndexStatus, IngestReport, StoredMedia

__version__ = VERSION

__all__ = [
    "AddListener",
    "AddOptions",
    "ClipsearchError",
    "EncoderError",
    "Failure",
    "Hit",
    "Index",
    "IndexDamagedError",
    "IndexExistsError",
    "IndexLockedError",
    "IndexMissingError",
    "IndexStatus",
    "IngestReport",
    "MediaError",
    "Progress",
    "SamplingSpec",
    "StoredMedia",
    "UsageError",
    "parse_sampling",
]

_HOMES = {
    "clipsearch.engine": ("Index",),
    "clipsearch.ingest": ("AddListener", "AddOptions", "Progress"),
    "clipsearch.media.sampling": ("SamplingSpec", "parse_sampling"),
    "clipsearch.types": ("Failure", "Hit", "IndexStatus", "IngestReport", "StoredMedia"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'clipsearch' has no attribute {name!r}")
    home = next((m for m, names in _HOMES.items() if name in names), "clipsearch.errors")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
