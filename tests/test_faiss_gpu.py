"""FAISS on a GPU against searching without one; FAISS's CPU indexes stand for one here."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import clipsearch
from clipsearch.store import gpu as gpu_module
from clipsearch.store import quantiser as quantiser_module
from clipsearch.store.exact import load_faiss
from clipsearch.store.gpu import MISSING, ROUNDING, Gpu, certain, find_tools, gpu_number
from clipsearch.store.manifest import Manifest
from clipsearch.store.recipes import get_recipe
from clipsearch.store.selection import Selection
from clipsearch.store.store import Store
from clipsearch.store.vectors import blocks_of
from clipsearch.types import VISUAL_KINDS, ScoredUnit, UnitKind, Vectors
from tests.vectors import DIM, ROOT, manifest, many, unit_rows

PER_BATCH = 40  # of `many`: as many images, and videos of eight frames


class NoisyIndex:
    """A CPU index that is as far off as a GPU may be."""

    def __init__(self, index: Any, room: list[int]) -> None:
        self._index, self._room = index, room
        self._random = np.random.default_rng(0)

    def add(self, rows: Vectors) -> None:
        self._room[0] -= len(rows)
        if self._room[0] < 0:
            raise RuntimeError("Error: 'err == cudaSuccess' failed: CUDA error 2 out of memory")
        self._index.add(rows)

    def search(self, queries: Vectors, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The `k` best by scores that are all off, as it would be there."""
        scores, rows = self._index.search(queries, self._index.ntotal)
        scores += self._random.uniform(-ROUNDING, ROUNDING, scores.shape).astype(np.float32)
        order = np.argsort(-scores, axis=1)[:, :k]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


