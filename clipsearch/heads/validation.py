"""How good a head in training is on videos that it does not learn from."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from clipsearch.errors import UsageError
from clipsearch.eval import ranks, recall_at_k
from clipsearch.heads.batches import Captions, TrainingSet
from clipsearch.heads.schedule import TrainSpec
from clipsearch.heads.trainee import Trainee

VALIDATION = 0  # in the place of the epoch, which counts from 1, in the key of random draws


class Validation:
    """The validation set, in batches that depend on the seed alone."""

    def __init__(self, data: TrainingSet, spec: TrainSpec) -> None:
        self._data = data
        try:
            self._captions = Captions(data)
        except UsageError as error:
            raise UsageError(
                f"validation: {error}, or choose a larger share of the videos for it"
            ) from error
        key = (spec.seed, VALIDATION)
        drawn = list(self._captions.batches(spec.batch_size, spec.captions_per_video, key))
        if not any(batch.has_negatives for batch in drawn):
            raise UsageError(
                f"validation: in no batch of {spec.batch_size} of its {len(data.frames)} videos "
                "is there a text that does not fit them all; use a larger batch_size or more videos"
            )
        self._batches = drawn

    def measure(self, model: Trainee) -> tuple[float, dict[str, float]]:
        """The mean loss over videos, and the recalls of a head that pools."""
        model.eval()
        losses, weights = [], []
        vectors = np.empty((len(self._data.frames), self._data.frames.shape[2]), np.float32)
        with torch.no_grad():
            for batch in self._batches:
                loss, pooled = model.loss(self._data, batch)
                if pooled is not None:
                    vectors[batch.videos] = pooled.cpu().numpy()
                if batch.has_negatives:
                    losses.append(loss.item())
                    weights.append(len(batch.videos))
        mean = float(np.average(losses, weights=weights))
        return mean, self._recalls(vectors) if model.pools and math.isfinite(mean) else {}

    def _recalls(self, vectors: NDArray[np.float32]) -> dict[str, float]:
        texts = self._data.texts[self._captions.distinct]
        scores = (texts / np.linalg.norm(texts, axis=1, keepdims=True)) @ vectors.T
        fitting = [
            np.searchsorted(self._captions.distinct, self._captions.of(video))
            for video in range(len(vectors))
        ]
        return {
            "text_to_video_r1": recall_at_k(ranks(scores, self._captions.videos_of()), 1),
            "video_to_text_r1": recall_at_k(ranks(scores.T, fitting), 1),
        }
