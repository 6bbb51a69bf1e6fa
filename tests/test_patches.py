"""Features of places against what the towers of open_clip make of whole pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch.encoders import Encoder, load_encoder, parse_spec
from clipsearch.encoders.geometry import Geometry
from clipsearch.encoders.patch_towers import places_of
from clipsearch.encoders.patches import WindowPlaces, enlarged, fit
from clipsearch.encoders.values import unit_rows
from clipsearch.errors import EncoderError

torch = pytest.importorskip("torch")
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
TOKEN = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
# One head of attention, so that its weights are one row of numbers.
RESNET = {
    "image_size": 64,
    "layers": [1, 1, 1, 1],
    "width": 2,
    "head_width": 64,
    "patch_size": None,
}


def tower(vision: dict[str, Any]) -> Any:
    """The tower for pictures of a small model of open_clip with random weights."""
    from open_clip.model import CLIP

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        visual = CLIP(24, vision, TEXT).visual.eval()
        for name, tensor in visual.named_parameters():
            if (
                "bias" in name or "ln_" in name or "positional" in name
            ):  # zeros and ones tell nothing
                torch.nn.init.normal_(tensor, 0.5, 0.5)
    return visual


def pictures(size: int) -> Any:
    return torch.from_numpy(np.random.default_rng(1).normal(0, 1, (2, 3, size, size))).float()


def layer_norm(x: np.ndarray, norm: Any) -> np.ndarray:
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + norm.eps)
    return scaled * norm.weight.numpy() + norm.bias.numpy()


@torch.inference_mode()
def test_patches_of_a_vision_transformer_are_maskclips() -> None:
    visual, x = tower(TOKEN), pictures(32)
    seen: list[Any] = []
    last = visual.transformer.resblocks[-1]
    hook = last.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].numpy()))
    visual(x)
    hook.remove()
    weight, bias = (t.numpy() for t in (last.attn.in_proj_weight, last.attn.in_proj_bias))
    out = last.attn.out_proj
    places = places_of(visual)
    assert places is not None
    found = places(x).numpy()
    assert found.shape == (2, 4, 4, 24)
    for picture in range(2):
        for row in range(4):
            for column in range(4):  # a naive loop, place by place
                token = layer_norm(seen[0][picture, 1 + 4 * row + column], last.ln_1)
                value = weight[128:] @ token + bias[128:]
                value = out.weight.numpy() @ value + out.bias.numpy()
                expected = layer_norm(value, visual.ln_post) @ visual.proj.numpy()
                np.testing.assert_allclose(found[picture, row, column], expected, atol=1e-4)


@torch.inference_mode()
def test_places_of_a_tower_that_takes_their_mean_have_it() -> None:
    visual, x = tower({**TOKEN, "pool_type": "avg"}), pictures(32)
    places = places_of(visual)
    assert places is not None
    np.testing.assert_allclose(places(x).mean((1, 2)).numpy(), visual(x).numpy(), atol=1e-5)


@torch.inference_mode()
def test_what_a_resnet_pools_is_the_features_of_its_places_as_it_weighs_them() -> None:
    visual, x = tower(RESNET), pictures(64)
    pool = visual.attnpool
    assert pool.num_heads == 1
    places = places_of(visual)
    assert places is not None
    found = places(x).reshape(2, 4, -1)
    features: list[Any] = []
    hook = pool.register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    whole = visual(x).numpy()
    hook.remove()
    flat = features[0].flatten(2).permute(0, 2, 1)  # (n, places, width)
    tokens = torch.cat([flat.mean(1, keepdim=True), flat], 1) + pool.positional_embedding
    scores = pool.q_proj(tokens[:, :1]) @ pool.k_proj(tokens).transpose(1, 2)
    weights = (scores / tokens.shape[2] ** 0.5).softmax(2)[:, 0]
    mean = pool.c_proj(pool.v_proj(tokens[:, :1]))
    pooled = (weights[:, :, None] * torch.cat([mean, found], 1)).sum(1)
    np.testing.assert_allclose(pooled.numpy(), whole, rtol=1e-3, atol=1e-4)


def timm_tower(pool: str) -> Any:
    """A tower of timm's, ConvNeXt or a transformer without class token, of 32 by 32 pixels."""
    from open_clip.timm_model import TimmModel
    from timm.models.vision_transformer import VisionTransformer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        visual = TimmModel("convnext_atto", 24, image_size=32, pool="", proj="linear").eval()
        if pool != "convnext":
            visual.trunk = VisionTransformer(
                img_size=32,
                patch_size=8,
                embed_dim=320,
                depth=1,
                num_heads=2,
                num_classes=0,
                class_token=pool == "token",
                global_pool=pool,
            ).eval()
    return visual


