"""CLAP: texts and sounds in one space, as transformers' ClapModel computes it.

A wave of at most the model's own length, usually 10 seconds, gives what transformers gives for it,
padded as the model's configuration says. Of a longer one transformers would take a crop at random;
here it is cut into consecutive pieces of that length, and its row is the mean of their unit rows,
each weighted by how long it lasts.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from clipsearch.encoders.base import EncoderSpec
from clipsearch.encoders.clap_files import find_folder
from clipsearch.encoders.clap_model import (
    LoadedClap,
    check_package,
    fingerprint,
    load_parts,
    max_tokens,
)
from clipsearch.encoders.devices import check_device_name, pick_device
from clipsearch.encoders.spec import parse_spec
from clipsearch.encoders.values import (
    WithoutImages,
    checked_wave,
    finished_rows,
    plain_text,
    unit_rows,
)
from clipsearch.types import Vectors, Wave

if TYPE_CHECKING:
    import torch

AUDIO_BATCH = 8  # pieces of 10 seconds
TEXT_BATCH = 16  # of up to 512 tokens


class ClapEncoder(WithoutImages):
    """An Encoder around one ClapModel, in fp32 on every device."""

    supports_text = True
    supports_audio = True

    def __init__(self, spec: EncoderSpec, loaded: LoadedClap) -> None:
        """`spec`: what `load_encoder` makes the same encoder of."""
        config = loaded.model.config
        self.spec = spec
        self.dim: int = config.projection_dim
        self.sample_rate: int = loaded.features.sampling_rate
        self._loaded = loaded
        self._piece = int(loaded.features.nb_max_samples)
        self._tokenizing = threading.Lock()  # whether transformers truncates is shared state
        self._max_tokens = max_tokens(loaded)

    @cached_property
    def fingerprint(self) -> str:
        """clap@ and a hash of weights, architecture, pre-processing and tokenizer."""
        with self._tokenizing:
            return fingerprint(self._loaded)

    @property
    def audio_fingerprint(self) -> str:
        """That of the whole encoder."""
        return self.fingerprint

    @property
    def logit_scale(self) -> float:
        """The factor on cosines of sounds to texts that the model was trained with."""
        return float(self._loaded.model.logit_scale_a.detach().float().exp())

    def encode_text(self, texts: Sequence[str], *, normalize: bool = True) -> Vectors:
        """(len(texts), dim) float32 rows; what exceeds the context, usually 512 tokens, is cut off.

        Spaces at the ends, and more than one in a row, do not count.
        """
        rows = [np.zeros((0, self.dim), dtype=np.float32)]
        for start in range(0, len(texts), TEXT_BATCH):
            rows.append(self._encode_texts(texts[start : start + TEXT_BATCH]))
        return finished_rows(np.concatenate(rows), normalize=normalize)

    def fits(self, text: str) -> bool:
        """Whether the model's context, usually 512 tokens, holds all of `text`."""
        with self._tokenizing:
            ids = self._loaded.tokenizer(
                _cleaned(text), padding=False, truncation=False, verbose=False
            ).input_ids
        return len(ids) <= self._max_tokens

    def encode_audio(self, waves: Sequence[Wave], *, normalize: bool = True) -> Vectors:
        """(len(waves), dim) float32 rows of mono waves (samples,) at `sample_rate`.

        One that is longer than the model takes has the mean of its pieces, see the module.
        """
        pieces = [self._pieces(checked_wave(wave)) for wave in waves]
        flat = [piece for several in pieces for piece in several]
        rows = [np.zeros((0, self.dim), dtype=np.float32)]
        for start in range(0, len(flat), AUDIO_BATCH):
            rows.append(self._encode_pieces(flat[start : start + AUDIO_BATCH]))
        ends = np.cumsum([len(several) for several in pieces], dtype=np.int64)[:-1]
        groups = np.split(np.concatenate(rows), ends) if pieces else []
        means = [_mean(group, several) for group, several in zip(groups, pieces, strict=True)]
        return finished_rows(np.concatenate([rows[0], *means]), normalize=normalize)

    def _pieces(self, wave: Wave) -> list[Wave]:
        return [wave[start : start + self._piece] for start in range(0, len(wave), self._piece)]

    def _encode_pieces(self, pieces: Sequence[Wave]) -> Vectors:
        """Raw rows of waves that are each short enough to be taken whole."""
        import torch

        # One at a time: of a batch, a model with fusion would treat one at random as a longer wave.
        made = [
            self._loaded.features(piece, sampling_rate=self.sample_rate, return_tensors="np")
            for piece in pieces
        ]
        mels, longer = (
            torch.from_numpy(np.concatenate([one[name] for one in made]))
            for name in ("input_features", "is_longer")
        )
        model, device = self._loaded.model, self._loaded.device
        with torch.inference_mode():
            heard = model.audio_model(
                input_features=mels.float().to(device), is_longer=longer.to(device)
            )
            return _rows(model.audio_projection(heard.pooler_output))

    def _encode_texts(self, texts: Sequence[str]) -> Vectors:
        import torch

        with self._tokenizing:
            tokens = self._loaded.tokenizer(
                [_cleaned(text) for text in texts],
                padding=True,
                truncation=True,
                max_length=self._max_tokens,
                return_tensors="pt",
            )
        model, device = self._loaded.model, self._loaded.device
        with torch.inference_mode():
            read = model.text_model(
                input_ids=tokens["input_ids"].to(device),
                attention_mask=tokens["attention_mask"].to(device),
            )
            return _rows(model.text_projection(read.pooler_output))


def load(spec: EncoderSpec, *, device: str) -> ClapEncoder:
    """The CLAP model of `spec`, downloading it if it is not in the cache.

    Raises EncoderError for a missing package, a model that is missing, damaged or of another kind,
    a download that fails, and an absent device.
    """
    check_device_name(device)
    spec = parse_spec(str(spec))
    picked = pick_device(device)
    check_package()
    return ClapEncoder(spec, load_parts(find_folder(spec.name), device=picked))


def _cleaned(text: str) -> str:
    """Runs of spaces and lines become one space: each would be tokens that say nothing."""
    return " ".join(plain_text(text).split())


def _mean(rows: Vectors, pieces: Sequence[Wave]) -> Vectors:
    """The raw (1, dim) row of a wave of which `rows` are the pieces': their mean direction, length.

    Weighted by time, so that the last tenth of a second does not count as ten seconds do.
    """
    units, lengths = unit_rows(rows), np.linalg.norm(rows.astype(np.float64), axis=1)
    if len(rows) == 1:
        return rows  # to the bit
    weights = np.array([len(piece) for piece in pieces]) / sum(len(piece) for piece in pieces)
    return unit_rows((weights @ units)[None]) * np.float32(weights @ lengths)


def _rows(features: torch.Tensor) -> Vectors:
    rows: Vectors = features.float().cpu().numpy()
    return rows
