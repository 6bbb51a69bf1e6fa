"""The trained part of an ANN index: inverted lists and codebooks, shared by many segments.

`quantisers/NAME.faiss` is a trained, empty FAISS IVF index. Its facts are in the catalog.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import threading
import uuid
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import IndexDamagedError
from clipsearch.store.arrays import naming, open_file
from clipsearch.store.exact import load_faiss, threads_for
from clipsearch.store.manifest import sync_folder
from clipsearch.store.recipes import RECIPES, IndexRecipe, ann_description, get_recipe
from clipsearch.types import SOURCES, Source, Vectors

QUANTISERS = "quantisers"
SUFFIX = ".faiss"
NAME = re.compile(r"[0-9a-f]{32}")
KMEANS_ITERATIONS = 10
MEMORY_PER_BYTE = 64  # of a file: FAISS wants room for tables that it makes for some metrics
GRAPH_SEARCH = 64  # how widely the graph of centroids is searched for a vector's list
GRAPH_SEARCH_PER_PROBE = 1.5
LIMIT_GUARD = threading.Lock()  # FAISS has one limit for the whole process

Assignment = tuple[NDArray[np.int64], NDArray[np.float32]]  # (m, nprobe) lists and their scores


@dataclass(frozen=True, slots=True)
class QuantiserFacts:
    """What the catalog knows of a quantiser."""

    name: str
    recipe: str
    lists: int
    rows: int  # in the store when it was trained
    bytes: int
    sha256: str
    source: Source = "visual"  # whose vectors it was trained on


def dump_facts(facts: Sequence[QuantiserFacts]) -> str:
    """As the catalog keeps them."""
    return json.dumps([asdict(item) for item in facts])


def parse_facts(text: str) -> tuple[QuantiserFacts, ...]:
    """What `dump_facts` gave. Raises ValueError or TypeError for values that cannot be."""
    facts = tuple(QuantiserFacts(**item) for item in json.loads(text or "[]"))
    for item in facts:
        numbers = (item.lists, item.rows, item.bytes + 1)
        if any(type(number) is not int or number < 1 for number in numbers):
            raise ValueError(f"quantiser {item.name!r} has {numbers}")
        if not isinstance(item.name, str) or not NAME.fullmatch(item.name):
            raise ValueError(f"a quantiser's name is {item.name!r}, not 32 hex digits")
        if item.source not in SOURCES:
            raise ValueError(f"a quantiser is of {item.source!r}")
        if item.recipe not in RECIPES:
            raise ValueError(f"a quantiser's recipe is {item.recipe!r}")
    return facts


class Quantiser:
    """A trained quantiser, read when it is first needed. Safe to share between threads.

    Raises FileNotFoundError when its file is missing.
    """

    def __init__(self, folder: Path, facts: QuantiserFacts, dim: int) -> None:
        self.facts, self._dim = facts, dim
        self.recipe = get_recipe(facts.recipe)
        self.path = folder / QUANTISERS / (facts.name + SUFFIX)
        self._descriptor = open_file(self.path)  # stays readable when it is replaced
        weakref.finalize(self, os.close, self._descriptor)
        self._guard = threading.Lock()
        self._index: Any = None
        self._centroids: Any = None
        self._no_centroids: Any = None

    def assign(self, queries: Vectors, nprobe: int) -> Assignment:
        """The `nprobe` lists most worth visiting for each query."""
        faiss = load_faiss()
        coarse = self._coarse()
        parameters = None
        if self.recipe.graph:
            width = max(GRAPH_SEARCH, math.ceil(nprobe * GRAPH_SEARCH_PER_PROBE))
            parameters = faiss.SearchParametersHNSW(efSearch=width)
        with threads_for(len(queries)):
            scores, lists = coarse.search(queries, nprobe, params=parameters)
        return lists, scores

    @property
    def index(self) -> Any:
        """The trained, empty FAISS index. Never to be changed.

        Raises IndexDamagedError when the file is not the one that was trained.
        """
        with self._guard:
            if self._index is None:
                self._index = self._read()
                self._centroids = self._index.quantizer
                self._no_centroids = load_faiss().IndexFlatIP(self._index.d)
            return self._index

    def for_searching(self) -> Any:
        """A FAISS index without lists that shares this one's centroids; keep this one alive."""
        faiss, index = load_faiss(), self.index
        with self._guard:  # without the centroids, for the moment, so that they are not copied
            index.quantizer = self._no_centroids
            try:
                clone = faiss.clone_index(index)
            finally:
                index.quantizer = self._centroids
        clone.own_fields = False
        clone.quantizer = self._centroids
        return clone

    def for_filling(self) -> Any:
        """A FAISS index of its own, to add vectors to."""
        index = self.index
        with self._guard:
            return load_faiss().clone_index(index)

    def _coarse(self) -> Any:
        _ = self.index  # loads it
        return self._centroids

    def _read(self) -> Any:
        content = b""
        if os.fstat(self._descriptor).st_size == self.facts.bytes:
            with naming(self.path):
                content = os.pread(self._descriptor, self.facts.bytes, 0)
        if hashlib.sha256(content).hexdigest() != self.facts.sha256:
            raise IndexDamagedError(
                f"{self.path} is not the file that was written: run `clipsearch repair`", self.path
            )
        index = parse_index(content, self.path)
        if not self._fits(index):
            raise IndexDamagedError(
                f"{self.path} is no trained index of {self.facts.lists} lists: run "
                "`clipsearch repair`",
                self.path,
            )
        return index

    def _fits(self, index: Any) -> bool:
        """Whether it is what the facts say, for a search trusts it with memory."""
        faiss = load_faiss()
        return (
            isinstance(index, faiss.IndexIVF)
            and (index.d, index.nlist, index.ntotal) == (self._dim, self.facts.lists, 0)
            and index.is_trained
            and index.metric_type == faiss.METRIC_INNER_PRODUCT
            and (index.quantizer.d, index.quantizer.ntotal) == (self._dim, self.facts.lists)
        )


