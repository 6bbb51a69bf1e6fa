"""The values that the layers hand to each other: frozen, checked on creation, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from clipsearch.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Stop = Callable[[], bool]  # whether to give up

MediaKind = Literal["image", "video", "audio", "subtitles"]
UnitKind = Literal["image", "frame", "video", "pooled", "audio", "text"]
HitKind = Literal["image", "frame", "video", "span", "audio", "text"]
Source = Literal["visual", "audio", "text"]
MEDIA_KINDS: tuple[MediaKind, ...] = get_args(MediaKind)
UNIT_KINDS: tuple[UnitKind, ...] = get_args(UnitKind)
HIT_KINDS: tuple[HitKind, ...] = get_args(HitKind)
VECTOR_KINDS = UNIT_KINDS[:3]  # that searches ask for; what stands for "video" is up to the index

# What is seen, heard and said. The vectors of each lie in a space of their own, with an encoder, a
# quantiser and segments of their own, also where two encoders are the same one.
SOURCES: tuple[Source, ...] = get_args(Source)
KINDS_OF: dict[Source, tuple[UnitKind, ...]] = {
    "visual": ("image", "frame", "video", "pooled"),
    "audio": ("audio",),
    "text": ("text",),
}
VISUAL_KINDS = KINDS_OF["visual"]
SOURCE_OF: dict[UnitKind, Source] = {
    kind: source for source, kinds in KINDS_OF.items() for kind in kinds
}

if TYPE_CHECKING:
    Pixels = NDArray[np.uint8]  # (height, width, 3) RGB
    Vectors = NDArray[np.float32]  # (n, dim)
    Norms = NDArray[np.float32]  # (n,), of vectors before they were scaled to unit length
    Wave = NDArray[np.float32]  # (samples,) mono sound, -1..1
else:  # the same, made when they are asked for: numpy takes longer to load than the command's help
    _ELEMENTS = {"Pixels": "uint8", "Vectors": "float32", "Norms": "float32", "Wave": "float32"}

    def __getattr__(name: str) -> Any:
        if name not in _ELEMENTS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        import numpy as np
        from numpy.typing import NDArray

        alias = NDArray[getattr(np, _ELEMENTS[name])]
        globals()[name] = alias
        return alias


UNIT_NORM_TOLERANCE = 1e-3  # fp16 storage moves the norm of a 512-d unit row by at most 2e-4


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file on disk that looks like media: `root / relative`, as discovered."""

    root: Path
    relative: str  # POSIX form, never starting with "/" or ".."
    kind: MediaKind
    size_bytes: int
    modified_ns: int

    @property
    def path(self) -> Path:
        """Where the file is now."""
        return self.root / self.relative


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What decoding tells about a file: upright size in pixels (0: no picture), duration (None: a
    still).
    """

    width: int
    height: int
    duration_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Unit:
    """What gets one vector: an image, a frame, a window of a video, pooled by the mean of its
    frames ("video") or by a trained head ("pooled"), a window of sound, or a text that is shown or
    said for a while.

    Times are presentation seconds, half-open [start, end); None for images. padding_seconds: the
    silence that was added to a window of sound that ends with its file. text: of kind "text".
    """

    kind: UnitKind
    start_seconds: float | None = None
    end_seconds: float | None = None
    frame_number: int | None = None
    padding_seconds: float = 0.0
    text: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in UNIT_KINDS:
            raise UsageError(f"unit kind {self.kind!r}: use one of {', '.join(UNIT_KINDS)}")
        timed = self.start_seconds is not None and self.end_seconds is not None
        if timed == (self.kind == "image"):
            raise UsageError(f"a unit of kind {self.kind} {'has no' if timed else 'needs'} times")
        if timed and not 0 <= self.start_seconds <= self.end_seconds:  # type: ignore[operator]
            raise UsageError(
                f"unit times [{self.start_seconds}, {self.end_seconds}) are not ordered"
            )
        if (self.text is not None) != (self.kind == "text"):
            raise UsageError(f"a unit of kind {self.kind} {'needs' if timed else 'has no'} text")


@dataclass(frozen=True, slots=True)
class MediaStream:
    """One opened file: its facts, and its units with their pixels, decoded as they are asked for.

    Iterating raises MediaError when the file turns out to be damaged.
    """

    info: MediaInfo
    units: Iterator[tuple[Unit, Pixels]]


@dataclass(frozen=True, slots=True)
class SoundStream:
    """One opened sound or sound track: its facts, and its windows with their samples, decoded as
    they are asked for. Iterating raises MediaError when the file turns out to be damaged.
    """

    info: MediaInfo
    units: Iterator[tuple[Unit, Wave]]


@dataclass(frozen=True, slots=True)
class EmbeddingBatch:
    """Vectors with the units they stand for: (n, dim) float32 unit rows, one unit a row.

    norms: the length that each row had as the encoder gave it, NaN where that is not known; None
    for all of them. Raises UsageError for NaN, another dtype or shape, rows that are not of unit
    length, or numbers of units or norms that differ from the number of rows. FAISS would take all
    of these in silence.
    """

    vectors: Vectors
    units: tuple[Unit, ...]
    norms: Norms | None = None

    def __post_init__(self) -> None:
        check_unit_rows(self.vectors)
        if len(self.units) != len(self.vectors):
            raise UsageError(f"{len(self.units)} units for {len(self.vectors)} vectors")
        check_norms(self.norms, len(self.vectors))


def check_unit_rows(vectors: Vectors) -> None:
    """Raise UsageError unless `vectors` is (n, dim) float32 with finite rows of unit length."""
    import numpy as np

    if vectors.ndim != 2 or vectors.dtype != np.float32:
        raise UsageError(
            f"vectors of shape {vectors.shape} and type {vectors.dtype}: need (n, dim) float32"
        )
    norms = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~(np.abs(norms - 1.0) <= UNIT_NORM_TOLERANCE))  # NaN is bad too
    if bad.size:
        raise UsageError(
            f"row {bad[0]} of {len(vectors)} has norm {norms[bad[0]]:.4g}: need unit rows"
        )


def check_norms(norms: Norms | None, count: int) -> None:
    """Raise UsageError unless `norms` is None or (count,) float32, each NaN or finite and >= 0."""
    import numpy as np

    if norms is None:
        return
    if norms.shape != (count,) or norms.dtype != np.float32:
        raise UsageError(f"norms of shape {norms.shape} and type {norms.dtype}: need ({count},) f4")
    if (norms < 0).any() or np.isinf(norms).any():
        raise UsageError("norms must be finite and not negative, NaN where they are not known")


@dataclass(frozen=True, slots=True, eq=False)
class VideoFrames:
    """The frames of one video as an encoder sees them, in order of time.

    Frame f is on display in [starts[f], ends[f]) presentation seconds; between two frames there
    may be a gap, where the picture was black. `norms[f]` is the length of its vector as the
    encoder gave it, NaN or None where that is not known. Raises UsageError for arrays that do not
    fit.
    """

    vectors: Vectors  # (m, dim) float32 unit rows
    starts: NDArray[np.float64]  # (m,) seconds, ascending
    ends: NDArray[np.float64]  # (m,) seconds
    norms: Norms | None = None  # (m,)

    def __post_init__(self) -> None:
        check_unit_rows(self.vectors)
        if not self.starts.shape == self.ends.shape == (len(self.vectors),):
            raise UsageError(
                f"{len(self.vectors)} frames with {len(self.starts)} starts, {len(self.ends)} ends"
            )
        check_norms(self.norms, len(self.vectors))

    def raw(self) -> Vectors:
        """(m, dim) rows as the encoder gave them, before they were scaled to unit length.

        Raises UsageError where their norms are not known.
        """
        import numpy as np

        if self.norms is None or np.isnan(self.norms).any():
            raise UsageError(
                "these frames were indexed before clipsearch kept the lengths of their vectors, "
                "which a trained head needs: build the index anew"
            )
        rows: Vectors = self.vectors * self.norms[:, None]
        return rows

    def raw_runs(self, window_starts: NDArray[np.float64]) -> list[Vectors]:
        """The raw rows of each of the windows of this video, which follow one another from these
        starts on. Raises UsageError as `raw`.
        """
        import numpy as np

        first = np.searchsorted(self.starts, window_starts, side="left")
        return np.split(self.raw(), first[1:])


@dataclass(frozen=True, slots=True)
class Span:
    """An interval of a video: [start, end) in presentation seconds, frames [first, last).

    score: what the search maximised, in its own unit. similarity: the mean cosine inside, weighted
    by time. contrast: that minus the mean cosine outside; 0 when nothing is outside.
    """

    start: float
    end: float
    score: float
    similarity: float
    contrast: float
    frames: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Hit:
    """One result. Times in presentation seconds, None for images; `moment` is where the best frame
    or the best window of sound starts. text: what is said, for kind "text".

    rank_score: what hits of several spaces are ranked by (clipsearch.search.fuse), whose scores do
    not compare; None where all are of one space.
    """

    path: Path
    kind: HitKind
    score: float  # cosine, -1..1; the mean inside, for a span
    start: float | None = None
    end: float | None = None
    moment: float | None = None
    id: int | None = None  # of its vector: of the best one, for a moment
    columns: Mapping[str, Any] = field(default_factory=dict)  # what was added with a vector
    text: str | None = None
    rank_score: float | None = None
    relevance: float | None = None  # 0..1, clipsearch.search.background; None: not measured

    @property
    def source(self) -> Source:
        """Whether it is seen, heard or said."""
        return "visual" if self.kind == "span" else SOURCE_OF[self.kind]


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Pictures, or parts of videos, that are nearly the same; `score` of a member is its cosine to
    the first, which has the most pixels. spare: files of members that have nothing that a file
    which is not spare does not have too.
    """

    members: tuple[Hit, ...]
    spare: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be indexed, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one indexing run did, in files; `failures` lists the ones that were skipped."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    moved: int = 0
    removed: int = 0
    failures: tuple[Failure, ...] = ()
    warnings: tuple[str, ...] = ()

    def with_failures(self, earlier: Sequence[Failure]) -> IngestReport:
        """The same report with failures that came before the run."""
        return replace(self, failures=(*earlier, *self.failures))