@pytest.mark.parametrize("pool", ["convnext", "avg", "map"])
@torch.inference_mode()
def test_a_picture_that_is_the_same_everywhere_has_the_features_of_its_places(pool: str) -> None:
    """Given features that are the same at all places, the tower's own pool makes one of them."""
    visual, x = timm_tower(pool), pictures(64 if pool == "convnext" else 32)[:1]
    places = places_of(visual)
    assert places is not None
    found = places(x)
    assert found.shape[1:] == ((2, 2, 24) if pool == "convnext" else (4, 4, 24))
    assert np.ptp(found.numpy(), axis=(1, 2)).max() > 1e-3
    real = visual.trunk.forward_features
    visual.trunk.forward_features = lambda x, **options: everywhere(real(x, **options))
    whole, alike = visual(x).numpy(), places(x).numpy()
    for place in (alike[0, 0, 0], alike[0, -1, -1], found[0, -1, -1].numpy()):
        np.testing.assert_allclose(place, whole[0], atol=1e-4)


def test_a_class_token_of_timm_has_no_places() -> None:
    assert places_of(timm_tower("token")) is None


def everywhere(features: Any) -> Any:
    """The features of the last place at all of them."""
    if features.ndim == 3:
        return features[:, -1:].expand_as(features)
    return features[:, :, -1:, -1:].expand_as(features)


