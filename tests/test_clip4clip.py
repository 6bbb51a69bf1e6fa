"""Checkpoints of CLIP4Clip as a whole: the encoder inside, and the head that goes with it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from clipsearch.encoders import Encoder, load_encoder, parse_spec
from clipsearch.encoders.openclip import OpenClipEncoder
from clipsearch.errors import EncoderError, UsageError
from clipsearch.heads import HEADS, load_clip4clip, load_head, save_head
from clipsearch.heads.apply import score_videos
from tests.clip4clip_files import CLIP_DIM, IMAGE_SIDE, official_state, tiny_clip, write_official
from tests.made_heads import made

TEXTS = ["a photo of a cat", "", "two dogs on a beach", "x " * 300]


@pytest.fixture(scope="module", autouse=True)
def _exact() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clipsearch.encoders.openclip.precision_for", lambda device_type: "fp32")
        yield


@pytest.fixture(scope="module")
def clip() -> Any:
    model = tiny_clip()
    official_state(model)  # its values are those that a file can hold
    return model


@pytest.fixture(scope="module")
def checkpoint(clip: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("official") / "pytorch_model.bin.4"
    return write_official(path, clip, made("seqtransf", CLIP_DIM))


@pytest.fixture
def spoil(checkpoint: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the checkpoint with other values under some names; None takes a name out."""

    def write(changes: dict[str, object]) -> Path:
        state = {**torch.load(checkpoint, weights_only=True), **changes}
        torch.save({n: v for n, v in state.items() if v is not None}, tmp_path / "bad.bin")
        return tmp_path / "bad.bin"

    return write


def load(path: Path) -> Encoder:
    return load_encoder(parse_spec(f"clip4clip:{path}"), device="cpu")


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = [(40, 60), (60, 40), (32, 32), (300, 200)]
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def clip_features(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Raw features of TEXTS and `pictures` by open_clip alone."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    transform = open_clip.image_transform(
        IMAGE_SIDE, is_train=False, mean=OPENAI_DATASET_MEAN, std=OPENAI_DATASET_STD
    )
    pixels = torch.stack([transform(Image.fromarray(p)) for p in pictures()])
    with torch.inference_mode():
        texts = model.encode_text(open_clip.tokenize(TEXTS))
        return texts.numpy(), model.encode_image(pixels).numpy()


def features(encoder: Encoder) -> tuple[np.ndarray, np.ndarray]:
    prepared = [encoder.prepare(p) for p in pictures()]
    return (
        encoder.encode_text(TEXTS, normalize=False),
        encoder.encode_images(prepared, normalize=False),
    )


# the encoder


def test_features_are_those_of_open_clip_with_quick_gelu(clip: Any, checkpoint: Path) -> None:
    encoder = load(checkpoint)
    assert (encoder.dim, encoder.short_side) == (CLIP_DIM, IMAGE_SIDE)
    plain = tiny_clip(quick_gelu=False)
    plain.load_state_dict(clip.state_dict())
    for ours, expected, wrong in zip(
        features(encoder), clip_features(clip), clip_features(plain), strict=True
    ):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)
        assert np.abs(expected - wrong).max() > 1e-4


def test_the_weights_are_the_very_values_of_the_file(clip: Any, checkpoint: Path) -> None:
    encoder = load(checkpoint)
    assert isinstance(encoder, OpenClipEncoder)
    given, built = clip.state_dict(), encoder._towers.whole().state_dict()
    assert given.keys() == built.keys()
    assert all(built[n].dtype == torch.float32 and torch.equal(built[n], given[n]) for n in given)
    full = given["token_embedding.weight"]
    assert not torch.equal(full, full.half().float())  # fp32 that fp16 could not hold


