"""One vector for each of some files: stored where an index has it, else made on the spot."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.base import Encoder, Prepared
from clipsearch.encoders.devices import usable_cores
from clipsearch.errors import MediaError, UsageError
from clipsearch.ingest.frames import read_frames
from clipsearch.ingest.given import recorded_sampling
from clipsearch.ingest.listening import audio_spec
from clipsearch.ingest.named import current_media, named_files
from clipsearch.ingest.pooling import mean_pool
from clipsearch.ingest.readahead import read_ahead
from clipsearch.ingest.stored import stored_means
from clipsearch.media import AudioSpec, ReadSpec, SamplingSpec, open_audio, open_media
from clipsearch.store.store import Store
from clipsearch.types import Failure, FoundFile, MediaKind, StoredMedia, Vectors

PICTURES_AT_ONCE = 32  # encoded together
WINDOWS_AT_ONCE = 16
MEDIA_AT_ONCE = 256  # whose stored vectors are asked for together


@dataclass(frozen=True, slots=True, eq=False)
class FileVector:
    """A file as one vector: a picture's own, of a video the mean of its frames, of a sound that of
    its windows. (dim,) float32 of unit length. media_id: in the catalog, where it is indexed.
    """

    path: Path
    kind: MediaKind
    vector: NDArray[np.float32]
    media_id: int | None = None


@dataclass(frozen=True, slots=True)
class Viewing:
    """What files are looked at with.

    encoder: asked for when a file has to be read. store: the index that may have vectors of it.
    kinds: of files that are looked at. sound: how sounds are cut; None where they lie in another
    space than words.
    """

    encoder: Callable[[], Encoder]
    kinds: frozenset[MediaKind]
    sound: AudioSpec | None = None
    store: Store | None = None
    sampling: SamplingSpec = field(default_factory=SamplingSpec)

    @classmethod
    def by(cls, encoder: Encoder) -> Viewing:
        """With an encoder alone, without an index."""
        kinds: set[MediaKind] = {"image", "video"} if encoder.supports_images else set()
        if not encoder.supports_audio:
            return cls(lambda: encoder, frozenset(kinds))
        sound = AudioSpec(encoder.sample_rate)
        return cls(lambda: encoder, frozenset({*kinds, "audio"}), sound)

    @classmethod
    def of_index(cls, store: Store, encoder: Callable[[], Encoder], *, sounds: bool) -> Viewing:
        """As an index does it; with sounds only if they lie in the space of words and pictures."""
        sampling = recorded_sampling(store) or SamplingSpec()
        settings, sound = store.manifest.audio, None
        if not sounds:
            pass
        elif settings is None and encoder().supports_audio:
            sound = AudioSpec(encoder().sample_rate)
        elif settings is not None and settings.encoder == store.manifest.encoder:
            sound = audio_spec(settings, encoder())
        kinds: tuple[MediaKind, ...] = ("image", "video", "audio") if sound else ("image", "video")
        return cls(encoder, frozenset(kinds), sound, store, sampling)


def vectors_of(
    files: Iterable[str | os.PathLike[str]] | Iterable[StoredMedia],
    viewing: Viewing,
    *,
    on_failure: Callable[[Failure], None],
) -> Iterator[FileVector]:
    """Of files by their paths, and of files of an index: the two below, in order."""
    for stored, some in groupby(files, key=lambda file: isinstance(file, StoredMedia)):
        if stored:
            media = (one for one in some if isinstance(one, StoredMedia))
            yield from vectors_of_media(media, viewing, on_failure=on_failure)
        else:
            paths = (Path(one) for one in some if not isinstance(one, StoredMedia))
            yield from vectors_of_files(paths, viewing, on_failure=on_failure)


def vectors_of_files(
    paths: Iterable[Path], viewing: Viewing, *, on_failure: Callable[[Failure], None]
) -> Iterator[FileVector]:
    """A vector of each file, in order; of folders those below, in order of their paths.

    Those that an index has, as they are now, are not read again; the others are decoded and
    encoded. A file that cannot be read is told and left out. Streams.
    """
    files = named_files(paths, viewing.kinds, viewing.store, on_failure=on_failure)
    while some := list(islice(files, PICTURES_AT_ONCE)):
        known = _known(some, viewing)
        new = [file for file in some if file.path not in known]
        pictures = _pictures([file for file in new if file.kind == "image"], viewing, on_failure)
        for file in some:
            found = known.get(file.path) or pictures.get(file.path)
            if found is None and file.kind != "image":
                try:
                    found = FileVector(file.path, file.kind, _read(file, viewing))
                except MediaError as error:
                    on_failure(Failure(file.path, _reason(error, file.path)))
            if found is not None:
                yield found


def vectors_of_media(
    media: Iterable[StoredMedia], viewing: Viewing, *, on_failure: Callable[[Failure], None]
) -> Iterator[FileVector]:
    """The stored vectors of files of an index, in order; those without are told and left out."""
    ready = (one for one in media if one.state == "ready" and one.kind in viewing.kinds)
    while some := list(islice(ready, MEDIA_AT_ONCE)):
        found = _stored(some, viewing)
        for one in some:
            if one.id in found:
                yield FileVector(one.path, one.kind, found[one.id], one.id)
            else:
                reason = "nothing of it is indexed that can be compared with words"
                on_failure(Failure(one.path, reason))


def _known(files: Sequence[FoundFile], viewing: Viewing) -> dict[Path, FileVector]:
    """What an index has of files as they are now, by their paths."""
    if viewing.store is None:
        return {}
    media = {file.path: current_media(file.path, viewing.store) for file in files}
    stored = _stored([one for one in media.values() if one is not None], viewing)
    return {
        path: FileVector(path, one.kind, stored[one.id], one.id)
        for path, one in media.items()
        if one is not None and one.id in stored
    }


def _stored(media: Sequence[StoredMedia], viewing: Viewing) -> dict[int, NDArray[np.float32]]:
    """What an index has of files, by their ids: what is seen in them, else what is heard."""
    assert viewing.store is not None, "only asked of an index"
    found = stored_means(viewing.store, [one.id for one in media], "visual")
    rest = [one.id for one in media if one.id not in found]
    if rest and viewing.sound is not None:
        found |= stored_means(viewing.store, rest, "audio")
    return found


def _mean(vectors: Vectors) -> NDArray[np.float32]:
    mean: NDArray[np.float32] = vectors[0] if len(vectors) == 1 else mean_pool(vectors)
    return mean


def _pictures(
    files: Sequence[FoundFile], viewing: Viewing, on_failure: Callable[[Failure], None]
) -> dict[Path, FileVector]:
    """Decoded in threads, encoded at once; by their paths."""
    if not files:
        return {}
    encoder = viewing.encoder()
    spec = ReadSpec(encoder.short_side)

    def prepared(file: FoundFile) -> Iterator[Prepared]:
        for _, pixels in open_media(file, spec).units:
            yield encoder.prepare(pixels)

    kept: list[tuple[FoundFile, Prepared]] = []
    with closing(read_ahead(files, prepared, workers=usable_cores())) as reading:
        for message in reading:
            kept += [(message.item, picture) for picture in message.events]
            if message.error is not None:
                reason = _reason(message.error, message.item.path)
                on_failure(Failure(message.item.path, reason))
    rows = encoder.encode_images([picture for _, picture in kept])
    return {
        file.path: FileVector(file.path, file.kind, row)
        for (file, _), row in zip(kept, rows, strict=True)
    }


def _read(file: FoundFile, viewing: Viewing) -> NDArray[np.float32]:
    """The vector of a video or a sound. Raises MediaError."""
    encoder = viewing.encoder()
    if file.kind == "audio":
        assert viewing.sound is not None, "only then are sounds among the kinds"
        waves = (wave for _, wave in open_audio(file.path, viewing.sound).units)
        rows = [np.empty((0, encoder.dim), np.float32)]
        while some := list(islice(waves, WINDOWS_AT_ONCE)):
            rows.append(encoder.encode_audio(some))
        vectors = np.concatenate(rows)
    else:
        spec = ReadSpec(encoder.short_side, sampling=viewing.sampling)
        try:
            vectors = read_frames(file.path, encoder, spec, on_progress=lambda _: None).vectors
        except UsageError as error:  # it went away meanwhile
            raise MediaError(str(error)) from error
    if not len(vectors):
        raise MediaError("there is nothing to hear in it" if file.kind == "audio" else "no frames")
    return _mean(vectors)


def _reason(error: MediaError, path: Path) -> str:
    return str(error).removeprefix(f"{path}: ")
