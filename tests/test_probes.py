"""Probes: the minimum that they are, what is saved, and how well they do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch import probes
from clipsearch.engine import Index
from clipsearch.errors import UsageError
from clipsearch.probes import FEW_STRENGTH, evaluate, train
from clipsearch.search.probe import Probe
from clipsearch.types import Vectors
from tests.e2e.support import BLUE, GREEN, RED, run, write_film, write_photo

DIM = 16


def cloud(count: int, seed: int, shift: float, spread: float = 0.25) -> Vectors:
    """Unit rows around a direction that turns with `shift`."""
    random = np.random.default_rng(seed)
    centre = np.zeros(DIM)
    centre[0], centre[1] = 1.0, shift
    rows = centre + spread * random.standard_normal((count, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def probe() -> Probe:
    return train(
        cloud(40, 1, 0.4), cloud(90, 2, -0.4), fingerprint="fake:16@1", classes=("dög", "not")
    )


def slope(probe: Probe, sides: tuple[Vectors, Vectors], strength: float) -> float:
    """The largest derivative of balanced, regularised log loss at a probe's weights."""
    total = sum(map(len, sides))
    weights, bias = probe.vector.astype(np.float64) * probe.scale, probe.bias
    gradient, bias_gradient = weights.copy(), 0.0
    for rows, truth in zip(sides, (1.0, 0.0), strict=True):
        share = strength * total / (2 * len(rows))
        for row in rows.astype(np.float64):
            error = 1 / (1 + np.exp(-(row @ weights + bias))) - truth
            gradient += share * error * row
            bias_gradient += share * error
    return float(max(np.abs(gradient).max(), abs(bias_gradient)))


def test_a_probe_of_few_examples_is_the_minimum_of_the_loss() -> None:
    sides = cloud(5, 3, 0.5), cloud(30, 4, -0.5)
    probe = train(*sides, fingerprint="x")
    assert slope(probe, sides, FEW_STRENGTH) < 1e-2
    assert slope(probe, sides, 3 * FEW_STRENGTH) > 0.1  # it is steep elsewhere
    assert probe.counts == (5, 30)


def test_many_examples_choose_how_strongly_they_are_believed() -> None:
    def chosen(spread: float) -> float:
        sides = cloud(60, 5, 0.5, spread), cloud(60, 6, -0.5, spread)
        found = train(*sides, fingerprint="x")
        slopes = {c: slope(found, sides, c) for c in probes.STRENGTHS}
        return min(slopes, key=lambda c: slopes[c] / c)

    assert chosen(1.5) < chosen(0.1)  # what hardly differs is believed less


def test_probabilities_are_right_about_half_of_the_time_they_say_half() -> None:
    random = np.random.default_rng(0)
    sides = cloud(300, 7, 0.15, 0.3), cloud(300, 8, -0.15, 0.3)
    found = train(*sides, fingerprint="x")
    fresh = np.concatenate([cloud(4000, 9, 0.15, 0.3), cloud(4000, 10, -0.15, 0.3)])
    said = found.probability(fresh @ found.vector)
    truth = np.repeat([1.0, 0.0], 4000)
    for low in (0.1, 0.3, 0.5, 0.7):
        inside = (said >= low) & (said < low + 0.2)
        assert inside.sum() > 200
        assert said[inside].mean() == pytest.approx(truth[inside].mean(), abs=0.08)
    shuffled = random.permutation(fresh)
    assert found.probability(shuffled @ found.vector).mean() == pytest.approx(0.5, abs=0.03)


def test_a_probability_rises_with_the_cosine_and_back(probe: Probe) -> None:
    cosines = np.linspace(-1, 1, 101)
    chances = probe.probability(cosines)
    assert (np.diff(chances) > 0).all()
    logits = probe.scale * cosines + probe.bias
    np.testing.assert_allclose(np.log(chances / (1 - chances)), logits, rtol=1e-6, atol=1e-6)
    for chance in (0.01, 0.5, 0.99):
        assert probe.probability([probe.cosine_at(chance)]) == pytest.approx(chance)
    assert (probe.cosine_at(0.0), probe.cosine_at(1.0)) == (-np.inf, np.inf)
    steep = Probe(probe.vector, -1e5, 1e6, "x", ("a", "b"), (1, 1))
    np.testing.assert_array_equal(steep.probability([-1, 1]), [0, 1])
    with pytest.raises(UsageError, match="use 0 to 1"):
        probe.cosine_at(1.5)


def test_it_comes_back_to_the_bit(probe: Probe, tmp_path: Path) -> None:
    probe.save(tmp_path / "dogs.probe")
    again = Probe.load(tmp_path / "dogs.probe")
    np.testing.assert_array_equal(again.vector, probe.vector)
    assert again.vector.dtype == np.float32
    assert (again.bias, again.scale) == (probe.bias, probe.scale)
    assert (again.fingerprint, again.dim) == ("fake:16@1", DIM)
    assert (again.classes, again.counts) == (("dög", "not"), (40, 90))
    assert [file.name for file in tmp_path.iterdir()] == ["dogs.probe"]


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.pop(name)


