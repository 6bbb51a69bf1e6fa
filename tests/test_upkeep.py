"""Compaction, recipes, recall and tuning, against exact search; status and advice."""

from __future__ import annotations

import numpy as np
import pytest

import clipsearch
from benchmarks.vectors import ClusteredVectors
from clipsearch.store import grouping, recipes, upkeep
from clipsearch.store import recall as recall_module
from clipsearch.store import snapshot as snapshot_module
from clipsearch.store import writer as writer_module
from clipsearch.store.recipes import RECIPES, SCANNED_ROWS, choose_recipe
from clipsearch.store.snapshot import Width
from tests.vectors import unit_rows

DIM, ROWS = 32, 6000
ANN_RECIPES = [name for name, recipe in RECIPES.items() if recipe.has_ann]


@pytest.fixture
def small(monkeypatch):
    """Every threshold at a hundredth."""
    monkeypatch.setattr(writer_module, "SMALLEST_TRAINING_ROWS", 500)
    monkeypatch.setattr(recipes, "SMALLEST_TRAINING_ROWS", 500)
    monkeypatch.setattr(recipes, "FLAT_ROWS", 2000)
    for module in (writer_module, snapshot_module, recall_module):
        monkeypatch.setattr(module, "SCANNED_ROWS", 200)
    monkeypatch.setattr(recall_module, "CANDIDATE_STEPS", (10, 20, 50, 100, 200, 500, 1000))


@pytest.fixture(scope="module")
def source():
    return ClusteredVectors(DIM)


@pytest.fixture(scope="module")
def stored(source):
    return np.concatenate(list(source.images(ROWS)))


def table(count: int, start: int = 0) -> dict:
    return {"path": [f"{n}.jpg" for n in range(start, start + count)]}


@pytest.fixture
def index(tmp_path):
    with clipsearch.Index.create(tmp_path / "index", model=None, dim=DIM) as made:
        yield made


def answers(index, queries, **how):
    return index.search_vectors(queries, top=10, **how)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("recipe", ANN_RECIPES)
