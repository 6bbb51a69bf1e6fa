"""Trials of ways to encode pictures: the choice, its memory, and towers that go each way."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch.encoders import devices, load_encoder, parse_spec, trial, tuning
from clipsearch.encoders.base import Feeding
from clipsearch.encoders.devices import limit_threads, usual_feeding
from clipsearch.encoders.openclip import precision_for
from clipsearch.encoders.openclip_pictures import picture_tower
from clipsearch.encoders.pictures import PictureTower
from clipsearch.encoders.trial import Trial, Way, pictures_a_second, recall, remember, splits
from clipsearch.encoders.values import unit_rows
from clipsearch.errors import EncoderError, UsageError

USUAL = Way(Feeding(batch=8, calls=2, threads=1), "fp32")
SIDE = 32


def visual_tower(kind: str, device: str = "cpu") -> PictureTower:
    """A small tower with random weights in fp32; of a ResNet, one with many convolutions."""
    import torch
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.transformer import VisionTransformer

    from clipsearch.encoders.geometry import Geometry

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            if kind == "vit":
                self.visual: Any = VisionTransformer(SIDE, 8, 64, 2, 2, 4.0, output_dim=24)
            else:
                self.visual = ModifiedResNet((1, 1, 1, 1), 24, 4, SIDE, width=8)

        def encode_image(self, x: torch.Tensor) -> torch.Tensor:
            return self.visual(x)  # type: ignore[no-any-return]

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Model().eval().to(device)
    preprocess = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    geometry = Geometry(target=(SIDE, SIDE), crop=(SIDE, SIDE))
    picked = devices.pick_device(device)
    return picture_tower(model, preprocess, geometry, device=picked, precision="fp32")


def pictures(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return list(rng.integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8))


def in_thread(work: Callable[[], Any]) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def test_a_limit_of_threads_is_the_calling_threads_own() -> None:
    import torch

    count, before = torch.get_num_threads, torch.get_num_threads()
    try:
        torch.set_num_threads(3)

        def work() -> tuple[int, int]:
            limit_threads(2)
            return count(), in_thread(count)

        assert in_thread(work) == (2, 3)
        assert (count(), in_thread(count)) == (3, 3)
        limit_threads(1)
        limit_threads(0)
        assert (count(), in_thread(count)) == (1, 3)
        limit_threads(5)
        assert (count(), in_thread(count)) == (5, 3)
    finally:
        torch.set_num_threads(before)
    assert in_thread(count) == before


@pytest.mark.parametrize(
    ("cores", "calls", "threads"), [(1, 1, 1), (2, 2, 1), (16, 16, 1), (64, 16, 4), (100, 16, 6)]
)
def test_a_cpu_is_shared_by_calls(
    cores: int, calls: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "usable_cores", lambda: cores)
    assert usual_feeding("cpu", batch=4) == Feeding(4, calls, threads)
    assert usual_feeding("cuda", batch=4).threads == 0
    others = splits(Feeding(4, calls, threads), cores)
    assert (Feeding(4, 1, cores) in others) == (cores > 1)
    assert all(f.batch == 4 and 1 <= f.calls * f.threads <= cores for f in others)
    assert len(others) == {1: 0, 2: 1, 16: 3, 64: 1, 100: 1}[cores]


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [([], "fp16"), ([(7, 5)], "fp16"), ([(9, 0)], "bf16"), ([(8, 0), (7, 0)], "fp16")],
)
def test_a_gpu_computes_in_bf16_if_it_can(
    capabilities: list[tuple[int, int]], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(capabilities))
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda one: capabilities[one])
    assert precision_for("cuda") == precision


def rated(rates: dict[str, float]) -> Callable[[Way], float]:
    """Pictures a second by precision; one without a number fails as torch does."""

    def rate(way: Way) -> float:
        if way.precision not in rates:
            raise RuntimeError("not implemented for this type")
        return rates[way.precision]

    return rate


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ({"fp32": 10.0, "bf16": 20.0}, "bf16"),
        ({"fp32": 10.0, "bf16": 9.0}, "fp32"),
        ({"fp32": 10.0, "bf16": 10.9}, "fp32"),  # noise
        ({"fp32": 10.0}, "fp32"),
    ],
)
def test_the_fastest_way_is_kept(rates: dict[str, float], chosen: str) -> None:
    found = Trial(USUAL, rated(rates))
    assert found.offer([replace(USUAL, precision="bf16")]) == (chosen != "fp32")
    assert found.best.precision == chosen
    assert len(found.rates) == 2


def test_the_best_of_several_ways_is_taken() -> None:
    rates = {Feeding(8, 2, 1): 5.0, Feeding(8, 1, 2): 8.0, Feeding(8, 1, 3): 7.0}
    found = Trial(USUAL, lambda way: rates[way.feeding])
    assert found.offer([replace(USUAL, feeding=feeding) for feeding in rates])
    assert found.best.feeding == Feeding(8, 1, 2)
    assert not found.offer([])
    assert "8.0/s" in str(found)
    assert str(found).endswith("fp32, 1 calls x 2 threads")


def test_a_slow_model_is_not_tried_for_long() -> None:
    times = iter([0.0, trial.LONGEST_SECONDS / 2, trial.LONGEST_SECONDS])
    rates = {"fp32": 1.0, "bf16": 2.0, "fp16": 4.0}
    found = Trial(USUAL, rated(rates), clock=lambda: next(times))
    assert found.offer([replace(USUAL, precision=name) for name in ("bf16", "fp16")])
    assert [way.precision for way in found.rates] == ["fp32", "bf16"]


@pytest.mark.parametrize(
    ("fits", "pays", "grown"), [(100, 1000, 64), (10**6, 32, 32), (10**6, 10**6, 1024), (8, 8, 8)]
)
def test_a_batch_grows_while_it_fits_and_pays(fits: int, pays: int, grown: int) -> None:
    def rate(way: Way) -> float:
        if way.feeding.batch > fits:
            raise RuntimeError("out of memory")
        return float(min(way.feeding.batch, pays))

    found = Trial(USUAL, rate, clock=lambda: 0.0)
    found.grow()
    assert found.best.feeding == replace(USUAL.feeding, batch=grown)


def test_pictures_a_second_are_counted() -> None:
    now = [0.0]

    def encode() -> None:
        now[0] += 0.1

    assert pictures_a_second(encode, Feeding(6), clock=lambda: now[0]) == pytest.approx(60.0)


def test_calls_that_are_timed_run_at_once() -> None:
    together = threading.Barrier(3)
    ticks = itertools.count()
    rate = pictures_a_second(
        lambda: together.wait(timeout=20), Feeding(2, 3), clock=lambda: float(next(ticks))
    )
    assert rate > 0

    def fail() -> None:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError):
        pictures_a_second(fail, Feeding(2, 3))


def test_what_was_found_is_remembered(tmp_path: Path) -> None:
    memory = tmp_path / "new" / "trials.json"
    other = replace(USUAL, precision="bf16", channels_last=False)
    assert recall(memory, "one") is None
    remember(memory, "one", USUAL)
    remember(memory, "two", other)
    assert (recall(memory, "one"), recall(memory, "two")) == (USUAL, other)
    assert recall(memory, "three") is None


@pytest.mark.parametrize(
    "changed",
    [
        {"precision": "fp8"},
        {"precision": ["fp32"]},
        {"channels_last": 1},
        {"feeding": {"batch": 0, "calls": 1, "threads": 1}},
        {"feeding": {"batch": 8, "calls": 10**9, "threads": 1}},
        {"feeding": {"batch": 10**9, "calls": 1, "threads": 1}},
        {"feeding": {"batch": 8.5, "calls": 1, "threads": 1}},
        {"feeding": {"batch": 8, "calls": 1, "threads": -1}},
        {"feeding": {"batch": 8, "calls": 1, "threads": 10**9}},
        {"feeding": {"batch": 8, "calls": 1, "threads": 1, "more": 1}},
        {"feeding": None},
    ],
)
def test_a_memory_that_makes_no_sense_is_none(changed: dict[str, Any], tmp_path: Path) -> None:
    memory = tmp_path / "trials.json"
    remember(memory, "one", USUAL)
    entries = json.loads(memory.read_text())
    memory.write_text(json.dumps({"one": {**entries["one"], **changed}}))
    assert recall(memory, "one") is None


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"one": 3}', b"[" * 100000])
def test_a_damaged_memory_is_written_anew(content: bytes, tmp_path: Path) -> None:
    memory = tmp_path / "trials.json"
    memory.write_bytes(content)
    assert recall(memory, "one") is None
    remember(memory, "one", USUAL)
    assert recall(memory, "one") == USUAL


def test_a_memory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for memory in (tmp_path, tmp_path / "file" / "trials.json"):
        remember(memory, "one", USUAL)
        assert recall(memory, "one") is None


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_every_way_gives_the_same_vectors(kind: str) -> None:
    tower, some = visual_tower(kind), pictures(11)
    rows = tower.rows(some)
    assert rows.shape == (11, 24)
    for way in (
        replace(tower.way, precision="bf16"),
        replace(tower.way, channels_last=False),
        replace(tower.way, feeding=Feeding(3, 1, 1)),
    ):
        tower.go(way)
        near = (unit_rows(tower.rows(some)) * unit_rows(rows)).sum(axis=1)
        assert near.min() > tuning.NEAR
    tower.go(USUAL)
    np.testing.assert_array_equal(tower.rows(some), rows)  # the weights are those from before


def test_a_tower_is_tuned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = tmp_path / "trials.json"
    tower = visual_tower("resnet")
    tried: list[Way] = []
    monkeypatch.setattr(tuning, "usable_cores", lambda: 2)
    monkeypatch.setattr(
        tuning,
        "pictures_a_second",
        lambda encode, feeding: tried.append(tower.way) or (99.0 if len(tried) == 3 else 9.0),
    )
    line = tuning.tune(tower, memory, fingerprint="model@1")
    assert [way.precision for way in tried[:3]] == ["fp32", "bf16", "fp32"]
    assert len(tried) == 4
    assert tower.way.channels_last is False
    assert tower.way.feeding.batch == usual_feeding("cpu", batch=8).batch
    assert line is not None
    assert "99.0/s" in line
    again = visual_tower("resnet")
    assert tuning.tune(again, memory, fingerprint="model@1") is None
    assert again.way == tower.way
    assert len(tried) == 4
    assert tuning.tune(again, memory, fingerprint="model@2") is not None


def test_a_way_to_other_vectors_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = visual_tower("vit")
    rows = tower.rows(pictures(3))
    encode = tower.encode
    monkeypatch.setattr(
        tower, "encode", lambda p: encode(p) * (-1.0 if tower.way.precision == "bf16" else 1.0)
    )
    monkeypatch.setattr(
        tuning, "pictures_a_second", lambda *_: 99.0 if tower.way.precision == "bf16" else 9.0
    )
    tuning.tune(tower, tmp_path / "trials.json", fingerprint="model@1")
    assert tower.way.precision == "fp32"
    np.testing.assert_array_equal(tower.rows(pictures(3)), rows)


def test_a_batch_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    tower, some = visual_tower("vit"), pictures(21)
    rows, encode, sizes = tower.rows(some), tower.encode, []

    def small(prepared: list[np.ndarray]) -> np.ndarray:
        if len(prepared) > most:
            raise torch.OutOfMemoryError("out of memory")
        sizes.append(len(prepared))
        return encode(prepared)

    monkeypatch.setattr(tower, "encode", small)
    most = 3
    np.testing.assert_allclose(tower.rows(some), rows, atol=1e-5)
    assert set(sizes) == {2, 1}
    assert tower.way.feeding.batch == 2
    most = 0
    with pytest.raises(EncoderError, match="one picture does not fit"):
        tower.rows(some)


@pytest.mark.parametrize("most", [0, 3])
def test_a_usual_batch_that_does_not_fit_is_left_to_the_run(
    most: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch

    tower, some, memory = visual_tower("vit"), pictures(8), tmp_path / "trials.json"
    rows, encode = tower.rows(some), tower.encode

    def small(prepared: list[np.ndarray]) -> np.ndarray:
        if len(prepared) > most:
            raise torch.OutOfMemoryError("out of memory")
        return encode(prepared)

    monkeypatch.setattr(tower, "encode", small)
    monkeypatch.setattr(tuning, "CALL_SECONDS", 60.0)
    usual = tower.way
    assert tuning.tune(tower, memory, fingerprint="model@1") is None
    assert tower.way == usual
    assert not memory.exists()
    if most:
        np.testing.assert_allclose(tower.rows(some), rows, atol=1e-5)


def test_a_remembered_type_that_is_not_tried_is_tried_anew(tmp_path: Path) -> None:
    memory, tower = tmp_path / "trials.json", visual_tower("vit")
    tower.network = replace(tower.network, convert=None)
    key = tuning._key("model@1", tower.network.device)
    remember(memory, key, replace(USUAL, precision="bf16"))
    assert tuning.tune(tower, memory, fingerprint="model@1") is not None
    assert tower.way.precision == "fp32"
    found = recall(memory, key)
    assert found is not None
    assert found.precision == "fp32"


def test_a_compiled_batch_that_does_not_fit_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    tower, some = visual_tower("vit"), pictures(8)
    rows, own = tower.rows(some), tower.network.encode

    def compiled(x: torch.Tensor) -> torch.Tensor:
        if len(x) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return own(x)

    monkeypatch.setattr(torch, "compile", lambda encode, dynamic: compiled)
    tower.compiles = True
    np.testing.assert_allclose(tower.rows(some), rows, atol=1e-5)
    assert tower.way.feeding.batch == 2


def test_what_needs_no_trial_has_none(tmp_path: Path) -> None:
    encoder = load_encoder(parse_spec("fake"))
    assert encoder.tune(tmp_path / "trials.json") is None
    assert not list(tmp_path.iterdir())
    assert encoder.feeding.calls == 1
    with pytest.raises(UsageError, match="fake"):
        load_encoder(parse_spec("fake"), compile=True)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_calls_at_once_on_a_gpu_keep_their_rows(kind: str, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    tower, some = visual_tower(kind, "cuda"), pictures(400)
    rows = visual_tower(kind).rows(some)
    parts = [some[start : start + 25] for start in range(0, 400, 25)]
    for _ in range(2):
        with ThreadPoolExecutor(4) as pool:
            made = np.concatenate(list(pool.map(tower.rows, parts)))
        assert (unit_rows(made) * unit_rows(rows)).sum(axis=1).min() > tuning.NEAR
        assert tower.way.feeding.batch >= 128
        tuning.tune(tower, tmp_path / "trials.json", fingerprint="model@1")
    assert recall(tmp_path / "trials.json", tuning._key("model@1", tower.network.device))
