"""open_clip's tokenizers, and how many tokens a text has for each kind: all cut in silence."""

from __future__ import annotations

from typing import Any

from clipsearch.errors import EncoderError

LONGEST_TOKEN = 32  # bytes, in the vocabulary of CLIP
_ADDED = 2  # start and end of text
_ADDED_CLIPS = 3  # of the mode "clips": and a class token


def find_tokenizer(model: str) -> Any:
    """A callable from a list of texts to their tokens, (n, context) int64.

    Raises EncoderError if it, or a package for it, is missing.
    """
    import open_clip

    try:
        return open_clip.get_tokenizer(model)
    except ImportError as error:
        raise EncoderError(
            f"the tokenizer of {model} needs a package that is missing ({error}):"
            " pip install transformers"
        ) from error
    except Exception as error:
        raise EncoderError(f"cannot load the tokenizer of {model}: {error}") from error


def fits_context(tokenizer: Any, text: str) -> bool:
    """Whether `tokenizer`, from open_clip.get_tokenizer, keeps every token of `text`.

    Not for several threads at a time: a tokenizer of transformers keeps the last call's settings.
    """
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    context: int = tokenizer.context_length
    if isinstance(tokenizer, SimpleTokenizer):
        return _fits_simple(tokenizer, text, context)
    if isinstance(tokenizer, HFTokenizer):
        cleaned, clips = tokenizer.clean_fn(text), tokenizer.tokenizer_mode == "clips"
    else:
        cleaned, clips = _siglip_cleaned(text), False
    ids = tokenizer.tokenizer(
        cleaned, add_special_tokens=not clips, padding=False, truncation=False, verbose=False
    ).input_ids
    return len(ids) + (_ADDED_CLIPS if clips else 0) <= context


def _fits_simple(tokenizer: Any, text: str, context: int) -> bool:
    # Merging the byte pairs of an endless word takes quadratic time: what would not fit in tokens
    # of the longest kind is not tried.
    most_bytes = LONGEST_TOKEN * (context - _ADDED)
    if (
        len(text) > most_bytes
        and len("".join(tokenizer.clean_fn(text).split()).encode()) > most_bytes
    ):
        return False
    return len(tokenizer.encode(text)) + _ADDED <= context


def _siglip_cleaned(text: str) -> str:
    from open_clip.tokenizer import basic_clean, canonicalize_text

    cleaned: str = canonicalize_text(basic_clean(text))
    return cleaned
