"""What is asked for, as vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from clipsearch.encoders.base import Encoder
from clipsearch.encoders.long_texts import encode_texts
from clipsearch.errors import EncoderError, UsageError
from clipsearch.types import Vectors

SHOWN_CHARACTERS = 40


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
