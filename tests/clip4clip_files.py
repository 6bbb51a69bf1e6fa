"""Checkpoints as CLIP4Clip's authors write them, around a tiny CLIP with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

CLIP_DIM = 64
IMAGE_SIDE = 32
_WIDTH = 64


def tiny_clip(*, quick_gelu: bool = True, seed: int = 0, layers: int = 1) -> Any:
    """open_clip's CLIP of the shape of OpenAI's, in eval mode."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIP(
            CLIP_DIM,
            CLIPVisionCfg(layers=layers, width=_WIDTH, patch_size=16, image_size=IMAGE_SIDE),
            CLIPTextCfg(width=_WIDTH, heads=_WIDTH // 64, layers=layers + 1),
            quick_gelu=quick_gelu,
        )
    return model.eval()


def official_state(clip: Any, head: torch.nn.Module | None = None) -> dict[str, torch.Tensor]:
    """`clip.*`, in fp16 where OpenAI's files are, and the head's weights in fp32.

    The values of `clip` become those of the file, rounded.
    """
    state = {}
    for name, value in clip.state_dict().items():
        in_half = value.ndim > 1 and "embedding" not in name
        if in_half:
            value.copy_(value.half())
        state[f"clip.{name}"] = value.half() if in_half else value.clone()
    return {**state, **(head.state_dict() if head is not None else {})}


def write_official(path: Path, clip: Any, head: torch.nn.Module | None = None) -> Path:
    """`path`, a file as pytorch_model.bin.N."""
    torch.save(official_state(clip, head), path)
    return path
