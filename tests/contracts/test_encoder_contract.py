"""What every encoder promises, for each family of ENCODERS."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pytest

from clipsearch.encoders import ENCODERS, Encoder, load_encoder, parse_spec
from clipsearch.encoders.long_texts import encode_texts
from clipsearch.encoders.values import unit_rows
from clipsearch.errors import EncoderError, UsageError
from clipsearch.types import Wave, check_unit_rows
from tests.clap_files import write_clap
from tests.clip4clip_files import tiny_clip, write_official

TEXTS = ["a cat", "", "two dogs on a beach", "red", "日本語 🐈", "a cat", "long " * 400, "\udce9"]
TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def tiny_name(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An open_clip model with random weights: "name//path"."""
    import open_clip
    import torch

    folder = tmp_path_factory.mktemp("tiny")
    (folder / "contract-tiny.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "contract-tiny.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.create_model("contract-tiny")
    torch.save(model.state_dict(), folder / "tiny.pt")
    return f"contract-tiny/{folder / 'tiny.pt'}"


@pytest.fixture(scope="module")
def exact() -> Iterator[None]:
    """fp32 everywhere: in half precision rows depend on their batch (docs/decisions/004)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clipsearch.encoders.openclip.precision_for", lambda device_type: "fp32")
        yield


@pytest.fixture(scope="module", params=list(ENCODERS))
def text_of_spec(request: pytest.FixtureRequest, exact: None) -> str:
    if request.param == "openclip":
        return f"openclip:{request.getfixturevalue('tiny_name')}"
    if request.param == "clip4clip":
        folder = request.getfixturevalue("tmp_path_factory").mktemp("clip4clip")
        return f"clip4clip:{write_official(folder / 'pytorch_model.bin.0', tiny_clip())}"
    if request.param == "clap":
        folder = request.getfixturevalue("tmp_path_factory").mktemp("clap")
        return f"clap:{write_clap(folder, seconds=2)}"
    if request.param == "audioclip":
        folder = request.getfixturevalue("tmp_path_factory").mktemp("audioclip")
        written = importlib.import_module("tests.audioclip_files").write_audioclip(folder / "a.pt")
        return f"audioclip:{written}"
    return str(request.param)


@pytest.fixture(scope="module")
def encoder(text_of_spec: str) -> Encoder:
    return load_encoder(parse_spec(text_of_spec), device="cpu")


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = [(300, 400), (400, 300), (32, 32), (1, 1), (1, 3000), (3000, 1), (7, 5), (640, 200)]
    made = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    flat = [np.full((50, 60, 3), grey, dtype=np.uint8) for grey in (0, 128, 255)]
    return [*made, *flat, made[0][::-1, ::-1], made[0][:, ::2]]  # not contiguous


@cache
def waves(sample_rate: int) -> list[Wave]:
    """Noise of several lengths, a tone, silence, and one that is not contiguous."""
    rng = np.random.default_rng(0)
    seconds = (0.1, 0.35, 1.0, 2.5)
    noise = [rng.normal(0, 0.1, int(s * sample_rate)).astype(np.float32) for s in seconds]
    tone = np.sin(2 * np.pi * 440 / sample_rate * np.arange(sample_rate // 2)).astype(np.float32)
    return [*noise, tone, np.zeros(sample_rate, np.float32), noise[2][::-2]]


Senses = list[tuple[Callable[..., np.ndarray], list[Any]]]


def senses(encoder: Encoder) -> Senses:
    """What `encoder` can encode, with items of each kind."""
    found: Senses = []
    if encoder.supports_text:
        found.append((encoder.encode_text, TEXTS))
    if encoder.supports_images:
        found.append((encoder.encode_images, [encoder.prepare(p) for p in pictures()]))
    if encoder.supports_audio:
        found.append((encoder.encode_audio, waves(encoder.sample_rate)))
    return found


def singly(encode: Callable[..., np.ndarray], items: Sequence[Any]) -> np.ndarray:
    return np.concatenate([encode([item]) for item in items])


def test_what_is_there_is_said(encoder: Encoder) -> None:
    assert encoder.supports_text
    assert encoder.supports_images or encoder.supports_audio
    assert encoder.short_side > 1 if encoder.supports_images else encoder.short_side == 1
    assert encoder.supports_images or not encoder.supports_patches
    assert encoder.sample_rate >= 8000 if encoder.supports_audio else encoder.sample_rate == 0
    assert bool(encoder.audio_fingerprint) == encoder.supports_audio
    assert 1.0 < encoder.logit_scale <= 200.0  # CLIP's is 14 before training and 100 at most


def test_what_is_not_there_is_refused(encoder: Encoder) -> None:
    refused: list[Callable[[], object]] = []
    if not encoder.supports_images:
        refused += [lambda: encoder.prepare(pictures()[0]), lambda: encoder.encode_images([])]
    if not encoder.supports_audio:
        refused += [lambda: encoder.encode_audio(waves(8000)), lambda: encoder.encode_audio([])]
    assert len(refused) == 2 * (3 - len(senses(encoder)))
    for ask in refused:
        with pytest.raises(EncoderError, match=f"{encoder.spec.family}.* takes no"):
            ask()


def test_rows_are_float32_and_of_unit_length(encoder: Encoder) -> None:
    for encode, items in senses(encoder):
        rows = encode(items)
        check_unit_rows(rows)
        assert rows.shape == (len(items), encoder.dim)


def test_raw_rows_scaled_are_the_unit_rows_to_the_bit(encoder: Encoder) -> None:
    for encode, items in senses(encoder):
        raw, unit = encode(items[:5], normalize=False), encode(items[:5])
        assert raw.dtype == np.float32
        assert np.isfinite(raw).all()
        np.testing.assert_array_equal(unit_rows(raw), unit)
        lengths = np.linalg.norm(raw, axis=1)
        assert np.ptp(lengths) > 1e-3  # not scaled by one factor, let alone to one


def test_a_text_of_many_pieces_has_their_mean_length(encoder: Encoder) -> None:
    texts = ["a cat", "a cat sat on a mat. " * 200, "two dogs"]
    raw, unit = (encode_texts(encoder, texts, normalize=flag) for flag in (False, True))
    assert raw.split == unit.split == (1,)
    np.testing.assert_array_equal(
        raw.vectors[[0, 2]], encoder.encode_text(texts[::2], normalize=False)
    )
    np.testing.assert_allclose(unit_rows(raw.vectors), unit.vectors, atol=1e-6)
    length = np.linalg.norm(encoder.encode_text(["a cat sat on a mat."], normalize=False))
    np.testing.assert_allclose(np.linalg.norm(raw.vectors[1]), length, rtol=1e-4)


def test_nothing_gives_no_rows(encoder: Encoder) -> None:
    for encode, _ in senses(encoder):
        for normalize in (True, False):
            rows = encode([], normalize=normalize)
            assert rows.shape == (0, encoder.dim)
            assert rows.dtype == np.float32


def test_a_batch_is_the_same_as_one_at_a_time_in_order(encoder: Encoder) -> None:
    for encode, items in senses(encoder):
        alone = singly(encode, items)
        np.testing.assert_allclose(encode(items), alone, atol=1e-5)
        np.testing.assert_allclose(encode(items[::-1]), alone[::-1], atol=1e-5)


def test_more_than_one_internal_batch(encoder: Encoder) -> None:
    texts = [f"thing number {i % 5}" for i in range(150)]
    rows = encoder.encode_text(texts)
    np.testing.assert_allclose(rows, np.tile(rows[:5], (30, 1)), atol=1e-5)
    for encode, items in senses(encoder)[1:]:
        rows = encode(items[:3] * 7)
        np.testing.assert_allclose(rows, np.tile(rows[:3], (7, 1)), atol=1e-5)


def test_what_fits_is_read_to_its_last_word_and_the_rest_is_cut_off(encoder: Encoder) -> None:
    assert all(encoder.fits(text) for text in ("", "  \n", "a cat", "日本語 🐈", "\udce9"))
    window = next(n for n in range(1, 2000) if not encoder.fits("cat " * n)) - 1
    assert window >= 8
    for words, changes in ((window, True), (window + 1, False), (5 * window, False)):
        start = "cat " * (words - 1)
        assert encoder.fits(start + "dog") == encoder.fits(start + " \n dog\n\n ") == changes
        rows = encoder.encode_text([start + "dog", start + "red"])
        assert np.array_equal(*rows) != changes


def test_different_things_get_different_rows(encoder: Encoder) -> None:
    rows = encoder.encode_text(["a cat", "a lighthouse in a storm"])
    assert rows[0] @ rows[1] < 0.999
    for encode, items in senses(encoder)[1:]:
        rows = encode(items[-5:-1])
        assert (rows[0] @ rows[1:].T < 1 - 1e-6).all()


def test_two_loads_are_one_encoder(encoder: Encoder, text_of_spec: str) -> None:
    again = load_encoder(parse_spec(str(encoder.spec)), device="cpu")
    assert again.spec == encoder.spec
    assert again.dim == encoder.dim
    assert again.fingerprint == encoder.fingerprint
    assert again.audio_fingerprint == encoder.audio_fingerprint
    assert encoder.fingerprint.startswith(parse_spec(text_of_spec).family)
    for (encode, items), (encode_again, _) in zip(senses(encoder), senses(again), strict=True):
        np.testing.assert_array_equal(encode_again(items[:3]), encode(items[:3]))


def test_fingerprints_tell_encoders_apart(encoder: Encoder) -> None:
    others = [load_encoder(parse_spec(name), device="cpu") for name in ("fake:32", "builtin")]
    assert sum(other.fingerprint == encoder.fingerprint for other in others) == (
        encoder.spec.family == "builtin"
    )
    assert "\n" not in encoder.fingerprint
    assert len(encoder.fingerprint) < 200


def test_several_threads_may_use_a_fresh_encoder(encoder: Encoder, text_of_spec: str) -> None:
    fresh = load_encoder(parse_spec(text_of_spec), device="cpu")
    with ThreadPoolExecutor(4) as pool:
        asked = [
            [pool.submit(encode, items[:3]) for _ in range(4)] for encode, items in senses(fresh)
        ]
        fits = [pool.submit(fresh.fits, text) for text in ("a cat", "cat " * 2000) * 50]
        prepare = [pool.submit(fresh.prepare, p) for p in pictures() if fresh.supports_images]
        assert [future.result() for future in fits] == [True, False] * 50
        for futures, (encode, items) in zip(asked, senses(encoder), strict=True):
            for future in futures:
                np.testing.assert_allclose(future.result(), encode(items[:3]), atol=1e-5)
        for future, picture in zip(prepare, pictures(), strict=False):
            np.testing.assert_array_equal(future.result(), encoder.prepare(picture))


def test_prepared_pictures_are_compact_and_checked(encoder: Encoder) -> None:
    if not encoder.supports_images:
        return  # test_what_is_not_there_is_refused
    prepared = [encoder.prepare(p) for p in pictures()]
    assert {p.shape for p in prepared} == {prepared[0].shape}
    assert prepared[0].nbytes <= 3 * encoder.short_side**2
    assert all(p.base is None for p in prepared)  # keeps no original
    with pytest.raises(UsageError, match="prepare"):
        encoder.encode_images([np.zeros((5, 5, 3), np.uint8)])
    with pytest.raises(UsageError, match="need \\(height, width, 3\\) uint8"):
        encoder.prepare(np.zeros((5, 5), np.uint8))


def test_places_cover_pictures_of_any_shape(encoder: Encoder) -> None:
    if not encoder.supports_patches:
        with pytest.raises(EncoderError, match=f"{encoder.spec.family}.*: use"):
            encoder.encode_patches(pictures()[0])
        return
    dot, high = pictures()[3], pictures()[7][:400]
    shapes = []
    for picture in (dot, high, high.swapaxes(0, 1)):
        places = encoder.encode_patches(picture)
        assert places.dtype == np.float32
        check_unit_rows(places.reshape(-1, encoder.dim))
        shapes.append(places.shape[:2])
    (rows, columns), standing, lying = shapes
    assert standing == (pytest.approx(2 * rows, abs=1), columns)
    assert lying == (rows, pytest.approx(2 * columns, abs=1))
    with pytest.raises(UsageError, match="need \\(height, width, 3\\) uint8"):
        encoder.encode_patches(np.zeros((5, 5), np.uint8))


def test_bad_waves_are_refused(encoder: Encoder) -> None:
    if not encoder.supports_audio:
        return  # test_what_is_not_there_is_refused
    good = waves(encoder.sample_rate)[0]
    infinite = np.full_like(good, np.inf)
    for bad in (
        good.astype(np.float64),
        good[None],
        good[:0],
        infinite,
        np.full_like(good, np.nan),
    ):
        with pytest.raises(UsageError, match=r"need .*samples"):
            encoder.encode_audio([good, bad])


def test_inputs_are_left_alone(encoder: Encoder) -> None:
    picture = pictures()[0]
    copy = picture.copy()
    if encoder.supports_images:
        encoder.prepare(picture)
        np.testing.assert_array_equal(picture, copy)
    for encode, items in senses(encoder)[1:]:
        kept = items[0].copy()
        encode(items[:1])
        np.testing.assert_array_equal(items[0], kept)
