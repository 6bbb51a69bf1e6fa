"""CLAP against transformers itself, with tiny random weights: nothing is downloaded."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch import AddOptions, Index, Query
from clipsearch.encoders import EncoderSpec, load_encoder, parse_spec
from clipsearch.encoders.clap import ClapEncoder
from clipsearch.encoders.values import unit_rows
from clipsearch.errors import EncoderError, UsageError
from clipsearch.media import AudioSpec, open_audio
from clipsearch.types import Wave
from tests.clap_files import MAX_TOKENS, SAMPLE_RATE, write_clap
from tests.sound_files import SoundPlan, write_beeps, write_film

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXTS = ["a dog barks", "", "rain on a roof, and thunder", "日本語 🐈", "high"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clap(tmp_path_factory.mktemp("clap") / "plain")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> ClapEncoder:
    return load(folder)


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    """The folder again, for a test to change."""
    return Path(shutil.copytree(folder, tmp_path / "copied"))


def load(folder: Path) -> ClapEncoder:
    encoder = load_encoder(parse_spec(f"clap:{folder}"), device="cpu")
    assert isinstance(encoder, ClapEncoder)
    return encoder


def noise(*seconds: float) -> list[Wave]:
    rng = np.random.default_rng(1)
    return [rng.normal(0, 0.1, round(s * SAMPLE_RATE)).astype(np.float32) for s in seconds]


def change(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def directly(folder: Path, waves: list[Wave]) -> tuple[np.ndarray, np.ndarray]:
    """Rows of texts and of sounds as the documentation of transformers says how to get them."""
    model = transformers.ClapModel.from_pretrained(folder)
    features = transformers.ClapFeatureExtractor.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    words = tokenizer(TEXTS, padding=True, return_tensors="pt")
    sounds = []
    with torch.inference_mode():
        for wave in waves:
            heard = features(wave, sampling_rate=SAMPLE_RATE, return_tensors="pt")
            out = model(**words, **heard)
            sounds.append(out.audio_embeds.numpy()[0])
    return out.text_embeds.numpy(), np.array(sounds)


@pytest.mark.parametrize("fused", [False, True])
def test_rows_are_those_of_transformers(tmp_path: Path, fused: bool) -> None:
    folder = write_clap(tmp_path, fused=fused)
    encoder = load(folder)
    waves = [*noise(0.1, 1.0, 6.0, 10.0), np.zeros(4800, np.float32)]
    texts, sounds = directly(folder, waves)
    np.testing.assert_allclose(encoder.encode_text(TEXTS), texts, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_audio(waves), sounds, atol=1e-5)
    assert (sounds @ sounds.T)[~np.eye(5, dtype=bool)].max() < 0.9999
    assert (encoder.dim, encoder.sample_rate) == (12, SAMPLE_RATE)


def test_a_long_wave_is_the_mean_of_its_pieces_by_time(encoder: ClapEncoder) -> None:
    short, long = noise(3.0, 22.5)
    ten = 10 * SAMPLE_RATE
    pieces = [long[:ten], long[ten : 2 * ten], long[2 * ten :]]
    raw = encoder.encode_audio(pieces, normalize=False)
    shares = [10 / 22.5, 10 / 22.5, 2.5 / 22.5]
    mean = sum(share * row for share, row in zip(shares, unit_rows(raw), strict=True))
    rows = encoder.encode_audio([short, long, short])
    np.testing.assert_allclose(rows[1], mean / np.linalg.norm(mean), atol=1e-6)
    np.testing.assert_array_equal(rows[0], rows[2])
    length = np.linalg.norm(encoder.encode_audio([long], normalize=False))
    assert length == pytest.approx(np.linalg.norm(raw, axis=1) @ shares, rel=1e-5)


def test_spaces_do_not_count_and_the_context_is_the_models(encoder: ClapEncoder) -> None:
    rows = encoder.encode_text(["a dog barks", " a dog\n\n barks \t"])
    np.testing.assert_array_equal(*rows)
    words = MAX_TOKENS - 2  # start and end
    assert encoder.fits("dog " * words)
    assert not encoder.fits("dog " * (words + 1))


def test_the_fingerprint_is_of_what_is_computed_not_of_files(
    encoder: ClapEncoder, tmp_path: Path
) -> None:
    pickled = load(write_clap(tmp_path / "pickled", tensors=False))
    assert pickled.fingerprint == encoder.fingerprint
    np.testing.assert_array_equal(pickled.encode_text(TEXTS), encoder.encode_text(TEXTS))
    assert load(write_clap(tmp_path / "seed", seed=1)).fingerprint != encoder.fingerprint


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("preprocessor_config.json", {"padding": "pad"}),
        ("preprocessor_config.json", {"frequency_min": 50}),
        ("tokenizer_config.json", {"add_prefix_space": True}),
        ("tokenizer_config.json", {"model_max_length": 20}),
        ("config.json", {"projection_hidden_act": "gelu"}),
    ],
)
def test_the_fingerprint_tells_settings_apart(
    encoder: ClapEncoder, copied: Path, file: str, changes: dict[str, Any]
) -> None:
    change(copied / file, transformers_version="4.0")
    assert load(copied).fingerprint == encoder.fingerprint
    change(copied / file, **changes)
    assert load(copied).fingerprint != encoder.fingerprint


def test_loading_says_nothing(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(folder).encode_text(["a dog"])
    assert capfd.readouterr() == ("", "")
    assert transformers.utils.logging.is_progress_bar_enabled()


def test_what_is_no_clap_model_is_refused(copied: Path) -> None:
    with pytest.raises(EncoderError, match="missing or not a folder"):
        load(copied / "absent")
    change(copied / "config.json", model_type="bert")
    with pytest.raises(EncoderError, match="type 'bert': need 'clap'"):
        load(copied)
    (copied / "config.json").write_text("{")
    with pytest.raises(EncoderError, match="no configuration"):
        load(copied)
    (copied / "config.json").unlink()
    with pytest.raises(EncoderError, match=r"cannot read .*config.json: No such file"):
        load(copied)


def test_a_tensor_that_is_missing_is_no_random_one(copied: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = copied / "model.safetensors"
    state = load_file(file)
    del state["audio_projection.linear1.weight"]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=r"lacks 1 tensors .*audio_projection.linear1.weight"):
        load(copied)


@pytest.mark.parametrize("file", ["model.safetensors", "preprocessor_config.json", "vocab.json"])
def test_damaged_files_are_named_by_their_folder(copied: Path, file: str) -> None:
    (copied / file).write_bytes((copied / file).read_bytes()[:100])
    with pytest.raises(EncoderError, match="missing or damaged"):
        load(copied)


@pytest.mark.parametrize(
    ("file", "changes", "reason"),
    [
        ("preprocessor_config.json", {"truncation": "fusion"}, "enable_fusion is False"),
        ("preprocessor_config.json", {"feature_size": 32}, "feature_size"),
        ("tokenizer_config.json", {"pad_token": "cat"}, "pads with another token"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(
    copied: Path, file: str, changes: dict[str, Any], reason: str
) -> None:
    change(copied / file, **changes)
    with pytest.raises(EncoderError, match=f"differ: .*{reason}"):
        load(copied)


def test_a_missing_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EncoderError, match=r'pip install "clipsearch\[clap\]"'):
        load(folder)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub, which cannot be reached."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("clipsearch.encoders.clap_files.hub_reachable", lambda _: False)
    return tmp_path / "hub"


@pytest.mark.parametrize("offline", [False, True])
def test_an_absent_hub_is_one_clear_error(
    cache: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    with pytest.raises(EncoderError, match=r"laion/clap-htsat-unfused.*not in the cache"):
        load_encoder(parse_spec("clap"), device="cpu")


def test_the_cache_of_the_hub_is_enough(cache: Path, folder: Path, encoder: ClapEncoder) -> None:
    commit = "0" * 40
    model = cache / "models--org--tiny"
    shutil.copytree(folder, model / "snapshots" / commit)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    cached = load_encoder(parse_spec("clap:org/tiny"), device="cpu")
    assert cached.fingerprint == encoder.fingerprint
    assert str(cached.spec) == "clap:org/tiny"
    (model / "snapshots" / commit / "preprocessor_config.json").unlink()
    with pytest.raises(EncoderError, match="not in the cache"):
        load_encoder(parse_spec("clap:org/tiny"), device="cpu")


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("clap", EncoderSpec("clap", "laion/clap-htsat-unfused")),
        ("clap:org/na-me_1.0", EncoderSpec("clap", "org/na-me_1.0")),
        ("clap:/odd:na me/folder", EncoderSpec("clap", "/odd:na me/folder")),
        ("audioclip:/odd:na me/AudioCLIP.pt", EncoderSpec("audioclip", "/odd:na me/AudioCLIP.pt")),
    ],
)
def test_specs_of_sounds_parse_and_round_trip(text: str, spec: EncoderSpec) -> None:
    assert parse_spec(text) == spec
    assert parse_spec(str(spec)) == spec


def test_relative_folders_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert parse_spec("clap:./a/b").name == f"{tmp_path}/a/b"
    assert parse_spec("clap:~/a").name == f"{tmp_path}/home/a"
    assert parse_spec("audioclip:a/b.pt").name == f"{tmp_path}/a/b.pt"


@pytest.mark.parametrize("text", ["clap:", "clap:folder", "clap:a/b/c", "audioclip", "audioclip:"])
def test_bad_specs_of_sounds_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"use {text.partition(':')[0]}"):
        parse_spec(text)


def test_an_index_hears_with_clap_in_a_space_of_its_own(folder: Path, tmp_path: Path) -> None:
    media = tmp_path / "media"
    media.mkdir()
    plan = SoundPlan(rate=SAMPLE_RATE, seconds=8.0, beeps=tuple(np.arange(0.5, 7.5, 0.25)))
    for name, codec in (("a.wav", "pcm_s16le"), ("b.mp3", "libmp3lame"), ("c.m4a", "aac")):
        write_beeps(media / name, replace(plan, codec=codec))
    write_film(media / "d.mp4", replace(plan, codec="aac"), frames=100)
    write_beeps(media / "low.wav", replace(plan, hertz=60.0))
    with Index.create(tmp_path / "index", model="fake:16") as index:
        report = index.add([media], options=AddOptions(audio_model=f"clap:{folder}"))
        assert (report.added, report.failures) == (5, ())
        status = index.status()
        assert (status.dim, status.rows_heard) == (16, 5)
        assert status.hears is not None
        assert status.hears.startswith("clap@")
        stored = {
            media.path.name: index._store.windows(media.id, "audio").vectors[0]
            for media in index.media()
        }
        for name in ("b.mp3", "c.m4a", "d.mp4"):
            assert stored["a.wav"] @ stored[name] >= 0.99
        [(_, wave)] = open_audio(media / "a.wav", AudioSpec(SAMPLE_RATE)).units
        _, right = directly(folder, [wave])
        np.testing.assert_allclose(stored["a.wav"], unit_rows(right)[0], atol=5e-4)  # fp16
        hits = index.search("high", kind="audio")
        texts, _ = directly(folder, [wave])
        expected = unit_rows(texts)[TEXTS.index("high")]
        scores = {hit.path.name: hit.score for hit in hits}
        assert scores == pytest.approx(
            {name: float(vector @ expected) for name, vector in stored.items()}, abs=1e-3
        )
        shutil.copy(media / "low.wav", tmp_path / "humming.wav")
        write_beeps(tmp_path / "other.wav", replace(plan, hertz=61.0))  # not in the index
        [first, *_] = index.search(Query(sounds=(tmp_path / "other.wav",)))
        assert (first.path.name, first.kind) == ("low.wav", "audio")
        named = index.search(Query(sounds=(tmp_path / "humming.wav",)))
        assert "low.wav" not in [hit.path.name for hit in named], "a copy of what was asked for"
    with Index.open(tmp_path / "index") as index:
        assert index.search("high", kind="audio")[0].kind == "audio"
    write_clap(tmp_path / "other", seed=1)
    shutil.copytree(tmp_path / "other", folder.parent / "swapped")
    manifest = Index.open(tmp_path / "index")._store
    audio = replace(manifest.manifest.audio, encoder=f"clap:{folder.parent / 'swapped'}")
    manifest.update_manifest(audio=audio)
    with (
        Index.open(tmp_path / "index") as index,
        pytest.raises(EncoderError, match=r"the sound in .* was encoded with clap@"),
    ):
        index.search("high", kind="audio")
