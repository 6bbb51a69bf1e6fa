"""What all checkpoints that grew from OpenAI's CLIP share: tokens, pre-processing, text tower."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clipsearch.errors import EncoderError

CONTEXT = 77  # tokens, and
VOCABULARY = 49408  # of CLIP's tokenizer
HEAD_WIDTH = 64  # of attention, in every model of OpenAI
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")  # in OpenAI's own files
PREPROCESS = {  # of OpenAI's weights, as open_clip names it
    "mode": "RGB",
    "mean": (0.48145466, 0.4578275, 0.40821073),
    "std": (0.26862954, 0.26130258, 0.27577711),
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}


def tokenizer() -> Any:
    """CLIP's own."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(context_length=CONTEXT)


def check_tokens(state: Mapping[str, Any], what: str) -> None:
    """Raise EncoderError unless CLIP's tokenizer makes the tokens that a text tower reads."""
    context, vocabulary = len(state["positional_embedding"]), len(state["token_embedding.weight"])
    if (context, vocabulary) != (CONTEXT, VOCABULARY):
        raise EncoderError(
            f"{what} reads {context} tokens of a vocabulary of {vocabulary}: only CLIP's tokenizer,"
            f" with {CONTEXT} of {VOCABULARY}, is supported"
        )


def text_tower(state: Mapping[str, Any], *, layers: int) -> Any:
    """open_clip's description of a text tower of so many layers that `check_tokens` accepts."""
    from open_clip.model import CLIPTextCfg

    width = state["text_projection"].shape[0]
    return CLIPTextCfg(
        context_length=CONTEXT,
        vocab_size=VOCABULARY,
        width=width,
        heads=width // HEAD_WIDTH,
        layers=layers,
    )
