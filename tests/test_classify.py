"""Zero-shot classification against open_clip, torch and naive loops; the files that it is of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch import classify
from clipsearch.classify import ZeroShotClassifier, parse_label, read_labels
from clipsearch.encoders import load_encoder, parse_spec
from clipsearch.encoders.fake import FakeEncoder
from clipsearch.encoders.prompts import templates
from clipsearch.errors import UsageError
from clipsearch.ingest.vectors import FileVector, Viewing, vectors_of
from clipsearch.types import Vectors

LABELS = ["cat", "dog", "tabby cat", "日本", "a red door", "cat"[::-1]]
TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.mark.filterwarnings("ignore")  # of torch's own
def test_it_is_open_clips_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_clip = pytest.importorskip("open_clip")
    torch = pytest.importorskip("torch")
    monkeypatch.setattr("clipsearch.encoders.openclip.precision_for", lambda device_type: "fp32")
    (tmp_path / "tiny-classes.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(tmp_path / "tiny-classes.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model = open_clip.create_model("tiny-classes").eval()
    with torch.no_grad():
        model.logit_scale.fill_(3.0)
    torch.save(model.state_dict(), tmp_path / "tiny.pt")
    encoder = load_encoder(parse_spec(f"tiny-classes/{tmp_path / 'tiny.pt'}"), device="cpu")
    own = {
        "simple": open_clip.SIMPLE_IMAGENET_TEMPLATES,
        "imagenet": open_clip.OPENAI_IMAGENET_TEMPLATES,
    }
    for prompts, fillers in own.items():
        assert [t.replace("{}", "an owl") for t in templates(prompts)] == [
            filler("an owl") for filler in fillers
        ]
        wanted = open_clip.build_zero_shot_classifier(
            model, open_clip.get_tokenizer("tiny-classes"), LABELS, fillers, device="cpu"
        )
        classifier = ZeroShotClassifier.of(encoder, LABELS, prompts=prompts)
        assert classifier.labels == tuple(LABELS)
        np.testing.assert_allclose(classifier.weights, wanted.numpy().T, atol=1e-5)
        pictures = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
        rows = encoder.encode_images([encoder.prepare(picture) for picture in pictures])
        logits = model.logit_scale.exp() * torch.from_numpy(rows) @ wanted
        chances = classifier.probabilities(rows)
        np.testing.assert_allclose(chances, logits.softmax(dim=1).detach().numpy(), atol=1e-5)
        best = [label for [(label, _)] in classifier.top(rows)]
        assert best == [LABELS[i] for i in logits.argmax(dim=1).tolist()]
    by_hand = open_clip.build_zero_shot_classifier(
        model, open_clip.get_tokenizer("tiny-classes"), LABELS, ["{}", "a {}!"], device="cpu"
    )
    given = ZeroShotClassifier.of(encoder, LABELS, templates=("{}", "a {}!"))
    np.testing.assert_allclose(given.weights, by_hand.numpy().T, atol=1e-5)


def test_several_names_are_averaged() -> None:
    encoder = FakeEncoder()
    labels: list[str | Sequence[str]] = [("cat", "kitten", "tabby"), "dog", ["red", "blue"]]
    classifier = ZeroShotClassifier.of(encoder, labels, prompts="simple")
    assert classifier.labels == ("cat", "dog", "red")
    for names, row in zip([labels[0], ["dog"], labels[2]], classifier.weights, strict=True):
        total = np.zeros(64)
        for name in names:
            own = np.zeros(64)
            for template in templates("simple"):
                own += encoder.encode_text([template.replace("{}", name)])[0]
            total += own / np.linalg.norm(own)
        np.testing.assert_allclose(row, total / np.linalg.norm(total), atol=1e-6)


def made(weights: Vectors, scale: float = 20.0) -> ZeroShotClassifier:
    return ZeroShotClassifier(tuple(f"label {i}" for i in range(len(weights))), weights, scale)


def unit(count: int, dim: int, seed: int) -> Vectors:
    rows = np.random.default_rng(seed).standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_probabilities_are_a_softmax_at_the_scale() -> None:
    classifier, rows = made(unit(7, 12, 0)), unit(40, 12, 1)
    chances = classifier.probabilities(rows)
    for row, own in zip(rows.astype(float), chances, strict=True):
        odds = [np.exp(20.0 * (row @ weight)) for weight in classifier.weights.astype(float)]
        np.testing.assert_allclose(own, np.array(odds) / sum(odds), atol=1e-5)
    best = classifier.top(rows, 3)
    for own, ranked in zip(chances, best, strict=True):
        assert [chance for _, chance in ranked] == sorted(own, reverse=True)[:3]
        assert [own[int(label.split()[1])] for label, _ in ranked] == [c for _, c in ranked]
    assert len(classifier.top(rows, 100)[0]) == 7
    assert classifier.top(rows[:0]) == []
    steep = made(unit(7, 12, 0), scale=1e6)
    np.testing.assert_allclose(steep.probabilities(rows).sum(axis=1), 1.0)


def test_of_labels_alike_the_first_is_named() -> None:
    weights = np.repeat(unit(2, 8, 3), 2, axis=0)
    [best] = made(weights).top(weights[3:], 4)
    assert [label for label, _ in best] == ["label 2", "label 3", "label 0", "label 1"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "0 labels: give two or more"),
        (["cat"], "1 labels: give two or more"),
        (["cat", ("dog", "cat"), "cat"], "'cat' is given twice"),
        (["cat", " "], "a name is empty"),
        (["cat", ()], "a name is empty"),
    ],
)
def test_labels_are_checked(labels: list[Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ZeroShotClassifier.of(FakeEncoder(), labels)


def test_templates_and_vectors_are_checked() -> None:
    with pytest.raises(UsageError, match="both given"):
        ZeroShotClassifier.of(FakeEncoder(), LABELS, prompts="simple", templates=("a photo of {}",))
    with pytest.raises(UsageError, match="use one of none"):
        ZeroShotClassifier.of(FakeEncoder(), LABELS, prompts="most")
    classifier = made(unit(3, 12, 0))
    with pytest.raises(UsageError, match="8 dimensions, the labels 12"):
        classifier.probabilities(unit(2, 8, 0))
    with pytest.raises(UsageError, match="need unit rows"):
        classifier.probabilities(2 * unit(2, 12, 0))
    with pytest.raises(UsageError, match="use 1 or more"):
        classifier.top(unit(2, 12, 0), 0)
    with pytest.raises(UsageError, match="2 labels"):
        ZeroShotClassifier(("a", "b"), unit(3, 12, 0), 1.0)


def test_a_labels_file_has_a_label_a_line(tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    file.write_bytes("\ufeffcat | kitten|  tabby   cat \r\n\r\n  dog\n\t\nAüßer\n".encode())
    assert read_labels(file) == [("cat", "kitten", "tabby cat"), ("dog",), ("Aüßer",)]
    for content, message in (
        (b"cat\n\ndog\ncat|kitten\n", r"line 4: 'cat' is the label of line 1 already"),
        (b"cat\ndog||x\n", r"line 2: 'dog\|\|x' has an empty name"),
        (b"\n \n", "has no labels: write one a line"),
        (b"caf\xe9\n", "is not UTF-8"),
    ):
        file.write_bytes(content)
        with pytest.raises(UsageError, match=message):
            read_labels(file)
    with pytest.raises(UsageError, match="cannot read"):
        read_labels(tmp_path / "missing.txt")
    with pytest.raises(UsageError, match=r"--label: '\|' has an empty name"):
        parse_label("|", "--label")


def test_labelling_streams() -> None:
    taken: list[int] = []

    def files() -> Any:
        for number in range(300):
            taken.append(number)
            yield FileVector(Path(str(number)), "image", unit(1, 12, number)[0])

    classifier = made(unit(4, 12, 0))
    labelled = classifier.label(files(), 2)
    first = next(labelled)
    assert len(taken) == classify.FILES_AT_ONCE
    every = [first, *labelled]
    assert [item.file.path.name for item in every] == [str(number) for number in range(300)]
    for item in every[::50]:
        [alone] = classifier.top(item.file.vector[None], 2)
        assert [label for label, _ in item.labels] == [label for label, _ in alone]
        assert [p for _, p in item.labels] == pytest.approx([p for _, p in alone], rel=1e-3)


def test_real_photos_have_the_labels_that_a_person_gives_them(photos: Path) -> None:
    encoder = load_encoder(parse_spec("builtin"), device="cpu")
    wanted = {
        "chelsea.png": "cat",
        "coffee.png": "cup of coffee",
        "rocket.jpg": "rocket",
        "motorcycle_left.png": "motorcycle",
        "horse.png": "horse",
        "page.png": "page of text",
    }
    labels = [
        ("cat", "kitten"),
        *list(wanted.values())[1:],
        "bicycle",
        "rabbit",
        "moon",
        "brick wall",
    ]
    classifier = ZeroShotClassifier.of(encoder, labels, prompts="simple")
    files = [photos / name for name in (*wanted, "moon.png", "hubble_deep_field.jpg")]
    found = vectors_of(files, Viewing.by(encoder), on_failure=pytest.fail)
    best = {item.file.path.name: item.labels[0] for item in classifier.label(found)}
    assert {name: best[name][0] for name in wanted} == wanted
    assert all(best[name][1] > 0.5 for name in wanted)
    # What its image classifier knows nothing of, the encoder is not sure of either.
    assert best["moon.png"][1] < 0.5
    assert best["hubble_deep_field.jpg"][1] < 0.5
