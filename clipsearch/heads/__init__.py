"""Heads that make one video of its frames: CLIP4Clip (Luo et al., arXiv 2104.08860).

    loaded = load_head("pytorch_model.bin.4")             # an official checkpoint, or save_head's
    vectors = apply.pool(loaded.head, [frames, ...])      # (videos, dim) unit rows

"mean", "seqlstm" and "seqtransf" give one vector a video, whatever is asked; "tight" scores pairs
of a text and a video, so it can only rank again what another has found. Frames and texts are the
encoder's features as they are, `normalize=False`.

Importing this package does not load torch: names load their modules when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clipsearch.heads.checkpoint import (
        LoadedHead,
        from_state_dict,
        head_fingerprint,
        load_head,
        save_head,
    )
    from clipsearch.heads.clip4clip import Loaded, load_clip4clip
    from clipsearch.heads.modules import Head, MeanHead, SeqLSTMHead, SeqTransfHead, TightHead

__all__ = [
    "HEADS",
    "POOLINGS",
    "Head",
    "Loaded",
    "LoadedHead",
    "MeanHead",
    "SeqLSTMHead",
    "SeqTransfHead",
    "TightHead",
    "from_state_dict",
    "head_fingerprint",
    "load_clip4clip",
    "load_head",
    "save_head",
]

POOLINGS = ("mean", "seqlstm", "seqtransf")  # one vector a video
HEADS = (*POOLINGS, "tight")

_HOMES = {
    "clipsearch.heads.checkpoint": (
        "LoadedHead",
        "from_state_dict",
        "head_fingerprint",
        "load_head",
        "save_head",
    ),
    "clipsearch.heads.clip4clip": ("Loaded", "load_clip4clip"),
    "clipsearch.heads.modules": ("Head", "MeanHead", "SeqLSTMHead", "SeqTransfHead", "TightHead"),
}


def __getattr__(name: str) -> Any:
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'clipsearch.heads' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
