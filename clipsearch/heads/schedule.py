"""How a head is trained: the settings, the learning rate of each step, the optimizer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from clipsearch.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

PRECISIONS = ("fp32", "bf16")
FIRST_SCALE = 1 / 0.07  # CLIP's before training; released CLIP models have learned about 100
MOST_SCALE = 100.0


@dataclass(frozen=True)
class TrainSpec:
    """Settings of a training, checked on creation. Everything random is drawn from `seed`.

    `learning_rate` is the highest, reached after a linear warm-up over the share `warmup` of all
    steps; from there a cosine goes to 0. `weight_decay` is CLIP's. Gradients are clipped to the
    norm `clip_norm`. `logit_scale` is the factor on cosines to begin with; it is learned, up to
    100 (no part in the tight head). A video gives at most `captions_per_video` of its texts to an
    epoch. Raises UsageError for a value out of range.
    """

    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 1e-4
    warmup: float = 0.1
    weight_decay: float = 0.2
    clip_norm: float = 1.0
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    captions_per_video: int = 5
    logit_scale: float = FIRST_SCALE

    def __post_init__(self) -> None:
        self._need("epochs", self.epochs >= 1, "at least 1")
        self._need("batch_size", self.batch_size >= 2, "at least 2, to have a wrong match")
        self._need("learning_rate", 0 < self.learning_rate <= 1, "above 0 and at most 1")
        self._need("warmup", 0 <= self.warmup < 1, "a share of the steps, 0 or more and below 1")
        self._need("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more")
        self._need("clip_norm", 0 < self.clip_norm < math.inf, "above 0")
        self._need("seed", 0 <= self.seed < 2**63, "a whole number from 0 to 2^63 - 1")
        self._need("precision", self.precision in PRECISIONS, f"one of {', '.join(PRECISIONS)}")
        self._need("captions_per_video", self.captions_per_video >= 1, "at least 1")
        self._need("logit_scale", 0 < self.logit_scale <= MOST_SCALE, "above 0 and at most 100")

    def _need(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise UsageError(f"{name} {getattr(self, name)!r}: use {allowed}")


def rate_at(step: int, steps: int, warmup: float) -> float:
    """The share of the highest learning rate at step 0..steps-1.

    Rises by equal amounts and is 1 at the last of the ceil(warmup * steps) warm-up steps; then
    (1 + cos) / 2 from 1 to what would be 0 at step `steps`.
    """
    rising = math.ceil(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


def make_optimizer(head: nn.Module, scale: Tensor, spec: TrainSpec) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019) that decays the matrices alone.

    Biases, LayerNorm, position tables and the logit scale are not pulled to 0.
    """
    import torch

    decayed: list[Tensor] = []
    kept = [scale]
    for name, parameter in head.named_parameters():
        (kept if parameter.ndim < 2 or "position" in name else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": spec.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=spec.learning_rate, betas=(0.9, 0.98), eps=1e-6)
