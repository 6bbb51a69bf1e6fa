"""The towers of open_clip, asked what they make of one place of a picture alone.

A tower ends in something that makes one feature of those of all places. Given one place alone, it
makes a feature of that, in the space of texts:

    VisionTransformer  the last block's value at a place, projected as the class token is: what the
                       token would be made of if it looked at that place only (MaskCLIP: Zhou, Loy
                       and Dai, "Extract Free Dense Labels from CLIP", ECCV 2022). Where the tower
                       takes the mean of its places instead of a token, the place itself.
    ModifiedResNet     the value of the attention pool at a place, projected (the same paper).
    TimmModel          the pool and the head of the tower, given the place alone: mean and
                       attention pools; a class token of timm's has no such part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def places_of(visual: Any) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """What makes (n, rows, columns, dim) of pictures that this tower of open_clip takes.

    None for a tower whose last step cannot be given one place alone.
    """
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

    if isinstance(visual, ModifiedResNet):
        return lambda x: _resnet(visual, x)
    if isinstance(visual, TimmModel):
        return (lambda x: _timm(visual, x)) if _timm_pools_places(visual) else None
    if not isinstance(visual, VisionTransformer) or visual.attn_pool is not None:
        return None
    if visual.pool_type == "avg":
        return lambda x: _mean_transformer(visual, x)
    plain = isinstance(visual.transformer.resblocks[-1], ResidualAttentionBlock)
    return (
        (lambda x: _token_transformer(visual, x)) if plain and visual.pool_type == "tok" else None
    )


def _token_transformer(visual: Any, x: torch.Tensor) -> torch.Tensor:
    *blocks, last = visual.transformer.resblocks
    tokens = visual._embeds(x)
    for block in blocks:
        tokens = block(tokens)
    attention = last.attn
    width = attention.embed_dim
    bias = attention.in_proj_bias
    values = last.ln_1(tokens[:, 1:]) @ attention.in_proj_weight[2 * width :].T
    if bias is not None:
        values = values + bias[2 * width :]
    return _gridded(visual, visual.ln_post(last.ls_1(attention.out_proj(values))))


def _mean_transformer(visual: Any, x: torch.Tensor) -> torch.Tensor:
    return _gridded(visual, visual.ln_post(visual.transformer(visual._embeds(x))[:, 1:]))


def _gridded(visual: Any, tokens: torch.Tensor) -> torch.Tensor:
    projected = tokens if visual.proj is None else tokens @ visual.proj
    return projected.reshape(len(tokens), *visual.grid_size, -1)


def _resnet(visual: Any, x: torch.Tensor) -> torch.Tensor:
    for stage in (visual.stem, visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x = stage(x)
    pool = visual.attnpool
    places = x.permute(0, 2, 3, 1)
    positions = pool.positional_embedding[1:].reshape(places.shape[1:]).to(x.dtype)
    result: torch.Tensor = pool.c_proj(pool.v_proj(places + positions))
    return result


def _timm_pools_places(visual: Any) -> bool:
    """Whether its pool means the same for one place as for many."""
    from timm.models.convnext import ConvNeXt
    from timm.models.fastvit import FastVit
    from timm.models.vision_transformer import VisionTransformer

    trunk = visual.trunk
    if "pool" in dict(visual.head.named_children()):
        return False  # made for its own number of places
    if isinstance(trunk, VisionTransformer):
        return trunk.global_pool == "avg" or (
            trunk.global_pool == "map" and getattr(trunk.attn_pool, "pos_embed", None) is None
        )
    return isinstance(trunk, ConvNeXt | FastVit)


def _timm(visual: Any, x: torch.Tensor) -> torch.Tensor:
    trunk = visual.trunk
    features = trunk.forward_features(x)
    if features.ndim == 4:  # (n, channels, rows, columns)
        alone = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1], 1, 1)
        shape = (len(x), *features.shape[2:])
    else:  # (n, tokens, channels)
        prefix = trunk.num_prefix_tokens
        tokens = features[:, prefix:]
        alone = tokens.reshape(-1, 1, tokens.shape[2]).expand(-1, prefix + 1, -1)
        shape = (len(x), *trunk.patch_embed.grid_size)
    result: torch.Tensor = visual.head(trunk.forward_head(alone))
    return result.reshape(*shape, -1)