SPOILED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "a number": (lambda c: c["vector"].__setitem__(3, 0.25), "checksum"),
    "the bias": (lambda c: c.update(bias=0.0), "checksum"),
    "no checksum": (without("sha256"), "checksum"),
    "newer": (lambda c: c.update(version=2), "version 2, this clipsearch reads 1: install"),
    "no such version": (lambda c: c.update(version=0), "does not say its version"),
    "no version": (without("version"), "does not say its version"),
    "another format": (lambda c: c.update(format="clipsearch head"), "is no probe: make one"),
}


@pytest.mark.parametrize("what", list(SPOILED))
def test_a_changed_file_is_refused(what: str, probe: Probe, tmp_path: Path) -> None:
    change, message = SPOILED[what]
    content = json.loads(probe.to_json())
    change(content)
    (tmp_path / "bad.probe").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=message):
        Probe.load(tmp_path / "bad.probe")


@pytest.mark.parametrize("name", ["bias", "counts"])
def test_numbers_that_are_too_large_are_refused(name: str, probe: Probe, tmp_path: Path) -> None:
    content = json.loads(probe.to_json())
    del content["sha256"]
    content |= {"bias": 10**400} if name == "bias" else {"counts": [float("inf"), 1]}
    text = json.dumps(content, sort_keys=True)
    content["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (tmp_path / "large.probe").write_text(json.dumps(content))
    with pytest.raises(UsageError, match="is no whole probe"):
        Probe.load(tmp_path / "large.probe")


def test_what_is_no_probe_at_all_is_refused(probe: Probe, tmp_path: Path) -> None:
    file, whole = tmp_path / "bad.probe", probe.to_json().encode()
    for content in (b"", whole[:200], b"[1, 2]", b"\x89PNG\r\n\0\0", b"[" * 10_000, b'{"a": NaN}'):
        file.write_bytes(content)
        with pytest.raises(UsageError, match="is no probe"):
            Probe.load(file)
    with pytest.raises(UsageError, match="cannot read"):
        Probe.load(tmp_path / "missing.probe")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vector": np.ones(3, np.float32)}, "need unit length"),
        ({"vector": np.array([1.0, 0.0])}, "float32"),
        ({"vector": np.full(4, np.nan, np.float32)}, "need unit length"),
        ({"scale": 0.0}, "scale > 0"),
        ({"bias": float("nan")}, "finite"),
    ],
)
def test_values_that_are_no_probe_are_refused(change: dict[str, Any], message: str) -> None:
    values = {"vector": np.array([0, 1], np.float32), "bias": 0.0, "scale": 1.0} | change
    with pytest.raises(UsageError, match=message):
        Probe(**values, fingerprint="x", classes=("a", "b"), counts=(1, 1))


def test_examples_are_checked() -> None:
    rows = cloud(3, 1, 0.4)
    with pytest.raises(UsageError, match="no negative examples"):
        train(rows, rows[:0], fingerprint="x")
    with pytest.raises(UsageError, match="nothing tells them apart"):
        train(rows[:1], rows[:1], fingerprint="x")
    with pytest.raises(UsageError, match="16 dimensions, negative ones 8"):
        train(rows, np.eye(2, 8, dtype=np.float32), fingerprint="x")
    with pytest.raises(UsageError, match="two examples"):
        evaluate(rows[:1], rows)
    with pytest.raises(UsageError, match="numbers of 1 or more"):
        evaluate(rows, rows, shots=[0])


def test_more_examples_do_better_and_words_as_well_as_they_point() -> None:
    sides = cloud(40, 11, 0.4, 0.35), cloud(60, 12, -0.4, 0.35)
    axis = np.eye(2, DIM, dtype=np.float32)[1:]
    found = evaluate(*sides, shots=(1, 4, 12, 500), words=(axis, -axis), draws=6)
    assert [item.shots for item in found] == [None, 1, 4, 12]  # 500 are not there
    words, one, _, twelve = found
    assert 0.5 < one.mean < twelve.mean
    assert 0 < twelve.deviation < 0.2
    naive = [(side @ axis[0] > 0).mean() for side in sides]
    assert words.mean == pytest.approx((naive[0] + 1 - naive[1]) / 2, abs=0.03)
    assert evaluate(*sides, shots=(4,), draws=6) == [found[2]]
    assert all(item.draws == 6 for item in found)


def test_guessing_is_half_whatever_the_sizes() -> None:
    sides = cloud(200, 13, 0.0), cloud(20, 14, 0.0)
    [found] = evaluate(*sides, shots=(4,), draws=25)
    assert found.mean == pytest.approx(0.5, abs=0.08)


