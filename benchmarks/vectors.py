"""Vectors such as CLIP makes: clusters on an image cone, and text queries off it (a modality gap).

2,000 clusters with Pareto(1.5) weights capped at their 99.5 % quantile. Centres have the spectrum
k^-0.45 under a random rotation and norms of 0.8 to 1.2; within a cluster vectors spread along 40
directions of its own with the spectrum k^-0.35.

    image = unit(0.62 image cone + 0.45 centre + 0.52 within + 0.22 noise)
    text  = unit(0.70 text cone + 0.48 (0.45 centre + 0.52 within) + 0.42 noise)

All named terms are of about unit length. The text cone is a direction orthogonal to the image cone
plus 0.30 of it; half of the texts fall on clusters by weight, half uniformly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

CLUSTERS = 2000
PARETO_SHAPE, WEIGHT_CAP_QUANTILE = 1.5, 0.995
CENTRE_DECAY, WITHIN_DECAY, WITHIN_RANK = 0.45, 0.35, 40
BLOCK_ROWS = 16_384
IMAGE_STREAM, TEXT_STREAM, QUERY_STREAM = 1, 2, 3


class ClusteredVectors:
    """A seeded source of image and text vectors, (n, dim) float32 unit rows."""

    def __init__(self, dim: int = 512, seed: int = 0) -> None:
        self.dim, self._seed = dim, seed
        random = np.random.default_rng([seed, 0])
        weights = random.pareto(PARETO_SHAPE, CLUSTERS) + 1
        weights = np.minimum(weights, np.quantile(weights, WEIGHT_CAP_QUANTILE))
        self._weights = weights / weights.sum()
        rotation = np.linalg.qr(random.standard_normal((dim, dim)))[0]
        spectrum = np.arange(1, dim + 1) ** -CENTRE_DECAY
        centres = _unit(random.standard_normal((CLUSTERS, dim)) * spectrum @ rotation.T)
        norms = random.uniform(0.8, 1.2, (CLUSTERS, 1))
        self._centres = (centres * norms).astype(np.float32)
        rank = min(WITHIN_RANK, dim)
        spread = np.arange(1, rank + 1) ** -WITHIN_DECAY
        self._spread = (spread / np.linalg.norm(spread)).astype(np.float32)
        bases = random.standard_normal((CLUSTERS, rank, dim)).astype(np.float32)
        self._bases = bases / np.linalg.norm(bases, axis=2, keepdims=True)
        cone = _unit(random.standard_normal((1, dim)))[0]
        other = random.standard_normal(dim)
        other = _unit((other - (other @ cone) * cone)[None])[0]
        self._image_cone = cone.astype(np.float32)
        self._text_cone = _unit((other + 0.30 * cone)[None])[0].astype(np.float32)

    def images(self, rows: int) -> Iterator[Floats]:
        """`rows` stored vectors in blocks; the first n are the same for every `rows` >= n."""
        for number, first in enumerate(range(0, rows, BLOCK_ROWS)):
            random = np.random.default_rng([self._seed, IMAGE_STREAM, number])
            clusters = random.choice(CLUSTERS, BLOCK_ROWS, p=self._weights)
            yield self._images(random, clusters)[: rows - first]

    def image_queries(self, count: int) -> Floats:
        """`count` more vectors as the stored ones."""
        random = np.random.default_rng([self._seed, QUERY_STREAM])
        return self._images(random, random.choice(CLUSTERS, count, p=self._weights))

    def text_queries(self, count: int) -> Floats:
        """`count` vectors of texts."""
        random = np.random.default_rng([self._seed, TEXT_STREAM])
        clusters = random.choice(CLUSTERS, count, p=self._weights)
        uniform = random.random(count) < 0.5
        clusters[uniform] = random.integers(0, CLUSTERS, int(uniform.sum()))
        meaning = self._meaning(random, clusters)
        noise = _unit(random.standard_normal((count, self.dim)))
        return _unit(0.70 * self._text_cone + 0.48 * meaning + 0.42 * noise).astype(np.float32)

    def _images(self, random: np.random.Generator, clusters: NDArray[np.int64]) -> Floats:
        noise = random.standard_normal((len(clusters), self.dim), np.float32)
        noise *= 0.22 / np.sqrt(self.dim)
        return _unit(0.62 * self._image_cone + self._meaning(random, clusters) + noise)

    def _meaning(self, random: np.random.Generator, clusters: NDArray[np.int64]) -> Floats:
        """0.45 centre + 0.52 within, for one vector of each of `clusters`."""
        within = np.empty((len(clusters), self.dim), np.float32)
        places = random.standard_normal((len(clusters), len(self._spread)), np.float32)
        places *= self._spread
        order = np.argsort(clusters, kind="stable")
        found, starts = np.unique(clusters[order], return_index=True)
        for cluster, mine in zip(found, np.split(order, starts[1:]), strict=True):
            within[mine] = places[mine] @ self._bases[cluster]
        within *= 0.52
        within += 0.45 * self._centres[clusters]
        return within


def _unit(rows: NDArray[Any]) -> NDArray[Any]:
    unit: NDArray[Any] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit
