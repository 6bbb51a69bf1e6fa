"""The choice of a recipe, and the sizes that follow from a number of rows."""

from __future__ import annotations

import faiss
import pytest

from clipsearch.errors import UsageError
from clipsearch.store.recipes import (
    RECIPES,
    ann_description,
    check_recipe,
    choose_recipe,
    get_recipe,
    list_count,
    probe_count,
    training_rows,
)

GB = 10**9


@pytest.mark.parametrize(
    ("rows", "dim", "memory", "chosen"),
    [
        (0, 512, 16 * GB, "flat"),
        (1, 512, 16 * GB, "flat"),
        (49_999, 512, 1, "flat"),  # too few to train on, whatever the memory
        (50_000, 512, 16 * GB, "flat"),
        (199_999, 512, 16 * GB, "flat"),
        (199_999, 512, GB // 3, "ivfpq-large"),  # 205 MB of vectors are no half of the memory
        (150_000, 1024, GB, "flat"),
        (150_000, 4096, 2 * GB, "ivfpq-large"),
        (150_000, 4096, 8 * GB, "flat"),
        (200_000, 512, 16 * GB, "ivfpq"),
        (200_000, 64, 16 * GB, "ivfpq"),
        (1_000_000, 512, 16 * GB, "ivfpq"),
        (1_000_000, 512, 3 * GB, "ivfpq"),  # trains on 524 MB
        (1_000_000, 512, 2 * GB, "ivfpq-large"),
        (9_999_999, 512, 32 * GB, "ivfpq"),
        (9_999_999, 512, 6 * GB, "ivfpq-large"),
        (10_000_000, 512, 64 * GB, "ivfpq-large"),
        (100_000_000, 768, 64 * GB, "ivfpq-large"),
    ],
)
def test_the_choice_follows_rows_dimensions_and_memory(rows, dim, memory, chosen):
    assert choose_recipe(rows, dim, memory) == chosen


@pytest.mark.parametrize(
    ("name", "rows", "dim", "text"),
    [
        ("ivfpq", 1_000_000, 512, "IVF4000,PQ128x4fsr"),
        ("ivfpq", 200_000, 384, "IVF1788,PQ96x4fsr"),
        ("ivfpq", 200_000, 771, "IVF1788,PQ257x4fsr"),  # 3 divides it, 4 does not
        ("ivfpq", 200_000, 7, "IVF1788,PQ7x4fsr"),
        ("ivfpq-large", 10_000_000, 512, "IVF12649_HNSW32,PQ128x4fsr"),
        ("ivfpq8", 1_000_000, 512, "IVF4000,PQ64"),
        ("ivfpq8", 1_000_000, 100, "IVF4000,PQ20"),
        ("rabitq", 1_000_000, 512, "IVF4000,RaBitQ2"),
    ],
)
def test_the_index_suits_rows_and_dimensions(name, rows, dim, text):
    assert ann_description(get_recipe(name), rows, dim) == text


@pytest.mark.parametrize("name", [name for name, recipe in RECIPES.items() if recipe.has_ann])
@pytest.mark.parametrize("dim", [7, 32, 384, 512])
def test_faiss_knows_the_index_of_every_recipe(name, dim):
    index = faiss.index_factory(dim, ann_description(RECIPES[name], 5000, dim), faiss.METRIC_L2)
    assert index.nlist == list_count(RECIPES[name], 5000)


@pytest.mark.parametrize("rows", [1, 38, 39, 50_000, 10**6, 10**8])
def test_every_list_has_vectors_to_be_trained_on(rows):
    for recipe in RECIPES.values():
        lists = list_count(recipe, rows)
        assert lists >= 1
        assert training_rows(recipe, rows) <= rows
        assert lists == 1 or training_rows(recipe, rows) >= 32 * lists
        assert 1 <= probe_count(recipe, lists) <= lists


def test_names_are_checked():
    assert check_recipe("auto") == "auto"
    with pytest.raises(UsageError, match="use one of flat, ivfpq, ivfpq-large, ivfpq8, rabitq"):
        check_recipe("hnsw")