def test_what_is_learned_from_is_never_tested_on(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = cloud(9, 15, 0.4), cloud(12, 16, -0.4)
    learned: list[set[bytes]] = []
    tested: list[set[bytes]] = []

    def recording(positive: Vectors, negative: Vectors, **given: Any) -> Probe:
        learned.append({row.tobytes() for rows in (positive, negative) for row in rows})
        return train(positive, negative, **given)

    def splitting(rows: Vectors, random: np.random.Generator) -> tuple[Vectors, Vectors]:
        learn, test = split(rows, random)
        assert len(learn) + len(test) == len(rows)
        tested.append({row.tobytes() for row in test})
        return learn, test

    split = probes._split
    monkeypatch.setattr(probes, "train", recording)
    monkeypatch.setattr(probes, "_split", splitting)
    evaluate(*sides, shots=(2, 4), draws=3)
    assert len(learned) == 6
    for draw in range(3):
        held_out = tested[2 * draw] | tested[2 * draw + 1]
        assert len(held_out) == 4 + 6
        for examples in learned[2 * draw : 2 * draw + 2]:
            assert not examples & held_out
    assert [len(examples) for examples in learned] == [4, 8] * 3


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of ten red and ten blue pictures; and as many more, and a film, that it has not."""
    folder = tmp_path_factory.mktemp("probes")
    for number in range(10):
        write_photo(folder / "media" / "red" / f"{number}.png", RED, number)
        write_photo(folder / "media" / "blue" / f"{number}.png", BLUE, number + 50)
    with Index.create(folder / "index", model="fake:64") as index:
        assert not index.add([folder / "media"]).failures
    write_photo(folder / "new" / "red.png", RED, 99)
    write_film(folder / "new" / "film.mp4", [(RED, [0, 500, 1000, 1500, 2000])])
    (folder / "new" / "broken.png").write_bytes(b"no picture")
    return folder


def test_the_command_learns_from_indexed_and_new_files(place: Path, tmp_path: Path) -> None:
    media, out = place / "media", tmp_path / "red.probe"
    ran = run(
        *("probe", "train", "--positive", media / "red", "--positive", place / "new"),
        *("--negative", media / "blue", "-o", out, "--index", place / "index"),
    ).ok()
    assert ran.out == ""
    assert ran.skipped == [f"skipping {place / 'new/broken.png'}: {reason(ran.err)}"]
    assert "learned from 12 positive and 10 negative examples, of which it has 12 and 10" in ran.err
    learned = Probe.load(out)
    assert (learned.classes, learned.counts) == (("red, new", "blue"), (12, 10))
    with Index.open(place / "index") as index:
        assert learned.fingerprint == index.fingerprint == index.encoder.fingerprint
        red, green, blue = index.encoder.encode_text(["red", "green", "blue"])
    chances = learned.probability(np.stack([red, green, blue]) @ learned.vector)
    assert chances[0] > 0.9
    assert chances[2] < 0.1
    again = run("probe", "train", "--positive", media / "red", "--negative", media / "blue")
    assert again.code == 2  # no -o
    refused = run(
        *("probe", "train", "--positive", media / "red", "--negative", media / "blue"),
        *("-o", out, "--index", place / "index"),
    )
    assert (refused.code, "give --overwrite" in refused.err) == (2, True)


def reason(err: str) -> str:
    [line] = [line for line in err.splitlines() if line.startswith("skipping")]
    return line.rpartition(": ")[2]


def test_the_command_measures(place: Path) -> None:
    media = place / "media"
    ran = run(
        *("probe", "eval", "--positive", media / "red", "--negative", media / "blue", "--json"),
        *("--shots", "1,4,16", "--words", "red", "--against", "blue", "--draws", "4"),
        *("--index", place / "index"),
    ).ok()
    assert [record["shots"] for record in ran.records] == ["words", 1, 4]
    assert [record["accuracy"] for record in ran.records] == [1.0, 1.0, 1.0]
    assert "left out 16: half of 10 positive and 10 negative examples" in ran.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--words", "red"], "--words and --against go together"),
        (["--shots", "1,x"], "give numbers of examples"),
        (["--shots", "0"], "give numbers of examples"),
        (["--prompts", "many"], "use one of"),
    ],
)
def test_wrong_options_are_told(place: Path, options: list[str], message: str) -> None:
    if options[0] == "--prompts":
        options = [*options, "--words", "red", "--against", "blue"]
    sides = ("--positive", place / "media/red", "--negative", place / "media/blue")
    ran = run("probe", "eval", *sides, *options, "--index", place / "index")
    assert (ran.code, message in ran.err) == (2, True), ran.err


def test_a_file_cannot_be_both(place: Path) -> None:
    media = place / "media"
    ran = run(
        *("probe", "eval", "--positive", media, "--negative", media / "blue"),
        *("--index", place / "index"),
    )
    assert ran.code == 2
    assert "blue/0.png is a positive example and a negative one" in ran.err
    ran = run(
        *("probe", "eval", "--positive", media / "green", "--negative", media / "blue"),
        *("--index", place / "index"),
    )
    assert ran.code == 2
    assert f"--positive {media / 'green'}: no pictures or videos there" in ran.err


def test_green_is_like_neither() -> None:
    """A probe is as sure of what it never saw as its distance from the border says: not very."""
    from clipsearch.encoders.fake import FakeEncoder

    words = FakeEncoder(64).encode_text(["red", "blue", "green"])
    probe = train(words[:1], words[1:2], fingerprint="x")
    green = probe.probability(words[2:] @ probe.vector)[0]
    assert 0.2 < green < 0.8
    assert GREEN != RED