def test_towers_that_cannot_be_asked_for_a_place_say_so(tmp_path: Path) -> None:
    import open_clip

    config = {
        "embed_dim": 24,
        "vision_cfg": {**TOKEN, "attentional_pool": True, "attn_pooler_heads": 2},
        "text_cfg": TEXT,
    }
    (tmp_path / "patches-pooled.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "patches-pooled.json")
    with torch.random.fork_rng(devices=[]):
        torch.save(open_clip.create_model("patches-pooled").state_dict(), tmp_path / "w.pt")
    encoder = load_encoder(parse_spec(f"patches-pooled/{tmp_path / 'w.pt'}"), device="cpu")
    assert not encoder.supports_patches
    with pytest.raises(EncoderError, match=r"patches-pooled.* no features of places: use"):
        encoder.encode_patches(np.zeros((32, 32, 3), np.uint8))


# windows over a picture


def mean_colours(mode: str = "shortest") -> tuple[WindowPlaces, Geometry, list[tuple[int, ...]]]:
    """A tower of 32 by 32 pixels and 4 by 4 places: their mean colours; and what it was given."""
    given: list[tuple[int, ...]] = []

    def places(x: Any) -> Any:
        given.append(tuple(x.shape))
        return x.reshape(len(x), 4, 8, 4, 8, 3).mean((2, 4))

    def normalised(pixels: np.ndarray) -> Any:
        return torch.from_numpy(pixels).float()

    geometry = Geometry((32, 32), (32, 32), mode)  # type: ignore[arg-type]
    return WindowPlaces(places, normalised, 3), geometry, given


@pytest.mark.parametrize(
    ("size", "cells"),
    [
        ((32, 32), (4, 4)),
        ((64, 200), (4, 12)),  # 12.5 to the even
        ((300, 40), (30, 4)),
        ((33, 47), (4, 6)),
        ((7, 3000), (4, 32)),
        ((1, 1), (4, 4)),
    ],
)
def test_windows_cover_the_whole_picture(size: tuple[int, int], cells: tuple[int, int]) -> None:
    tower, geometry, given = mean_colours()
    height, width = size
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.linspace(20, 235, width)
    ramp[..., 1] = np.linspace(20, 235, height)[:, None]
    ramp[..., 2] = 128
    found = tower.of_picture(ramp, geometry)
    assert found.shape == (*cells, 3)
    from PIL import Image

    small = np.asarray(Image.fromarray(ramp).resize(cells[::-1], Image.Resampling.BOX), float)
    expected = unit_rows(small.reshape(-1, 3)).reshape(found.shape)
    if min(size) > 30:  # the smaller are made larger, and so smoothed
        np.testing.assert_allclose(found, expected, atol=0.03)
    assert max(shape[0] for shape in given) <= 3  # never more at once than a batch


def test_a_tower_for_squashed_pictures_gets_them_squashed() -> None:
    tower, geometry, given = mean_colours("squash")
    halves = np.zeros((20, 100, 3), np.uint8)
    halves[:, :50, 0] = halves[:, 50:, 2] = 255
    found = tower.of_picture(halves, geometry)
    assert found.shape == (4, 4, 3)
    assert given == [(1, 32, 32, 3)]
    np.testing.assert_allclose(found[:, :2], np.broadcast_to([1, 0, 0], (4, 2, 3)), atol=0.05)
    np.testing.assert_allclose(found[:, 2:], np.broadcast_to([0, 0, 1], (4, 2, 3)), atol=0.05)


def test_a_finer_grid_is_that_of_torch() -> None:
    coarse = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    x = torch.from_numpy(coarse).permute(2, 0, 1)[None]
    for shape in ((6, 10), (7, 8), (3, 5), (4, 23)):
        expected = torch.nn.functional.interpolate(x, shape, mode="bilinear", align_corners=False)
        np.testing.assert_allclose(
            enlarged(coarse, shape), expected[0].permute(1, 2, 0).numpy(), atol=1e-5
        )


@pytest.mark.parametrize(
    ("size", "fitted"),
    [((100, 200), (50, 100)), ((1, 3000), (50, 400)), ((3000, 1), (400, 50)), ((1, 1), (50, 50))],
)
def test_a_picture_is_fitted_whole(size: tuple[int, int], fitted: tuple[int, int]) -> None:
    assert fit(np.zeros((*size, 3), np.uint8), 50).shape == (*fitted, 3)


# the encoders


@pytest.fixture(scope="module")
def builtin() -> Encoder:
    return load_encoder(parse_spec("builtin"), device="cpu")


def test_the_mean_of_the_places_is_what_the_builtin_classifier_sees(builtin: Encoder) -> None:
    """The classifier is linear in the mean of its features: so are the logits of places."""
    tower, _ = builtin._image_tower()  # type: ignore[attr-defined]
    picture = np.random.default_rng(0).integers(0, 256, (260, 260, 3), dtype=np.uint8)
    places = tower.place_logits(picture)
    assert places.shape == (9, 9, 1000)
    np.testing.assert_allclose(places.mean((0, 1)), tower.logits([picture])[0], atol=1e-3)


def test_colours_lie_where_they_are(builtin: Encoder) -> None:
    encoder = load_encoder(parse_spec("fake"))
    picture = np.zeros((40, 120, 3), np.uint8)
    picture[:, :60, 0] = picture[:, 60:, 2] = 255
    places = encoder.encode_patches(picture)
    assert places.shape == (8, 24, encoder.dim)
    red = places @ encoder.encode_text(["red"])[0]
    assert red[:, :12].min() > 0.8 > 0.2 > red[:, 12:].max()
