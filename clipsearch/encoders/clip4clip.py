"""The CLIP model inside a checkpoint of CLIP4Clip: fine-tuned together with a head for videos.

Such a file holds OpenAI's CLIP under `clip.*`, often in part in fp16, next to the head's weights.
The model is built in fp32 from the very values, with the activation and the pre-processing of
OpenAI's weights; open_clip's plain ViT-B-32 would load the same values and give other features.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clipsearch.encoders import openclip
from clipsearch.encoders.base import EncoderSpec
from clipsearch.encoders.devices import check_device_name, pick_device
from clipsearch.encoders.openai_clip import (
    HEAD_WIDTH,
    NOT_WEIGHTS,
    PREPROCESS,
    check_tokens,
    text_tower,
    tokenizer,
)
from clipsearch.encoders.openclip_towers import Towers
from clipsearch.encoders.spec import parse_spec
from clipsearch.encoders.state import (
    check_state,
    check_telling,
    count_blocks,
    read_state,
    tensors_sha256,
)
from clipsearch.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor

PREFIX = "clip."
# What the architecture is read from, and how many axes each has.
_TELLING = {
    "visual.conv1.weight": 4,
    "visual.positional_embedding": 2,
    "positional_embedding": 2,
    "token_embedding.weight": 2,
    "text_projection": 2,
}


def load(spec: EncoderSpec, *, device: str) -> openclip.OpenClipEncoder:
    """The CLIP model of the checkpoint that `spec` names by its path.

    Raises EncoderError for a checkpoint that is missing, damaged or without a complete CLIP model,
    with the names of the tensors that do not fit, and for an absent device.
    """
    check_device_name(device)
    spec = parse_spec(str(spec))
    picked = pick_device(device)
    precision = openclip.precision_for(picked.type)
    state = clip_state(read_state(Path(spec.name)))
    model = _build(state, spec.name, precision=precision).to(picked)
    print_ = fingerprint(state)
    return openclip.OpenClipEncoder(
        spec,
        openclip.LoadedModel(
            Towers(model),
            tokenizer(),
            {**PREPROCESS, "size": model.visual.image_size},
            picked,
            precision,
            fingerprint=lambda: print_,
        ),
    )


def clip_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """The CLIP part of a checkpoint without its prefix; empty if there is none."""
    named = {n.removeprefix(PREFIX): v for n, v in state.items() if n.startswith(PREFIX)}
    return {name: value for name, value in named.items() if name not in NOT_WEIGHTS}


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """clip4clip@ and a hash of the tensors that `clip_state` gives, and of the pre-processing."""
    digest = tensors_sha256(state)
    digest.update(json.dumps([PREPROCESS, "quick_gelu"], sort_keys=True).encode())
    return f"clip4clip@{digest.hexdigest()[:12]}"


def _build(state: dict[str, Any], path: str, *, precision: str) -> Any:
    """The CLIP of open_clip with these weights, on the CPU."""
    import torch
    from open_clip.model import CLIP, convert_weights_to_lp, get_cast_dtype

    what = f"the CLIP model in {path}"
    if not state:
        raise EncoderError(f"{path} holds no CLIP model: no tensor is named {PREFIX}*")
    architecture = _architecture(state, what)
    with torch.random.fork_rng(devices=[]):  # its random weights are not to use up a seed
        model = CLIP(**architecture, quick_gelu=True, cast_dtype=get_cast_dtype(precision))
    check_state(state, model.state_dict(), what=what, prefix=PREFIX)
    model.load_state_dict(state)  # fp16 tensors become fp32, and fp32 ones stay what they are
    if precision != "fp32":
        convert_weights_to_lp(model, dtype=get_cast_dtype(precision))
    return model.eval()


def _architecture(state: dict[str, Any], what: str) -> dict[str, Any]:
    """The arguments of open_clip's CLIP that these tensors were made by."""
    from open_clip.model import CLIPVisionCfg

    if "visual.layer1.0.conv1.weight" in state:
        raise EncoderError(f"{what} is a ResNet: only CLIP's vision transformers are supported")
    check_telling(state, _TELLING, what=what, prefix=PREFIX)
    check_tokens(state, what)
    width, patch = state["visual.conv1.weight"].shape[0], state["visual.conv1.weight"].shape[-1]
    grid = round((len(state["visual.positional_embedding"]) - 1) ** 0.5)
    text_width, dim = state["text_projection"].shape
    names = [PREFIX + name for name in state]
    if width % HEAD_WIDTH or text_width % HEAD_WIDTH or not grid:
        raise EncoderError(
            f"{what} has towers of widths {width} and {text_width} and a grid of {grid} patches:"
            f" widths must be multiples of {HEAD_WIDTH}, and a patch is needed"
        )
    return {
        "embed_dim": dim,
        "vision_cfg": CLIPVisionCfg(
            layers=count_blocks(names, f"{PREFIX}visual.transformer.resblocks.", what=what),
            width=width,
            head_width=HEAD_WIDTH,
            patch_size=patch,
            image_size=patch * grid,
        ),
        "text_cfg": text_tower(
            state, layers=count_blocks(names, f"{PREFIX}transformer.resblocks.", what=what)
        ),
    }
