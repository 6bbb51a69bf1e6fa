"""Checkpoints of AudioCLIP: sounds, texts and pictures in one space."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.nn import functional
from torchvision.models.resnet import Bottleneck, ResNet

from clipsearch.encoders import audioclip_tower
from clipsearch.encoders.audioclip import AudioClipEncoder, load
from clipsearch.encoders.audioclip_checkpoint import build
from clipsearch.encoders.audioclip_frames import frame_basis, framed, scaled, wavelets
from clipsearch.encoders.base import EncoderSpec
from clipsearch.errors import EncoderError, UsageError
from tests.audioclip_files import DIM, IMAGE_SIDE, audioclip_state, clip_part, write_audioclip

RATE = 44100
TEXTS = ["cat", "", "rain, thunder", "x " * 300]
State = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def _exact() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clipsearch.encoders.openclip.precision_for", lambda device_type: "fp32")
        yield


@pytest.fixture(scope="module")
def state() -> State:
    return audioclip_state()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audioclip(tmp_path_factory.mktemp("audioclip") / "AudioCLIP-Full-Training.pt")


@pytest.fixture(scope="module")
def encoder(checkpoint: Path) -> AudioClipEncoder:
    return opened(checkpoint)


def opened(path: Path) -> AudioClipEncoder:
    return load(EncoderSpec("audioclip", str(path)), device="cpu")


def tone(hertz: float, *, samples: int = RATE // 5, seed: int = 0) -> np.ndarray:
    """A sine in noise that is 30 dB below."""
    noise = np.random.default_rng(seed).standard_normal(samples)
    wave = np.sin(2 * np.pi * hertz * np.arange(samples) / RATE) + 0.03 * noise
    return (0.4 * wave).astype(np.float32)


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in [(40, 60), (32, 32)]]


# frames and wavelets


@pytest.mark.parametrize("samples", [1, 6, 7, 8, 10, 11, 100])
def test_frames_lie_in_the_middle_of_as_few_as_are_needed(samples: int) -> None:
    wave = np.arange(1, samples + 1, dtype=np.float32)
    got = framed(wave, length=7, hop=3)
    count = 1
    while (count - 1) * 3 + 7 < samples:
        count += 1
    before = ((count - 1) * 3 + 7 - samples) // 2
    for i in range(count):
        for j in range(7):
            at = i * 3 + j - before
            assert got[i, j] == (wave[at] if 0 <= at < samples else 0)
    assert got.shape == (count, 7)


def test_scaling_takes_the_extremes_to_plus_and_minus_one() -> None:
    got = scaled(np.array([0.5, 0.1, 0.2, 0.3], dtype=np.float32))
    np.testing.assert_allclose(got, [1, -1, -0.5, 0], atol=1e-6)
    huge = np.array([-3.4e38, 3.4e38, 0], dtype=np.float32)
    np.testing.assert_allclose(scaled(huge), [-1, 1, 0], atol=1e-6)
    assert not scaled(np.full(9, 0.7, dtype=np.float32)).any()


def naive_wavelet(m: float, fb: float, fc: float, size: int) -> list[complex]:
    """One after the other, with Python's own complex power."""
    made = []
    for j in range(size):
        t = np.pi * (-1 + 2 * j / (size - 1)) + 1e-8
        x = fb * t / (m + 1e-8)
        spline = complex(np.sin(x) / x if x else 1.0) ** m
        made.append(fb**0.5 * spline * complex(np.cos(fc * t), -np.sin(fc * t)) / size**0.5)
    return made


def test_wavelets_are_those_of_a_naive_loop() -> None:
    m, fb, fc = np.array([0, 0.7, 2, 3.3, 1]), np.array([1, 4, 9, 8.5, 0]), np.arange(5) * 2.5
    got = wavelets(m, fb, fc, size=40)
    expected = [naive_wavelet(*one, 40) for one in zip(m, fb, fc, strict=True)]
    np.testing.assert_allclose(got, expected, atol=1e-12)
    assert np.abs(got[1].imag[20:] / got[1].real[20:]).max() > 0  # a sinc below 0 turns it


