"""AudioCLIP's two models from the state dict of a checkpoint: sizes, checks and fingerprint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clipsearch.encoders import audioclip_frames
from clipsearch.encoders.openai_clip import (
    HEAD_WIDTH,
    NOT_WEIGHTS,
    PREPROCESS,
    check_tokens,
    text_tower,
)
from clipsearch.encoders.state import check_state, check_telling, count_blocks, tensors_sha256
from clipsearch.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor

    from clipsearch.encoders.audioclip_tower import AudioTower, Network

PREFIX = "audio."
_REDUCTION = 32  # pixels that one place of the ResNet's last stage stands for
# In the files, but with no part in an embedding.
_NOT_WEIGHTS = (*NOT_WEIGHTS, "logit_scale_ai", "logit_scale_at")
_COUNTERS = ".num_batches_tracked"
_SOUND = {  # how a wave becomes frames, for the fingerprint
    "sample_rate": audioclip_frames.SAMPLE_RATE,
    "frame": audioclip_frames.FRAME,
    "hop": audioclip_frames.HOP,
    "wavelet": audioclip_frames.WAVELET,
    "bands": audioclip_frames.BANDS,
    "scale": "range",
}
# What CLIP's architecture is read from, and how many axes each has.
_TELLING = {
    "visual.layer1.0.conv1.weight": 4,
    "visual.attnpool.positional_embedding": 2,
    "positional_embedding": 2,
    "token_embedding.weight": 2,
    "text_projection": 2,
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What a checkpoint holds, on the CPU and ready to encode."""

    clip: Any  # of open_clip
    preprocess: dict[str, Any]  # of pictures, as open_clip.PreprocessCfg
    tower: AudioTower
    fingerprint: str


def build(state: Mapping[str, Any], path: str, *, precision: str) -> Parts:
    """Both models with the weights of `state`, which `path` held.

    Raises EncoderError for a state without a sound network, or whose tensors do not fit.
    """
    from open_clip.model import convert_weights_to_lp, get_cast_dtype

    from clipsearch.encoders.audioclip_tower import AudioTower, basis_of

    what = f"the AudioCLIP model in {path}"
    state = _weights(state)
    if not any(name.startswith(PREFIX) for name in state):
        raise EncoderError(
            f"{path} holds no AudioCLIP model: no tensor is named {PREFIX}*; use"
            " AudioCLIP-Full-Training.pt or AudioCLIP-Partial-Training.pt"
        )
    clip, network = _untrained(state, what, precision=precision)
    check_state(state, _wanted(clip, network), what=what)
    clip_state, sound_state = _split(state)
    basis = basis_of(sound_state, what=what)
    for model, values in ((clip, clip_state), (network, sound_state)):
        own = model.state_dict()  # with the counters, which are no weights
        model.load_state_dict({name: values.get(name, own[name]) for name in own})
    if precision != "fp32":
        convert_weights_to_lp(clip, dtype=get_cast_dtype(precision))
    preprocess = {**PREPROCESS, "size": clip.visual.image_size}
    print_ = _fingerprint(state, preprocess)
    return Parts(clip.eval(), preprocess, AudioTower(network, basis), print_)


def _weights(state: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in state.items()
        if name not in _NOT_WEIGHTS and not name.endswith(_COUNTERS)
    }


def _split(state: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """CLIP's tensors, and those of sound without their prefix."""
    clip = {n: v for n, v in state.items() if not n.startswith(PREFIX)}
    return clip, {n.removeprefix(PREFIX): v for n, v in state.items() if n.startswith(PREFIX)}


def _untrained(state: dict[str, Any], what: str, *, precision: str) -> tuple[Any, Network]:
    """The CLIP of open_clip and the sound network that these tensors were made by, on the CPU."""
    import torch
    from open_clip.model import CLIP, get_cast_dtype

    from clipsearch.encoders.audioclip_tower import TELLING, network_for

    telling = {**_TELLING, **{PREFIX + name: axes for name, axes in TELLING.items()}}
    check_telling(state, telling, what=what)
    architecture = _clip_architecture(state, what)
    cast = get_cast_dtype(precision)
    with torch.random.fork_rng(devices=[]):  # their random weights are not to use up a seed
        clip = CLIP(**architecture, quick_gelu=True, cast_dtype=cast)
        network = network_for(_split(state)[1], dim=architecture["embed_dim"], what=what)
    return clip, network


def _clip_architecture(state: dict[str, Any], what: str) -> dict[str, Any]:
    """The arguments of open_clip's CLIP."""
    from open_clip.model import CLIPVisionCfg

    check_tokens(state, what)
    width = state["visual.layer1.0.conv1.weight"].shape[0]
    grid = round((len(state["visual.attnpool.positional_embedding"]) - 1) ** 0.5)
    text_width, dim = state["text_projection"].shape
    if width % 2 or text_width % HEAD_WIDTH or not grid:
        raise EncoderError(
            f"{what} has towers of widths {width} and {text_width} and a grid of {grid} places:"
            f" widths must be even and a multiple of {HEAD_WIDTH}, and a place is needed"
        )
    vision = CLIPVisionCfg(
        layers=tuple(count_blocks(state, f"visual.layer{s}.", what=what) for s in range(1, 5)),
        width=width,
        head_width=HEAD_WIDTH,
        image_size=_REDUCTION * grid,
    )
    text = text_tower(state, layers=count_blocks(state, "transformer.resblocks.", what=what))
    return {"embed_dim": dim, "vision_cfg": vision, "text_cfg": text}


def _wanted(clip: Any, network: Network) -> dict[str, Tensor]:
    """Names and shapes of all that a checkpoint is to hold."""
    import torch

    from clipsearch.encoders.audioclip_tower import SOUND_SHAPES

    sound = {name: torch.empty(shape, device="meta") for name, shape in SOUND_SHAPES.items()}
    sound.update(network.state_dict())
    return _weights({**clip.state_dict(), **{PREFIX + n: v for n, v in sound.items()}})


def _fingerprint(state: Mapping[str, Tensor], preprocess: dict[str, Any]) -> str:
    digest = tensors_sha256(state)
    digest.update(json.dumps([preprocess, _SOUND, "quick_gelu"], sort_keys=True).encode())
    return f"audioclip@{digest.hexdigest()[:12]}"
