"""`Index`: one encoder and one store, as a library offers them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from clipsearch.encoders import load_encoder, parse_spec, resolve_auto
from clipsearch.encoders.base import Encoder, EncoderSpec
from clipsearch.errors import EncoderError, UsageError
from clipsearch.ingest import AddListener, AddOptions, Ingest, IngestSpec, scopes_of
from clipsearch.media import ReadSpec, SamplingSpec, kind_of
from clipsearch.media.discover import WalkSpec
from clipsearch.media.sampling import WINDOW_SECONDS
from clipsearch.search.retrieve import DEFAULT_KINDS, MERGE_GAP_SECONDS, SearchSpec, retrieve
from clipsearch.store.manifest import Manifest
from clipsearch.store.recipes import get_recipe
from clipsearch.store.store import Store
from clipsearch.types import Failure, Hit, IndexStatus, IngestReport, StoredMedia, UnitKind
from clipsearch.version import VERSION

AUTO = "auto"
DEFAULT_RECIPE = "flat"
WINDOW_KEY = "window_seconds"  # kept beside the sampling in the manifest


def _ignore(*_: object) -> None:
    """The listener that does not listen."""


class Index:
    """An index on disk, open for searching and adding. A context manager.

    Searching is safe from several threads. Adding takes the index's lock, which a second process
    waits for.
    """

    def __init__(self, store: Store, *, device: str = AUTO, encoder: Encoder | None = None) -> None:
        self._store = store
        self._device = device
        self._encoder = encoder
        self._guard = threading.Lock()

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        model: str = AUTO,
        recipe: str = DEFAULT_RECIPE,
        catalog: str | None = None,
        device: str = AUTO,
        offline: bool = False,
        on_notice: Callable[[str], None] = _ignore,
    ) -> Self:
        """A new empty index in the folder `path`.

        model: "builtin", an open_clip name such as "ViT-B-32/laion2b_s34b_b79k", or "auto":
            CLIP if its weights are at hand or the model hub answers, else builtin, which
            `on_notice` is told. The choice is recorded and never changes.
        offline: "auto" asks no hub and takes CLIP only from the local cache.
        recipe: how vectors are stored and searched, a name of `RECIPES`.
        catalog: a database URL; None keeps an SQLite file inside the index.

        Raises EncoderError, IndexExistsError, or UsageError for a folder with other content.
        """
        _check_utf8(path)
        chosen = _resolve(model, offline, on_notice)
        index_recipe = get_recipe(recipe)
        encoder = load_encoder(chosen, device=device)
        manifest = Manifest(
            encoder=str(chosen),
            fingerprint=encoder.fingerprint,
            dim=encoder.dim,
            recipe=index_recipe,
            sampling={},
            catalog=catalog,
            written_by=VERSION,
        )
        store = Store.create(Path(os.path.abspath(path)), manifest)  # noqa: PTH100
        return cls(store, device=device, encoder=encoder)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, device: str = AUTO) -> Self:
        """An existing index; its encoder loads when it is first needed.

        Raises IndexMissingError or IndexDamagedError.
        """
        return cls(Store.open(Path(os.path.abspath(path))), device=device)  # noqa: PTH100

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release files and connections."""
        self._store.close()

    @property
    def path(self) -> Path:
        """The index's folder."""
        return self._store.folder

    @property
    def sampling(self) -> SamplingSpec | None:
        """How the index samples videos; None until something was added."""
        recorded = dict(self._store.manifest.sampling)
        recorded.pop(WINDOW_KEY, None)
        return SamplingSpec.from_dict(recorded) if recorded else None

    @property
    def encoder(self) -> Encoder:
        """The encoder the index was built with.

        Raises EncoderError when it cannot be loaded here or gives other vectors than then.
        """
        with self._guard:
            if self._encoder is None:
                manifest = self._store.manifest
                encoder = load_encoder(parse_spec(manifest.encoder), device=self._device)
                if encoder.fingerprint != manifest.fingerprint:
                    raise EncoderError(
                        f"{self.path} was built with {manifest.fingerprint}, but "
                        f"{manifest.encoder} is {encoder.fingerprint} here: install the weights "
                        "it was built with, or build a new index"
                    )
                self._encoder = encoder
            return self._encoder

    def require(
        self, *, model: str = AUTO, recipe: str | None = None, catalog: str | None = None
    ) -> None:
        """Raise EncoderError or UsageError if the index was built otherwise than is given here."""
        built = self._store.manifest
        if model != AUTO and str(parse_spec(model)) != built.encoder:
            raise EncoderError(
                f"{self.path} was built with the model {built.encoder}, not {model}: leave out "
                "--model, or build another index with --index"
            )
        if recipe is not None and get_recipe(recipe).name != built.recipe.name:
            raise UsageError(
                f"{self.path} has the recipe {built.recipe.name}, not {recipe}: leave out "
                "--recipe, or build another index with --index"
            )
        if catalog is not None and catalog != built.catalog:
            raise UsageError(
                f"{self.path} has another catalog: leave out --catalog, or build another index "
                "with --index"
            )

    def add(
        self,
        paths: Iterable[str | os.PathLike[str]],
        *,
        fps: float | None = None,
        options: AddOptions | None = None,
        listener: AddListener | None = None,
    ) -> IngestReport:
        """Bring the index up to date with files and folders.

        New and changed files are encoded, moved ones keep their vectors, files that are gone from
        these folders leave the index; a folder that is missing or holds no media removes nothing.
        A file that cannot be read is reported and skipped. `fps` is short for a sampling of that
        many frames a second. Raises UsageError for other sampling than the index has.
        """
        options, listener = options or AddOptions(), listener or AddListener()
        found, missing = _split_missing(paths)
        for failure in missing:
            listener.on_failure(failure)
        with self._store.writing(wait=options.wait, on_wait=listener.on_wait) as writer:
            spec = self._ingest_spec(options, fps)
            ingest = Ingest(
                writer,
                self.encoder,
                spec,
                on_failure=listener.on_failure,
                on_progress=listener.on_progress,
                count_files=listener.count_files,
            )
            report = ingest.run(scopes_of(found, self._store.catalog.roots()))
        return report.with_failures(missing)

    def search(
        self,
        query: str,
        *,
        top: int = 10,
        kind: str | Iterable[str] | None = None,
        min_score: float = -1.0,
        merge_gap: float = MERGE_GAP_SECONDS,
        exact: bool = False,
    ) -> list[Hit]:
        """The `top` best hits for words, best first.

        kind: "image", "frame" (moments of videos) or "video" (whole videos), or several; None
            looks for images and moments.
        min_score: the least cosine. merge_gap: frames of a video at most that many seconds apart
            are one hit. exact: scan everything instead of probing the ANN index.

        Raises UsageError, or EncoderError when the encoder takes no text.
        """
        if not query.strip():
            raise UsageError("the query is empty: say in words what to look for")
        kinds = DEFAULT_KINDS if kind is None else (kind,) if isinstance(kind, str) else kind
        chosen = cast(tuple[UnitKind, ...], tuple(kinds))  # SearchSpec checks that it is true
        spec = SearchSpec(top, chosen, min_score, merge_gap, exact)
        if not self.encoder.supports_text:
            raise EncoderError(f"the model {self._store.manifest.encoder} takes no text")
        return retrieve(self._store, self.encoder.encode_text([query]), spec)

    def media(self) -> Iterator[StoredMedia]:
        """Every file that the index knows, by root and path."""
        return self._store.catalog.all_media()

    def status(self) -> IndexStatus:
        """Counts and settings."""
        manifest, catalog = self._store.manifest, self._store.catalog
        segments, counts = catalog.segments(), catalog.counts()
        return IndexStatus(
            path=self.path,
            model=manifest.encoder,
            fingerprint=manifest.fingerprint,
            dim=manifest.dim,
            recipe=manifest.recipe.name,
            sampling=manifest.sampling,
            roots=tuple(catalog.roots()),
            images=counts.get("image", 0),
            videos=counts.get("video", 0),
            failed=counts.get("failed", 0),
            rows=sum(entry.row_count for entry in segments),
            dead_rows=sum(count for entry in segments for _, count in entry.dead),
            segments=len(segments),
            bytes_on_disk=_folder_bytes(self.path),
        )

    def _ingest_spec(self, options: AddOptions, fps: float | None) -> IngestSpec:
        sampling, window_seconds = self._fix_sampling(options, fps)
        return IngestSpec(
            read=ReadSpec(self.encoder.short_side, options.max_image_megapixels, sampling),
            window_seconds=window_seconds,
            walk=WalkSpec(frozenset(options.exclude_dirs), options.include_hidden),
            batch_size=options.batch_size,
            workers=options.workers or os.cpu_count() or 1,
            retry_failed=options.retry_failed,
        )

    def _fix_sampling(self, options: AddOptions, fps: float | None) -> tuple[SamplingSpec, float]:
        """The index's sampling and window length, recorded by the first `add`."""
        if fps is not None and options.sampling is not None:
            raise UsageError("both fps and options.sampling are given: give one of them")
        wanted = options.sampling if fps is None else SamplingSpec(fps=fps)
        sampling = self.sampling
        if sampling is None:
            sampling = wanted or SamplingSpec()
            window_seconds = options.window_seconds or WINDOW_SECONDS
            values = {**sampling.to_dict(), WINDOW_KEY: window_seconds}
            self._store.update_manifest(sampling=values)
            return sampling, window_seconds
        window_seconds = float(self._store.manifest.sampling[WINDOW_KEY])
        if (wanted or sampling) != sampling:
            raise UsageError(
                f"{self.path} samples videos by {sampling}, not by {wanted}: use another --index"
            )
        if (options.window_seconds or window_seconds) != window_seconds:
            raise UsageError(
                f"{self.path} has windows of {window_seconds:g} seconds, not "
                f"{options.window_seconds:g}: use another --index"
            )
        return sampling, window_seconds


def _resolve(model: str, offline: bool, on_notice: Callable[[str], None]) -> EncoderSpec:
    if model != AUTO:
        return parse_spec(model)
    spec, notice = resolve_auto(offline=offline)
    if notice is not None:
        on_notice(notice)
    return spec


def _folder_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a writer may be merging segments away
            total += path.stat().st_size if path.is_file() else 0
    return total


def _check_utf8(path: str | os.PathLike[str]) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode(errors="replace")
        raise UsageError(f"{shown} is not valid UTF-8: rename it first") from None


def _split_missing(paths: Iterable[str | os.PathLike[str]]) -> tuple[list[Path], list[Failure]]:
    found, missing = [], []
    for given in paths:
        _check_utf8(given)
        path = Path(given).expanduser().resolve()
        if path.is_file() and kind_of(path.name) is None:
            missing.append(Failure(path, "its name is not that of a picture or a video"))
        elif path.exists():
            found.append(path)
        else:
            missing.append(Failure(path, "no such file or folder; nothing was removed"))
    return found, missing
