"""Towers for pictures in 8 bits, against the same towers in fp32."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipsearch.encoders import load_encoder, parse_spec
from clipsearch.encoders.int8 import SCHEME, rounded_to_int8
from clipsearch.encoders.openclip import OpenClipEncoder
from clipsearch.errors import EncoderError, UsageError
from tests.test_trial import pictures, visual_tower

NEAR = 0.995  # what a picture's cosine to itself in fp32 must keep
TINY = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 128, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of open_clip with random weights."""
    import open_clip
    import torch

    folder = tmp_path_factory.mktemp("int8")
    (folder / "int8-tiny.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "int8-tiny.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.create_model("int8-tiny")
    torch.save(model.state_dict(), folder / "tiny.pt")
    return f"int8-tiny/{folder / 'tiny.pt'}"


@pytest.fixture(scope="module")
def rounded(name: str) -> OpenClipEncoder:
    encoder = load_encoder(parse_spec(f"{name}+int8"))
    assert isinstance(encoder, OpenClipEncoder)
    return encoder


@pytest.fixture(scope="module")
def exact(name: str) -> OpenClipEncoder:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clipsearch.encoders.openclip.precision_for", lambda device_type: "fp32")
        encoder = load_encoder(parse_spec(name), device="cpu")
    assert isinstance(encoder, OpenClipEncoder)
    return encoder


def test_weights_are_rounded_to_the_nearest_step() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(5, 7)).astype(np.float32)
    weights[2] = 0.0
    weights[3] *= 1e6
    rounded, scales = rounded_to_int8(weights)
    assert rounded.dtype == np.int8
    for row, ints, [scale] in zip(weights, rounded, scales, strict=True):
        for weight, number in zip(row, ints, strict=True):
            assert abs(weight - scale * number) <= 0.5001 * scale
        assert np.abs(ints).max() == (127 if row.any() else 0)


def test_photos_keep_their_vectors(
    rounded: OpenClipEncoder, exact: OpenClipEncoder, photos: Path
) -> None:
    import torch

    opened = [Image.open(photos / file) for file in ("astronaut.png", "coffee.png", "rocket.jpg")]
    some = [exact.prepare(np.asarray(photo.convert("RGB"))) for photo in opened] * 4
    rows, near = exact.encode_images(some), rounded.encode_images(some)
    assert (rows * near).sum(axis=1).min() > NEAR
    assert np.abs(rows - near).max() > 1e-5  # it is another network
    assert rounded.fingerprint == f"{exact.fingerprint}+{SCHEME}"
    assert torch.backends.mha.get_fastpath_enabled()
    texts = ["a photo of a cat", "red"]
    np.testing.assert_array_equal(rounded.encode_text(texts), exact.encode_text(texts))


def test_the_same_weights_make_the_same_network(name: str, rounded: OpenClipEncoder) -> None:
    some = [rounded.prepare(picture) for picture in pictures(19)]
    again = load_encoder(parse_spec(f"{name}+int8"))
    rows = rounded.encode_images(some)
    np.testing.assert_allclose(again.encode_images(some), rows, atol=1e-6)
    with ThreadPoolExecutor(4) as pool:
        for made in pool.map(rounded.encode_images, [some] * 8):
            np.testing.assert_allclose(made, rows, atol=1e-6)


def test_words_need_no_openvino(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    encoder = load_encoder(parse_spec(f"{name}+int8"))
    assert encoder.encode_text(["red"]).shape == (1, 64)
    assert encoder.encode_patches(np.zeros((64, 64, 3), np.uint8)).shape == (4, 4, 64)
    assert encoder.tune(tmp_path / "trials.json") is None
    with pytest.raises(EncoderError, match=r"pip install 'clipsearch\[int8\]'"):
        encoder.encode_images([encoder.prepare(pictures(1)[0])])
    with pytest.raises(UsageError, match="int8"):
        encoder.compile()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("ViT-B-32/openai+int8", "openclip:ViT-B-32/openai+int8"),
        ("openclip:ViT-B-32//a/b.pt+int8", "openclip:ViT-B-32//a/b.pt+int8"),
        ("hf-hub:org/name+int8", "openclip:hf-hub:org/name+int8"),
    ],
)
def test_models_in_8_bits_are_named(text: str, meant: str) -> None:
    assert str(parse_spec(text)) == meant
    assert parse_spec(meant) == parse_spec(text)


@pytest.mark.parametrize("text", ["builtin+int8", "+int8", "ViT-B-32+int8", "hf-hub:org+int8"])
def test_what_has_no_8_bit_form_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"int8|use"):
        parse_spec(text)


def counting(made: list[Any], *, fails: bool = False) -> Callable[..., Callable[[Any], Any]]:
    """A torch.compile that notes what it compiled and what that was given."""

    def compile(encode: Callable[[Any], Any], *, dynamic: bool) -> Callable[[Any], Any]:
        made.append("compiled")

        def run(x: Any) -> Any:
            if fails:
                raise RuntimeError("no C++ compiler")
            made.append(len(x))
            return encode(x)

        return run

    return compile


def test_full_batches_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr("torch.compile", counting(made))
    tower, some = visual_tower("vit"), pictures(19)
    rows = tower.rows(some)
    assert made == []
    tower.compiles = True
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(tower.rows, [some] * 4):
            np.testing.assert_array_equal(found, rows)
    assert made.count("compiled") == 1
    assert made.count(8) == len(made) - 1 == 8
    monkeypatch.setattr("torch.compile", counting(made, fails=True))
    tower.go(tower.way)
    with pytest.raises(EncoderError, match="no C"):
        tower.rows(some)