def test_a_frame_meets_the_middle_of_the_wavelets() -> None:
    rng = np.random.default_rng(0)
    made, window, frame = wavelets(*rng.random((3, 6)) * 3, size=32), rng.random(21), rng.random(21)
    padded = np.pad(frame * window, (5, 6))
    got = frame_basis(made, window) @ frame
    np.testing.assert_allclose(got[0] + 1j * got[1], made @ padded, atol=1e-6)


def test_order_zero_and_width_one_are_a_fourier_transform(state: State) -> None:
    state = {n.removeprefix("audio."): v for n, v in state.items()}
    state |= {"fbsp.m": torch.zeros(1025), "fbsp.fb": torch.ones(1025)}
    state |= {"fbsp.fc": torch.arange(1025.0)}
    basis = audioclip_tower.basis_of(state, what="a test")
    frames = framed(tone(3000, samples=4000))
    got = audioclip_tower.loudness(torch.from_numpy(frames.copy())[None], basis)[0]
    # The wavelets' 2048 times go from -pi to pi with both ends: a transform of 2047 samples.
    padded = np.pad(frames * state["window"].numpy().astype(float), ((0, 0), (197, 196)))
    power = np.abs(np.fft.rfft(padded, axis=1)[:, :1023]) ** 2 / 2048
    expected = 10 * np.log10(power).reshape(len(frames), 3, 341).transpose(1, 2, 0)
    loud = expected > expected.max() - 70
    assert loud.mean() > 0.5
    np.testing.assert_allclose(got.numpy()[loud], expected[loud], atol=0.02)
    peak = np.unravel_index(int(got[:, :, 3].argmax()), (3, 341))
    assert peak == (0, round(3000 / RATE * 2047))


def test_silence_has_a_finite_loudness(encoder: AudioClipEncoder) -> None:
    basis = torch.ones(2, 1023, 1654)
    assert (audioclip_tower.loudness(torch.zeros(1, 2, 1654), basis) == -180).all()
    silence = [np.full(9000, level, dtype=np.float32) for level in (0, 0.3)]
    rows = encoder.encode_audio(silence, normalize=False)
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(rows[0], rows[1])


# the network


