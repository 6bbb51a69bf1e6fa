"""What training makes small: the contrastive loss between the texts and the videos of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from clipsearch.errors import UsageError


def contrastive_loss(scores: Tensor, positives: Tensor) -> Tensor:
    """Symmetric InfoNCE where a text may fit several videos and a video several texts; a scalar.

    `scores` (t, v), higher is better, the logit scale already in them; `positives` (t, v) bool.
    For each row, the cross-entropy of softmax(row) against the uniform distribution over the
    row's positives, averaged over the rows that have one; the same for columns; the mean of both.
    With one positive in each row and column this is CLIP's loss (Radford et al. 2021), with
    several the L_out of Khosla et al., "Supervised Contrastive Learning" (2020).

    Raises UsageError for shapes that differ, positives that are not bool, and no positive at all.
    """
    if scores.ndim != 2 or scores.shape != positives.shape or positives.dtype != torch.bool:
        raise UsageError(
            f"scores of shape {tuple(scores.shape)}, positives of shape {tuple(positives.shape)} "
            f"and type {positives.dtype}: need (t, v) twice, positives bool"
        )
    if not positives.any():
        raise UsageError("no text of the batch fits any video of it: there is nothing to learn")
    return (_one_way(scores, positives) + _one_way(scores.T, positives.T)) / 2


def _one_way(scores: Tensor, positives: Tensor) -> Tensor:
    count = positives.sum(dim=1)
    surprise = -torch.log_softmax(scores, dim=1)
    # where, and not a product: a score of -inf at a negative is 0 x inf, which is NaN.
    rows = torch.where(positives, surprise, 0.0).sum(dim=1) / count.clamp(min=1)
    return rows.sum() / (count > 0).sum()
