"""A head in training: the scores and the loss of a batch, on a device, in a precision."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import normalize
from torch.utils.checkpoint import checkpoint

from clipsearch.heads.batches import Batch, TrainingSet
from clipsearch.heads.loss import contrastive_loss
from clipsearch.heads.modules import Head, TightHead
from clipsearch.heads.schedule import MOST_SCALE, TrainSpec

# Tokens of (text, video) pairs whose activations are kept at once: about 1.2 GB at a width of 512
# and 4 blocks. Beyond it, they are computed again on the way back.
MOST_TOKENS = 4096


class Trainee(nn.Module):
    """A copy of a head, and the logit scale that it learns, kept as a logarithm."""

    def __init__(self, head: Head, spec: TrainSpec, device: torch.device) -> None:
        super().__init__()
        self.head: Head = copy.deepcopy(head)
        self.log_scale = nn.Parameter(torch.tensor(math.log(spec.logit_scale)))
        self._bf16 = spec.precision == "bf16"
        self.requires_grad_(True)
        self.to(device=device, dtype=torch.float32)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.log_scale.device

    @property
    def pools(self) -> bool:
        """Whether the head gives one vector a video, whatever the text."""
        return not isinstance(self.head, TightHead)

    @property
    def logit_scale(self) -> float:
        """The factor on cosines; 1 where the head's scores are used as they are."""
        return math.exp(self.log_scale.item()) if self.pools else 1.0

    def clamp(self) -> None:
        """Keep the logit scale at 100 at most, as CLIP does."""
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(MOST_SCALE))

    def loss(self, data: TrainingSet, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The loss of a batch and, from a head that pools, the unit vectors of its videos."""
        texts = torch.from_numpy(data.texts[batch.texts]).to(self.device)
        frames, mask = self._videos(data, batch)
        positives = torch.from_numpy(batch.positives).to(self.device)
        if isinstance(self.head, TightHead):
            return contrastive_loss(self._pair_scores(texts, frames, mask), positives), None
        vectors = self._lowered(self.head.encode, frames, mask)
        cosines = normalize(texts, dim=1) @ vectors.T  # in fp32: a bf16 has three digits
        return contrastive_loss(self.log_scale.exp() * cosines, positives), vectors

    def _videos(self, data: TrainingSet, batch: Batch) -> tuple[Tensor, Tensor]:
        """Frames in fp32 and mask, as wide as the longest video needs."""
        mask = data.mask[batch.videos]
        width = int(mask.sum(axis=1).max())
        frames = torch.from_numpy(data.frames[batch.videos, :width]).to(self.device)
        return frames.float(), torch.from_numpy(mask[:, :width]).to(self.device)

    def _lowered(self, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """The fp32 result of a head's function, computed in the training's precision."""
        if not self._bf16:
            return function(*inputs)
        # torch's fused attention is slow backwards in bf16 on a CPU: a fifth of the whole step.
        plain = sdpa_kernel(SDPBackend.MATH) if self.device.type == "cpu" else nullcontext()
        with torch.autocast(self.device.type, torch.bfloat16), plain:
            return function(*inputs).float()

    def _pair_scores(self, texts: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """The (t, v) scores of all pairs, in blocks of bounded memory."""
        pairs = max(1, MOST_TOKENS // (frames.shape[1] + 1))  # in a block
        columns = min(pairs, len(frames))
        rows = max(1, pairs // columns)
        if len(texts) <= rows and len(frames) <= columns:
            return self._lowered(self.head.score, texts, frames, mask)
        videos = list(zip(torch.split(frames, columns), torch.split(mask, columns), strict=True))
        bands = [
            torch.cat([self._again(part, *video) for video in videos], dim=1)
            for part in torch.split(texts, rows)
        ]
        return torch.cat(bands)

    def _again(self, texts: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """Scores of pairs; the way back computes them again rather than keep what it needs."""
        found: Tensor = checkpoint(
            self._lowered,
            self.head.score,
            texts,
            frames,
            mask,
            use_reentrant=False,
            preserve_rng_state=False,
        )
        return found
