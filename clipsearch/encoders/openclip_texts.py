"""Texts through the text tower of an open_clip model, without the padding behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

STEP = 8  # lengths are multiples of it: few shapes, and a text's row hardly depends on its company


def text_features(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """(n, dim) features of tokens (n, context), as `model.encode_text` gives them, not normalised.

    In CLIP's own tower a token sees those before it alone, and the feature is that of the token
    which ends the text: what stands behind changes nothing and is left out. Most queries take a
    fifth of the time. Other towers get all of it.
    """
    features: torch.Tensor
    if not _is_causal(model):
        features = model.encode_text(tokens)
        return features
    from open_clip.transformer import text_global_pool

    ends = _ends(model, tokens)
    length = min(tokens.shape[1], -(-(int(ends.max()) + 1) // STEP) * STEP)
    tokens = tokens[:, :length]
    kind = model.transformer.get_cast_dtype()
    x = model.token_embedding(tokens).to(kind) + model.positional_embedding[:length].to(kind)
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    features = text_global_pool(
        model.ln_final(x),
        tokens,
        model.text_pool_type,
        eos_token_id=getattr(model, "text_eos_id", None),
    )
    projection = model.text_projection
    if projection is not None:
        features = projection(features) if callable(projection) else features @ projection
    return features


def _is_causal(model: Any) -> bool:
    """Whether the tower is CLIP's own, masked, and read where the text ends."""
    from open_clip.model import CLIP

    masked = getattr(model, "attn_mask", None) is not None
    return type(model) is CLIP and masked and model.text_pool_type in ("argmax", "eos")


def _ends(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """(n,) places that features are read at, as open_clip's text_global_pool finds them."""
    if model.text_pool_type != "argmax":
        tokens = (tokens == model.text_eos_id).int()
    return tokens.argmax(dim=-1)
