"""What every encoder promises, for each family of ENCODERS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from clipsearch.encoders import ENCODERS, Encoder, load_encoder, parse_spec
from clipsearch.encoders.long_texts import encode_texts
from clipsearch.encoders.values import unit_rows
from clipsearch.errors import UsageError
from clipsearch.types import check_unit_rows
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


def test_rows_are_float32_and_of_unit_length(encoder: Encoder) -> None:
    assert encoder.supports_text
    assert encoder.supports_images
    for rows, count in (
        (encoder.encode_text(TEXTS), len(TEXTS)),
        (encoder.encode_images([encoder.prepare(p) for p in pictures()]), len(pictures())),
    ):
        check_unit_rows(rows)
        assert rows.shape == (count, encoder.dim)


def test_raw_rows_scaled_are_the_unit_rows_to_the_bit(encoder: Encoder) -> None:
    prepared = [encoder.prepare(p) for p in pictures()[:5]]
    for raw, unit in (
        (encoder.encode_text(TEXTS[:5], normalize=False), encoder.encode_text(TEXTS[:5])),
        (encoder.encode_images(prepared, normalize=False), encoder.encode_images(prepared)),
    ):
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
    for normalize in (True, False):
        for rows in (
            encoder.encode_text([], normalize=normalize),
            encoder.encode_images([], normalize=normalize),
        ):
            assert rows.shape == (0, encoder.dim)
            assert rows.dtype == np.float32


def test_a_batch_is_the_same_as_one_at_a_time_in_order(encoder: Encoder) -> None:
    singly = np.concatenate([encoder.encode_text([text]) for text in TEXTS])
    np.testing.assert_allclose(encoder.encode_text(TEXTS), singly, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_text(TEXTS[::-1]), singly[::-1], atol=1e-5)
    prepared = [encoder.prepare(p) for p in pictures()]
    singly = np.concatenate([encoder.encode_images([one]) for one in prepared])
    np.testing.assert_allclose(encoder.encode_images(prepared), singly, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_images(prepared[::-1]), singly[::-1], atol=1e-5)


def test_more_than_one_internal_batch(encoder: Encoder) -> None:
    texts = [f"thing number {i % 5}" for i in range(150)]
    rows = encoder.encode_text(texts)
    np.testing.assert_allclose(rows, np.tile(rows[:5], (30, 1)), atol=1e-5)
    prepared = [encoder.prepare(p) for p in pictures()[:3]]
    rows = encoder.encode_images(prepared * 7)
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
    rows = encoder.encode_images([encoder.prepare(p) for p in pictures()[-5:-1]])
    assert (rows[0] @ rows[1:].T < 1 - 1e-6).all()


def test_two_loads_are_one_encoder(encoder: Encoder, text_of_spec: str) -> None:
    again = load_encoder(parse_spec(str(encoder.spec)), device="cpu")
    assert again.spec == encoder.spec
    assert again.dim == encoder.dim
    assert again.fingerprint == encoder.fingerprint
    assert encoder.fingerprint.startswith(parse_spec(text_of_spec).family)
    np.testing.assert_array_equal(again.encode_text(TEXTS[:3]), encoder.encode_text(TEXTS[:3]))
    prepared = [again.prepare(p) for p in pictures()[:2]]
    np.testing.assert_array_equal(again.encode_images(prepared), encoder.encode_images(prepared))


def test_fingerprints_tell_encoders_apart(encoder: Encoder) -> None:
    others = [load_encoder(parse_spec(name), device="cpu") for name in ("fake:32", "builtin")]
    assert sum(other.fingerprint == encoder.fingerprint for other in others) == (
        encoder.spec.family == "builtin"
    )
    assert "\n" not in encoder.fingerprint
    assert len(encoder.fingerprint) < 200


def test_several_threads_may_use_a_fresh_encoder(encoder: Encoder, text_of_spec: str) -> None:
    fresh = load_encoder(parse_spec(text_of_spec), device="cpu")
    words, picture = TEXTS[:3], pictures()[0]
    with ThreadPoolExecutor(4) as pool:
        texts = [pool.submit(fresh.encode_text, words) for _ in range(4)]
        fits = [pool.submit(fresh.fits, text) for text in ("a cat", "cat " * 2000) * 50]
        assert [future.result() for future in fits] == [True, False] * 50
        images = [
            pool.submit(lambda: fresh.encode_images([fresh.prepare(picture)])) for _ in range(4)
        ]
        for future in texts:
            np.testing.assert_allclose(future.result(), encoder.encode_text(words), atol=1e-5)
        expected = encoder.encode_images([encoder.prepare(picture)])
        for future in images:
            np.testing.assert_allclose(future.result(), expected, atol=1e-5)


def test_prepared_pictures_are_compact_and_checked(encoder: Encoder) -> None:
    prepared = [encoder.prepare(p) for p in pictures()]
    assert {p.shape for p in prepared} == {prepared[0].shape}
    assert prepared[0].nbytes <= 3 * encoder.short_side**2
    assert all(p.base is None for p in prepared)  # keeps no original
    with pytest.raises(UsageError, match="prepare"):
        encoder.encode_images([np.zeros((5, 5, 3), np.uint8)])
    with pytest.raises(UsageError, match="need \\(height, width, 3\\) uint8"):
        encoder.prepare(np.zeros((5, 5), np.uint8))


def test_inputs_are_left_alone(encoder: Encoder) -> None:
    picture = pictures()[0]
    copy = picture.copy()
    prepared = encoder.prepare(picture)
    kept = prepared.copy()
    encoder.encode_images([prepared])
    np.testing.assert_array_equal(picture, copy)
    np.testing.assert_array_equal(prepared, kept)
