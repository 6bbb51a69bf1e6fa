"""The four heads of CLIP4Clip as torch modules, with the names of the authors' checkpoints.

Shapes: text (Bt, D), frames (B, F, D), both as the encoder gives them without `normalize`; mask
(B, F), 1 for a real frame, and the real frames of a video come before its padding.

    mean, seqlstm, seqtransf   u = z / |z| for each frame state z; v = unit(mean of u);
                               score = scale * unit(text) . v
    tight                      score = dense(what a transformer makes of [text; frames])
"""

from __future__ import annotations

from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from clipsearch.errors import UsageError
from clipsearch.heads.layers import HEAD_WIDTH, Transformer, layer_norm, quick_gelu

POSITIONS = 77  # rows of the position tables of the authors' checkpoints
DEPTH = 4
PAIRS_AT_ONCE = 1024  # bounds the memory of TightHead: 28 MB an activation at 13 x 512
_CANCELLED = 1e-6  # length of a mean of unit vectors that is rounding error


class _Head(nn.Module):
    """What the heads share: the limit on frames, and the checks of what comes in."""

    name: ClassVar[str]

    def __init__(self, dim: int, *, most: int | None) -> None:
        """`most`: frames that the position table allows, None for any number."""
        super().__init__()
        if dim < 1:
            raise UsageError(f"a head of width {dim}: use at least 1")
        if most is not None and most < 1:
            raise UsageError("the position table of the head has no row for a frame")
        self.dim = dim
        self._most = most
        self._max_frames = most

    @property
    def max_frames(self) -> int | None:
        """Frames of a video at most: what the head was trained for. None for any number."""
        return self._max_frames

    @max_frames.setter
    def max_frames(self, value: int | None) -> None:
        most = self._most
        if value is None and most is None:
            self._max_frames = None
            return
        if value is None or value < 1 or (most is not None and value > most):
            allowed = "at least 1, or None" if most is None else f"1 to {most}"
            raise UsageError(f"max_frames {value} of a {self.name} head: use {allowed}")
        self._max_frames = value

    def _checked(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`frames` in the head's type with zeros for padding, and `mask` as booleans."""
        if frames.ndim != 3 or frames.shape[2] != self.dim or not frames.is_floating_point():
            raise UsageError(
                f"frames of shape {tuple(frames.shape)} and type {frames.dtype}: this"
                f" {self.name} head takes (videos, frames, {self.dim}) floats"
            )
        if mask.shape != frames.shape[:2]:
            raise UsageError(
                f"mask of shape {tuple(mask.shape)} for frames of {tuple(frames.shape[:2])}:"
                " use one value a frame"
            )
        if self.max_frames is not None and frames.shape[1] > self.max_frames:
            raise UsageError(
                f"{frames.shape[1]} frames: this {self.name} head takes {self.max_frames} at most;"
                " sample them first (clipsearch.heads.apply.sampled)"
            )
        real = mask.to(device=frames.device) != 0
        frames = frames.to(self._dtype(frames)).masked_fill(~real[..., None], 0.0)
        _refuse(~real.any(dim=1), "has no real frame: leave it out")
        _refuse(
            (real[:, 1:] & ~real[:, :-1]).any(dim=1), "has padding before a frame: put it after"
        )
        _refuse(~frames.isfinite().all(dim=2).all(dim=1), "has frames that are NaN or infinite")
        return frames, real

    def _checked_text(self, text: Tensor) -> Tensor:
        if text.ndim != 2 or text.shape[1] != self.dim or not text.is_floating_point():
            raise UsageError(
                f"text of shape {tuple(text.shape)} and type {text.dtype}: this {self.name} head"
                f" takes (texts, {self.dim}) floats"
            )
        if not bool(text.isfinite().all()):
            raise UsageError("a text's vector is NaN or infinite")
        return text.to(self._dtype(text))

    def _dtype(self, given: Tensor) -> torch.dtype:
        """That of the weights; without any, the type of `given`, but never less than fp32."""
        least = torch.promote_types(given.dtype, torch.float32)
        return next((weights.dtype for weights in self.parameters()), least)


class _Pooling(_Head):
    """A head that gives each video one vector: the mean of its frames' states, as unit vectors."""

    def _states(self, frames: Tensor, real: Tensor) -> Tensor:
        """(B, F, D) frame states of checked frames; what padding gets does not matter."""
        raise NotImplementedError

    def encode(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(B, D) unit rows: an inner product with a text's unit row ranks as `score` does.

        A frame state of zeros counts as a zero vector. A video whose states cancel out gets the
        direction of the first one that has any, and the first axis if none has. Raises UsageError
        for shapes that do not fit, too many frames, a video without a real frame, padding that is
        not at the end, and frames that are not finite.
        """
        frames, real = self._checked(frames, mask)
        if not len(frames):
            return frames.new_zeros((0, self.dim))
        weights = real[..., None].to(frames.dtype)
        units = functional.normalize(self._states(frames, real), dim=-1) * weights
        mean = units.sum(dim=1) / weights.sum(dim=1)
        cancelled = mean.detach().norm(dim=-1) < _CANCELLED
        if bool(cancelled.any()):
            mean = torch.where(cancelled[:, None], _first_direction(units), mean)
        return functional.normalize(mean, dim=-1)

    def score(
        self, text: Tensor, frames: Tensor, mask: Tensor, *, logit_scale: float | Tensor = 1.0
    ) -> Tensor:
        """(Bt, Bv) cosines times `logit_scale`, which is the factor, not its logarithm.

        Raises UsageError as `encode`, and for texts that do not fit or are not finite.
        """
        text = functional.normalize(self._checked_text(text), dim=-1)
        videos = self.encode(frames, mask)
        with torch.autocast(text.device.type, enabled=False):  # cosines keep all their digits
            return logit_scale * (text.to(videos.dtype) @ videos.T)


class MeanHead(_Pooling):
    """The mean of the frames' unit vectors. No parameters; blind to the frames' order."""

    name = "mean"

    def __init__(self, dim: int) -> None:
        super().__init__(dim, most=None)

    def _states(self, frames: Tensor, real: Tensor) -> Tensor:
        return frames


class SeqLSTMHead(_Pooling):
    """Each frame plus the state of an LSTM that has read the video up to it."""

    name = "seqlstm"

    def __init__(self, dim: int, *, positions: int = POSITIONS) -> None:
        """`positions`: rows of a table that checkpoints hold and nothing uses; limits frames."""
        super().__init__(dim, most=positions)
        self.frame_position_embeddings = nn.Embedding(positions, dim)
        self.lstm_visual = nn.LSTM(dim, dim, batch_first=True)

    def _states(self, frames: Tensor, real: Tensor) -> Tensor:
        read: Tensor = self.lstm_visual(frames)[0]  # causal: padding at the end changes nothing
        return read + frames


class SeqTransfHead(_Pooling):
    """Each frame plus what a transformer makes of the frames and their positions."""

    name = "seqtransf"

    def __init__(self, dim: int, *, depth: int = DEPTH, positions: int = POSITIONS) -> None:
        """`dim`: a multiple of 64."""
        super().__init__(_attended(dim), most=positions)
        self.frame_position_embeddings = nn.Embedding(positions, dim)
        self.transformerClip = Transformer(dim, depth)

    def _states(self, frames: Tensor, real: Tensor) -> Tensor:
        placed = frames + self.frame_position_embeddings.weight[: frames.shape[1]]
        mixed: Tensor = self.transformerClip(placed, ~real)
        return mixed + frames


class _CrossEmbeddings(nn.Module):
    def __init__(self, dim: int, positions: int) -> None:
        super().__init__()
        self.position_embeddings = nn.Embedding(positions, dim)


class _CrossPooler(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.ln_pool = layer_norm(dim)
        self.dense = nn.Linear(dim, dim)


class _Cross(nn.Module):
    def __init__(self, dim: int, depth: int, positions: int) -> None:
        super().__init__()
        self.embeddings = _CrossEmbeddings(dim, positions)
        self.transformer = Transformer(dim, depth)
        self.pooler = _CrossPooler(dim)

    def forward(self, x: Tensor, padded: Tensor) -> Tensor:
        """(B, dim): the first state of `x` (B, L, dim), which stands for the whole, pooled."""
        placed = x + self.embeddings.position_embeddings.weight[: x.shape[1]]
        first = self.transformer(placed, padded, first=True)[:, 0]
        with torch.autocast(x.device.type, enabled=False):
            return quick_gelu(self.pooler.dense(self.pooler.ln_pool(first)))


class TightHead(_Head):
    """A transformer that reads a text and a video's frames together and scores the pair."""

    name = "tight"

    def __init__(self, dim: int, *, depth: int = DEPTH, positions: int = POSITIONS) -> None:
        """`dim`: a multiple of 64; the text takes the first of the positions."""
        super().__init__(_attended(dim), most=positions - 1)
        self.cross = _Cross(dim, depth, positions)
        self.similarity_dense = nn.Linear(dim, 1)

    def score(
        self, text: Tensor, frames: Tensor, mask: Tensor, *, logit_scale: float | Tensor = 1.0
    ) -> Tensor:
        """(Bt, Bv) scores of every pair, of any size and sign; `logit_scale` has no part in them.

        Raises UsageError as the other heads' `score`.
        """
        text = self._checked_text(text)
        frames, real = self._checked(frames, mask)
        if not len(text) or not len(frames):
            return frames.new_zeros((len(text), len(frames)))
        step = max(1, PAIRS_AT_ONCE // len(frames))
        return torch.cat([self._pairs(some, frames, real) for some in torch.split(text, step)])

    def _pairs(self, text: Tensor, frames: Tensor, real: Tensor) -> Tensor:
        texts, videos, count = len(text), len(frames), frames.shape[1]
        words = text[:, None, None].expand(-1, videos, 1, -1)
        shots = frames[None].expand(texts, -1, -1, -1)
        x = torch.cat([words, shots], dim=2).reshape(texts * videos, 1 + count, self.dim)
        pooled = self.cross(x, functional.pad(~real, (1, 0), value=False).repeat(texts, 1))
        with torch.autocast(x.device.type, enabled=False):  # scores keep all their digits
            scores: Tensor = self.similarity_dense(pooled)
        return scores.reshape(texts, videos)


Head: TypeAlias = MeanHead | SeqLSTMHead | SeqTransfHead | TightHead


def _attended(dim: int) -> int:
    if dim < HEAD_WIDTH or dim % HEAD_WIDTH:
        raise UsageError(f"a transformer head of width {dim}: use a multiple of {HEAD_WIDTH}")
    return dim


def _refuse(bad: Tensor, reason: str) -> None:
    """Raise UsageError that names the videos of a batch (B,) that are `bad`."""
    if bool(bad.any()):
        places = ", ".join(str(i) for i in bad.nonzero()[:, 0].tolist()[:8])
        raise UsageError(f"video {places} of the batch {reason}")


def _first_direction(units: Tensor) -> Tensor:
    """(B, D): the first of each video's unit vectors (B, F, D) that is not zero; else (1, 0…)."""
    directed = units.detach().abs().amax(dim=2) > 0
    first = units[torch.arange(len(units), device=units.device), directed.int().argmax(dim=1)]
    axis = torch.zeros_like(first)
    axis[:, 0] = 1.0
    return torch.where(directed.any(dim=1)[:, None], first, axis)