def test_halving_is_adaptive_max_pooling() -> None:
    random = torch.Generator().manual_seed(0)
    for height in range(1, 12):
        for width in (1, 2, 5, 8):
            x = torch.randn(2, 3, height, width, generator=random)
            size = (-(-height // 2), -(-width // 2))
            expected = functional.adaptive_max_pool2d(x, size)
            assert torch.equal(audioclip_tower.halved(x), expected)


def test_without_attention_it_is_torchvisions_resnext() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = ResNet(Bottleneck, [2, 1, 1, 1], num_classes=10, groups=32, width_per_group=4)
        for name, value in theirs.state_dict().items():
            if "running" in name:
                value.copy_(torch.rand(value.shape) + 0.5)
        x = torch.randn(1, 3, 65, 50)
    ours = audioclip_tower.network_for(theirs.state_dict(), dim=10, what="a test")
    unmatched = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert not unmatched.unexpected_keys
    assert all(name.startswith("att") for name in unmatched.missing_keys)
    for number in range(1, 6):
        norm = ours.get_submodule(f"att{number}.bn")
        torch.nn.init.zeros_(norm.weight)
        torch.nn.init.constant_(norm.bias, 100)  # whose sigmoid is 1
    with torch.inference_mode():
        expected = theirs.eval()(x)
        got = ours.eval()(x)
    assert expected.abs().max() > 0.01
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def naive(state: State) -> tuple[State, np.ndarray]:
    """The sound tensors in float64, and the whole wavelets (1023, 2048)."""
    s = {n.removeprefix("audio."): v.double() for n, v in state.items() if n.startswith("audio.")}
    m, fb, fc = (s[f"fbsp.{n}"][:1023, None].numpy() for n in ("m", "fb", "fc"))
    t = np.pi * np.linspace(-1, 1, 2048) + 1e-8
    x = fb * t / (m + 1e-8)
    spline = (np.sin(x) / x).astype(complex) ** m
    return s, np.sqrt(fb) * spline * np.exp(-1j * fc * t) / np.sqrt(2048)


def naive_row(naive: tuple[State, np.ndarray], wave: np.ndarray) -> np.ndarray:
    """The row of one wave in float64, from the description of the model alone."""
    s, weights = naive
    wave = wave.astype(float)
    wave = 2 * (wave - wave.min()) / (wave.max() - wave.min()) - 1
    count = 1 + max(0, int(np.ceil((len(wave) - 1654) / 561)))
    lacking = (count - 1) * 561 + 1654 - len(wave)
    wave = np.concatenate([np.zeros(lacking // 2), wave, np.zeros(lacking - lacking // 2)])
    frames = np.zeros((2048, count))
    for i in range(count):
        frames[197 : 197 + 1654, i] = wave[i * 561 : i * 561 + 1654] * s["window"].numpy()
    decibels = 10 * np.log10(np.abs(weights @ frames) ** 2)
    return naive_network(s, torch.from_numpy(decibels).reshape(1, 3, 341, count))[0].numpy()


def naive_network(s: State, image: torch.Tensor) -> torch.Tensor:
    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        parts = [s[f"{name}.{p}"] for p in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *parts)

    def attention(x: torch.Tensor, name: str, size: Any) -> torch.Tensor:
        depth, point = f"{name}.conv_depth", f"{name}.conv_point"
        kernel = s[f"{depth}.weight"]
        padding = (kernel.shape[2] // 2, kernel.shape[3] // 2)
        x = functional.adaptive_max_pool2d(x, size)
        x = functional.conv2d(x, kernel, s[f"{depth}.bias"], padding=padding, groups=x.shape[1])
        x = functional.conv2d(x, s[f"{point}.weight"], s[f"{point}.bias"])
        return torch.sigmoid(norm(x, f"{name}.bn"))

    def block(x: torch.Tensor, name: str, stride: int) -> torch.Tensor:
        kept = x
        if f"{name}.downsample.0.weight" in s:
            kept = functional.conv2d(x, s[f"{name}.downsample.0.weight"], stride=stride)
            kept = norm(kept, f"{name}.downsample.1")
        x = norm(functional.conv2d(x, s[f"{name}.conv1.weight"]), f"{name}.bn1").relu()
        middle = s[f"{name}.conv2.weight"]
        x = functional.conv2d(x, middle, stride=stride, padding=1, groups=2)
        x = norm(x, f"{name}.bn2").relu()
        x = norm(functional.conv2d(x, s[f"{name}.conv3.weight"]), f"{name}.bn3")
        return (x + kept).relu()

    x = norm(functional.conv2d(image, s["conv1.weight"], stride=2, padding=3), "bn1").relu()
    x = functional.max_pool2d(x, 3, 2, 1)
    for stage, blocks in enumerate((2, 1, 1, 1), 1):
        y = x
        for i in range(blocks):
            y = block(y, f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1)
        x = y * attention(x, f"att{stage}", y.shape[2:])
    pooled = functional.adaptive_avg_pool2d(x, 1) * attention(x, "att5", (1, 1))
    return pooled.flatten(1) @ s["fc.weight"].T + s["fc.bias"]


@pytest.mark.parametrize("samples", [700, 1654, 8821, 20000])
def test_rows_of_sounds_are_those_of_a_naive_model(
    samples: int, encoder: AudioClipEncoder, naive: tuple[State, np.ndarray]
) -> None:
    wave = tone(440, samples=samples)
    row = encoder.encode_audio([wave], normalize=False)[0]
    expected = naive_row(naive, wave)
    assert np.abs(expected).max() > 0.1
    # In fp32 the decibels of a bin next to nothing are off by hundredths.
    np.testing.assert_allclose(row, expected, atol=1e-3 * np.abs(expected).max())


# the encoder


def test_features_of_clip_are_those_of_open_clip(encoder: AudioClipEncoder, state: State) -> None:
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
    from open_clip.model import build_model_from_openai_state_dict

    clip = build_model_from_openai_state_dict(clip_part(state), cast_dtype=torch.float32).float()
    transform = open_clip.image_transform(
        IMAGE_SIDE, is_train=False, mean=OPENAI_DATASET_MEAN, std=OPENAI_DATASET_STD
    )
    pixels = torch.stack([transform(Image.fromarray(p)) for p in pictures()])
    with torch.inference_mode():
        texts = clip.encode_text(open_clip.tokenize(TEXTS)).numpy()
        images = clip.encode_image(pixels).numpy()
    ours = [encoder.prepare(p) for p in pictures()]
    assert (encoder.dim, encoder.short_side, encoder.sample_rate) == (DIM, IMAGE_SIDE, RATE)
    np.testing.assert_allclose(encoder.encode_text(TEXTS, normalize=False), texts, atol=1e-5)
    images_of = encoder.encode_images(ours, normalize=False)
    np.testing.assert_allclose(images_of, images, atol=1e-6 * np.abs(images).max())
    assert np.abs(images[0] - images[1]).max() > 1e-3
    assert encoder.fits("cat")
    assert not encoder.fits(TEXTS[-1])


def test_a_row_does_not_depend_on_its_batch(
    encoder: AudioClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = [8820, 500, 8820, 9000, 1, 8821, 8820]
    waves = [tone(200 * (i + 1), samples=n, seed=i) for i, n in enumerate(lengths)]
    together = encoder.encode_audio(waves, normalize=False)
    alone = np.concatenate([encoder.encode_audio([w], normalize=False) for w in waves])
    np.testing.assert_allclose(together, alone, atol=1e-5 * np.abs(alone).max())
    monkeypatch.setitem(audioclip_tower._BATCH_FRAMES, "cpu", 30)
    np.testing.assert_allclose(
        encoder.encode_audio(waves, normalize=False), alone, atol=1e-5 * np.abs(alone).max()
    )
    assert len(np.unique(alone.round(3), axis=0)) == len(waves)
    assert encoder.encode_audio([]).shape == (0, DIM)
    np.testing.assert_allclose(np.linalg.norm(encoder.encode_audio(waves), axis=1), 1, atol=1e-6)


def test_batches_are_of_one_number_of_frames_and_bounded() -> None:
    frames = [5, 7, 5, 5, 100, 7]
    assert audioclip_tower._batches(frames, 10) == [[0, 2], [3], [1], [5], [4]]


def test_loudness_and_offset_have_no_part_in_a_row(encoder: AudioClipEncoder) -> None:
    wave = tone(440)
    row, softer, quieter, moved = encoder.encode_audio(
        [wave, wave * np.float32(0.125), wave * np.float32(0.1), wave * np.float32(0.5) + 0.25]
    )
    np.testing.assert_array_equal(softer, row)  # by a power of two: to the bit
    np.testing.assert_allclose([quieter, moved], [row, row], atol=1e-3)
    other = encoder.encode_audio([tone(5000)])[0]
    assert np.abs(other - row).max() > 0.01


@pytest.mark.parametrize(
    "wave",
    [np.zeros(9), np.zeros((2, 9), "f4"), np.zeros(0, "f4"), np.array([0, np.nan], "f4")],
    ids=["float64", "stereo", "empty", "nan"],
)
def test_what_is_no_wave_is_refused(wave: np.ndarray, encoder: AudioClipEncoder) -> None:
    with pytest.raises(UsageError, match="wave of"):
        encoder.encode_audio([tone(440), wave])


def test_in_half_precision_sounds_stay_and_the_rest_is_near(
    checkpoint: Path, encoder: AudioClipEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clipsearch.encoders.openclip.precision_for", lambda _: "bf16")
    rough = opened(checkpoint)
    assert rough.fingerprint == encoder.fingerprint
    ours = [encoder.prepare(p) for p in pictures()]
    for one, other in (
        (encoder.encode_text(["cat"]), rough.encode_text(["cat"])),
        (encoder.encode_images(ours), rough.encode_images(ours)),
    ):
        assert ((one * other).sum(axis=1) > 0.99).all()
        assert np.abs(one - other).max() > 0
    np.testing.assert_array_equal(
        rough.encode_audio([tone(440)]), encoder.encode_audio([tone(440)])
    )


def test_the_fingerprint_follows_what_makes_the_rows(
    state: State, encoder: AudioClipEncoder
) -> None:
    known = encoder.fingerprint
    assert known.startswith("audioclip@")
    counter = "audio.layer1.0.bn1.num_batches_tracked"
    assert counter in state
    same = {n: v for n, v in state.items() if n not in (counter, "logit_scale_at")}
    same |= {"input_resolution": torch.tensor(224), "logit_scale_ai": torch.zeros(1)}
    assert build(same, "y.pt", precision="bf16").fingerprint == known
    for name in ("audio.fbsp.m", "visual.bn2.running_mean"):
        changed = {**state, name: state[name] + 1}
        assert build(changed, "x.pt", precision="fp32").fingerprint != known


# checkpoints that do not fit


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audio.conv1.weight": None}, "audio.conv1.weight is missing"),
        ({"audio.layer3.0.conv2.weight": None}, "audio.layer3.0.conv2.weight is missing"),
        ({"audio.fbsp.fb": torch.zeros(5)}, r"audio.fbsp.fb has shape \(5,\), not \(1025,\)"),
        ({"audio.fbsp.fb": -torch.ones(1025)}, "fbsp.fb -1 .*of bin 0 give no finite wavelet"),
        ({"audio.fbsp.m": torch.full((1025,), torch.inf)}, "audio.fbsp.m holds NaN or infinity"),
        ({"audio.fc.weight": torch.zeros(5)}, "audio.fc.weight is not a tensor of 2 axes"),
        ({"audio.fc.weight": torch.zeros(5, 32)}, r"audio.fc.weight has .*not \(24, 32\)"),
        ({"audio.att1.conv_depth.weight": torch.zeros(8, 1, 1, 3)}, "audio.att1.conv_depth"),
        ({"audio.layer2.0.conv2.weight": torch.zeros(8, 3, 3, 3)}, "8 channels in groups of 3"),
        ({"audio.layer2.2.conv1.weight": torch.zeros(1)}, r"layer2.1.\* is missing"),
        ({"visual.layer1.0.conv1.weight": None}, "visual.layer1.0.conv1.weight is missing"),
        ({"visual.attnpool.positional_embedding": torch.zeros(1, 256)}, "a grid of 0 places"),
        ({"positional_embedding": torch.zeros(32, 64)}, "32 tokens .*77 of 49408"),
        ({"ln_final.bias": 3}, "ln_final.bias is int, not floats"),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    changes: dict[str, object], message: str, state: State
) -> None:
    spoiled = {n: v for n, v in {**state, **changes}.items() if v is not None}
    with pytest.raises(EncoderError, match=rf"AudioCLIP model in x\.pt .*{message}"):
        build(spoiled, "x.pt", precision="fp32")


def test_all_that_does_not_fit_is_named_at_once(state: State) -> None:
    gone = ["audio.layer1.0.bn1.bias", "audio.window", "ln_final.weight", "visual.bn3.running_var"]
    spoiled = {n: v for n, v in state.items() if n not in gone} | {"odd": torch.zeros(1)}
    spoiled["audio.att6.bn.bias"] = torch.zeros(3)
    with pytest.raises(EncoderError) as caught:
        build(spoiled, "x.pt", precision="fp32")
    assert all(f"{name} is missing" in str(caught.value) for name in gone)
    assert all(f"{n} is unexpected" in str(caught.value) for n in ("odd", "audio.att6.bn.bias"))


def test_clip_alone_is_no_audioclip(state: State) -> None:
    with pytest.raises(EncoderError, match=r"x\.pt holds no AudioCLIP model.*Full-Training"):
        build(clip_part(state), "x.pt", precision="fp32")


def test_damaged_and_missing_files_are_one_clear_error(checkpoint: Path, tmp_path: Path) -> None:
    whole = checkpoint.read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.pt").write_bytes(b"a text\n" * 99)
    for name, message in (
        ("cut.pt", "cannot be read as a checkpoint"),
        ("text.pt", "cannot be read as a checkpoint"),
        ("none.pt", "missing or not a file"),
        (".", "missing or not a file"),
    ):
        with pytest.raises(EncoderError, match=message):
            opened(tmp_path / name)


def test_importing_it_does_not_load_torch() -> None:
    code = "import sys, clipsearch.encoders.audioclip; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
