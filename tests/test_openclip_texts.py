"""Texts without their padding give what open_clip gives with it."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import torch

from clipsearch.encoders.openclip_texts import STEP, text_features

VISION = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT: dict[str, Any] = {
    "context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 3
}  # fmt: skip
TEXTS = ["", "a dog", "two people on a bench in the rain " * 3, "word " * 100]
KINDS = {
    "argmax": {},
    "eos": {"pool_type": "eos", "eos_id": 49407},
    "last": {"pool_type": "last"},
    "unmasked": {"no_causal_mask": True},
}


def made(how: dict[str, Any], *, custom: bool = False) -> Any:
    torch.manual_seed(0)
    model = open_clip.model.CustomTextCLIP if custom else open_clip.CLIP
    return model(16, VISION, {**TEXT, **how}).eval()


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("custom", [False, True])
def test_features_are_those_of_the_whole_context(kind: str, custom: bool) -> None:
    model = made(KINDS[kind], custom=custom)
    tokens = open_clip.tokenize(TEXTS)
    with torch.inference_mode():
        wanted = model.encode_text(tokens)
        found = text_features(model, tokens)
        alone = torch.cat([text_features(model, one[None]) for one in tokens])
    assert wanted.std() > 0.1
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(alone, wanted, atol=2e-6, rtol=1e-5)


def test_only_what_is_said_goes_through_the_tower(monkeypatch: pytest.MonkeyPatch) -> None:
    model, lengths = made({}), []
    forward = model.transformer.forward

    def noted(x: torch.Tensor, **how: Any) -> torch.Tensor:
        lengths.append(x.shape[1])
        return forward(x, **how)

    monkeypatch.setattr(model.transformer, "forward", noted)
    with torch.inference_mode():
        for text in TEXTS:
            text_features(model, open_clip.tokenize([text]))
    assert lengths == [STEP, STEP, 32, 77]
