"""CLAP models as transformers saves them, tiny and with random weights: nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

SAMPLE_RATE = 48000
MAX_TOKENS = 62
_WORDS = ("cat", "dog", "red", "low", "high")  # of one token each; all else is read byte by byte


def write_clap(
    folder: Path, *, fused: bool = False, seed: int = 0, tensors: bool = True, seconds: int = 10
) -> Path:
    """`folder` with a ClapModel of 12 dimensions, its feature extractor and its tokenizer.

    `seconds`: the longest wave that it takes whole. With `tensors` the weights are safetensors,
    else a file of torch.save.
    """
    from transformers import ClapFeatureExtractor

    model = tiny_clap(fused=fused, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(model.config.to_json_string(use_diff=False))
    if tensors:
        from safetensors.torch import save_file

        save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    else:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
    ClapFeatureExtractor(
        sampling_rate=SAMPLE_RATE,
        hop_length=1920,  # four times the usual: half the work
        max_length_s=seconds,
        truncation="fusion" if fused else "rand_trunc",
        padding="repeatpad",
    ).save_pretrained(folder)
    _write_tokenizer(folder)
    return folder


def tiny_clap(*, fused: bool = False, seed: int = 0) -> Any:
    """A ClapModel in eval mode whose weights are large enough for inputs to matter."""
    from transformers import ClapConfig, ClapModel

    text = {
        "vocab_size": 300,
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "max_position_embeddings": MAX_TOKENS + 2,
    }
    audio = {
        "patch_embeds_hidden_size": 8,
        "depths": [1, 1],
        "num_attention_heads": [1, 2],
        "hidden_size": 16,
        "spec_size": 128,
        "window_size": 4,
        "enable_fusion": fused,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=12))
        for value in model.parameters():
            if value.ndim > 1:
                torch.nn.init.normal_(value, std=0.3)
    return model.eval()


def _write_tokenizer(folder: Path) -> None:
    """RoBERTa's files with a vocabulary of all bytes and a few words."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    merges = []
    for word in _WORDS:
        merges += [*((word[:n], word[n]) for n in range(1, len(word))), ("Ġ", word)]
    letters = sorted(bytes_to_unicode().values())
    joined = dict.fromkeys(first + second for first, second in merges)
    entries = ["<s>", "<pad>", "</s>", "<unk>", *letters, *joined, "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({e: n for n, e in enumerate(entries)}))
    lines = dict.fromkeys(" ".join(pair) for pair in merges)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines, ""]))
    settings = {"tokenizer_class": "RobertaTokenizer", "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
