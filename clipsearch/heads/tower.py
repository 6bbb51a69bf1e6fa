"""What the training of a head takes from the encoder: CLIP's text tower, and its logit scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from clipsearch.encoders.base import Encoder
from clipsearch.heads.schedule import FIRST_SCALE, MOST_SCALE, TrainSpec

if TYPE_CHECKING:
    from torch import Tensor

TIGHT_BATCH = 16  # videos: it scores every text with every video, a hundred pairs a second
POSITIONS = "positional_embedding"
FIRST_BLOCK = "transformer.resblocks.0.attn.in_proj_weight"


def text_tower_of(encoder: Encoder) -> Mapping[str, Tensor] | None:
    """The tensors of an encoder's text tower by CLIP's names, for `new_head`; None for an encoder
    that has none of the width of its vectors. Copies on the CPU, fp32.
    """
    from clipsearch.encoders.openclip import OpenClipEncoder

    if not isinstance(encoder, OpenClipEncoder):
        return None
    tower = encoder.text_tower()
    if POSITIONS not in tower or FIRST_BLOCK not in tower:
        return None
    return tower if tower[POSITIONS].shape[1] == encoder.dim else None


def default_settings(name: str, encoder: Encoder) -> TrainSpec:
    """Settings that suit a head and an encoder: small batches with one caption a video for the
    tight head, and for others the logit scale that CLIP ended with, where the encoder is one.
    """
    from clipsearch.encoders.openclip import OpenClipEncoder

    if name == "tight":
        return TrainSpec(batch_size=TIGHT_BATCH, captions_per_video=1)
    scale = encoder.logit_scale if isinstance(encoder, OpenClipEncoder) else None
    return TrainSpec(logit_scale=min(scale or FIRST_SCALE, MOST_SCALE))