def test_every_recipe_finds_the_nearest_with_exact_scores(index, source, stored, recipe):
    ids = index.add_vectors(stored, table(ROWS))
    text = source.text_queries(50)
    expected = answers(index, text)
    after = index.compact(recipe=recipe)
    assert (after.recipe, after.segments, after.rows) == (recipe, 1, ROWS)
    assert after.lists > 1
    scores, found = answers(index, text)
    share = np.mean(
        [len(np.intersect1d(f, e)) / 10 for f, e in zip(found, expected[1], strict=True)]
    )
    assert share > 0.8
    vectors = stored.astype(np.float16).astype(np.float32)[found - ids[0]]
    np.testing.assert_allclose(scores, np.einsum("nd,nkd->nk", text, vectors), atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()
    exact = answers(index, text, exact=True)
    assert (exact[1] == expected[1]).all()
    np.testing.assert_allclose(exact[0], expected[0], atol=1e-5)


@pytest.mark.usefixtures("small")
def test_compaction_moves_from_flat_to_lists_and_back_without_encoding(index, stored):
    index.add_vectors(stored[:1000], table(1000))
    assert index.status().advice is None
    assert index.compact().recipe == "flat (auto)"
    index.add_vectors(stored[1000:3000], table(2000, 1000))
    assert "3000 vectors are scanned by every search: `clipsearch compact`" in index.status().advice
    after = index.compact()
    assert (after.recipe, after.advice, after.trained_rows) == ("ivfpq (auto)", None, 3000)
    assert list(index.path.glob("segments/*/lists.bin"))
    assert index.compact(recipe="flat").recipe == "flat"
    assert not list(index.path.glob("segments/*/lists.bin"))
    assert not list(index.path.glob("quantisers/*"))
    assert index.rows([3000])[0]["path"] == "2999.jpg"


@pytest.mark.usefixtures("small")
def test_it_trains_anew_when_there_is_four_times_as_much(index, stored):
    index.add_vectors(stored[:1400], table(1400))
    index.compact(recipe="ivfpq")
    first = index._store.snapshot().quantisers[-1].facts
    index.add_vectors(stored[1400:5000], table(3600, 1400))
    index.compact()
    assert index._store.snapshot().quantisers[-1].facts == first
    index.add_vectors(stored[5000:5600], table(600, 5000))
    assert "was trained for 1400 vectors and has 5600 now" in index.status().advice
    after = index.compact()
    second = index._store.snapshot().quantisers[-1].facts
    assert second.name != first.name
    assert (second.rows, second.lists > first.lists, after.advice) == (5600, True, None)
    assert [path.stem for path in index.path.glob("quantisers/*")] == [second.name]
    index.compact(retrain=True)
    assert index._store.snapshot().quantisers[-1].facts.name != second.name


@pytest.mark.usefixtures("small")
def test_a_compact_index_is_left_as_it_is(index, stored):
    index.add_vectors(stored[:3000], table(3000))
    index.compact()
    before = {path: path.stat().st_ino for path in index.path.rglob("*.npy")}
    index.compact()
    assert {path: path.stat().st_ino for path in index.path.rglob("*.npy")} == before


@pytest.mark.usefixtures("small")
def test_large_indexes_have_several_segments_that_answer_as_one(index, stored, monkeypatch):
    monkeypatch.setattr(grouping, "LARGEST_SEGMENT_ROWS", 2000)
    for first in range(0, ROWS, 1000):
        index.add_vectors(stored[first : first + 1000], table(1000, first))
    after = index.compact(recipe="ivfpq")
    assert after.segments == 3
    expected = answers(index, stored[:40], exact=True)
    everything = Width(after.lists, ROWS)
    found = index._store.snapshot().nearest(stored[:40], k=10, width=everything)
    ids = [index._store.snapshot().rows(places)["id"] for _, places in found]
    assert (np.array(ids) == expected[1]).all()


@pytest.mark.usefixtures("small")
def test_training_draws_from_every_segment(index, stored, monkeypatch):
    """The sample is uniform: with the first rows alone each half would not be seen equally."""
    seen = []
    train = writer_module.train

    def spy(sample, *rest, **options):
        seen.append(sample.copy())
        return train(sample, *rest, **options)

    monkeypatch.setattr(writer_module, "train", spy)
    monkeypatch.setattr(writer_module, "training_rows", lambda *_: 1000)
    signs = np.ones((4000, 1), np.float32)
    signs[2000:] = -1  # which half a row is from shows in the sign of its first value
    rows = np.abs(unit_rows(4000, 1)) * signs
    for first in range(0, 4000, 500):
        index.add_vectors(rows[first : first + 500], table(500, first))
    index.compact(recipe="ivfpq")
    [sample] = seen
    assert len(sample) == 1000
    assert len(np.unique(sample, axis=0)) == 1000
    assert 430 < np.count_nonzero(sample[:, 0] > 0) < 570


@pytest.mark.usefixtures("small")
def test_tuning_reaches_its_target_and_is_kept(index, source, stored):
    index.add_vectors(stored, table(ROWS))
    index.compact(recipe="ivfpq")
    text = source.text_queries(150)
    low = index.recall(vectors=text, target=0.7)
    high = index.recall(vectors=text, target=0.97)
    assert min(high.recall.values()) >= 0.97
    assert min(low.recall.values()) >= 0.7
    assert (low.nprobe, low.candidates) != (high.nprobe, high.candidates)
    assert set(high.recall) == {"text", "image"}
    status = index.status()
    assert (status.nprobe, status.candidates) == (high.nprobe, high.candidates)
    assert status.recall == high.recall
    with clipsearch.Index.open(index.path) as again:
        _, found = again.search_vectors(text, top=10)
    _, expected = answers(index, text, exact=True)
    share = np.mean([len(np.intersect1d(f, e)) / 10 for f, e in zip(found, expected, strict=True)])
    assert share == pytest.approx(high.recall["text"], abs=1e-9)
    index.compact(retrain=True)
    assert index.status().nprobe is None  # was for another quantiser


@pytest.mark.usefixtures("small")
def test_measured_recall_is_that_of_brute_force(index, source, stored):
    index.add_vectors(stored, table(ROWS))
    index.compact(recipe="ivfpq")
    text = source.text_queries(60)
    report = index.recall(vectors=text, count=30, k=5)
    truth = np.argsort(-(text @ stored.astype(np.float16).astype(np.float32).T), axis=1)[:, :5]
    _, found = index.search_vectors(text, top=5)
    share = np.mean([len(np.intersect1d(f - 1, t)) / 5 for f, t in zip(found, truth, strict=True)])
    assert report.recall["text"] == pytest.approx(share, abs=0.005)  # ties
    assert report.queries == {"text": 60, "image": 30}
    assert (report.k, report.rows) == (5, ROWS)
    assert report.cpu_ms["text"] > 0


@pytest.mark.usefixtures("small")
def test_a_target_out_of_reach_says_what_is_in_reach(index, source, stored, monkeypatch):
    monkeypatch.setattr(recall_module, "CANDIDATE_STEPS", (5, 8))
    index.add_vectors(stored, table(ROWS))
    index.compact(recipe="ivfpq")
    with pytest.raises(clipsearch.UsageError, match=r"the most that ivfpq reaches here is 0\.\d+"):
        index.recall(vectors=source.text_queries(50), target=1.0)
    with pytest.raises(clipsearch.UsageError, match="use a recall above 0"):
        index.recall(vectors=source.text_queries(5), target=1.2)


def test_a_scanned_index_has_full_recall_and_nothing_to_tune(index, stored):
    index.add_vectors(stored[:300], table(300))
    report = index.recall(target=0.99)
    assert report.recall == {"image": 1.0}
    assert (report.nprobe, report.recipe) == (None, "flat")


def test_an_empty_index_has_no_recall(index):
    with pytest.raises(clipsearch.UsageError, match="the index is empty"):
        index.recall()
    assert index.compact().rows == 0
    assert index.verify() == []


def test_an_index_with_a_model_is_asked_in_words(tmp_path):
    with clipsearch.Index.create(tmp_path / "index", model="fake") as index:
        dim = index.status().dim
        index.add_vectors(unit_rows(50, 1, dim), table(50))
        assert index.recall().queries == {"text": 200, "image": 50}
        assert index.recall(["red", "green"]).queries == {"text": 2, "image": 50}


@pytest.mark.usefixtures("small")
def test_a_reader_keeps_its_snapshot_through_compaction(index, source, stored):
    index.add_vectors(stored, table(ROWS))
    index.compact(recipe="ivfpq")
    text = source.text_queries(20)
    with clipsearch.Index.open(index.path) as reader:
        snapshot = reader._store.snapshot()
        expected = snapshot.nearest(text, k=10)
        index.remove_vectors(range(1, 2000))
        index.compact(retrain=True)
        for (scores, places), (s, p) in zip(snapshot.nearest(text, k=10), expected, strict=True):
            assert (places == p).all()
            np.testing.assert_array_equal(scores, s)
        assert reader.search_vectors(text, top=10)[1].min() >= 2000


def test_the_real_thresholds_are_those_that_were_measured():
    assert choose_recipe(SCANNED_ROWS, 512, upkeep.memory_bytes()) == "flat"
    assert upkeep.memory_bytes() > 10**8