def parse_index(content: bytes, path: Path) -> Any:
    """A FAISS index from bytes, which cannot ask for much more memory than their length."""
    faiss = load_faiss()
    with LIMIT_GUARD:
        before = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(len(content) * MEMORY_PER_BYTE)
        try:
            return faiss.deserialize_index(np.frombuffer(content, np.uint8))
        except (RuntimeError, MemoryError) as error:
            reason = str(error).strip().splitlines()[-1] if str(error) else "unknown reason"
            raise IndexDamagedError(f"{path} cannot be read: {reason}", path) from error
        finally:
            faiss.set_deserialization_vector_byte_limit(before)


def train(
    sample: Vectors, recipe: IndexRecipe, rows: int, folder: Path, *, clusterer: Any = None
) -> QuantiserFacts:
    """Train a quantiser for about `rows` vectors on a random `sample` of them; write it durably.

    clusterer: a FAISS index for the k-means of the lists, on a GPU; None: one on the CPU.
    """
    faiss = load_faiss()
    dim = sample.shape[1]
    # The metric makes the k-means of the lists spherical.
    index = faiss.index_factory(dim, ann_description(recipe, rows, dim), faiss.METRIC_INNER_PRODUCT)
    if recipe.graph:
        faiss.downcast_index(index.quantizer).hnsw.efSearch = GRAPH_SEARCH
    if recipe.two_level:
        index.quantizer.add(_two_level_centroids(sample, index.nlist, clusterer))
    index.clustering_index = clusterer
    index.train(sample)
    index.clustering_index = None
    (folder / QUANTISERS).mkdir(exist_ok=True)
    name = uuid.uuid4().hex
    content = faiss.serialize_index(index).tobytes()
    with (folder / QUANTISERS / (name + SUFFIX)).open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(folder / QUANTISERS)
    sync_folder(folder)
    digest = hashlib.sha256(content).hexdigest()
    return QuantiserFacts(name, recipe.name, index.nlist, rows, len(content), digest)


def _two_level_centroids(sample: Vectors, lists: int, clusterer: Any) -> Vectors:
    """Centroids by k-means inside the clusters of a k-means with the square root of `lists`.

    For 4,096 lists a ninth of the CPU time of one k-means and half a point of recall less.
    """
    top = _kmeans(sample, round(math.sqrt(lists)), clusterer)
    owner = top.index.search(sample, 1)[1][:, 0]
    sizes = np.bincount(owner, minlength=top.k)
    parts = []
    for cluster, share in enumerate(_shares(sizes, lists)):
        if share:
            parts.append(_kmeans(sample[owner == cluster], share, clusterer).centroids)
    centroids: Vectors = np.concatenate(parts)
    return centroids


def _kmeans(vectors: Vectors, count: int, clusterer: Any) -> Any:
    kmeans = load_faiss().Kmeans(
        vectors.shape[1],
        count,
        niter=KMEANS_ITERATIONS,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=max(256, len(vectors)),
    )
    if clusterer is not None:
        kmeans.index = clusterer
    kmeans.train(vectors)
    return kmeans


def _shares(sizes: NDArray[np.int64], lists: int) -> list[int]:
    """How many of `lists` each cluster gets: by size, none more than it has members."""
    ideal = sizes / sizes.sum() * lists
    shares = np.minimum(np.maximum(np.floor(ideal).astype(np.int64), sizes > 0), sizes)
    while (missing := lists - int(shares.sum())) != 0:
        room = shares < sizes if missing > 0 else shares > 1
        want = np.where(room, (ideal - shares) * np.sign(missing), -np.inf)
        shares[np.argmax(want)] += np.sign(missing)
    return [int(share) for share in shares]