def test_in_half_precision_rows_stay_near(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = load(checkpoint)
    monkeypatch.setattr("clipsearch.encoders.openclip.precision_for", lambda _: "bf16")
    rough = load(checkpoint)
    assert rough.fingerprint == exact.fingerprint
    for one, other in zip(features(exact), features(rough), strict=True):
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        assert ((one * other).sum(axis=1) / lengths > 0.99).all()
        assert np.abs(one - other).max() > 0


def test_the_text_tower_can_be_had_by_clips_names(clip: Any, checkpoint: Path) -> None:
    encoder = load(checkpoint)
    assert isinstance(encoder, OpenClipEncoder)
    tower, given = encoder.text_tower(), clip.state_dict()
    assert set(tower) == {
        n for n in given if n == "positional_embedding" or n.startswith("transformer.")
    }
    assert all(torch.equal(tower[n], given[n]) for n in tower)
    tower["positional_embedding"].zero_()
    assert encoder.text_tower()["positional_embedding"].any()


def test_sizes_in_openais_own_files_are_left_aside(
    spoil: Callable[..., Path], checkpoint: Path
) -> None:
    path = spoil({f"clip.{n}": torch.tensor(7) for n in ("input_resolution", "vocab_size")})
    assert load(path).fingerprint == load(checkpoint).fingerprint
    assert load_head(path).encoder_fingerprint == load(checkpoint).fingerprint


def test_the_fingerprint_follows_weights_not_place_nor_head(
    spoil: Callable[..., Path], checkpoint: Path
) -> None:
    known = load(checkpoint).fingerprint
    assert known.startswith("clip4clip@")
    state = torch.load(checkpoint, weights_only=True)
    odd = state["clip.visual.class_embedding"].clone()
    odd[0] += 1
    for changes, same in (
        ({"frame_position_embeddings.weight": torch.zeros(9, CLIP_DIM)}, True),
        ({"clip.visual.proj": state["clip.visual.proj"].float()}, True),
        ({"clip.visual.class_embedding": odd}, False),
    ):
        assert (load(spoil(changes)).fingerprint == known) == same


def test_spec_and_registry_know_the_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text in ("clip4clip:a b/c.bin", f"clip4clip:{tmp_path}/x/../a b/c.bin"):
        spec = parse_spec(text)
        assert (spec.family, spec.name) == ("clip4clip", f"{tmp_path}/a b/c.bin")
        assert parse_spec(str(spec)) == spec
    for text in ("clip4clip", "clip4clip:", "clip4clip:  "):
        with pytest.raises(UsageError, match="clip4clip:path/to/checkpoint"):
            parse_spec(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip.visual.proj": None}, "clip.visual.proj is missing"),
        ({"clip.text_projection": None}, "clip.text_projection is missing"),
        (
            {"clip.token_embedding.weight": torch.zeros(5)},
            "token_embedding.* not .* 2 axes",
        ),
        ({"clip.positional_embedding": 3}, "clip.positional_embedding is not a tensor"),
        ({"clip.positional_embedding": torch.zeros(32, 64)}, "32 tokens .*77 of 49408"),
        ({"clip.token_embedding.weight": torch.zeros(5, 64)}, "vocabulary of 5: only CLIP's"),
        ({"clip.text_projection": torch.zeros(48, 64)}, "widths 64 and 48.*multiples of 64"),
        ({"clip.ln_final.bias": torch.zeros(3)}, r"ln_final.bias has shape \(3,\), not \(64,\)"),
        ({"clip.ln_final.bias": torch.full((64,), torch.inf)}, "clip.ln_final.bias holds NaN"),
        ({"clip.ln_final.bias": torch.zeros(64).int()}, "clip.ln_final.bias is torch.int32"),
        ({"clip.visual.conv2.weight": torch.zeros(3)}, "clip.visual.conv2.weight is unexpected"),
        ({"clip.transformer.resblocks.7.x": torch.zeros(3)}, r"clip.*resblocks.2.\* is missing"),
        ({"clip.visual.positional_embedding": torch.zeros(7, 64)}, r"shape \(7, 64\), not \(5,"),
        ({"clip.visual.positional_embedding": torch.zeros(1, 64)}, "a grid of 0 patches"),
        ({"clip.visual.layer1.0.conv1.weight": torch.zeros(1)}, "ResNet"),
    ],
)
def test_tensors_of_clip_that_do_not_fit_are_named(
    changes: dict[str, object], message: str, spoil: Callable[..., Path]
) -> None:
    with pytest.raises(EncoderError, match=rf"bad\.bin.*{message}"):
        load(spoil(changes))


def test_all_of_clip_that_does_not_fit_is_named_at_once(spoil: Callable[..., Path]) -> None:
    gone = ["clip.ln_final.weight", "clip.visual.ln_pre.bias", "clip.logit_scale"]
    with pytest.raises(EncoderError) as caught:
        load(spoil({**dict.fromkeys(gone), "clip.odd": torch.zeros(1)}))
    assert all(f"{name} is missing" in str(caught.value) for name in gone)
    assert "clip.odd is unexpected" in str(caught.value)


