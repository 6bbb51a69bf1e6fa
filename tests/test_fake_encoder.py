"""The fake encoder: colours mean something, and the vectors never change."""

from __future__ import annotations

import numpy as np
import pytest

from clipsearch.encoders import load_encoder, parse_spec
from clipsearch.encoders.fake import COLOURS, FakeEncoder


@pytest.mark.parametrize("colour", sorted(set(COLOURS) - {"gray"}))
def test_a_colour_finds_its_picture_first(colour: str) -> None:
    encoder = FakeEncoder()
    names = sorted(set(COLOURS) - {"gray"})
    noise = np.random.default_rng(0).integers(-20, 21, (50, 70, 3))
    pictures = [np.clip(COLOURS[n] + noise, 0, 255).astype(np.uint8) for n in names]
    vectors = encoder.encode_images([encoder.prepare(p) for p in pictures])
    for query in (colour, colour.upper(), f"a {colour} door"):
        assert names[int(np.argmax(vectors @ encoder.encode_text([query])[0]))] == colour


def test_other_texts_point_nowhere_near_colours() -> None:
    encoder = FakeEncoder(256)
    red, cat, dog = encoder.encode_text(["red", "a cat", "a dog"])
    assert abs(red @ cat) < 0.3
    assert abs(cat @ dog) < 0.3


def test_content_tells_equal_colours_apart() -> None:
    encoder = FakeEncoder()
    half = np.zeros((64, 64, 3), np.uint8)
    half[:32] = 255
    one, other = encoder.encode_images([encoder.prepare(p) for p in (half, half[::-1])])
    assert 0.8 < one @ other < 0.99


def test_the_vectors_are_the_same_for_ever() -> None:
    """Change the number in the fingerprint when this changes."""
    encoder = FakeEncoder(8)
    np.testing.assert_allclose(
        encoder.encode_text(["red"]),
        [
            [
                0.5269652009010315,
                -0.5269652009010315,
                -0.5269652009010315,
                0.26348260045051575,
                -0.12166789919137955,
                -0.07143949717283249,
                -0.030516499653458595,
                -0.27687910199165344,
            ]
        ],
        atol=1e-6,
    )
    assert encoder.fingerprint == "fake:8@1"


def test_the_dim_is_in_the_name() -> None:
    assert load_encoder(parse_spec("fake")).dim == 64
    assert load_encoder(parse_spec("fake:128")).dim == 128
