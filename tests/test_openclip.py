"""open_clip models against open_clip itself, with tiny random weights: nothing is downloaded."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsearch.encoders import load_encoder, openclip_files, parse_spec
from clipsearch.encoders.openclip import OpenClipEncoder, _geometry, precision_for
from clipsearch.encoders.openclip_files import find_files
from clipsearch.errors import EncoderError

open_clip = pytest.importorskip("open_clip")
torch = pytest.importorskip("torch")

TEXTS = ["a photo of a cat", "", "two dogs on a beach", "x " * 300]
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 48, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
CUSTOM = TINY | {"custom_text": True}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model name to a checkpoint with random weights."""
    folder = tmp_path_factory.mktemp("models")
    files = {}
    for name, config in (("tiny-plain", TINY), ("tiny-custom", CUSTOM)):
        (folder / f"{name}.json").write_text(json.dumps(config))
        open_clip.add_model_config(folder / f"{name}.json")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model = open_clip.create_model(name)
        files[name] = folder / f"{name}.pt"
        torch.save({"epoch": 3, "state_dict": model.state_dict()}, files[name])
    return files


@pytest.fixture
def fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipsearch.encoders.openclip.precision_for", lambda device_type: "fp32")


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    data = pytest.importorskip("skimage.data")
    made = [Image.fromarray(p) for p in (data.astronaut(), data.chelsea(), data.coffee())]
    return [*made, made[1].resize((30, 20)), made[2].rotate(90, expand=True)]


def load(name: str, path: Path) -> OpenClipEncoder:
    encoder = load_encoder(parse_spec(f"{name}/{path}"), device="cpu")
    assert isinstance(encoder, OpenClipEncoder)
    return encoder


@pytest.mark.usefixtures("fp32")
@pytest.mark.parametrize("name", ["tiny-plain", "tiny-custom"])
def test_vectors_equal_open_clips_own(
    name: str, checkpoints: dict[str, Path], photos: list[Image.Image]
) -> None:
    encoder = load(name, checkpoints[name])
    model, _, transform = open_clip.create_model_and_transforms(
        name, pretrained=str(checkpoints[name])
    )
    model.eval()
    with torch.inference_mode():
        texts = model.encode_text(open_clip.get_tokenizer(name)(TEXTS), normalize=True)
        pixels = torch.stack([transform(photo) for photo in photos])
        images = model.encode_image(pixels, normalize=True)
    prepared = [encoder.prepare(np.asarray(photo)) for photo in photos]
    np.testing.assert_allclose(encoder.encode_text(TEXTS), texts.numpy(), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_images(prepared), images.numpy(), atol=1e-5)
    assert encoder.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()), rel=1e-6)
    assert encoder.dim == 16
    assert encoder.short_side == 48


