"""`Index`: one encoder and one store, as a library offers them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from clipsearch.asking import Asking, Wanted
from clipsearch.captioned import CaptionedVideos
from clipsearch.encoders import AUTO, load_encoder, parse_spec, resolve
from clipsearch.encoders.base import Encoder
from clipsearch.errors import EncoderError, UsageError
from clipsearch.exchange.adding import ImportListener, ImportReport
from clipsearch.exchange.exporting import ExportReport, ExportSpec, export
from clipsearch.exchange.importing import ImportSpec, import_into
from clipsearch.heads.choose import PoolingSpec
from clipsearch.ingest import (
    AddListener,
    AddOptions,
    Ingest,
    IngestSpec,
    Progress,
    scopes_of,
)
from clipsearch.ingest.changes import find_media, media_named
from clipsearch.ingest.frames import check_video
from clipsearch.ingest.given import (
    check_built,
    check_utf8,
    ingest_spec,
    record_settings,
    recorded_sampling,
    split_missing,
)
from clipsearch.ingest.listening import audio_spec, settle_sound, settle_texts
from clipsearch.ingest.named import indexed_below
from clipsearch.ingest.prune import PruneReport, find_gone
from clipsearch.ingest.reading import Hearing
from clipsearch.ingest.repool import RepoolReport
from clipsearch.ingest.vectors import FileVector, Viewing, vectors_of
from clipsearch.locating import Locator
from clipsearch.media import SamplingSpec
from clipsearch.pooled import (
    Heads,
    ask_alike,
    change_pooling,
    check_pooling,
)
from clipsearch.search.asked import Asked, SearchOptions, selection_of
from clipsearch.search.background import Background
from clipsearch.search.calibrating import Calibration
from clipsearch.search.duplicates import DuplicateSpec, default_threshold, find_duplicates
from clipsearch.search.everyday import everyday_queries
from clipsearch.search.query import encode_words
from clipsearch.search.rerank import Rerank
from clipsearch.search.retrieve import (
    MERGE_GAP_SECONDS,
    SearchSpec,
    unit_kinds,
    wanted_kinds,
)
from clipsearch.search.spans import SpanOptions
from clipsearch.store import upkeep
from clipsearch.store.gpu import Gpu
from clipsearch.store.lookup import lookup_columns
from clipsearch.store.manifest import Manifest
from clipsearch.store.recall import QuerySet, RecallReport
from clipsearch.store.recipes import check_recipe
from clipsearch.store.store import Store
from clipsearch.store.upkeep import RepairReport
from clipsearch.store.vectors import Table, blocks_of
from clipsearch.store.verify import Problem
from clipsearch.types import (
    VECTOR_KINDS,
    DuplicateGroup,
    Failure,
    Hit,
    IndexStatus,
    IngestReport,
    Span,
    StoredMedia,
    UnitKind,
    Vectors,
)
from clipsearch.version import VERSION
from clipsearch.video import AlignOptions, Video
from clipsearch.where import Condition

if TYPE_CHECKING:
    from clipsearch.heads import Head


def _ignore(*_: object) -> None:
    """The listener that does not listen."""


class Index:
    """An index on disk, open for searching and adding. A context manager.

    Searching is safe from several threads. Adding takes the index's lock, which a second process
    waits for.
    """

    def __init__(
        self,
        store: Store,
        *,
        device: str = AUTO,
        encoder: Encoder | None = None,
        on_notice: Callable[[str], None] = _ignore,
    ) -> None:
        self._store = store
        self._on_notice = on_notice
        self._device = device
        store.gpu = Gpu(device, on_notice)
        self._encoder = encoder
        self._ear: Encoder | None = None  # one of its own, for sound
        self._guard = threading.Lock()
        self._heads = Heads(store.folder, lambda: self.encoder, device=device)
        self._calibration = Calibration(
            store, lambda: self.encoder, lambda: self.ear, on_notice=on_notice
        )
        self._locator = Locator(lambda: self.encoder)
        self._asking = Asking(
            store,
            self._heads,
            lambda: self.encoder,
            lambda: self.ear,
            self._on_notice,
            self._calibration.background,
        )

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        model: str | None = AUTO,
        dim: int | None = None,
        recipe: str = AUTO,
        catalog: str | None = None,
        pooling: PoolingSpec | None = None,
        device: str = AUTO,
        offline: bool = False,
        on_notice: Callable[[str], None] = _ignore,
    ) -> Self:
        """A new empty index in the folder `path`.

        model: "builtin", an open_clip name such as "ViT-B-32/laion2b_s34b_b79k", or "auto":
            CLIP if its weights are at hand or the model hub answers, else builtin, which
            `on_notice` is told. The choice is recorded and never changes. None: vectors of `dim`
            dimensions are made elsewhere, for `add_vectors` and `search_vectors`.
        offline: "auto" asks no hub and takes CLIP only from the local cache.
        recipe: how vectors are stored and searched, a name of `RECIPES`; "auto" is exact while
            that is fast, and what `compact` finds best for the number of vectors.
        catalog: a database URL; None keeps an SQLite file inside the index.
        pooling: a trained head that makes one vector of the frames of a window, kept beside their
            mean and searched in its place; None: the mean alone.

        Raises EncoderError, IndexExistsError, or UsageError for a folder with other content.
        """
        check_utf8(path)
        check_recipe(recipe)
        if (model is None) != (dim is not None):
            raise UsageError("give model=None and dim together: a model has its own dimension")
        folder, encoder, chosen = Path(os.path.abspath(path)), None, None  # noqa: PTH100
        if model is not None:
            chosen = str(resolve(model, offline=offline, on_notice=on_notice))
            encoder = load_encoder(parse_spec(chosen), device=device)
            if not encoder.supports_images:
                raise EncoderError(
                    f"the model {chosen} takes no pictures: give it as the encoder of sound "
                    "(--audio-model), beside one that does"
                )
        manifest = Manifest(
            encoder=chosen,
            fingerprint=encoder.fingerprint if encoder else "",
            dim=encoder.dim if encoder else _checked_dim(dim),
            recipe=recipe,
            sampling={},
            catalog=catalog,
            written_by=VERSION,
        )
        facts = None
        if pooling is not None:
            if encoder is None:
                raise UsageError("an index without a model has no frames to pool")
            made = encoder
            facts = Heads(folder, lambda: made, device=device).choose(pooling)
        store = Store.create(folder, manifest, facts)
        return cls(store, device=device, encoder=encoder, on_notice=on_notice)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        device: str = AUTO,
        on_notice: Callable[[str], None] = _ignore,
    ) -> Self:
        """An existing index; its encoder loads when it is first needed.

        device: of the encoder; and of FAISS if its GPU build is installed, which gives the same
        results. on_notice: told what a user should know of a result, in a sentence. Raises
        IndexMissingError or IndexDamagedError.
        """
        store = Store.open(Path(os.path.abspath(path)))  # noqa: PTH100
        return cls(store, device=device, on_notice=on_notice)

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
        return recorded_sampling(self._store)

    @property
    def fingerprint(self) -> str:
        """Of the encoder that the index was built with; "" without one."""
        return self._store.manifest.fingerprint

    @property
    def encoder(self) -> Encoder:
        """The encoder the index was built with.

        Raises EncoderError when it cannot be loaded here or gives other vectors than then.
        """
        with self._guard:
            if self._encoder is None:
                manifest = self._store.manifest
                if manifest.encoder is None:
                    raise EncoderError(
                        f"{self.path} has no model, its vectors were made elsewhere: use "
                        "add_vectors and search_vectors"
                    )
                encoder = load_encoder(parse_spec(manifest.encoder), device=self._device)
                if encoder.fingerprint != manifest.fingerprint:
                    raise EncoderError(
                        f"{self.path} was built with {manifest.fingerprint}, but "
                        f"{manifest.encoder} is {encoder.fingerprint} here: install the weights "
                        "it was built with, or build a new index"
                    )
                self._encoder = encoder
            return self._encoder

    @property
    def ear(self) -> Encoder | None:
        """The encoder of sound, which may be `encoder`; None for an index without sound.

        Raises EncoderError when it cannot be loaded here or gives other vectors than then.
        """
        settings = self._store.manifest.audio
        if settings is None:
            return None
        if settings.encoder == self._store.manifest.encoder:
            ear = self.encoder
        else:
            with self._guard:
                self._ear = ear = self._ear or self._load(settings.encoder)
        if ear.audio_fingerprint != settings.fingerprint:
            raise EncoderError(
                f"the sound in {self.path} was encoded with {settings.fingerprint}, but "
                f"{settings.encoder} is {ear.audio_fingerprint} here: install the weights it was "
                "built with, or encode the sound anew with `clipsearch index FOLDER --audio`"
            )
        return ear

    def _load(self, spec: str) -> Encoder:
        return load_encoder(parse_spec(spec), device=self._device)

    @property
    def head(self) -> Head | None:
        """The head that pools windows beside the mean; None without one.

        Raises EncoderError when its file is gone or holds another one.
        """
        return self._heads.recorded(self._store.catalog.pooling())

    def require(
        self,
        *,
        model: str = AUTO,
        recipe: str | None = None,
        catalog: str | None = None,
        pooling: PoolingSpec | None = None,
    ) -> None:
        """Raise EncoderError or UsageError if the index was built otherwise than is given here.

        The file of the index's head may have moved: where it is now is noted.
        """
        check_built(self._store, model=model, recipe=recipe, catalog=catalog)
        if pooling is not None:
            check_pooling(self._store, self._heads, pooling)

    def add(
        self,
        paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        fps: float | None = None,
        options: AddOptions | None = None,
        listener: AddListener | None = None,
    ) -> IngestReport:
        """Bring the index up to date with files and folders, or with one.

        New and changed files are encoded, moved ones keep their vectors, files that are gone from
        these folders leave the index; a folder that is missing or holds no media removes nothing.
        A file that cannot be read is reported and skipped. `fps` is short for a sampling of that
        many frames a second. Raises UsageError for other sampling than the index has.
        """
        options, listener = options or AddOptions(), listener or AddListener()
        paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        for path in paths:
            check_utf8(path)
        with self._store.writing(wait=options.wait, on_wait=listener.on_wait) as writer:
            spec = self._ingest_spec(options, fps)
            writer.follow(self._store.manifest)
            sound = spec.hearing is not None
            found, missing = split_missing(paths, sound=sound, texts=spec.texts)
            for failure in missing:
                listener.on_failure(failure)
            ingest = Ingest(
                writer,
                self.encoder,
                spec,
                on_failure=listener.on_failure,
                on_progress=listener.on_progress,
                on_notice=listener.on_notice,
                count_files=listener.count_files,
            )
            report = ingest.run(scopes_of(found, self._store.catalog.roots()))
            self._calibration.keep(options.cache)
        return report.with_failures(missing)

    def _ingest_spec(self, options: AddOptions, fps: float | None) -> IngestSpec:
        """What a run needs to know; under the lock, as the first one settles it."""
        encoder, new = self.encoder, not self._store.manifest.sampling
        spec = ingest_spec(self._store, options, fps, short_side=encoder.short_side)
        before = self._store.manifest.audio
        settings = settle_sound(self._store, options, encoder, self._load, new=new)
        if before is not None and settings != before:  # the old rows first, then the new name
            heard = [media.id for media in self.media() if "audio" in media.sources]
            self._store.catalog.lose(heard, {}, "audio")
        texts = settle_texts(self._store, options, encoder, new=new)
        record_settings(self._store, spec, settings, texts=texts)
        ear = self.ear
        hearing = Hearing(ear, audio_spec(settings, ear)) if settings and ear else None
        return replace(spec, head=self.head, hearing=hearing, texts=texts)

    def search(
        self,
        query: Wanted,
        *,
        top: int = 10,
        kind: str | Iterable[str] | None = None,
        source: str | None = None,
        min_score: float = 0.0,
        min_cosine: float = -1.0,
        merge_gap: float = MERGE_GAP_SECONDS,
        exact: bool = False,
        pooling: str | None = None,
        rerank: Rerank | None = None,
        where: str | Condition | None = None,
        dedupe: bool | float = False,
        prompts: str = "none",
    ) -> list[Hit]:
        """The `top` best hits for words, a Query, a Probe, or a (dim,) unit vector, best first.

        kind: "image", "frame" (moments of videos), "video" (whole videos), "span" (the seconds of
            videos that stand out), "audio" (moments of sound) or "text" (subtitles), or several;
            None looks for images, moments, sounds and subtitles, as far as the index has them, for
            a vector for images and moments.
        source: only what is seen ("visual"), heard ("audio") or said ("text").
        min_score: the least relevance, 0 to 1 (`Hit.relevance`). min_cosine: the least cosine.
        merge_gap: frames of a video, and windows of sound, at most that many seconds apart are one
            hit.
        exact: scan everything instead of probing the ANN index.
        pooling: which vectors stand for whole videos, "mean" or the head's that the index has;
            None takes the head's if there is one. Vectors that were added as videos count as means.
        rerank: score the best videos again by a head; kind is then "video", or None for that. Hits
            have the head's score, which is no cosine.
        where: only files for which this holds (clipsearch.where), applied inside the search.
        dedupe: leave out hits that look, or sound, or read like a better one: the least cosine
            of two that are the same, or True for what was measured for the encoder.
        prompts: "none", "simple" or "imagenet": words are asked for in the mean of so many
            phrases.

        Hits of several of these sources are ranked by `fuse`: scores are cosines, which do not
        compare between spaces. Without kind and source, sounds and subtitles stay away from other
        hits if words have little to do with them. A file that the query names is no hit of it.
        Raises UsageError, or EncoderError when the encoder takes no text.
        """
        how = Asked.of(
            top=top,
            kind=kind,
            source=source,
            min_score=min_score,
            min_cosine=min_cosine,
            merge_gap=merge_gap,
            exact=exact,
            pooling=pooling,
            rerank=rerank,
            where=where,
            dedupe=dedupe,
            prompts=prompts,
        )
        return self._asking.hits(query, how)

    def background(self) -> Background | None:
        """What unrelated texts score here, by which relevance is told; measured now, for this
        process, where the index does not know. None for an index that encodes no text.
        """
        return self._calibration.background(True)

    def search_many(
        self, queries: Sequence[Wanted], **options: Unpack[SearchOptions]
    ) -> list[list[Hit]]:
        """For each of many queries what `search` finds, with the same options for all.

        They are encoded and searched together, which takes less time than one after the other.
        Raises what `search` does, for the first query that cannot be asked.
        """
        return self._asking.hits_of_each(queries, Asked.of(**options))

    def video(
        self,
        path: str | os.PathLike[str],
        *,
        fps: float | None = None,
        on_progress: Callable[[Progress], None] = _ignore,
    ) -> Video:
        """One video, to be searched for spans or aligned with a script, again and again.

        Its frames come from the index if it is there, also when the file is away; one that is not,
        or that has changed since, is decoded and encoded as the index does it, and not added.
        fps: decode and encode so many frames a second, whatever is indexed.

        Raises UsageError for what is no video, MediaError for one that cannot be read.
        """
        sampling = self.sampling or SamplingSpec() if fps is None else SamplingSpec(fps=fps)
        file, media = find_media(self._store.catalog, Path(path))
        if media is not None and media.kind != "video":
            names = {"image": "a picture", "audio": "a sound", "subtitles": "a subtitle file"}
            what = names[media.kind]
            raise UsageError(f"{file} is {what}: spans are parts of videos")
        if media is not None and fps is None:
            frames = self._store.frames(media.id)
            return Video(file, frames, self.encoder, on_notice=self._on_notice)
        check_video(file)
        return Video.read(
            file, self.encoder, sampling, on_notice=self._on_notice, on_progress=on_progress
        )

    def locate(self, hit: Hit, text: str) -> NDArray[np.float32]:
        """Where in the picture of a hit it is what words say: (rows, columns) relevance, 0..1.

        The map lies over the whole upright picture, or the frame at the hit's moment, row 0 at the
        top, at the resolution of the encoder's places: 14 rows on the shorter side for builtin, 7
        for CLIP's ViT-B-32. A value is the chance of the words there, among fifty everyday things
        (clipsearch.locating, with `best_box` for the best rectangle).

        Raises UsageError for a hit that is not seen or no words, MediaError for a file that cannot
        be read, EncoderError for an encoder without features of places.
        """
        return self._locator.locate(hit, text)

    def is_current(self, path: str | os.PathLike[str]) -> bool:
        """Whether a file is the one that was indexed: its content, if it is there. So is every
        file of which the index has no more than vectors that were added.
        """
        catalog, file = self._store.catalog, Path(path)
        return find_media(catalog, file)[1] is not None or not any(media_named(catalog, file))

    def span(
        self, path: str | os.PathLike[str], text: str, **options: Unpack[SpanOptions]
    ) -> Span | None:
        """The span of a video that matches words best: `self.video(path).span(text)`."""
        return self.video(path).span(text, **options)

    def align(
        self,
        path: str | os.PathLike[str],
        lines: Sequence[str],
        *,
        tau: ArrayLike | None = None,
        **options: Unpack[AlignOptions],
    ) -> list[Span | None]:
        """One span of a video for each line of a script: `self.video(path).align(lines)`."""
        return self.video(path).align(lines, tau=tau, **options)

    def search_vectors(
        self,
        vectors: Vectors,
        *,
        top: int = 10,
        kind: str | Iterable[str] | None = None,
        exact: bool = False,
        pooling: str | None = None,
        where: str | Condition | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The `top` nearest stored vectors of each query, by exact cosine, best first.

        vectors: (m, dim) float32 unit rows. kind, pooling, where: as in `search`; None looks among
            all.
        Returns (m, top) scores and ids; where there are no more, -inf and -1.

        Raises UsageError.
        """
        kinds = wanted_kinds(self._store, VECTOR_KINDS if kind is None else kind, None, vector=True)
        chosen = tuple(chain(*kinds.values()))
        spec = SearchSpec(top, chosen)
        if "span" in chosen:
            raise UsageError(f"kind 'span' has no vectors: use some of {', '.join(VECTOR_KINDS)}")
        queries = np.ascontiguousarray(vectors)

        def ask(windows: UnitKind) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
            units = unit_kinds(replace(spec, windows=windows))
            return self._store.search_ids(
                queries, k=top, kinds=units, exact=exact, selection=selected
            )

        selected = selection_of(where)
        return ask_alike(self._store, pooling, ask)[0]

    def duplicates(
        self,
        *,
        threshold: float | None = None,
        kind: str | Iterable[str] | None = None,
        where: str | Condition | None = None,
        on_progress: Callable[[Progress], None] = _ignore,
    ) -> list[DuplicateGroup]:
        """Pictures that are nearly the same, and parts of videos that are, in groups.

        threshold: the least cosine to another of the group; None: what was measured for the
            encoder. kind: "image", "video" (windows of videos) or both. where: as in `search`.

        The groups that are most alike come first (clipsearch.search.duplicates). Raises UsageError.
        """
        if threshold is None:
            threshold = default_threshold(self._store.manifest.encoder)
        spec = DuplicateSpec.of(threshold, kind, selection_of(where))
        return find_duplicates(
            self._store,
            spec,
            on_progress=lambda done, all_: on_progress(Progress(done, all_, done)),
        )

    def repool(
        self,
        pooling: PoolingSpec,
        *,
        wait: bool = True,
        on_progress: Callable[[Progress], None] = _ignore,
    ) -> RepoolReport:
        """Pool the windows of all videos by another head, from the frames that are stored; the mean
        does without one. No media are read, and searches see the change as a whole.

        Raises UsageError, EncoderError, or IndexLockedError when another process writes and `wait`
        is false.
        """
        facts = self._heads.choose(pooling)
        return change_pooling(self._store, self._heads, facts, wait=wait, on_progress=on_progress)

    def captioned(
        self, captions: str | os.PathLike[str], *, split: str | None = None
    ) -> CaptionedVideos:
        """The videos that a file has captions for, to train a head on or to measure retrieval.

        captions: CSV, TSV, JSON lines or JSON (clipsearch.captions); split: only its rows of that
        one. Raises UsageError for a file that cannot be read or names no indexed video.
        """
        found = CaptionedVideos(self._store, self.encoder, Path(captions), split=split)
        if found.notice is not None:
            self._on_notice(found.notice)
        return found

    def add_vectors(
        self,
        vectors: NDArray[Any] | Iterable[NDArray[Any]],
        table: Table | Iterable[Table],
        *,
        normalize: bool = False,
        wait: bool = True,
    ) -> NDArray[np.int64]:
        """Add vectors that were made elsewhere; their ids, in their order.

        vectors: (n, dim) float32 or float16 unit rows, or an iterable of such arrays.
        table: a pyarrow table or a dict of columns with n rows, or one for each array: `path`;
            `kind` (image if absent), `start` and `end` in seconds for frames and videos,
            `frame_number`; any further columns of text, numbers, booleans or lists of them, which
            come back with the hits.
        normalize: scale rows to unit length instead of refusing others.

        Published every 131,072 rows: what was added before an error stays. Raises UsageError, or
        IndexLockedError when another process writes and `wait` is false.
        """
        ids = [np.empty(0, np.int64)]
        with self._store.writing(wait=wait) as writer:
            dim = self._store.manifest.dim
            for block in blocks_of(vectors, table, dim=dim, normalize=normalize):
                if len(block.vectors):
                    ids.append(writer.publish_vectors(block.vectors, block.rows, block.columns))
                    writer.maintain()
        return np.concatenate(ids)

    def export_to(
        self,
        target: str | os.PathLike[str],
        form: str,
        spec: ExportSpec | None = None,
        *,
        on_progress: Callable[[Progress], None] = _ignore,
    ) -> ExportReport:
        """Write stored vectors with what is known of them, whole or not at all.

        form: "clip-retrieval" (its folder of embeddings), "npy" (a folder) or "parquet" (a file
        NAME.parquet, or a folder). spec: which rows; None: all that is seen.
        Raises UsageError for a target that must not be written, or when no rows are meant.
        """
        spec = spec or ExportSpec()
        return export(self._store, Path(target), form, spec, on_progress=on_progress)

    def import_from(
        self,
        source: str | os.PathLike[str],
        form: str,
        spec: ImportSpec | None = None,
        *,
        listener: ImportListener | None = None,
    ) -> ImportReport:
        """Add the vectors in files of others, or of `export_to`, but for rows that are there.

        form: "clip-retrieval", "clip-video-encode", "npy" or "parquet". A file that cannot be read
        is reported and skipped. Published every 131,072 rows; what was interrupted goes on where
        it was. Raises UsageError, EncoderError for vectors of another model than the index has, or
        IndexLockedError.
        """
        spec = spec or ImportSpec()
        report = import_into(self._store, Path(source), form, spec, listener)
        if report.added or report.known:
            with self._store.writing(wait=spec.wait, sweep=False):
                try:
                    self._calibration.keep()
                except EncoderError as error:  # the vectors are there all the same
                    self._on_notice(f"what unrelated texts score here is not measured: {error}")
        return report

    def remove_vectors(self, ids: Iterable[int], *, wait: bool = True) -> int:
        """Remove vectors that were added with `add_vectors`; how many there were.

        Raises UsageError for ids of files' vectors: remove the file and index its folder again.
        """
        wanted = np.fromiter(ids, np.int64)
        with self._store.writing(wait=wait) as writer:
            count = writer.remove_vectors(wanted)
            writer.maintain()
        return count

    def rows(self, ids: Iterable[int]) -> list[dict[str, Any]]:
        """What is known of stored vectors, in the order of `ids`: id, path, kind, start, end,
        frame_number and the columns that were added with them; None for what there is not.

        Raises UsageError for an id that is not there.
        """
        wanted = np.fromiter(ids, np.int64)
        rows, columns, there = self._store.rows(wanted)
        if not there.all():
            raise UsageError(f"no vector has the id {wanted[np.argmin(there)]}")
        found = lookup_columns(rows, columns)
        owners = {row["media_id"] for row in found} - {None}
        media = self._store.catalog.media(owners) if owners else {}
        for row in found:
            media_id = row.pop("media_id")
            if media_id is not None:
                row["path"] = str(media[media_id].path) if media_id in media else None
        return found

    def _encode_text(self, texts: list[str]) -> Vectors:
        return encode_words(self.encoder, texts, on_notice=self._on_notice)

    def media(self) -> Iterator[StoredMedia]:
        """Every file that the index knows, by root and path."""
        return self._store.catalog.all_media()

    def selected(
        self,
        paths: Iterable[str | os.PathLike[str]] | None = None,
        *,
        where: str | Condition | None = None,
        on_failure: Callable[[Failure], None] = _ignore,
    ) -> Iterator[StoredMedia]:
        """Files that are indexed and could be read: those of some files and folders, or those for
        which `where` holds (clipsearch.where), or all, by path. What of `paths` is not indexed as
        it is now is told. Raises UsageError for paths together with `where`.
        """
        if paths is None:
            return self._store.selected_media(selection_of(where))
        if where is not None:
            raise UsageError("both paths and where are given: give one of them")
        return indexed_below(map(Path, paths), self._store, on_failure=on_failure)

    def file_vectors(
        self,
        files: Iterable[str | os.PathLike[str]] | Iterable[StoredMedia],
        *,
        sounds: bool = True,
        on_failure: Callable[[Failure], None] = _ignore,
    ) -> Iterator[FileVector]:
        """One vector for each file, in order: a picture's own, the mean of a video's frames or of a
        sound's windows. Sounds only where they lie in the space of words and pictures.

        files: indexed files, or paths of files and folders, which are decoded and encoded as the
        index does it if they are not in it as they are now, and not added. A file that cannot be
        read is told and left out.
        """
        viewing = Viewing.of_index(self._store, lambda: self.encoder, sounds=sounds)
        return vectors_of(files, viewing, on_failure=on_failure)

    def tag(
        self,
        tags: Mapping[int, Sequence[tuple[str, float | None]]],
        *,
        replace: bool = False,
        wait: bool = True,
    ) -> None:
        """Give files, by their ids, tags with their probabilities, None if set by hand, for `where`
        to ask for; `replace`: in place of all that they have. Ids that are not there are left out.
        Raises UsageError, or IndexLockedError when another process writes and `wait` is false.
        """
        with self._store.writing(wait=wait):
            self._store.catalog.set_tags(tags, replace=replace)

    def untag(
        self,
        ids: Iterable[int] | None = None,
        tags: Iterable[str] | None = None,
        *,
        wait: bool = True,
    ) -> None:
        """Take these tags, or all, from files of these ids, or from all."""
        with self._store.writing(wait=wait):
            self._store.catalog.remove_tags(None if ids is None else list(ids), tags)

    def tags_of(self, ids: Iterable[int]) -> dict[int, list[tuple[str, float | None]]]:
        """The tags of files and their probabilities, by the files' ids."""
        return self._store.catalog.tags_of(ids)

    def tag_counts(self) -> dict[str, int]:
        """How many files have each tag."""
        return self._store.catalog.tag_counts()

    def prune(
        self,
        given_up: Sequence[str | os.PathLike[str]] = (),
        *,
        dry_run: bool = False,
        wait: bool = True,
    ) -> PruneReport:
        """Take files that are gone out of the index. A folder of which nothing is there keeps its
        files, unless `given_up` names it; then nothing else is looked at.

        dry_run: only say which. Raises IndexLockedError when another process writes and `wait` is
        false.
        """
        places = [Path(path) for path in given_up]
        if dry_run:
            return find_gone(self._store.catalog, places)
        with self._store.writing(wait=wait) as writer:
            report = find_gone(writer.catalog, places)
            writer.catalog.remove_media([media.id for media in report.gone])
            writer.catalog.prune_roots(keep=())
            writer.maintain()
            self._calibration.keep_up()
        return report

    def status(self) -> IndexStatus:
        """Counts, settings, and what `recall` measured last."""
        return upkeep.status(self._store)

    def compact(
        self,
        *,
        recipe: str | None = None,
        retrain: bool = False,
        wait: bool = True,
        on_step: Callable[[str], None] = _ignore,
    ) -> IndexStatus:
        """Merge segments, drop dead rows, and change to the recipe that the number of vectors calls
        for, training its quantiser when there is none or four times the rows it was trained for.

        recipe: from now on, a name of `RECIPES` or "auto". retrain: train anew in any case. No
        media are read. Searches go on meanwhile, and an interruption loses nothing.
        Raises UsageError, or IndexLockedError when another process writes and `wait` is false.
        """
        upkeep.compact(self._store, recipe=recipe, retrain=retrain, wait=wait, on_step=on_step)
        with self._store.writing(wait=wait, sweep=False):
            self._calibration.keep_up()
        return self.status()

    def recall(
        self,
        texts: Iterable[str] | None = None,
        *,
        vectors: Vectors | None = None,
        count: int = 200,
        k: int = 10,
        target: float | None = None,
    ) -> RecallReport:
        """Recall@k of searching against exact search, of text queries and of stored vectors apart.

        texts: queries; None takes everyday things. vectors: (m, dim) unit rows of texts instead,
            for an index without a model. count: stored vectors asked for. target: first find the
            cheapest width of search with that recall, and keep it for every search from now on.

        What is measured is kept for `status`. Raises UsageError when the target is out of reach.
        """
        given = [] if vectors is None else [QuerySet("text", np.asarray(vectors, np.float32))]
        if vectors is None and self._store.manifest.encoder and self.encoder.supports_text:
            asked = everyday_queries() if texts is None else list(texts)
            given = [QuerySet("text", self._encode_text(asked))]
        elif texts is not None:
            raise UsageError("this index encodes no text: give the queries as vectors")
        return upkeep.recall(self._store, given, count=count, k=k, target=target)

    def verify(self, *, on_step: Callable[[str], None] = _ignore) -> list[Problem]:
        """Read every file of the index and name what is not as it was written. Changes nothing."""
        return upkeep.verify(self._store, on_step=on_step)

    def repair(
        self, *, wait: bool = True, on_step: Callable[[str], None] = _ignore
    ) -> RepairReport:
        """Rebuild what the undamaged files allow; files whose vectors are gone are read again by
        the next `add`. Raises IndexLockedError when another process writes and `wait` is false.
        """
        return upkeep.repair(self._store, wait=wait, on_step=on_step)

    def check_unlocked(self) -> None:
        """Raise IndexLockedError, which says who, if another process writes to the index."""
        with self._store.writing(wait=False, sweep=False):
            pass


def _checked_dim(dim: int | None) -> int:
    if dim is None or dim < 1:
        raise UsageError(f"dim {dim}: use the number of dimensions of the vectors")
    return dim
