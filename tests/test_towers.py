"""Towers of open_clip that are read when they are needed, against models that it reads whole."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch.encoders import load_encoder, parse_spec
from clipsearch.encoders.openclip import OpenClipEncoder
from clipsearch.errors import EncoderError

open_clip = pytest.importorskip("open_clip")
torch = pytest.importorskip("torch")

TEXTS = ["a photo of a cat", "", "two dogs on a beach", "x " * 300]
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT = {"image_size": 48, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None}
TIMM = {
    "image_size": 224,
    "timm_model_name": "test_vit",
    "timm_model_pretrained": False,
    "timm_pool": "",
    "timm_proj": "linear",
}
SIGLIP_TEXT = TEXT | {"no_causal_mask": True, "pool_type": "last", "proj_bias": True}
PLAIN = {"embed_dim": 16, "vision_cfg": VIT, "text_cfg": TEXT}
CONFIGS: dict[str, dict[str, Any]] = {
    "vit": PLAIN,
    "quick": PLAIN | {"quick_gelu": True},
    "custom": PLAIN | {"custom_text": True},
    "resnet": PLAIN | {"vision_cfg": RESNET},
    "timm": PLAIN | {"vision_cfg": TIMM},
    "pairs": PLAIN
    | {
        "vision_cfg": TIMM,
        "text_cfg": SIGLIP_TEXT,
        "custom_text": True,
        "init_logit_bias": -10,
    },
}
COCA = PLAIN | {
    "vision_cfg": VIT | {"attentional_pool": True, "output_tokens": True, "attn_pooler_heads": 2},
    "text_cfg": TEXT | {"context_length": 76, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {"context_length": 76, "width": 32, "heads": 2, "layers": 1},
    "custom_text": True,
}
CONTEXTS = {"coca": 76}


@pytest.fixture(scope="module", autouse=True)
def one_tokenizer() -> Iterator[None]:
    """Read once: that takes longer than a tiny model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(open_clip, "get_tokenizer", lambda name: tokenizer_of(CONTEXTS.get(name, 77)))
        yield


@functools.cache
def tokenizer_of(context: int) -> Any:
    return open_clip.SimpleTokenizer(context_length=context)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("towers")