@dataclass(frozen=True, slots=True)
class EncodedMedia:
    """A file with everything the store keeps of it: facts, content hash, vectors and units.

    batches: by the source that was looked at; without rows where nothing was found. kept: sources
    whose rows the store has already, and keeps. trouble: what of it could not be read.
    """

    file: FoundFile
    content_hash: str
    info: MediaInfo
    batches: Mapping[Source, EmbeddingBatch]
    kept: tuple[Source, ...] = ()
    trouble: str | None = None

    def __post_init__(self) -> None:
        for source, batch in self.batches.items():
            if any(SOURCE_OF[unit.kind] != source for unit in batch.units):
                raise UsageError(f"units of another source than {source}")
        if set(self.kept) & set(self.batches):
            raise UsageError(f"sources {self.kept} cannot be kept and replaced")

    @property
    def row_count(self) -> int:
        """Units of all sources."""
        return sum(len(batch.units) for batch in self.batches.values())


@dataclass(frozen=True, slots=True)
class StoredMedia:
    """A file as the catalog knows it: `state` is "ready", or "failed" with an `error`. One that is
    ready has an `error` where a part of it could not be read.
    """

    id: int
    root: Path
    relative: str
    kind: MediaKind
    size_bytes: int
    modified_ns: int
    content_hash: str
    info: MediaInfo | None
    state: Literal["ready", "failed"]
    error: str | None = None
    sources: tuple[Source, ...] = ("visual",)  # that were looked at

    @property
    def path(self) -> Path:
        """Where the file was when it was last seen."""
        return self.root / self.relative


@dataclass(frozen=True, slots=True)
class ScoredUnit:
    """A stored unit with its exact cosine to a query; `id` is never reused."""

    score: float
    id: int
    media_id: int
    unit: Unit


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """What an index holds: files by kind, rows and segments, and how it was built."""

    path: Path
    model: str | None
    fingerprint: str
    dim: int
    recipe: str
    sampling: dict[str, Any]
    roots: tuple[Path, ...]
    images: int
    videos: int
    sounds: int
    subtitles: int
    failed: int
    rows: int
    dead_rows: int
    segments: int
    bytes_on_disk: int
    pooling: str = "mean"  # or the fingerprint of the head whose vectors are beside the mean's
    lists: int | None = None  # inverted lists; None: vectors are scanned
    trained_rows: int | None = None  # rows when the lists were trained
    nprobe: int | None = None
    candidates: int | None = None
    recall: Mapping[str, float] | None = None  # as `recall` measured it last
    advice: str | None = None  # what would make searching faster
    hears: str | None = None  # the fingerprint of the encoder of sound; None: it has no sound
    rows_heard: int | None = None  # windows of sound
    rows_said: int | None = None  # subtitles; None: they are not indexed