class Twin:
    """FAISS on the CPU, as if on a GPU with room for some rows."""

    def __init__(self, rows: int = 1 << 30, *, tells: bool = False) -> None:
        self._room, self._tells = [rows], tells

    def flat(self, dim: int, *, half: bool) -> Any:
        faiss = load_faiss()
        if not half:
            return faiss.IndexFlatIP(dim)
        codes = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexScalarQuantizer(dim, codes, faiss.METRIC_INNER_PRODUCT)
        return NoisyIndex(index, self._room)

    def free_bytes(self) -> int | None:
        return self._room[0] * DIM * 2 if self._tells else None


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_module, "LEAST_ROWS", 1)
    monkeypatch.setattr(gpu_module, "COPIED_AFTER", 1)
    monkeypatch.setattr(gpu_module, "COPY_ROWS", 100)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three segments, with dead rows of each kind in the first."""
    folder = tmp_path_factory.mktemp("store") / "index"
    store = Store.create(folder, manifest())
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        for seed in (1, 2):
            writer.publish(many(PER_BATCH, seed))
        writer.publish(many(6, 1))  # which are known: their old rows die
    store.close()
    return folder


@pytest.fixture
def store(built: Path) -> Iterator[Store]:
    store = Store.open(built)
    yield store
    store.close()


def told_by(store: Store, tools: Twin | str, device: str = "cuda") -> list[str]:
    """Give a store a GPU; what is said of it."""
    told: list[str] = []
    store.gpu = Gpu(device, told.append, find=lambda _: tools)
    return told


def used_copies(store: Store) -> int:
    assert store.gpu is not None
    return len(store.gpu.copies([view.segment for view in store.snapshot().views], 0))


def assert_same(found: list[list[ScoredUnit]], expected: list[list[ScoredUnit]]) -> None:
    """The same units and scores, but for which of some with the last score there are."""
    for own, wanted in zip(found, expected, strict=True):
        scores = [unit.score for unit in wanted]
        np.testing.assert_allclose([unit.score for unit in own], scores, atol=1e-6)
        ids = [unit.id for unit in own]
        assert len(set(ids)) == len(ids)
        assert {u.id for u in wanted if u.score > scores[-1] + 1e-6} <= set(ids)


@pytest.mark.parametrize(
    ("device", "number"),
    [("auto", 0), ("cuda", 0), ("cuda:3", 3), ("cpu", None), ("mps", None), ("cuda:x", None)],
)
def test_which_gpu_a_device_means(device: str, number: int | None) -> None:
    assert gpu_number(device) == number


@pytest.mark.parametrize("seed", range(8))
def test_what_is_proposed_holds_the_best_or_is_not_certain(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows, k, fetched = 300, int(random.integers(1, 12)), int(random.integers(4, 40))
    exact = random.normal(0, random.choice([0.002, 0.05]), (5, rows)).astype(np.float32)
    scores = exact + random.uniform(-ROUNDING, ROUNDING, exact.shape).astype(np.float32)
    allowed = random.random(rows) < 0.8
    order = np.argsort(-scores, axis=1)[:, :fetched]
    own = np.take_along_axis(scores, order, 1)
    proposed = certain(np.where(allowed[order], own, -np.inf), order, own[:, -1], k)
    for places, query in zip(proposed, exact, strict=True):
        best = np.argsort(np.where(allowed, -query, np.inf))[:k]
        assert places is None or set(best) <= set(places)
    everything = np.broadcast_to(np.arange(rows), scores.shape)
    unseen = np.full(5, -np.inf, np.float32)
    for places in certain(np.where(allowed, scores, -np.inf), everything, unseen, k):
        assert places is not None
        assert allowed[places].all()
        assert k <= len(places) < rows
    assert certain(scores, everything, unseen, rows + 1)[0].size == rows  # type: ignore[union-attr]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kinds", [VISUAL_KINDS, ("image",), ("frame",), ("video", "image")])
@pytest.mark.parametrize("k", [1, 10, 700])
def test_search_equals_search_without_a_gpu(
    store: Store, kinds: tuple[UnitKind, ...], k: int
) -> None:
    queries = unit_rows(9, 5)
    expected = store.search(queries, k=k, kinds=kinds)
    told = told_by(store, Twin())
    assert_same(store.search(queries, k=k, kinds=kinds), expected)
    assert_same(store.search(queries, k=k, kinds=kinds, exact=True), expected)
    scores, _ = store.search_ids(queries, k=k, kinds=kinds, exact=False)
    for own, units in zip(scores, expected, strict=True):
        np.testing.assert_allclose(own[own > -1], [unit.score for unit in units], atol=1e-6)
    assert used_copies(store) == 3
    assert not told


@pytest.mark.usefixtures("small")
def test_segments_without_rows_of_a_kind_have_none_of_it(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "index", manifest())
    with store.writing() as writer:
        for block in blocks_of(unit_rows(20, 7), {"path": ["a"] * 20}, dim=DIM, normalize=True):
            writer.publish_vectors(block.vectors, block.rows, block.columns)
    told_by(store, Twin())
    assert store.search(unit_rows(2, 5), k=4, kinds=("frame",)) == [[], []]
    assert used_copies(store) == 1


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("without", [5, 70])
def test_search_of_what_a_selection_leaves(store: Store, without: int) -> None:
    queries, gone = unit_rows(5, 6), Selection(without=frozenset(range(1, without)))
    expected = store.search(queries, k=8, selection=gone)
    told_by(store, Twin())
    assert_same(store.search(queries, k=8, selection=gone), expected)


@pytest.mark.usefixtures("small")
def test_a_query_with_too_many_alike_is_searched_without_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_module, "FETCHED", 20)
    store = Store.create(tmp_path / "index", Manifest("fake", "f", DIM, "auto", {}))
    rows = unit_rows(1, 3) + np.random.default_rng(0).normal(0, 2e-4, (300, DIM))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    alike, others = unit_rows(1, 3), unit_rows(1, 4)
    with store.writing() as writer:
        for block in blocks_of(
            np.concatenate([rows, unit_rows(300, 7)]),
            {"path": ["a"] * 600},
            dim=DIM,
            normalize=True,
        ):
            writer.publish_vectors(block.vectors, block.rows, block.columns)
    expected = store.search(np.concatenate([alike, others]), k=4)
    told_by(store, Twin())
    queries = np.concatenate([alike, others])
    assert_same(store.search(queries, k=4), expected)
    views = store.snapshot().views
    gpu = store.gpu
    assert gpu is not None
    parts = [
        gpu_module.Part(copies, 0, None)
        for copies in gpu.copies([view.segment for view in views], 0).values()
    ]
    unsure, sure = gpu.propose(queries, parts, ("image",), 4)
    assert unsure is None
    assert sure is not None


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("tools", [Twin(450), Twin(1100, tells=True)], ids=["full", "planned"])
def test_rows_that_do_not_fit_stay_on_the_cpu(store: Store, tools: Twin) -> None:
    queries = unit_rows(5, 6)
    expected = store.search(queries, k=8)
    told = told_by(store, tools)
    for _ in range(2):
        assert_same(store.search(queries, k=8), expected)
    assert 0 < used_copies(store) < 3
    [notice] = told
    assert "do not fit into half of the GPU's free memory" in notice


@pytest.mark.usefixtures("small")
def test_another_error_of_the_gpu_is_no_full_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("CUDA error 98 invalid device function")

    monkeypatch.setattr(NoisyIndex, "add", fail)
    told_by(store, Twin())
    with pytest.raises(RuntimeError, match="invalid device"):
        store.search(unit_rows(1, 6), k=8)


@pytest.mark.usefixtures("small")
def test_copies_go_with_their_segments(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(Path(shutil.copytree(built, tmp_path / "index")))
    told_by(store, Twin())
    store.search(unit_rows(5, 6), k=8)
    assert store.gpu is not None
    assert len(store.gpu._copies) == 3
    mine = {id(copy.index) for copies in store.gpu._copies.values() for copy in copies.values()}
    guard, freed = store.gpu._guard, list[bool]()

    def free(index: NoisyIndex) -> None:
        if id(index) in mine:
            freed.append(guard._is_owned())  # type: ignore[attr-defined]

    monkeypatch.setattr(NoisyIndex, "__del__", free, raising=False)
    with store.writing() as writer:
        writer.compact(memory=1 << 30)
    expected = store.search(unit_rows(5, 6), k=8)
    gc.collect()
    assert len(store.gpu._copies) == 1
    assert used_copies(store) == 1
    assert freed == [True] * len(mine)  # never while another thread is at the GPU
    store.gpu = None
    assert_same(store.search(unit_rows(5, 6), k=8), expected)


def test_rows_are_copied_when_that_pays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    told_by(store, Twin())
    store.search(unit_rows(200, 6), k=8)
    assert used_copies(store) == 0  # few rows
    monkeypatch.setattr(gpu_module, "LEAST_ROWS", 1)
    told_by(store, Twin())
    store.search(unit_rows(31, 6), k=8)
    assert used_copies(store) == 0  # few queries
    store.search(unit_rows(1, 6), k=8)
    assert used_copies(store) == 3


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("device", "notices"), [("cuda", 1), ("cuda:1", 1), ("auto", 0), ("cpu", 0)]
)
def test_the_cpu_build_is_told_once_to_who_asked_for_a_gpu(
    store: Store, device: str, notices: int
) -> None:
    queries = unit_rows(40, 6)
    expected = store.search(queries, k=8)
    told = told_by(store, MISSING, device)
    assert_same(store.search(queries, k=8), expected)
    store.search(queries, k=8)
    assert store.gpu is not None
    assert store.gpu.clusterer(DIM) is None
    assert told == [MISSING] * notices


@pytest.mark.skipif(hasattr(load_faiss(), "StandardGpuResources"), reason="a GPU build of FAISS")
def test_the_cpu_build_has_no_tools() -> None:
    assert find_tools(0) == MISSING


@pytest.mark.usefixtures("small")
@pytest.mark.skipif(hasattr(load_faiss(), "StandardGpuResources"), reason="a GPU build of FAISS")
@pytest.mark.parametrize(("device", "notices"), [("cuda", [MISSING]), ("auto", [])])
def test_the_device_of_an_index_is_the_one_of_its_store(
    tmp_path: Path, device: str, notices: list[str]
) -> None:
    told: list[str] = []
    rows = unit_rows(20, 3)
    with clipsearch.Index.create(tmp_path / "index", model=None, dim=DIM) as index:
        index.add_vectors(rows, {"path": list("abcdefghijklmnopqrst")})
    with clipsearch.Index.open(tmp_path / "index", device=device, on_notice=told.append) as index:
        hits = index.search_vectors(rows, top=1)
    assert [own.tolist() for own in hits[1]] == [[number] for number in range(1, 21)]
    assert told == notices


def test_training_shares_nothing_with_searches() -> None:
    made: list[Twin] = []
    gpu = Gpu("cuda", print, find=lambda _: made.append(Twin()) or made[-1])
    for _ in range(2):
        assert gpu.clusterer(DIM) is not None
    assert len(made) == 3
    assert gpu._tools is made[0]


@pytest.mark.parametrize("recipe", ["ivfpq", "ivfpq-large"])
def test_training_by_another_index_is_the_same_training(tmp_path: Path, recipe: str) -> None:
    sample = unit_rows(3000, 5)
    files = []
    for clusterer in (None, Gpu("cuda", print, find=lambda _: Twin()).clusterer(DIM)):
        facts = quantiser_module.train(
            sample, get_recipe(recipe), 3000, tmp_path, clusterer=clusterer
        )
        files.append((tmp_path / "quantisers" / f"{facts.name}.faiss").read_bytes())
    assert files[0] == files[1]


@pytest.mark.gpu
@pytest.mark.parametrize("kinds", [VISUAL_KINDS, ("frame",)])
def test_search_on_a_real_gpu(
    store: Store, kinds: tuple[UnitKind, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_module, "LEAST_ROWS", 1)
    queries = unit_rows(40, 5)
    expected = store.search(queries, k=10, kinds=kinds)
    told: list[str] = []
    store.gpu = Gpu("cuda", told.append)
    assert_same(store.search(queries, k=10, kinds=kinds), expected)
    assert not told
    assert used_copies(store) == 3


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", ["ivfpq", "ivfpq-large"])
def test_training_on_a_real_gpu_is_as_good(tmp_path: Path, recipe: str) -> None:
    sample = unit_rows(20_000, 5)
    errors = []
    for clusterer in (None, Gpu("cuda", print).clusterer(DIM)):
        facts = quantiser_module.train(
            sample, get_recipe(recipe), 20_000, tmp_path, clusterer=clusterer
        )
        path = tmp_path / "quantisers" / f"{facts.name}.faiss"
        index = quantiser_module.parse_index(path.read_bytes(), path)
        errors.append(1 - index.quantizer.search(sample, 1)[0].mean())
    assert errors[1] == pytest.approx(errors[0], rel=0.02)
