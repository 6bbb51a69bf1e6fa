"""Heads that are not trained yet: where training begins."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from clipsearch.errors import UsageError
from clipsearch.heads.layers import HEAD_WIDTH
from clipsearch.heads.modules import Head, SeqLSTMHead, SeqTransfHead, TightHead

SPREAD = 0.02  # standard deviation of CLIP's own first weights
TRAINABLE = ("seqlstm", "seqtransf", "tight")

# Where CLIP's text tower goes, per head: its position table, and the prefix of its blocks.
POSITIONS = {
    "seqlstm": "frame_position_embeddings.weight",
    "seqtransf": "frame_position_embeddings.weight",
    "tight": "cross.embeddings.position_embeddings.weight",
}
BLOCKS = {"seqtransf": "transformerClip.", "tight": "cross.transformer."}


def new_head(
    name: str,
    dim: int,
    *,
    depth: int = 4,
    positions: int = 77,
    seed: int = 0,
    text_tower: Mapping[str, Tensor] | None = None,
) -> Head:
    """A head to train, on the CPU in fp32, the same for the same arguments.

    Matrices and position tables are drawn from N(0, 0.02), biases are 0, LayerNorm is 1 and 0, an
    LSTM is uniform in ±1/sqrt(dim) (torch's own, which CLIP4Clip's authors left). From
    `text_tower`, the tensors of a CLIP text tower of this width by CLIP's names
    (positional_embedding, transformer.resblocks.N.*; others are left aside), come the position
    table and the first `depth` blocks, as CLIP4Clip's authors begin. `depth` is not for seqlstm.
    torch's random state stays as it was.

    Raises UsageError for a name, width, depth or tower that does not fit.
    """
    _check(name, dim, depth, positions)
    with torch.random.fork_rng(devices=[]):  # modules draw weights, which are replaced below
        head = _empty(name, dim, depth, positions)
    _draw(head, dim, seed)
    if text_tower is not None:
        _copy_tower(head, depth, text_tower)
    return head


def _check(name: str, dim: int, depth: int, positions: int) -> None:
    if name == "mean":
        raise UsageError("head 'mean' has no weights: it needs no training, use it as it is")
    if name not in TRAINABLE:
        raise UsageError(f"head {name!r}: use one of {', '.join(TRAINABLE)}")
    if dim < 1 or dim % HEAD_WIDTH:
        raise UsageError(f"dim {dim}: heads need a multiple of {HEAD_WIDTH}")
    if depth < 1:
        raise UsageError(f"depth {depth}: use at least 1 block")
    if positions < 2:
        raise UsageError(f"positions {positions}: use at least 2")


def _empty(name: str, dim: int, depth: int, positions: int) -> Head:
    if name == "seqlstm":
        return SeqLSTMHead(dim, positions=positions)
    if name == "seqtransf":
        return SeqTransfHead(dim, depth=depth, positions=positions)
    return TightHead(dim, depth=depth, positions=positions)


def _draw(head: nn.Module, dim: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if name.startswith("lstm_visual."):
                parameter.uniform_(-(dim**-0.5), dim**-0.5, generator=generator)
            elif parameter.ndim > 1:
                parameter.normal_(0.0, SPREAD, generator=generator)
            else:  # a bias, or the factor of a LayerNorm
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)


def _copy_tower(head: Head, depth: int, tower: Mapping[str, Tensor]) -> None:
    state = head.state_dict()
    sources = {POSITIONS[head.name]: "positional_embedding"}
    if head.name in BLOCKS:
        prefixes = [f"resblocks.{block}." for block in range(depth)]
        for name in state:
            inner = name.removeprefix(BLOCKS[head.name])
            if inner != name and inner.startswith(tuple(prefixes)):
                sources[name] = f"transformer.{inner}"
    missing = [source for source in sources.values() if source not in tower]
    if missing:
        raise UsageError(
            f"the text tower lacks {missing[0]} ({len(missing)} missing of {len(sources)}): "
            f"a {head.name} head begins from a CLIP text tower, or without one"
        )
    for name, source in sources.items():
        rows = state[name]
        given = tower[source]
        if source == "positional_embedding" and given.ndim == 2:
            given = given[: len(rows)]
        if given.shape != rows.shape:
            raise UsageError(
                f"{source} of the text tower has shape {tuple(tower[source].shape)}, the head "
                f"needs {tuple(rows.shape)}: use a head of the tower's width and length"
            )
        rows.copy_(given)  # casts; the state dict shares the parameters' memory
