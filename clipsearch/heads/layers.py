"""CLIP's transformer as CLIP4Clip's heads use it, with the parameter names of their checkpoints."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

LAYER_NORM_EPS = 1e-12  # CLIP's own is 1e-5: features of small length come out otherwise
HEAD_WIDTH = 64
MLP_RATIO = 4


def layer_norm(dim: int) -> nn.LayerNorm:
    """Over the last axis, with the epsilon of CLIP4Clip."""
    return nn.LayerNorm(dim, eps=LAYER_NORM_EPS)


def quick_gelu(x: Tensor) -> Tensor:
    """CLIP's approximation of GELU: x sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


class QuickGELU(nn.Module):
    """`quick_gelu` as a step of an nn.Sequential."""

    def forward(self, x: Tensor) -> Tensor:
        """Of the shape of `x`."""
        return quick_gelu(x)


class ResidualBlock(nn.Module):
    """Attention and MLP, each after a layer norm and added to what came in."""

    def __init__(self, dim: int) -> None:
        """`dim` is a multiple of 64: each attention head is that wide."""
        super().__init__()
        self.attn = nn.MultiheadAttention(dim, dim // HEAD_WIDTH, batch_first=True)
        self.ln_1 = layer_norm(dim)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(dim, MLP_RATIO * dim),
                gelu=QuickGELU(),
                c_proj=nn.Linear(MLP_RATIO * dim, dim),
            )
        )
        self.ln_2 = layer_norm(dim)

    def forward(self, x: Tensor, padded: Tensor, *, first: bool = False) -> Tensor:
        """(B, L, dim) of `x` (B, L, dim); nothing looks at where `padded` (B, L) is True. `first`:
        only the first place of each row, (B, 1, dim), for a sixth of the work.

        The authors add -1e6 to these places' logits; their weight is 0 in either case, because
        every row has one place that is not padded.
        """
        y = self.ln_1(x)
        asked, x = (y[:, :1], x[:, :1]) if first else (y, x)
        attended, _ = self.attn(asked, y, y, key_padding_mask=padded, need_weights=False)
        x = x + attended
        added: Tensor = self.mlp(self.ln_2(x))
        return x + added


class Transformer(nn.Module):
    """Residual blocks one after another, without a last layer norm."""

    def __init__(self, dim: int, depth: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(ResidualBlock(dim) for _ in range(depth))

    def forward(self, x: Tensor, padded: Tensor, *, first: bool = False) -> Tensor:
        """As ResidualBlock; with `first` the last block leaves the other places out."""
        for number, block in enumerate(self.resblocks, 1):
            x = block(x, padded, first=first and number == len(self.resblocks))
        return x
