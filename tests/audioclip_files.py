"""Checkpoints as AudioCLIP's authors write them, tiny and with random weights.

The names and shapes are written out here, not taken from the package.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

DIM = 24
IMAGE_SIDE = 32
STEM = 8
BLOCKS = (2, 1, 1, 1)
WIDTHS = (4, 8, 8, 16)  # inside a block, in two groups
CHANNELS = (16, 16, 24, 32)
_FRAME, _BINS = 1654, 1025
_TEXT_WIDTH = 64
_VISUAL_WIDTH = 8


def write_audioclip(path: Path, *, seed: int = 0) -> Path:
    """`path`, a file as AudioCLIP-Full-Training.pt."""
    torch.save(audioclip_state(seed), path)
    return path


def audioclip_state(seed: int = 0) -> dict[str, torch.Tensor]:
    """CLIP's tensors under their own names, in values that fp16 holds, and `audio.*`."""
    random = torch.Generator().manual_seed(seed)
    state = {name: value.half().float() for name, value in _filled(_clip(), random).items()}
    state["logit_scale"] = torch.tensor(100.0).log()
    for name, value in (("logit_scale_ai", 100.0), ("logit_scale_at", 100.0)):
        state[name] = torch.tensor(value).log()
    sound = {**_filled(_network(), random), **_wavelets(random)}
    return {**state, **{f"audio.{name}": value for name, value in sound.items()}}


def clip_part(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What OpenAI's own file of the two towers would hold."""
    return {n: v for n, v in state.items() if not n.startswith(("audio.", "logit_scale_"))}


Shapes = dict[str, tuple[int, ...]]


def _filled(shapes: Shapes, random: torch.Generator) -> dict[str, torch.Tensor]:
    state = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=random)
        if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            state[name] = 1 + 0.3 * noise.clamp(-2, 2)
        else:
            fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 9
            state[name] = noise * (1 if "embedding" in name else 1.4) / fan_in**0.5
        if name.endswith("running_var"):
            counter = name.replace("running_var", "num_batches_tracked")
            state[counter] = torch.tensor(7)
    return {n: v.long() if n.endswith("_tracked") else v for n, v in state.items()}


def _norm(name: str, size: int) -> Shapes:
    return {f"{name}.{part}": (size,) for part in ("weight", "bias", "running_mean", "running_var")}


def _linear(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def _bottleneck(name: str, before: int, width: int, groups: int, after: int) -> Shapes:
    return {
        f"{name}.conv1.weight": (width, before, 1, 1),
        **_norm(f"{name}.bn1", width),
        f"{name}.conv2.weight": (width, width // groups, 3, 3),
        **_norm(f"{name}.bn2", width),
        f"{name}.conv3.weight": (after, width, 1, 1),
        **_norm(f"{name}.bn3", after),
    }


def _shortcut(name: str, before: int, after: int) -> Shapes:
    shape = (after, before, 1, 1)
    return {f"{name}.downsample.0.weight": shape, **_norm(f"{name}.downsample.1", after)}


def _clip() -> Shapes:
    w, t = _VISUAL_WIDTH, _TEXT_WIDTH
    shapes: Shapes = {
        "positional_embedding": (77, t),
        "text_projection": (t, DIM),
        "token_embedding.weight": (49408, t),
        **_linear("ln_final", t),
    }
    for i in range(2):
        block = f"transformer.resblocks.{i}"
        shapes |= {
            f"{block}.attn.in_proj_weight": (3 * t, t),
            f"{block}.attn.in_proj_bias": (3 * t,),
        }
        shapes |= _linear(f"{block}.attn.out_proj", t, t)
        shapes |= _linear(f"{block}.ln_1", t) | _linear(f"{block}.ln_2", t)
        shapes |= _linear(f"{block}.mlp.c_fc", 4 * t, t) | _linear(f"{block}.mlp.c_proj", t, 4 * t)
    stem = ((3, w // 2), (w // 2, w // 2), (w // 2, w))
    for i, (before, after) in enumerate(stem, 1):
        shapes[f"visual.conv{i}.weight"] = (after, before, 3, 3)
        shapes |= _norm(f"visual.bn{i}", after)
    before = w
    for s in range(4):
        for i in range((1, 2, 1, 1)[s]):
            block, width = f"visual.layer{s + 1}.{i}", w * 2**s
            shapes |= _bottleneck(block, before, width, 1, 4 * width)
            shapes |= _shortcut(block, before, 4 * width) if i == 0 else {}
            before = 4 * width
    shapes["visual.attnpool.positional_embedding"] = ((IMAGE_SIDE // 32) ** 2 + 1, before)
    for part in ("q_proj", "k_proj", "v_proj"):
        shapes |= _linear(f"visual.attnpool.{part}", before, before)
    return shapes | _linear("visual.attnpool.c_proj", DIM, before)


def _network() -> Shapes:
    shapes: Shapes = {"conv1.weight": (STEM, 3, 7, 7), **_norm("bn1", STEM)}
    kernels = ((3, 1), (1, 5), (3, 1), (1, 5), (3, 5))
    before = STEM
    for s in range(4):
        shapes |= _attention(f"att{s + 1}", before, CHANNELS[s], kernels[s])
        for i in range(BLOCKS[s]):
            block = f"layer{s + 1}.{i}"
            shapes |= _bottleneck(block, before, WIDTHS[s], 2, CHANNELS[s])
            shapes |= _shortcut(block, before, CHANNELS[s]) if i == 0 else {}
            before = CHANNELS[s]
    return shapes | _attention("att5", before, before, kernels[4]) | _linear("fc", DIM, before)


def _attention(name: str, before: int, after: int, kernel: tuple[int, int]) -> Shapes:
    return {
        **_linear(f"{name}.conv_depth", before, 1, *kernel),
        **_linear(f"{name}.conv_point", after, before, 1, 1),
        **_norm(f"{name}.bn", after),
    }


def _wavelets(random: torch.Generator) -> dict[str, torch.Tensor]:
    """Near what training starts from: order 0, bandwidth 1, the frequencies of a DFT."""
    angle = 2 * torch.pi * torch.arange(_FRAME) / _FRAME  # Blackman and Harris, four terms
    terms = (0.35875, -0.48829, 0.14128, -0.01168)
    window = sum(a * torch.cos(k * angle) for k, a in enumerate(terms))
    assert isinstance(window, torch.Tensor)
    return {
        "window": window,
        "fbsp.m": 2 * torch.rand(_BINS, generator=random),
        "fbsp.fb": 0.5 + torch.rand(_BINS, generator=random),
        "fbsp.fc": torch.arange(_BINS) + 0.1 * torch.randn(_BINS, generator=random),
    }
