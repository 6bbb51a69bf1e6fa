"""The fake encoder: colours and pitches mean something, and the vectors never change."""

from __future__ import annotations

import numpy as np
import pytest

from clipsearch.encoders import load_encoder, parse_spec
from clipsearch.encoders.fake import COLOURS, SAMPLE_RATE, FakeEncoder


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


def tone(hertz: float, seconds: float = 0.5, loudness: float = 0.3) -> np.ndarray:
    """A tone with some noise, and a much weaker one far above it."""
    times = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave = np.sin(2 * np.pi * hertz * times) + 0.2 * np.sin(2 * np.pi * 7000 * times)
    wave += np.random.default_rng(0).normal(0, 0.1, len(times))
    return (loudness * wave).astype(np.float32)


@pytest.mark.parametrize("dim", [8, 64])
@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("low", {50, 290}),
        ("a low hum", {50, 290}),
        ("MIDDLE", {310, 1900}),
        ("a high tone", {2100, 6000}),
        ("a whistle", {2100, 6000}),
    ],
)
def test_a_pitch_finds_its_sounds_first(dim: int, text: str, nearest: set[int]) -> None:
    encoder = FakeEncoder(dim)
    hertz = [50, 310, 2100, 290, 1900, 6000]
    rows = encoder.encode_audio([tone(h, 0.1 + n / 3) for n, h in enumerate(hertz)])
    order = np.argsort(-(rows @ encoder.encode_text([text])[0]))
    assert {hertz[n] for n in order[:2]} == nearest


def test_colours_and_pitches_have_axes_of_their_own() -> None:
    encoder = FakeEncoder(256)
    red, low, both = encoder.encode_text(["red", "low", "a low red"])
    picture = np.full((20, 20, 3), (255, 0, 0), np.uint8)
    seen = encoder.encode_images([encoder.prepare(picture)])[0]
    heard = encoder.encode_audio([tone(100)])[0]
    for one, other in ((red, heard), (low, seen), (red, low), (seen, heard)):
        assert abs(one @ other) < 0.2
    for one, other in ((red, seen), (low, heard)):
        assert one @ other > 0.85
    for other in (red, seen, low, heard):
        assert 0.5 < both @ other < 0.8


def test_content_tells_equal_pitches_apart_and_silence_has_none() -> None:
    encoder = FakeEncoder(256)
    one, other, silence, constant = encoder.encode_audio(
        [tone(100), tone(100, loudness=0.2), np.zeros(800, np.float32), np.ones(800, np.float32)]
    )
    assert 0.8 < one @ other < 0.99
    pitches = encoder.encode_text(["low", "middle", "high"])
    assert np.abs(pitches @ np.stack([silence, constant]).T).max() < 0.3


def test_the_rows_of_sounds_are_the_same_for_ever() -> None:
    """Change the number in the fingerprint when this changes."""
    encoder = FakeEncoder(8)
    ramp = (np.arange(800, dtype=np.float32) % 8) / 8  # 2000 Hz
    np.testing.assert_allclose(
        encoder.encode_audio([ramp]) * 100, [[0, 0, 0, 0, 0, 0, 95, -31.22499]], atol=1e-4
    )
    np.testing.assert_allclose(
        encoder.encode_text(["low"]) * 100, [[0, 0, 0, 0, 95, 0, 0, -31.22499]], atol=1e-4
    )
