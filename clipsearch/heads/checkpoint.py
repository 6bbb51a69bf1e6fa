"""Heads in files: the checkpoints of CLIP4Clip's authors, and those that clipsearch writes.

Both are state dicts under the authors' names. Ours has one key more, "clipsearch", with plain
values: what the head is, which encoder's features it takes, and how it was trained.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clipsearch.encoders import EncoderSpec
from clipsearch.encoders.clip4clip import PREFIX, clip_state, fingerprint
from clipsearch.encoders.state import check_state, count_blocks, read_state, tensors_sha256
from clipsearch.errors import EncoderError, UsageError
from clipsearch.heads.durable import save_durably
from clipsearch.heads.layers import HEAD_WIDTH
from clipsearch.heads.modules import Head, MeanHead, SeqLSTMHead, SeqTransfHead, TightHead

FACTS = "clipsearch"  # our key of a file
VERSION = 1  # of what is under it
_FRAME_TABLE = "frame_position_embeddings.weight"
_PAIR_TABLE = "cross.embeddings.position_embeddings.weight"
_TELLING = {  # head to the beginnings of names that no other head has
    "seqtransf": ("transformerClip.",),
    "seqlstm": ("lstm_visual.",),
    "tight": ("cross.", "similarity_dense."),
}
_BLOCKS = {"seqtransf": "transformerClip.resblocks.", "tight": "cross.transformer.resblocks."}


@dataclass(frozen=True, slots=True)
class LoadedHead:
    """A head from a file, and what the file says of it."""

    head: Head  # on the CPU, fp32, in eval mode
    fingerprint: str  # head_fingerprint(head)
    logit_scale: float  # the factor; 1.0 where the file has none
    encoder: str | None  # what it was trained with, as text of an EncoderSpec
    encoder_fingerprint: str | None
    training: Mapping[str, Any]  # how; empty for the authors' files


def from_state_dict(state: Mapping[str, Any], *, max_frames: int | None = None) -> Head:
    """The head whose weights `state` holds: kind, depth and width follow from names and shapes.

    What is under "clip." is left aside; if nothing else is there, the head is the mean, as wide as
    clip.text_projection says. `max_frames`: what the head takes at most, by default all that its
    table has places for. Raises EncoderError that names all that is missing, unexpected or of
    another shape; UsageError for a `max_frames` that the table does not allow.
    """
    head = _head_of(_own(state), mean_dim=_clip_dim(state))
    if max_frames is not None:
        head.max_frames = max_frames
    return head


def head_fingerprint(head: Head) -> str:
    """NAME@ and a hash of the weights, the width and max_frames: equal means equal vectors."""
    digest = tensors_sha256(head.state_dict())
    digest.update(json.dumps([head.dim, head.max_frames]).encode())
    return f"{head.name}@{digest.hexdigest()[:12]}"


def load_head(path: Path | str, *, max_frames: int | None = None) -> LoadedHead:
    """The head in a checkpoint of CLIP4Clip (pytorch_model.bin.N) or in a file of `save_head`.

    The CLIP model of a checkpoint is not built, see load_clip4clip. `max_frames` overrides what
    the file says; of a file of `save_head` it can only be less. Raises EncoderError for a file that
    is missing, damaged or not a checkpoint, UsageError for a `max_frames` that the head was not
    trained with, and see from_state_dict.
    """
    path = Path(path)
    state = read_state(path)
    try:
        if FACTS in state:
            return _ours(state, max_frames)
        return _official(state, path, max_frames)
    except EncoderError as error:
        raise EncoderError(f"{path}: {error}") from error


def save_head(
    path: Path | str,
    head: Head,
    *,
    logit_scale: float,
    encoder: str,
    encoder_fingerprint: str,
    training: Mapping[str, Any],
) -> None:
    """Write `head` for `load_head`, whole or not at all; a file at `path` is replaced.

    `encoder`: text of the EncoderSpec whose features it was trained on. `training`: plain values,
    as JSON has them. Raises UsageError for other values, EncoderError if it cannot be written.
    """
    try:
        plain = json.loads(json.dumps(dict(training)))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"training facts must be plain values as JSON has them: {error}"
        ) from error
    facts = {
        "version": VERSION,
        "head": head.name,
        "dim": head.dim,
        "max_frames": head.max_frames,
        "logit_scale": float(logit_scale),
        "encoder": encoder,
        "encoder_fingerprint": encoder_fingerprint,
        "training": plain,
    }
    weights = {n: v.detach().to("cpu", torch.float32) for n, v in head.state_dict().items()}
    try:
        save_durably(Path(path), {**weights, FACTS: facts})
    except OSError as error:
        raise EncoderError(f"cannot write {path}: {error.strerror or error}") from error


def _official(state: Mapping[str, Any], path: Path, max_frames: int | None) -> LoadedHead:
    head = from_state_dict(state, max_frames=max_frames)
    clip = clip_state(state)
    scale = clip.get("logit_scale")
    return LoadedHead(
        head,
        head_fingerprint(head),
        _factor(scale),
        str(EncoderSpec("clip4clip", str(path.absolute().resolve()))) if clip else None,
        fingerprint(clip) if clip else None,
        {},
    )


def _factor(logarithm: Any) -> float:
    """The logit scale from its logarithm in a checkpoint; 1.0 where there is none."""
    if not isinstance(logarithm, Tensor) or logarithm.numel() != 1:
        return 1.0
    factor = float(logarithm.detach().double().exp())
    if not math.isfinite(factor):
        raise EncoderError(f"{PREFIX}logit_scale is {logarithm.item()}: need a finite factor")
    return factor


def _ours(state: Mapping[str, Any], max_frames: int | None) -> LoadedHead:
    facts = state[FACTS]
    version = facts.get("version") if isinstance(facts, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise EncoderError(
            f"the head has format {version} and this clipsearch reads up to {VERSION}: install a"
            " newer clipsearch"
        )
    try:
        name, dim, scale = str(facts["head"]), int(facts["dim"]), float(facts["logit_scale"])
        known, training = facts["max_frames"], dict(facts["training"])
        if type(known) not in (int, type(None)):
            raise TypeError(f"max_frames {known!r} is no whole number")
        encoder, made_for = str(facts["encoder"]), str(facts["encoder_fingerprint"])
        head = _head_of(_own(state), mean_dim=dim if name == MeanHead.name else None)
        head.max_frames = known
    except (KeyError, TypeError, ValueError) as error:  # UsageError is a ValueError
        raise EncoderError(f"what it says under {FACTS!r} is damaged ({error!r})") from error
    if (head.name, head.dim) != (name, dim):
        raise EncoderError(
            f"says it is a {name} head of width {dim} and holds {head.name} of {head.dim}"
        )
    if max_frames is not None:
        if known is not None and max_frames > known:
            raise UsageError(
                f"max_frames {max_frames}: the head was trained with {known} frames a video and"
                f" knows no later ones, use 1 to {known}"
            )
        head.max_frames = max_frames
    return LoadedHead(head, head_fingerprint(head), scale, encoder, made_for, training)


def _own(state: Mapping[str, Any]) -> dict[str, Any]:
    return {n: v for n, v in state.items() if n != FACTS and not n.startswith(PREFIX)}


def _clip_dim(state: Mapping[str, Any]) -> int | None:
    projection = state.get(f"{PREFIX}text_projection")
    if not isinstance(projection, Tensor) or projection.ndim != 2 or not projection.numel():
        return None
    return projection.shape[1]


def _head_of(own: dict[str, Any], *, mean_dim: int | None) -> Head:
    """The head with these weights, which hold nothing of CLIP."""
    kinds = [k for k, starts in _TELLING.items() if any(n.startswith(starts) for n in own)]
    if len(kinds) > 1:
        raise EncoderError(f"the checkpoint holds several heads ({', '.join(kinds)}): need one")
    if not kinds and mean_dim is None:
        raise EncoderError(
            "the checkpoint holds no head: it has neither transformerClip.*, lstm_visual.*,"
            f" cross.* nor {PREFIX}text_projection, whose width a mean head would have"
        )
    with torch.device("meta"):  # no random initialisation: faster, and no seed is used up
        head = _empty(kinds[0], own) if kinds else MeanHead(mean_dim or 0)
    check_state(own, head.state_dict(), what=f"the {head.name} head")
    head = head.to_empty(device="cpu")
    head.load_state_dict(own)
    return head.eval()


def _empty(kind: str, own: dict[str, Any]) -> Head:
    """A head of the shapes that `own` tells; its values are not set."""
    what, table_name = f"the {kind} head", _PAIR_TABLE if kind == "tight" else _FRAME_TABLE
    table = own.get(table_name)
    if not isinstance(table, Tensor) or table.ndim != 2:
        raise EncoderError(f"{what} does not fit: {table_name} is missing or has not two axes")
    positions, dim = table.shape
    least = 2 if kind == "tight" else 1
    if positions < least or dim < 1 or (kind in _BLOCKS and dim % HEAD_WIDTH):
        raise EncoderError(
            f"{what} does not fit: {table_name} has shape ({positions}, {dim}); need at least"
            f" {least} rows, and in a transformer a width that is a multiple of {HEAD_WIDTH}"
        )
    if kind == "seqlstm":
        return SeqLSTMHead(dim, positions=positions)
    depth = count_blocks(own, _BLOCKS[kind], what=what)
    make = SeqTransfHead if kind == "seqtransf" else TightHead
    return make(dim, depth=depth, positions=positions)
