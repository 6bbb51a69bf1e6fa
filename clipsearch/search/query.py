"""What is asked for, as its terms; and words as vectors."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from clipsearch.encoders.base import Encoder
from clipsearch.encoders.long_texts import encode_texts
from clipsearch.errors import EncoderError, UsageError
from clipsearch.media import AudioSpec
from clipsearch.search.grammar import Term, TermKind, parse_line, parse_term, parse_terms, said
from clipsearch.types import Vectors

SHOWN_CHARACTERS = 40

Paths = Sequence[str | os.PathLike[str]] | str | os.PathLike[str]


@dataclass(frozen=True, slots=True, init=False)
class Query:
    """What to look for: words, sounds, pictures, or anything else that has terms, together.

    words: as they are; a text with operators is for `parse`. sounds: files of sound, or videos,
    whose sound it is. pictures: files of pictures. Raises UsageError for nothing at all.
    """

    terms: tuple[Term, ...]

    def __init__(
        self,
        words: str = "",
        sounds: Paths = (),
        *,
        pictures: Paths = (),
        terms: Sequence[Term] = (),
    ) -> None:
        found = [Term("words", words)] if words.strip() else []
        found += [Term("sound", os.fspath(path)) for path in _several(sounds)]
        found += [Term("picture", os.fspath(path)) for path in _several(pictures)]
        found += terms
        if not found:
            raise UsageError(
                "the query is empty: say in words what to look for, or give a picture or a sound"
            )
        object.__setattr__(self, "terms", tuple(found))

    @classmethod
    def of_terms(
        cls,
        arguments: Sequence[str],
        sounds: Sequence[str] = (),
        *,
        add: Sequence[str] = (),
        subtract: Sequence[str] = (),
    ) -> Query:
        """From arguments of a command line (clipsearch.search.grammar). sounds: files of sound or
        videos. add, subtract: one term each.
        """
        added = [parse_term(term) for term in add]
        taken = [parse_term(term) for term in subtract]
        heard = [Term("sound", path) for path in sounds]
        less = [replace(term, weight=-term.weight) for term in taken]
        return cls(terms=[*parse_terms(arguments), *heard, *added, *less])

    @classmethod
    def parse(cls, line: str) -> Query:
        """From one line of text (clipsearch.search.grammar); of `str(query)`, the query."""
        return cls(terms=parse_line(line))

    def __str__(self) -> str:
        """How to say it in a line, for `parse`."""
        return said(self.terms)

    @property
    def words(self) -> str:
        """The words that are looked for, of all terms; not those that are subtracted."""
        return " ".join(t.content for t in self.terms if t.kind == "words" and t.weight > 0)

    @property
    def sounds(self) -> tuple[str, ...]:
        """Files whose sound is looked for."""
        return tuple(t.content for t in self.terms if t.kind == "sound" and t.weight > 0)

    @property
    def pictures(self) -> tuple[str, ...]:
        """Files of pictures that are looked for."""
        return tuple(t.content for t in self.terms if t.kind == "picture" and t.weight > 0)

    @property
    def kinds(self) -> frozenset[TermKind]:
        """Of its terms, added or subtracted."""
        return frozenset(term.kind for term in self.terms)

    @property
    def is_words(self) -> bool:
        """Whether it is made of words alone, added or subtracted."""
        return self.kinds == {"words"}

    @property
    def is_plain(self) -> bool:
        """Whether it is one term of words with the weight 1: what `words` says, and all of it."""
        return self.is_words and len(self.terms) == 1 and self.terms[0].weight == 1.0


def _several(paths: Paths) -> Sequence[str | os.PathLike[str]]:
    return (paths,) if isinstance(paths, str | os.PathLike) else paths


@dataclass(frozen=True, slots=True)
class Ears:
    """What an index hears with. `shared`: its space is that of pictures and words too."""

    encoder: Encoder
    spec: AudioSpec
    shared: bool


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
