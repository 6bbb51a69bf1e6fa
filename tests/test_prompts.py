"""Prompts and their mean, against open_clip's lists and a naive loop."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from clipsearch.encoders import prompts
from clipsearch.encoders.fake import FakeEncoder
from clipsearch.encoders.prompts import PROMPTS, checked_templates, ensemble, templates
from clipsearch.errors import EncoderError, UsageError

TEXTS = ["a dog", "red {} door", "日本語", "%s {0} \\1", "a dog", "long " * 1500]


def test_there_are_as_many_as_clip_has() -> None:  # that they are open_clip's: test_classify
    assert [len(templates(name)) for name in PROMPTS] == [1, 7, 80]
    assert templates("none") == ("{}",)
    assert templates("simple")[0] == "itap of a {}."


def test_they_load_no_model_library() -> None:
    code = (
        "import sys\n"
        "from clipsearch.encoders.prompts import templates\n"
        "assert len(templates('imagenet')) == 80\n"
        "assert not {'torch', 'open_clip', 'timm'} & set(sys.modules), list(sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("name", PROMPTS)
def test_a_row_is_the_mean_over_templates(name: str) -> None:
    encoder = FakeEncoder(48)
    rows = ensemble(encoder, TEXTS, templates(name))
    assert rows.dtype == np.float32
    for text, row in zip(TEXTS, rows, strict=True):
        if len(text) > 100:
            continue  # encoded in pieces: below
        total = np.zeros(48)
        for template in templates(name):
            before, after = template.split("{}")
            total += encoder.encode_text([before + text + after])[0]
        np.testing.assert_allclose(row, total / np.linalg.norm(total), atol=1e-6)


def test_what_is_longer_than_the_window_counts_to_its_end() -> None:
    encoder = FakeEncoder(48)
    long = ["red " * 900, "red " * 900 + "blue " * 900]
    rows = ensemble(encoder, long, ("a photo of {}",))
    red, blue = encoder.encode_text(["red", "blue"])
    assert rows[1] @ blue > rows[0] @ blue + 0.3
    assert rows[0] @ red > 0.8


def test_the_words_alone_are_as_the_encoder_gives_them() -> None:
    encoder = FakeEncoder()
    np.testing.assert_array_equal(
        ensemble(encoder, TEXTS[:5], templates("none")), encoder.encode_text(TEXTS[:5])
    )
    assert ensemble(encoder, [], templates("simple")).shape == (0, 64)
    assert ensemble(encoder, [], templates("none")).shape == (0, 64)


@pytest.mark.parametrize("name", ["none", "simple"])
def test_many_texts_are_encoded_some_at_a_time(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"thing {number}" for number in range(23)]
    encoder, sizes = FakeEncoder(), list[int]()
    whole = ensemble(encoder, texts, templates(name))
    encode = encoder.encode_text

    def counting(texts: list[str], *, normalize: bool = True) -> np.ndarray:
        sizes.append(len(texts))
        return encode(texts, normalize=normalize)

    monkeypatch.setattr(prompts, "TEXTS_AT_ONCE", 15)
    monkeypatch.setattr(encoder, "encode_text", counting)
    np.testing.assert_array_equal(ensemble(encoder, texts, templates(name)), whole)
    assert max(sizes) <= 15
    assert sum(sizes) == 23 * len(templates(name))


@pytest.mark.parametrize("given", [[], ["a photo"], ["{} and {}"], ["a {}", "a {name}"]])
def test_templates_without_one_place_for_the_words_are_refused(given: list[str]) -> None:
    with pytest.raises(UsageError, match=r"\{\}"):
        ensemble(FakeEncoder(), ["a dog"], given)


def test_one_template_may_be_given_as_a_text() -> None:
    assert checked_templates("a photo of {}") == ("a photo of {}",)


def test_names_are_checked() -> None:
    with pytest.raises(UsageError, match="'photos': use one of none, simple, imagenet"):
        templates("photos")


def test_an_open_clip_without_the_list_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(prompts._LISTS, "simple", "NO_SUCH_LIST")
    templates.cache_clear()
    with pytest.raises(EncoderError, match=r"no NO_SUCH_LIST in .*pip install"):
        templates("simple")
    templates.cache_clear()