def test_a_head_alone_is_no_encoder(tmp_path: Path) -> None:
    torch.save(made("seqlstm").state_dict(), tmp_path / "head.bin")
    with pytest.raises(EncoderError, match=r"head\.bin holds no CLIP model"):
        load(tmp_path / "head.bin")
    loaded = load_head(tmp_path / "head.bin")
    assert (loaded.encoder, loaded.encoder_fingerprint, loaded.logit_scale) == (None, None, 1.0)
    assert load_clip4clip(tmp_path / "head.bin", device="cpu").encoder is None


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code from the checkpoint was run",)


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "code", "list", "number"])
@pytest.mark.parametrize("read", [load, load_head, load_clip4clip])
def test_damaged_files_are_one_clear_error_and_run_no_code(
    kind: str,
    read: Callable[[Path], object],
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "bad.bin"
    if kind in ("list", "number"):
        torch.save([1, 2] if kind == "list" else {1: torch.zeros(1)}, path)
    else:
        whole = checkpoint.read_bytes()
        path.write_bytes(
            {
                "text": b"a text\n" * 99,
                "empty": b"",
                "truncated": whole[: len(whole) // 2],
                "code": pickle.dumps({"clip.x": Payload()}),
            }[kind]
        )
    with pytest.raises(
        EncoderError, match=r"bad\.bin (cannot be read as a checkpoint|holds a)"
    ) as caught:
        read(path)
    assert "Re-running" not in str(caught.value)  # no advice to switch the check off
    assert "code from" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["missing.bin", "."])
@pytest.mark.parametrize("read", [load, load_head, load_clip4clip])
def test_a_missing_file_or_a_folder_is_one_clear_error(
    name: str, read: Callable[[Path], object], tmp_path: Path
) -> None:
    with pytest.raises(EncoderError, match="missing or not a file"):
        read(tmp_path / name)


# encoder and head


@pytest.mark.parametrize("logarithm", [1000.0, float("nan"), float("inf")])
def test_a_logit_scale_that_is_no_number_is_refused(
    logarithm: float, spoil: Callable[..., Path]
) -> None:
    with pytest.raises(EncoderError, match=r"bad\.bin: clip\.logit_scale is"):
        load_head(spoil({"clip.logit_scale": torch.tensor(logarithm)}))


def test_a_checkpoint_of_parameters_is_one_of_tensors(
    checkpoint: Path, spoil: Callable[..., Path]
) -> None:
    state = torch.load(checkpoint, weights_only=True)
    path = spoil({name: torch.nn.Parameter(value) for name, value in state.items()})
    assert load_head(path).fingerprint == load_head(checkpoint).fingerprint
    assert load_head(path).logit_scale == load_head(checkpoint).logit_scale


@pytest.mark.parametrize("name", HEADS)
def test_every_head_comes_with_its_encoder(name: str, clip: Any, tmp_path: Path) -> None:
    head = made(name, CLIP_DIM)
    path = write_official(tmp_path / "pytorch_model.bin.0", clip, head)
    loaded = load_clip4clip(path, device="cpu", max_frames=5)
    assert type(loaded.head) is type(head)
    assert loaded.head.max_frames == 5
    assert loaded.logit_scale == pytest.approx(1 / 0.07, rel=1e-5)
    assert loaded.encoder is not None
    texts, frames = clip_features(clip)
    with torch.inference_mode():
        expected = head.score(
            torch.from_numpy(texts), torch.from_numpy(frames)[None], torch.ones(1, len(frames))
        )
    ours_texts, ours_frames = features(loaded.encoder)
    scores = [score_videos(loaded.head, text, [ours_frames])[0] for text in ours_texts]
    np.testing.assert_allclose(scores, expected[:, 0].numpy(), rtol=0, atol=1e-5)
    alone = load_head(path)
    assert alone.encoder == str(loaded.encoder.spec)
    assert alone.encoder_fingerprint == loaded.encoder.fingerprint
    assert dict(alone.training) == {}


def test_reading_the_head_builds_no_model(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("open_clip.model.CLIP", lambda *a, **k: pytest.fail("CLIP was built"))
    assert load_head(checkpoint).head.name == "seqtransf"


def test_a_head_of_another_width_than_its_clip_is_refused(clip: Any, tmp_path: Path) -> None:
    path = write_official(tmp_path / "x.bin", clip, made("seqlstm", 128))
    with pytest.raises(EncoderError, match=r"x\.bin holds a head of width 128, .* gives 64"):
        load_clip4clip(path, device="cpu")


def test_a_file_of_ours_brings_the_encoder_that_it_names(tmp_path: Path) -> None:
    encoder = load_encoder(parse_spec("fake:64"))
    path = tmp_path / "head.pt"
    facts = {"logit_scale": 9.0, "encoder": "fake:64", "training": {}}
    save_head(path, made("seqlstm", 64), encoder_fingerprint=encoder.fingerprint, **facts)
    loaded = load_clip4clip(path, device="cpu")
    assert loaded.encoder is not None
    assert (loaded.encoder.fingerprint, loaded.logit_scale) == (encoder.fingerprint, 9.0)
    save_head(path, made("seqlstm", 64), encoder_fingerprint="fake:64@0", **facts)
    with pytest.raises(EncoderError, match=r"vectors of fake:64@0, but fake:64 is now fake:64@1"):
        load_clip4clip(path, device="cpu")


def test_importing_the_encoders_does_not_load_torch() -> None:
    code = "import sys, clipsearch.encoders.clip4clip; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
