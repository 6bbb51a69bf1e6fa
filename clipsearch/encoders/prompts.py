"""Prompts: sentences that words are put into before they are encoded, and the mean over several.

The names of things rarely stand alone where a model learned from captions; CLIP's authors encode
"a photo of a dog", "a drawing of a dog" and so on, and take the mean (Radford et al., "Learning
Transferable Visual Models From Natural Language Supervision", 2021, section 3.1.4).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from clipsearch.encoders.base import Encoder
from clipsearch.encoders.long_texts import encode_texts
from clipsearch.encoders.values import unit_rows
from clipsearch.errors import EncoderError, UsageError
from clipsearch.types import Vectors

SLOT = "{}"  # what a template has in place of the words
PLAIN = (SLOT,)
TEXTS_AT_ONCE = 2048  # bounds the memory that labels times templates take
_LISTS = {"simple": "SIMPLE_IMAGENET_TEMPLATES", "imagenet": "OPENAI_IMAGENET_TEMPLATES"}
PROMPTS = ("none", *_LISTS)
_METADATA = "zero_shot_metadata.py"


@cache
def templates(name: str) -> tuple[str, ...]:
    """The templates of this name: "none" (the words alone), "simple" or "imagenet", open_clip's 7
    and 80, which are those of CLIP's authors.

    Raises UsageError for another name, EncoderError where open_clip has none.
    """
    if name == "none":
        return PLAIN
    if name not in _LISTS:
        raise UsageError(f"prompts {name!r}: use one of {', '.join(PROMPTS)}")
    return tuple(fill(SLOT) for fill in _published(_LISTS[name]))


def checked_templates(given: Sequence[str]) -> tuple[str, ...]:
    """Templates of a user's own. Raises UsageError for none, or one without its `{}`."""
    if isinstance(given, str):
        given = (given,)
    if not given:
        raise UsageError(
            f"no templates are given: give one at least, such as 'a photo of a {SLOT}'"
        )
    for template in given:
        if template.count(SLOT) != 1:
            raise UsageError(
                f"template {template!r}: write {SLOT} once, where the label goes, as in "
                f"'a photo of a {SLOT}'"
            )
    return tuple(given)


def ensemble(encoder: Encoder, texts: Sequence[str], templates: Sequence[str]) -> Vectors:
    """(len(texts), dim) unit rows: of each text the mean of the unit rows of all templates filled
    with it, scaled to unit length. A text may be of any length.

    Raises UsageError for templates without `{}`, EncoderError if text is not supported.
    """
    templates = checked_templates(templates)
    if templates == PLAIN:
        return _encoded(encoder, texts)
    rows = np.zeros((len(texts), encoder.dim), dtype=np.float32)
    step = max(1, TEXTS_AT_ONCE // len(templates))
    for start in range(0, len(texts), step):
        some = texts[start : start + step]
        filled = [template.replace(SLOT, text) for text in some for template in templates]
        made = encode_texts(encoder, filled).vectors.reshape(len(some), len(templates), -1)
        rows[start : start + step] = unit_rows(made.mean(axis=1, dtype=np.float64))
    return rows


def _encoded(encoder: Encoder, texts: Sequence[str]) -> Vectors:
    """As they are, to the bit."""
    rows = [np.zeros((0, encoder.dim), dtype=np.float32)]
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        rows.append(encode_texts(encoder, texts[start : start + TEXTS_AT_ONCE]).vectors)
    return np.concatenate(rows)


def _published(name: str) -> Sequence[Callable[[str], str]]:
    """A list of open_clip's, from its one file: the package itself would load torch."""
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise EncoderError("package open_clip is missing: pip install open_clip_torch")
    file = Path(package.origin).with_name(_METADATA)
    found = importlib.util.spec_from_file_location("clipsearch_zero_shot_metadata", file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
        fillers: Sequence[Callable[[str], str]] = getattr(module, name)
    except (OSError, AttributeError) as error:
        raise EncoderError(
            f"open_clip has no {name} in {file}: pip install -U open_clip_torch"
        ) from error
    return fillers