def made(name: str, config: dict[str, Any], folder: Path) -> Any:
    """A model with random weights, known to open_clip as `name`."""
    (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / f"{name}.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(name))
        return open_clip.create_model(name)


def saved(state: dict[str, Any], path: Path) -> Path:
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    else:
        torch.save(state, path)
    return path


def load(name: str, path: Path) -> OpenClipEncoder:
    encoder = load_encoder(parse_spec(f"{name}/{path}"), device="cpu")
    assert isinstance(encoder, OpenClipEncoder)
    return encoder


def is_read(encoder: OpenClipEncoder) -> bool:
    """Whether the tower for pictures has its weights."""
    return not any(tensor.is_meta for tensor in encoder._towers.text().visual.parameters())


def whole(name: str, path: Path, precision: str) -> Any:
    """The same encoder with all weights, as open_clip reads them."""
    return open_clip.create_model(name, pretrained=str(path), precision=precision).eval()


def features(model: Any, tokens: Any) -> Any:
    from clipsearch.encoders.openclip_texts import text_features

    with torch.inference_mode():
        return text_features(model, tokens)


def check_equal(name: str, path: Path, precision: str) -> OpenClipEncoder:
    """Bit for bit what open_clip makes of words and of pictures, words first, alone and after."""
    encoder, expected = load(name, path), whole(name, path, precision)
    tokens = encoder._tokenizer(TEXTS)
    texts = features(expected, tokens).float().numpy()
    assert encoder.dim == texts.shape[1]
    np.testing.assert_array_equal(encoder.encode_text(TEXTS, normalize=False), texts)
    alone = encoder._towers.text()
    few = TEXTS[:3]  # other kernels for other numbers
    rows = features(expected, tokens[:3]).float().numpy()
    np.testing.assert_array_equal(encoder.encode_text(few, normalize=False), rows)
    for key, tensor in expected.state_dict().items():
        if not key.startswith("visual."):
            assert torch.equal(alone.state_dict()[key], tensor), key
            assert alone.state_dict()[key].dtype == tensor.dtype
    for key, buffer in expected.named_buffers():
        if not key.startswith("visual."):
            assert torch.equal(dict(alone.named_buffers())[key], buffer), key
    expected_visual = expected.visual.state_dict()
    for key, tensor in encoder._towers.whole().visual.state_dict().items():
        assert torch.equal(tensor, expected_visual[key]), key
    np.testing.assert_array_equal(encoder.encode_text(TEXTS, normalize=False), texts)
    np.testing.assert_array_equal(encoder.encode_text(few, normalize=False), rows)
    assert encoder.logit_scale == pytest.approx(float(expected.logit_scale.detach().exp()), 1e-2)
    assert encoder._preprocess == expected.visual.preprocess_cfg
    return encoder


@pytest.fixture
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    kind = getattr(request, "param", "fp32")
    monkeypatch.setattr("clipsearch.encoders.openclip.precision_for", lambda device_type: kind)
    return str(kind)


@pytest.mark.parametrize(
    ("name", "precision"),
    [*((name, "fp32") for name in CONFIGS), ("vit", "bf16"), ("pairs", "bf16")],
    indirect=["precision"],
)
def test_each_tower_is_to_the_bit_what_open_clip_reads(
    name: str, precision: str, folder: Path
) -> None:
    suffix = "safetensors" if precision == "fp32" else "pt"
    path = saved(made(name, CONFIGS[name], folder).state_dict(), folder / f"{name}.{suffix}")
    encoder = load(name, path)
    assert encoder.encode_text(["a dog"]).shape == (1, encoder.dim)
    assert not is_read(encoder)
    check_equal(name, path, precision)


@pytest.mark.parametrize("kind", ["half", "module", "nested", "scalar", "resized", "plain-names"])
def test_checkpoints_that_open_clip_converts(kind: str, precision: str, folder: Path) -> None:
    name = f"of-{kind}"
    config = CONFIGS["custom" if kind == "plain-names" else "vit"]
    state = made(name, config, folder).state_dict()
    if kind == "half":
        state = {key: tensor.half() for key, tensor in state.items()}
    elif kind == "module":
        state = {f"module.{key}": tensor for key, tensor in state.items()}
    elif kind == "nested":
        state = {"epoch": 3, "state_dict": state}
    elif kind == "scalar":
        state["logit_scale"] = state["logit_scale"].reshape(1)
    elif kind == "resized":
        state["visual.positional_embedding"] = torch.rand(17, 64)
        state["positional_embedding"] = torch.rand(50, 32)
    else:
        state = {key.removeprefix("text."): tensor for key, tensor in state.items()}
    encoder = load(name, saved(state, folder / f"{name}.pt"))
    encoder.encode_text(["a dog"])
    assert not is_read(encoder)
    check_equal(name, folder / f"{name}.pt", precision)


@pytest.mark.parametrize("kind", ["coca", "old"])
def test_what_cannot_be_read_in_parts_is_read_whole(
    kind: str, precision: str, folder: Path
) -> None:
    state = made(kind, COCA if kind == "coca" else PLAIN, folder).state_dict()
    path = folder / f"{kind}.pt"
    torch.save(state, path, _use_new_zipfile_serialization=kind == "coca")  # old: cannot be mapped
    assert is_read(load(kind, path))
    check_equal(kind, path, precision)


def test_pictures_first_bring_the_words_along(precision: str, folder: Path) -> None:
    path = saved(made("first", PLAIN, folder).state_dict(), folder / "first.pt")
    encoder, expected = load("first", path), whole("first", path, precision)
    pixels = np.random.default_rng(0).integers(0, 255, (48, 48, 3), dtype=np.uint8)
    rows = encoder.encode_images([pixels], normalize=False)
    mean, std = (
        torch.tensor(encoder._preprocess[key]).reshape(1, 3, 1, 1) for key in ("mean", "std")
    )
    picture = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        np.testing.assert_allclose(
            rows, expected.encode_image((picture - mean) / std).numpy(), atol=1e-5
        )
    assert encoder._towers.text() is encoder._towers.whole()
    assert encoder.supports_patches
    assert encoder.encode_patches(pixels).shape == (3, 3, 16)


@pytest.mark.parametrize("change", ["missing", "rewritten"])
def test_weights_that_change_beneath_a_model_are_an_error(
    change: str, precision: str, folder: Path
) -> None:
    path = saved(made("changing", PLAIN, folder).state_dict(), folder / f"{change}.pt")
    encoder = load("changing", path)
    encoder.encode_text(["a dog"])
    if change == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"more")
    assert encoder.encode_text(["a cat"]).shape == (1, 16)  # they are in memory
    with pytest.raises(EncoderError, match="changed or removed while its model was in use"):
        encoder.encode_images([np.zeros((48, 48, 3), np.uint8)])


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("kind", ["short", "missing", "unexpected", "shape"])
def test_names_and_shapes_are_compared_before_anything_is_read(
    kind: str, suffix: str, folder: Path
) -> None:
    state = made("compared", PLAIN, folder).state_dict()
    if kind == "missing":
        del state["visual.conv1.weight"]
    elif kind == "unexpected":
        state["visual.more"] = torch.zeros(2)
    elif kind == "shape":
        state["visual.conv1.weight"] = torch.zeros(64, 3, 8, 8)
    path = saved(state, folder / f"{kind}.{suffix}")
    if kind == "short":
        path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(EncoderError, match=rf"{kind}\.{suffix} cannot be loaded as compared"):
        load("compared", path)


def test_loading_says_nothing_and_leaves_settings(
    precision: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from torch.utils.serialization import config

    path = saved(made("silent", PLAIN, folder).state_dict(), folder / "silent.pt")
    caplog.clear()
    state = torch.random.get_rng_state()
    load("silent", path).encode_text(["a dog"])
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    assert config.load.mmap is False
    assert torch.zeros(1).device.type == "cpu"
    assert torch.equal(torch.random.get_rng_state(), state)
