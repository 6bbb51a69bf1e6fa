"""Search pictures and videos by words: the images, the videos and the seconds that match.

    import clipsearch

    with clipsearch.Index.create("indexes/holiday", model="builtin") as index:
        index.add(["./photos", "./videos"])
        for hit in index.search("a cup of coffee", top=5):
            print(hit.score, hit.path, hit.moment)
        span = index.span("videos/party.mp4", "someone blows out candles")

Names load their modules when first used, so that importing clipsearch is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from clipsearch.version import VERSION

if TYPE_CHECKING:
    from clipsearch import eval, heads
    from clipsearch.captioned import CaptionedVideos, HeadSpec, TrainListener
    from clipsearch.classify import ZeroShotClassifier
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
    from clipsearch.exchange.adding import ImportListener, ImportReport
    from clipsearch.exchange.exporting import ExportReport, ExportSpec
    from clipsearch.exchange.importing import ImportSpec
    from clipsearch.heads.choose import PoolingSpec
    from clipsearch.heads.schedule import TrainSpec
    from clipsearch.ingest import AddListener, AddOptions, Progress
    from clipsearch.ingest.repool import RepoolReport
    from clipsearch.media.clips import Clip, cut
    from clipsearch.media.sampling import SamplingSpec, parse_sampling
    from clipsearch.search.align import align, find_interval
    from clipsearch.search.films import novelty_of
    from clipsearch.search.grammar import Term
    from clipsearch.search.probe import Probe
    from clipsearch.search.query import Query
    from clipsearch.search.rerank import Rerank
    from clipsearch.search.spans import find_span, find_spans
    from clipsearch.types import (
        DuplicateGroup,
        Failure,
        Hit,
        IndexStatus,
        IngestReport,
        Span,
        StoredMedia,
        VideoFrames,
    )
    from clipsearch.video import Curves, Video

__version__ = VERSION

__all__ = [
    "AddListener",
    "AddOptions",
    "CaptionedVideos",
    "Clip",
    "ClipsearchError",
    "Curves",
    "DuplicateGroup",
    "EncoderError",
    "ExportReport",
    "ExportSpec",
    "Failure",
    "HeadSpec",
    "Hit",
    "ImportListener",
    "ImportReport",
    "ImportSpec",
    "Index",
    "IndexDamagedError",
    "IndexExistsError",
    "IndexLockedError",
    "IndexMissingError",
    "IndexStatus",
    "IngestReport",
    "MediaError",
    "PoolingSpec",
    "Probe",
    "Progress",
    "Query",
    "RepoolReport",
    "Rerank",
    "SamplingSpec",
    "Span",
    "StoredMedia",
    "Term",
    "TrainListener",
    "TrainSpec",
    "UsageError",
    "Video",
    "VideoFrames",
    "ZeroShotClassifier",
    "align",
    "cut",
    "eval",
    "find_interval",
    "find_span",
    "find_spans",
    "heads",
    "novelty_of",
    "parse_sampling",
]

_MODULES = ("eval", "heads")
_HOMES = {
    "clipsearch.captioned": ("CaptionedVideos", "HeadSpec", "TrainListener"),
    "clipsearch.classify": ("ZeroShotClassifier",),
    "clipsearch.engine": ("Index",),
    "clipsearch.exchange.adding": ("ImportListener", "ImportReport"),
    "clipsearch.exchange.exporting": ("ExportReport", "ExportSpec"),
    "clipsearch.exchange.importing": ("ImportSpec",),
    "clipsearch.heads.choose": ("PoolingSpec",),
    "clipsearch.heads.schedule": ("TrainSpec",),
    "clipsearch.ingest": ("AddListener", "AddOptions", "Progress"),
    "clipsearch.ingest.repool": ("RepoolReport",),
    "clipsearch.media.clips": ("Clip", "cut"),
    "clipsearch.media.sampling": ("SamplingSpec", "parse_sampling"),
    "clipsearch.search.align": ("align", "find_interval"),
    "clipsearch.search.films": ("novelty_of",),
    "clipsearch.search.grammar": ("Term",),
    "clipsearch.search.probe": ("Probe",),
    "clipsearch.search.query": ("Query",),
    "clipsearch.search.rerank": ("Rerank",),
    "clipsearch.search.spans": ("find_span", "find_spans"),
    "clipsearch.types": (
        "DuplicateGroup",
        "Failure",
        "Hit",
        "IndexStatus",
        "IngestReport",
        "Span",
        "StoredMedia",
        "VideoFrames",
    ),
    "clipsearch.video": ("Curves", "Video"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'clipsearch' has no attribute {name!r}")
    if name in _MODULES:
        return import_module(f"clipsearch.{name}")
    home = next((m for m, names in _HOMES.items() if name in names), "clipsearch.errors")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