@pytest.mark.usefixtures("fp32")
@pytest.mark.parametrize("mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [224, (224, 224), (160, 224)])
def test_pixels_equal_open_clips_transform(
    mode: str,
    interpolation: str,
    size: int | tuple[int, int],
    checkpoints: dict[str, Path],
    photos: list[Image.Image],
) -> None:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    config = PreprocessCfg(
        size=size, interpolation=interpolation, resize_mode=mode, fill_color=7, std=(0.2, 0.3, 0.4)
    )
    transform = image_transform_v2(config, is_train=False)
    encoder = load("tiny-plain", checkpoints["tiny-plain"])
    encoder._preprocess = vars(config)
    geometry = _geometry(encoder._preprocess)
    for photo in photos:
        ours = encoder._normalised(geometry.apply(np.asarray(photo))[None])[0]
        np.testing.assert_allclose(ours.numpy(), transform(photo).numpy(), atol=1e-6)


def test_bf16_is_within_the_promise_of_fp32(
    checkpoints: dict[str, Path], photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {}
    for precision in ("fp32", "bf16"):
        monkeypatch.setattr(
            "clipsearch.encoders.openclip.precision_for", lambda _, value=precision: value
        )
        encoder = load("tiny-custom", checkpoints["tiny-custom"])
        assert encoder.precision == precision
        prepared = [encoder.prepare(np.asarray(photo)) for photo in photos]
        rows[precision] = encoder.encode_images(prepared), encoder.encode_text(TEXTS)
    for exact, rough in zip(rows["fp32"], rows["bf16"], strict=True):
        assert ((exact * rough).sum(axis=1) > 0.99).all()
        assert np.abs(exact - rough).max() > 0


def test_precision_follows_the_machine(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("flags\t: fpu avx2 avx512_bf16 sse\n")
    assert precision_for("cpu", cpu_info=info) == "bf16"
    assert precision_for("mps", cpu_info=info) == "fp32"
    assert precision_for("cuda", cpu_info=info) == "fp16"
    info.write_text("flags\t: fpu avx2 sse\n")
    assert precision_for("cpu", cpu_info=info) == "fp32"
    assert precision_for("cpu", cpu_info=tmp_path / "none") == "fp32"


def test_the_fingerprint_follows_the_weights_not_their_place(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    here = checkpoints["tiny-plain"]
    moved = Path(shutil.copy(here, tmp_path / "renamed.pt"))
    state = torch.load(here, weights_only=True)["state_dict"]
    state["logit_scale"] = state["logit_scale"] + 1
    torch.save(state, tmp_path / "other.pt")
    prints = [load("tiny-plain", p).fingerprint for p in (here, moved, tmp_path / "other.pt")]
    assert prints[0] == prints[1] != prints[2]
    assert prints[0].startswith("openclip:tiny-plain@")


def test_the_hub_caches_name_for_a_file_is_its_hash(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    name = "ab" * 32
    (tmp_path / name).write_bytes(b"not hashed")
    (tmp_path / "link.bin").symlink_to(tmp_path / name)
    files = find_files(f"tiny-plain/{tmp_path / 'link.bin'}")
    assert files.weights_sha256() == name
    files = find_files(f"tiny-plain/{checkpoints['tiny-plain']}")
    assert len(files.weights_sha256()) == 64


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ViT-B32/laion2b_s34b_b79k", "did you mean ViT-B-32"),
        ("vit-b-32/openai", "did you mean ViT-B-32"),
        ("ViT-B-32/laion2b", "did you mean laion2b"),
        ("ViT-H-14-378/x", "use one of dfn5b"),
        ("qqqqqq/openai", "list_pretrained"),
    ],
)
def test_unknown_names_bring_close_ones(name: str, hint: str) -> None:
    with pytest.raises(EncoderError, match=hint):
        load_encoder(parse_spec(name), device="cpu")


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("code from the checkpoint was run",)


@pytest.mark.parametrize("kind", ["garbage", "empty", "truncated", "code", "list", "foreign"])
def test_damaged_checkpoints_are_errors_and_run_no_code(
    kind: str,
    checkpoints: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "bad.pt"
    whole = checkpoints["tiny-plain"].read_bytes()
    if kind == "list":
        torch.save([1, 2], path)
    elif kind == "foreign":
        torch.save({"conv.weight": torch.zeros(3)}, path)
    else:
        path.write_bytes(
            {
                "garbage": b"garbage" * 99,
                "empty": b"",
                "truncated": whole[: len(whole) // 2],
                "code": pickle.dumps({"state_dict": Payload()}),
            }[kind]
        )
    with pytest.raises(EncoderError, match=r"bad\.pt cannot be loaded as tiny-plain"):
        load("tiny-plain", path)
    assert "code from" not in capsys.readouterr().out


@pytest.mark.parametrize("missing", ["missing.pt", ""])
def test_a_missing_checkpoint_or_a_folder_is_an_error(
    missing: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(EncoderError, match="missing or not a file"):
        load("tiny-plain", tmp_path / missing)


def test_safetensors_checkpoints_load(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    state = torch.load(checkpoints["tiny-plain"], weights_only=True)["state_dict"]
    save_file(state, tmp_path / "w.safetensors")
    rows = load("tiny-plain", tmp_path / "w.safetensors").encode_text(TEXTS)
    expected = load("tiny-plain", checkpoints["tiny-plain"]).encode_text(TEXTS)
    np.testing.assert_array_equal(rows, expected)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise FileNotFoundError("no route to the hub")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a, **k: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    monkeypatch.setattr("open_clip.pretrained.download_pretrained_from_hf", refuse)


@pytest.mark.parametrize("name", ["ViT-B-32/laion2b_s34b_b79k", "hf-hub:org/model"])
def test_an_unreachable_hub_is_not_tried_for_long(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a, **k: None)
    monkeypatch.setattr("clipsearch.encoders.openclip_files.hub_reachable", lambda _: False)
    for client in ("huggingface_hub.hf_hub_download", "open_clip.pretrained.has_hf_hub"):
        monkeypatch.setattr(client, lambda *a, **k: pytest.fail("the hub's client was asked"))
    with pytest.raises(EncoderError, match=r"does not answer.*builtin"):
        load_encoder(parse_spec(name), device="cpu")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", ["ViT-B-32/laion2b_s34b_b79k", "hf-hub:org/model"])
def test_a_failed_download_says_what_to_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clipsearch.encoders.openclip_files.hub_reachable", lambda _: True)
    with pytest.raises(EncoderError, match=r"no route to the hub.*builtin"):
        load_encoder(parse_spec(name), device="cpu")


@pytest.mark.parametrize(
    ("model", "quick_gelu", "activation"),
    [("tiny-plain", True, "QuickGELU"), ("tiny-plain", False, "GELU")],
)
def test_a_tag_brings_its_activation_and_preprocessing(
    model: str,
    quick_gelu: bool,
    activation: str,
    checkpoints: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tag = {"hf_hub": "org/model/", "mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0)}
    tag |= {"interpolation": "bilinear", "resize_mode": "squash", "quick_gelu": quick_gelu}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, model, {"tag": tag})
    monkeypatch.setattr(openclip_files, "_hub_weights", lambda *a: checkpoints[model])
    encoder = load_encoder(parse_spec(f"{model}/tag"), device="cpu")
    assert isinstance(encoder, OpenClipEncoder)
    kinds = {type(module).__name__ for module in encoder._towers.whole().modules()}
    assert activation in kinds
    assert ("QuickGELU" in kinds) == quick_gelu
    assert encoder._preprocess["mean"] == (0.1, 0.2, 0.3)
    assert encoder._preprocess["resize_mode"] == "squash"
    assert encoder._preprocess["size"] in (48, (48, 48))
    assert encoder._geometry.interpolation == "bilinear"


def test_a_hub_model_loads_from_the_cache_alone(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layout that push_to_hf_hub writes, in a cache folder, with the network refused."""
    snapshot = tmp_path / "models--org--model" / "snapshots" / "c0"
    snapshot.mkdir(parents=True)
    (tmp_path / "models--org--model" / "refs").mkdir()
    (tmp_path / "models--org--model" / "refs" / "main").write_text("c0")
    config = {"model_cfg": TINY, "preprocess_cfg": {"mean": [0.5] * 3, "resize_mode": "longest"}}
    (snapshot / "open_clip_config.json").write_text(json.dumps(config))
    shutil.copy(checkpoints["tiny-plain"], snapshot / "open_clip_pytorch_model.bin")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    encoder = load_encoder(parse_spec("hf-hub:org/model"), device="cpu")
    assert encoder.dim == 16
    assert encoder.fingerprint.startswith("openclip:hf-hub:org/model@")
    assert isinstance(encoder, OpenClipEncoder)
    assert encoder._geometry.mode == "longest"
    plain = load("tiny-plain", checkpoints["tiny-plain"])
    np.testing.assert_array_equal(encoder.encode_text(TEXTS), plain.encode_text(TEXTS))
