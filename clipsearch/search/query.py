"""What is asked for, as vectors: one for each space that it can be said in."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from clipsearch.encoders.base import Encoder
from clipsearch.encoders.long_texts import encode_texts
from clipsearch.encoders.values import unit_rows
from clipsearch.errors import EncoderError, MediaError, UsageError
from clipsearch.media import AudioSpec, kind_of, open_audio, open_sound_track
from clipsearch.types import SOURCES, Source, Vectors

SHOWN_CHARACTERS = 40
WINDOWS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for: words, sounds, or both together.

    sounds: files of sound, or videos, whose sound it is. Raises UsageError for nothing at all.
    """

    words: str = ""
    sounds: Sequence[str | os.PathLike[str]] = ()

    def __post_init__(self) -> None:
        if isinstance(self.sounds, str | os.PathLike):
            object.__setattr__(self, "sounds", (self.sounds,))
        if not self.words.strip() and not self.sounds:
            raise UsageError("the query is empty: say in words what to look for, or give a sound")

    @classmethod
    def of_terms(cls, terms: Sequence[str], sounds: Sequence[str] = ()) -> Query:
        """From terms of a command line: one that has the suffix of a sound and is a file, or starts
        with `./`, `/` or `~/`, is a sound, as `sounds` are; the others are words.
        """
        named = [os.path.expanduser(term) for term in terms if _is_sound(term)]  # noqa: PTH111
        return cls(" ".join(term for term in terms if not _is_sound(term)), (*named, *sounds))


@dataclass(frozen=True, slots=True)
class Ears:
    """What an index hears with. `shared`: its space is that of pictures and words too."""

    encoder: Encoder
    spec: AudioSpec
    shared: bool


def _is_sound(term: str) -> bool:
    return kind_of(term) == "audio" and (
        term.startswith(("./", "../", "/", "~/")) or os.path.isfile(os.path.expanduser(term))  # noqa: PTH111, PTH113, neither raises
    )


def query_vectors(
    query: Query,
    encoder: Callable[[], Encoder],
    ears: Callable[[], Ears | None],
    *,
    sources: Sequence[Source],
    on_notice: Callable[[str], None],
) -> dict[Source, Vectors]:
    """(1, dim) unit rows by the source that is asked, for those of `sources` whose space can hold
    all of the query. A text is encoded once for each space. Several terms are the mean of theirs.

    Raises UsageError where no space can hold it, EncoderError and MediaError.
    """
    heard = ears() if query.sounds or "audio" in sources else None
    if query.sounds and heard is None:
        raise UsageError("this index has no sound to compare with: index with --audio")
    found: dict[Source, Vectors] = {}
    shared = heard is None or heard.shared
    seen = [source for source in sources if source != "audio" or shared]
    if seen and (shared or not query.sounds):
        rows = _terms(query, encoder(), heard, on_notice)
        found |= dict.fromkeys(seen, rows)
    if "audio" in sources and heard is not None and not heard.shared:
        found["audio"] = _terms(query, heard.encoder, heard, on_notice)
    if not found:
        raise UsageError(
            "sounds are heard in a space of their own here: they find sounds (--kind audio), not "
            "pictures or subtitles"
        )
    return {source: found[source] for source in SOURCES if source in found}


def _terms(
    query: Query, encoder: Encoder, heard: Ears | None, on_notice: Callable[[str], None]
) -> Vectors:
    rows = []
    if query.words.strip():
        rows.append(encode_words(encoder, [query.words], on_notice=on_notice))
    if heard is not None:
        rows += [encode_sound(heard, Path(sound)) for sound in query.sounds]
    if len(rows) == 1:
        return rows[0]
    return unit_rows(np.concatenate(rows).mean(axis=0, keepdims=True))


def encode_sound(ears: Ears, path: Path) -> Vectors:
    """(1, dim) unit row of a sound, or of the sound of a video: the mean of its windows.

    Raises MediaError that names the file, also for one that is silent.
    """
    try:
        if kind_of(path.name) == "video":
            stream = open_sound_track(path, ears.spec)
        else:
            stream = open_audio(path, ears.spec)
        waves = iter(()) if stream is None else (wave for _, wave in stream.units)
        rows = [np.empty((0, ears.encoder.dim), np.float32)]
        while batch := list(islice(waves, WINDOWS_AT_ONCE)):
            rows.append(ears.encoder.encode_audio(batch))
        if len(rows) == 1:
            raise MediaError("there is nothing to hear in it")
    except MediaError as error:
        raise MediaError(f"{path}: {error}") from error
    return unit_rows(np.concatenate(rows).mean(axis=0, keepdims=True))


def encode_words(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    on_notice: Callable[[str], None],
    normalize: bool = True,
) -> Vectors:
    """(len(texts), dim) float32 rows of what to look for, however long; unit rows unless they are
    wanted as the encoder gives them.

    A text that is longer than the encoder's window is encoded by sentences and averaged, which
    `on_notice` is told. Raises UsageError for an empty text, EncoderError for an encoder of
    pictures only.
    """
    if not texts or any(not text.strip() for text in texts):
        raise UsageError("the text is empty: say in words what to look for")
    if not encoder.supports_text:
        raise EncoderError(f"the model {encoder.spec} takes no text")
    encoded = encode_texts(encoder, texts, normalize=normalize)
    for number in encoded.split:
        beginning = " ".join(texts[number].split())[:SHOWN_CHARACTERS]
        on_notice(
            f"“{beginning}…” is longer than the model takes at once: encoded in "
            f"{encoded.pieces[number]} parts, averaged"
        )
    return encoded.vectors
