"""Small heads with random weights, and what to feed them."""

from __future__ import annotations

import numpy as np
import torch

from clipsearch.heads import Head, MeanHead, SeqLSTMHead, SeqTransfHead, TightHead

DIM = 128
DEPTH = 2
POSITIONS = 9


def made(name: str, dim: int = DIM, *, seed: int = 0) -> Head:
    """A head with random weights, biases and layer norms included."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head: Head = {
            "mean": lambda: MeanHead(dim),
            "seqlstm": lambda: SeqLSTMHead(dim, positions=POSITIONS),
            "seqtransf": lambda: SeqTransfHead(dim, depth=DEPTH, positions=POSITIONS),
            "tight": lambda: TightHead(dim, depth=DEPTH, positions=POSITIONS),
        }[name]()
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    return head.eval()


def batch(
    videos: int = 4, frames: int = 6, dim: int = DIM, *, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Texts (5, dim), frames and mask; the videos have 1 to `frames` frames."""
    rng = np.random.default_rng(seed)
    lengths = 1 + np.arange(videos) * (frames - 1) // max(videos - 1, 1)
    mask = torch.from_numpy(np.arange(frames) < lengths[:, None])
    values = [rng.standard_normal(shape) for shape in ((5, dim), (videos, frames, dim))]
    text, shots = (torch.from_numpy(v.astype(np.float32)) for v in values)
    return text, shots, mask
