"""How vectors are stored and searched. New recipe: one entry in `RECIPES`.

Every recipe keeps the vectors as fp16 and answers with exact scores. A recipe with an ANN index
takes candidates from it and re-ranks them from the stored vectors, because text queries lie off
the distribution of image vectors: the ranking of the codes alone finds fewer than half of the
true ten nearest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from clipsearch.errors import UsageError

AUTO = "auto"  # what choose_recipe says, at every compaction


@dataclass(frozen=True, slots=True)
class IndexRecipe:
    """A named way to store and search vectors; `benchmarks/store.py` has the numbers behind it."""

    name: str
    codes: str | None = None  # FAISS's text for the codes of a list; None: no ANN index
    lists_per_root: float = 4.0  # inverted lists: this times the square root of the rows
    training_vectors_per_list: int = 64
    two_level: bool = False  # lists by k-means inside the clusters of a coarser k-means
    graph: bool = False  # the lists to probe come from an HNSW graph over their centroids
    candidates: int = 640  # taken from the ANN index for re-ranking
    probed_share: float = 1 / 24  # of the lists, per query

    @property
    def has_ann(self) -> bool:
        """Whether candidates come from an ANN index."""
        return self.codes is not None


# {pq4}: 4-bit product quantisers, one for 4 dimensions; {pq8}: 8-bit ones, one for 8 dimensions.
RECIPES: dict[str, IndexRecipe] = {
    "flat": IndexRecipe("flat"),
    "ivfpq": IndexRecipe("ivfpq", "PQ{pq4}x4fsr"),
    "ivfpq-large": IndexRecipe(
        "ivfpq-large", "PQ{pq4}x4fsr", training_vectors_per_list=32, two_level=True, graph=True
    ),
    "ivfpq8": IndexRecipe("ivfpq8", "PQ{pq8}"),
    "rabitq": IndexRecipe("rabitq", "RaBitQ2"),
}

FLAT_ROWS = 200_000  # exact search takes 8 ms for so many of 512 dimensions
LARGE_ROWS = 10_000_000
SMALLEST_TRAINING_ROWS = 50_000  # an ANN index of fewer rows is no faster than scanning them
SCANNED_ROWS = 20_000  # smaller segments, and filters that leave less, are scanned: exact and fast
MINIMUM_LIST_ROWS = 39  # FAISS warns below
MINIMUM_PROBES = 32
RETRAIN_GROWTH = 4  # times as many rows as when the quantiser was trained


def get_recipe(name: str) -> IndexRecipe:
    """The recipe of that name. Raises UsageError naming the choices."""
    try:
        return RECIPES[name]
    except KeyError:
        raise UsageError(f"recipe {name!r}: use one of {', '.join(RECIPES)}") from None


def check_recipe(name: str) -> str:
    """The name, if it is a recipe's or "auto". Raises UsageError naming the choices."""
    return name if name == AUTO else get_recipe(name).name


def choose_recipe(rows: int, dim: int, memory: int) -> str:
    """The name of the recipe for `rows` vectors of `dim` on a machine with `memory` bytes.

    Scanning is exact and needs no training, so it is the choice while it is fast: below FLAT_ROWS,
    and while the vectors fit into half of the memory, for else each search reads them from disk.
    Training an index of the ordinary size must fit into a quarter of the memory.
    """
    if rows < SMALLEST_TRAINING_ROWS:
        return "flat"
    if rows < FLAT_ROWS and rows * dim * 2 <= memory // 2:
        return "flat"
    training_bytes = training_rows(RECIPES["ivfpq"], rows) * dim * 4
    if rows >= LARGE_ROWS or training_bytes > memory // 4:
        return "ivfpq-large"
    return "ivfpq"


def list_count(recipe: IndexRecipe, rows: int) -> int:
    """Inverted lists for `rows` vectors, with vectors enough to train them."""
    return max(1, min(int(recipe.lists_per_root * math.sqrt(rows)), rows // MINIMUM_LIST_ROWS))


def training_rows(recipe: IndexRecipe, rows: int) -> int:
    """How many of `rows` vectors a quantiser is trained on."""
    return min(rows, list_count(recipe, rows) * recipe.training_vectors_per_list)


def probe_count(recipe: IndexRecipe, lists: int) -> int:
    """Lists to visit for one query, unless tuning found a better number."""
    return min(lists, max(MINIMUM_PROBES, round(lists * recipe.probed_share)))


def ann_description(recipe: IndexRecipe, rows: int, dim: int) -> str:
    """The FAISS factory text: inverted lists, then codes of what vectors differ by from theirs."""
    assert recipe.codes is not None, "only for recipes with an ANN index"
    lists = f"IVF{list_count(recipe, rows)}" + ("_HNSW32" if recipe.graph else "")
    codes = recipe.codes.format(pq4=dim // _width(dim, 4), pq8=dim // _width(dim, 8))
    return f"{lists},{codes}"


def _width(dim: int, widest: int) -> int:
    """The most dimensions up to `widest` that divide `dim` evenly."""
    return next(width for width in range(widest, 0, -1) if dim % width == 0)
