import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from clipsearch.encoders import sound_classifier
from clipsearch.encoders.sound_classifier import (
    RATE,
    WEIGHTS_FILE,
    SoundClassifier,
    features,
    mel_powers,
    weights_sha256,
)
from clipsearch.errors import EncoderError, UsageError

CPU = torch.device("cpu")
SECOND = np.arange(RATE) / RATE


@pytest.fixture(scope="module")
def classifier():
    return SoundClassifier(device=CPU)


def named(classifier, wave):
    logits = classifier.logits(wave.astype(np.float32)[None])
    return classifier.class_names[int(logits[0].argmax())]


def test_the_weights_are_small(classifier):
    network = sound_classifier.build_network(len(classifier.class_names))
    assert sum(p.numel() for p in network.parameters()) <= 3_000_000
    assert WEIGHTS_FILE.stat().st_size < 8_000_000


def test_the_names_are_words_and_unlike_one_another(classifier):
    names = classifier.class_names
    assert len(set(names)) == len(names) >= 20
    assert len(classifier.class_parts) == len(names)
    parts = [part for own in classifier.class_parts for part in own]
    assert len(set(parts)) == len(parts)
    assert all(re.fullmatch(r"[a-z]+(,? [a-z]+)*", name) for name in names)
    assert classifier.temperature > 0


def test_a_batch_gives_each_wave_what_it_gets_alone(classifier):
    rng = np.random.default_rng(0)
    waves = rng.normal(0, [[0.5], [0.01], [1e-4], [0.1]], (4, 3 * RATE)).astype(np.float32)
    waves[3, RATE:] = 0
    together = classifier.logits(waves)
    alone = np.concatenate([classifier.logits(wave[None]) for wave in waves])
    assert together.shape == (4, len(classifier.class_names))
    assert together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("seconds", [0.1, 1, 30])
def test_silence_has_finite_scores(classifier, seconds):
    silence = np.zeros((1, int(seconds * RATE)), dtype=np.float32)
    assert np.isfinite(classifier.logits(silence)).all()


def test_no_wave_gives_no_rows(classifier):
    assert classifier.logits(np.zeros((0, RATE), dtype=np.float32)).shape[0] == 0


@pytest.mark.parametrize("shape", [(RATE,), (2, 0), (1, 2, RATE)])
def test_other_shapes_are_refused(classifier, shape):
    with pytest.raises(UsageError, match="samples"):
        classifier.logits(np.zeros(shape, dtype=np.float32))


def test_loudness_changes_nothing(classifier):
    wave = np.random.default_rng(1).normal(0, 0.1, (1, 2 * RATE)).astype(np.float32)
    np.testing.assert_allclose(classifier.logits(wave), classifier.logits(wave / 16), atol=1e-3)


def test_an_explosion_is_named(classifier):
    time = np.arange(3 * RATE) / RATE
    noise = np.random.default_rng(3).normal(0, 1, len(time))
    low = np.convolve(noise, np.ones(40) / 40, mode="same")
    wave = np.tanh(8 * low * np.exp(-3 * time) + noise * np.exp(-25 * time))
    assert named(classifier, 0.5 * wave) == "explosion, gunshot or thunder"


def test_a_chirping_bird_is_named(classifier):
    time = np.arange(4 * RATE) / RATE
    pitch = 3200 + 900 * np.sin(2 * np.pi * 9 * time)
    wave = np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * (time % 0.11 < 0.07) * (time % 1.3 < 0.7)
    assert named(classifier, 0.2 * wave) == "bird singing"


def test_mel_powers_agree_with_a_naive_computation():
    wave = np.random.default_rng(2).normal(0, 0.3, 2 * RATE + 123)
    wave[: RATE // 2] += np.sin(2 * np.pi * 440 * SECOND[: RATE // 2])
    frames, size, hop, bands = [], 512, 320, 64
    mel = np.linspace(1127.01 * np.log(1 + 50 / 700), 1127.01 * np.log(1 + 8000 / 700), bands + 2)
    edges = 700 * (np.exp(mel / 1127.01) - 1)
    for start in range(0, len(wave) - size + 1, hop):
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
        power = np.abs(np.fft.fft(wave[start : start + size] * window)[: size // 2 + 1]) ** 2
        hertz = np.arange(size // 2 + 1) * RATE / size
        row = [
            (np.interp(hertz, edges[b : b + 3], [0, 1, 0], left=0, right=0) * power).sum()
            for b in range(bands)
        ]
        frames.append(row)
    computed = mel_powers(torch.from_numpy(wave.astype(np.float32))[None])[0].numpy()
    np.testing.assert_allclose(computed, np.array(frames), rtol=2e-3, atol=1e-4)


def test_features_are_decibels_below_the_loudest():
    powers = torch.tensor([[[1.0, 0.01, 1e-20]], [[0.0, 0.0, 0.0]]])
    expected = [[[2.0, 1.0, -2.0]], [[-2.0, -2.0, -2.0]]]
    np.testing.assert_allclose(features(powers).numpy(), expected, atol=1e-6)


def test_missing_and_damaged_files_are_refused(tmp_path):
    missing = tmp_path / "none.safetensors"
    with pytest.raises(EncoderError, match="reinstall"):
        SoundClassifier(missing, device=CPU)
    with pytest.raises(EncoderError, match="missing"):
        weights_sha256(missing)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(WEIGHTS_FILE.read_bytes()[:100_000])
    with pytest.raises(EncoderError, match="reinstall"):
        SoundClassifier(cut, device=CPU)


def test_files_of_another_format_or_network_are_refused(tmp_path):
    newer = tmp_path / "newer.safetensors"
    save_file({"a": torch.zeros(1)}, newer, metadata={"format": "9"})
    with pytest.raises(EncoderError, match="format 9"):
        SoundClassifier(newer, device=CPU)
    notes = {"format": "1", "class_names": '["rain"]', "prompt": "", "temperature": "1"}
    other = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, other, metadata=notes)
    with pytest.raises(EncoderError, match="damaged"):
        SoundClassifier(other, device=CPU)


def test_the_hash_follows_the_file(tmp_path):
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(WEIGHTS_FILE.read_bytes())
    assert weights_sha256(copy) == weights_sha256()
    copy.write_bytes(b"other")
    assert weights_sha256(copy) != weights_sha256()
