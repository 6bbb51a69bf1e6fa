"""What a caller gives for one run: paths, options and sampling, checked against the index."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from clipsearch.encoders import AUTO, parse_spec
from clipsearch.encoders.devices import usable_cores
from clipsearch.errors import EncoderError, UsageError
from clipsearch.ingest.options import AddOptions
from clipsearch.ingest.reading import sources_in
from clipsearch.ingest.run import IngestSpec
from clipsearch.media import ReadSpec, SamplingSpec, kind_of
from clipsearch.media.discover import WalkSpec
from clipsearch.media.sampling import WINDOW_SECONDS
from clipsearch.store.manifest import AudioSettings
from clipsearch.store.recipes import check_recipe
from clipsearch.store.store import Store
from clipsearch.textfiles import is_unicode
from clipsearch.types import MEDIA_KINDS, Failure

_LEFT_OUT = {
    "audio": "this index has no sound: --audio or --audio-model gives it some",
    "subtitles": "this index has no subtitles: --subtitles takes them in",
}
WINDOW_KEY = "window_seconds"  # kept beside the sampling in the manifest


def recorded_sampling(store: Store) -> SamplingSpec | None:
    """How the index samples videos; None until something was added."""
    recorded = dict(store.manifest.sampling)
    recorded.pop(WINDOW_KEY, None)
    return SamplingSpec.from_dict(recorded) if recorded else None


def ingest_spec(
    store: Store, options: AddOptions, fps: float | None, *, short_side: int
) -> IngestSpec:
    """Everything a run needs to know; the first one settles the index's sampling.

    short_side: of pictures, in pixels, as the encoder takes them. Raises UsageError for other
    sampling than the index has.
    """
    sampling, window_seconds = _fix_sampling(store, options, fps)
    return IngestSpec(
        read=ReadSpec(short_side, options.max_image_megapixels, sampling),
        window_seconds=window_seconds,
        walk=WalkSpec(
            frozenset(options.exclude_dirs), options.include_hidden, frozenset(MEDIA_KINDS)
        ),
        batch_size=options.batch_size,
        workers=options.workers or usable_cores(),
        retry_failed=options.retry_failed,
        cache=options.cache,
    )


def record_settings(
    store: Store, spec: IngestSpec, audio: AudioSettings | None, *, texts: bool
) -> None:
    """Keep what a run settled, at once: a first run that is refused or killed settles nothing."""
    sampling = {**spec.read.sampling.to_dict(), WINDOW_KEY: spec.window_seconds}
    built = store.manifest
    if (built.sampling, built.audio, built.texts) != (sampling, audio, texts):
        store.update_manifest(sampling=sampling, audio=audio, texts=texts)


def _fix_sampling(
    store: Store, options: AddOptions, fps: float | None
) -> tuple[SamplingSpec, float]:
    """The index's sampling and window length, settled by the first run."""
    if fps is not None and options.sampling is not None:
        raise UsageError("both fps and options.sampling are given: give one of them")
    wanted = options.sampling if fps is None else SamplingSpec(fps=fps)
    sampling = recorded_sampling(store)
    if sampling is None:
        sampling = wanted or SamplingSpec()
        window_seconds = options.window_seconds or WINDOW_SECONDS
        return sampling, window_seconds
    window_seconds = float(store.manifest.sampling[WINDOW_KEY])
    if (wanted or sampling) != sampling:
        raise UsageError(
            f"{store.folder} samples videos by {sampling}, not by {wanted}: use another --index"
        )
    if (options.window_seconds or window_seconds) != window_seconds:
        raise UsageError(
            f"{store.folder} has windows of {window_seconds:g} seconds, not "
            f"{options.window_seconds:g}: use another --index"
        )
    return sampling, window_seconds


def check_built(store: Store, *, model: str, recipe: str | None, catalog: str | None) -> None:
    """Raise EncoderError or UsageError if an index was built otherwise than is given here."""
    built = store.manifest
    if built.encoder is None:
        raise EncoderError(
            f"{store.folder} holds vectors that were made elsewhere, not media: build another "
            "index with --index"
        )
    if model != AUTO and str(parse_spec(model)) != built.encoder:
        raise EncoderError(
            f"{store.folder} was built with the model {built.encoder}, not {model}: leave out "
            "--model, or build another index with --index"
        )
    if recipe is not None and check_recipe(recipe) != built.recipe:
        raise UsageError(
            f"{store.folder} has the recipe {built.recipe}, not {recipe}: change it with "
            f"`clipsearch compact --recipe {recipe}`"
        )
    if catalog is not None and catalog != built.catalog:
        raise UsageError(
            f"{store.folder} has another catalog: leave out --catalog, or build another index "
            "with --index"
        )


def check_utf8(path: str | os.PathLike[str]) -> None:
    """Raise UsageError for a path that no database can hold."""
    if not is_unicode(path):
        shown = os.fsencode(path).decode(errors="replace")
        raise UsageError(f"{shown} is not valid UTF-8: rename it first")


def split_missing(
    paths: Iterable[str | os.PathLike[str]], *, sound: bool, texts: bool
) -> tuple[list[Path], list[Failure]]:
    """What there is of some paths, resolved, and why not for the others; in an index with sound,
    with texts, or without.
    """
    found, missing = [], []
    for given in paths:
        check_utf8(given)
        path = Path(given).expanduser().resolve()
        kind = kind_of(path.name)
        if path.is_file() and kind is None:
            missing.append(Failure(path, "its name is not that of a picture, a video or a sound"))
        elif path.is_file() and kind and not sources_in(kind, sound=sound, texts=texts):
            missing.append(Failure(path, _LEFT_OUT[kind]))
        elif path.exists():
            found.append(path)
        else:
            missing.append(Failure(path, "no such file or folder; nothing was removed"))
    return found, missing
