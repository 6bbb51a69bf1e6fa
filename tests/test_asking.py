"""Queries of every kind asked of an index, alone and many together."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from clipsearch import Hit, Index, Query
from clipsearch.errors import EncoderError, UsageError
from clipsearch.search.background import Background
from clipsearch.search.grammar import Term
from clipsearch.search.probe import Probe
from clipsearch.store.store import Store
from clipsearch.types import Vectors
from tests.sound_files import SoundPlan, write_beeps, write_film

Floats = NDArray[np.float64]
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "black": (9, 9, 9)}
SRT = "1\n00:00:01,000 --> 00:00:02,500\na red door\n"
WORDS = ["red", "a green door", "something blue", "black and blue", "a low hum", "yellow"]


def write_media(folder: Path) -> None:
    """Two pictures of each colour, one of them twice; a film with subtitles; a low sound."""
    folder.mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (64, 64), colour).save(folder / f"{name}.png")
        lighter = tuple(min(255, channel + 40) for channel in colour)
        Image.new("RGB", (64, 64), lighter).save(folder / f"light-{name}.png")
    shutil.copy(folder / "red.png", folder / "zz-red-again.png")
    write_film(folder / "film.mp4", SoundPlan("aac", hertz=4000.0), frames=100)
    (folder / "film.en.srt").write_text(SRT)
    write_beeps(folder / "low.wav", SoundPlan(beeps=(7.0,), seconds=12.0, hertz=100.0))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("asking")
    write_media(folder / "media")
    with Index.create(folder / "index", model="fake") as index:
        assert index.add([folder / "media"]).failures == ()
    return folder


@pytest.fixture
def index(place: Path) -> Iterator[Index]:
    with Index.open(place / "index") as opened:
        yield opened


def as_values(results: list[list[Hit]]) -> list[list[tuple[object, ...]]]:
    """Hits with their scores as far as the order of a sum does not change them."""
    return [
        [(hit.path, hit.kind, hit.start, hit.end, hit.id, round(hit.score, 5)) for hit in hits]
        for hits in results
    ]


def names(hits: list[Hit]) -> list[str]:
    return [hit.path.name for hit in hits]


def test_many_queries_find_what_each_finds_alone(index: Index, place: Path) -> None:
    queries = [
        *WORDS,
        Query(pictures=(place / "media" / "green.png",)),
        Query("red", pictures=(place / "media" / "blue.png",)),
        Query(sounds=(place / "media" / "low.wav",)),
        np.eye(1, 64, dtype=np.float32)[0],
    ]
    for options in (
        {"top": 3},
        {"kind": ["image", "span", "video"]},
        {"source": "visual", "dedupe": True, "where": "width >= 64"},
        {"source": "visual", "exact": True, "min_cosine": 0.5},
    ):
        chosen = queries if "source" not in options else queries[:8]
        alone = [index.search(query, **options) for query in chosen]
        assert as_values(index.search_many(chosen, **options)) == as_values(alone)
        assert any(alone)
    assert index.search_many([]) == []
    wanted = (kind for kind in ("image", "frame"))
    assert as_values(index.search_many(queries, kind=wanted)) == as_values(
        index.search_many(queries, kind=("image", "frame"))
    )


def test_a_batch_is_encoded_and_searched_at_once(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched, search = [], Store.search
    encoded, encode = [], index.encoder.encode_text

    def counted(self: Store, queries: Vectors, **options: object) -> object:
        searched.append(len(queries))
        return search(self, queries, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "search", counted)

    def counted_texts(texts: list[str], *, normalize: bool = True) -> Vectors:
        encoded.append(len(texts))
        return encode(texts, normalize=normalize)

    monkeypatch.setattr(index.encoder, "encode_text", counted_texts)
    found = index.search_many(WORDS, kind="image", top=2)
    assert [len(hits) for hits in found] == [2] * len(WORDS)
    assert searched == [len(WORDS)]
    assert encoded == [len(WORDS)]


def test_only_unsettled_queries_are_searched_again(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The film's frames look alike and are one hit, so more are needed for a black query."""
    searched, search = [], Store.search

    def counted(self: Store, queries: Vectors, **options: object) -> object:
        searched.append((len(queries), options["k"]))
        return search(self, queries, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "search", counted)
    monkeypatch.setattr("clipsearch.search.retrieve.FIRST_CANDIDATES_PER_HIT", 1)
    found = index.search_many(["red", "blue", "green"], kind="image", top=2, dedupe=0.9999)
    assert names(found[0])[0] == "red.png"
    assert "zz-red-again.png" not in names(found[0])
    assert searched == [(3, 2), (1, 8)], "red comes twice"


def test_the_files_of_a_query_are_no_hits_of_it(index: Index, place: Path) -> None:
    red = place / "media" / "red.png"
    found = index.search(Query(pictures=(red,)), top=30)
    assert names(found)[0] == "light-red.png"
    assert {"red.png", "zz-red-again.png"}.isdisjoint(names(found)), "a copy neither"
    assert {hit.source for hit in found} == {"visual"}
    words = index.search("red", source="visual", top=30)
    assert len(found) == len(words) - 2


def test_a_query_by_a_stored_vector_looks_where_it_is_from(index: Index) -> None:
    [heard] = index.search("a low hum", kind="audio", top=1)
    found = index.search(Query.parse("red"), kind="image", top=1)
    for hit, source in ((heard, "audio"), (found[0], "visual")):
        alike = index.search(Query(terms=(Term("unit", str(hit.id)),)))
        assert {other.source for other in alike} == {source}
        assert hit.id not in {other.id for other in alike}


def test_where_narrows_the_search(index: Index) -> None:
    found = index.search("red", where="name glob '*blue*'", top=30)
    assert names(found) == ["blue.png", "light-blue.png"]
    assert index.search("red", where="kind = 'video'", kind="span", exact=True) == index.search(
        "red", kind="span"
    )
    assert index.search("red", where="kind = 'image'", kind="span") == []
    scores, ids = index.search_vectors(
        np.eye(1, 64, dtype=np.float32), top=3, where="name = 'red.png'"
    )
    assert np.isfinite(scores).tolist() == [[True, False, False]]
    assert index.rows(ids[0, :1])[0]["path"].endswith("red.png")
    with pytest.raises(UsageError, match="colour"):
        index.search("red", where="colour = 'red'")


@pytest.mark.parametrize("kind", ["image", "frame", "span", "video"])
def test_dedupe_leaves_out_what_is_like_a_better_hit(index: Index, kind: str) -> None:
    whole = index.search("red", kind=[kind, "image"], top=50)
    distinct = index.search("red", kind=[kind, "image"], top=50, dedupe=0.999)
    assert "zz-red-again.png" in names(whole)
    assert "zz-red-again.png" not in names(distinct)
    kept = [hit for hit in whole if hit in distinct]
    assert kept == distinct
    assert index.search("red", kind=[kind, "image"], top=3, dedupe=0.999) == distinct[:3]


class Quantiles:
    """A background by which a cosine of 0.8 to a picture has the relevance 0.9, and so on."""

    def relevance(self, query: Vectors, kind: str, cosines: Floats) -> Floats:
        assert query.shape == (64,)
        shift = {"image": 0.1, "frame": 0.2, "audio": 0.0}.get(kind, np.nan)
        return np.clip(cosines + shift, 0, 1)

    def cosine_at(self, query: Vectors, kind: str, relevance: float) -> float:
        return float(np.nan_to_num(relevance - self.relevance(query, kind, np.zeros(1))[0], nan=-1))


@pytest.fixture
def judged(index: Index, monkeypatch: pytest.MonkeyPatch) -> Index:
    asking = replace(index._asking, background=lambda _: cast(Background, Quantiles()))
    monkeypatch.setattr(index, "_asking", asking)
    return index


def test_relevance_is_that_of_the_background(judged: Index) -> None:
    kinds = ["image", "frame", "span", "audio", "video"]
    hits = judged.search("red", kind=kinds, top=50)
    assert {hit.kind for hit in hits} == set(kinds)
    for hit in hits:
        shift = {"image": 0.1, "frame": 0.2, "span": 0.2, "audio": 0.0, "video": np.nan}[hit.kind]
        if np.isnan(shift):
            assert hit.relevance is None
        else:
            assert hit.relevance == pytest.approx(np.clip(hit.score + shift, 0, 1))


def test_a_least_relevance_filters_inside_the_search(judged: Index) -> None:
    hits = judged.search("red", kind=["image", "frame", "span"], top=50)
    for least in (0.2, 0.5, 0.99):
        good = [hit for hit in hits if (hit.relevance or 0) >= least]
        assert (
            judged.search("red", kind=["image", "frame", "span"], top=50, min_score=least) == good
        )
        assert (
            judged.search("red", kind=["image", "frame"], top=2, min_score=least)
            == [hit for hit in good if hit.kind != "span"][:2]
        )
    assert 0 < len(good) < len(hits)


def test_sounds_that_words_have_nothing_to_do_with_stay_away(judged: Index) -> None:
    assert {hit.source for hit in judged.search("red")} == {"visual", "text"}
    assert {hit.source for hit in judged.search("a red high whistle")} == {
        "visual",
        "audio",
        "text",
    }
    assert {hit.source for hit in judged.search("red", source="audio")} == {"audio"}


def test_a_probe_finds_what_it_has_learned(index: Index) -> None:
    vector = index.encoder.encode_text(["red"])[0]
    probe = Probe(vector, -5.0, 10.0, index.encoder.fingerprint, ("red", "other"), (3, 3))
    found = index.search(probe, top=30)
    assert {hit.source for hit in found} == {"visual"}
    words = index.search("red", source="visual", top=30)
    assert [hit.path for hit in found] == [hit.path for hit in words]
    for hit in found:
        assert hit.relevance == pytest.approx(1 / (1 + np.exp(5 - 10 * hit.score)), abs=1e-6)
    likely = index.search(probe, top=30, min_score=0.6)
    assert likely == [hit for hit in found if (hit.relevance or 0) >= 0.6]
    assert 0 < len(likely) < len(found)
    other = Probe(vector, 0.0, 1.0, "fake:64@0", ("red", "other"), (3, 3))
    with pytest.raises(EncoderError, match="trained on vectors of fake:64@0, but the index has"):
        index.search(other)
    with pytest.raises(UsageError, match="looks at what is seen"):
        index.search(probe, kind="audio")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_score": 1.5}, r"least relevance 1.5: use 0 to 1"),
        ({"min_score": -1.0}, r"least relevance -1.0: use 0 to 1"),
        ({"min_score": float("nan")}, "least relevance nan"),
        ({"min_cosine": float("nan")}, "least cosine nan"),
        ({"dedupe": 0.0}, "threshold 0.0: use a cosine above 0"),
        ({"dedupe": 1.1}, "threshold 1.1: use a cosine above 0"),
        ({"prompts": "many"}, "many"),
        ({"where": "size >"}, "size >"),
        ({"top": 0}, "top 0"),
    ],
)
def test_bad_options_say_what_is_allowed(
    index: Index, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        index.search("red", **options)  # type: ignore[arg-type]


def test_an_index_without_a_model_has_no_relevance(tmp_path: Path) -> None:
    with Index.create(tmp_path / "index", model=None, dim=8) as index:
        index.add_vectors(np.eye(3, 8, dtype=np.float32), {"path": ["a", "b", "c"]})
        [hit] = index.search(np.eye(1, 8, dtype=np.float32)[0], top=1)
        assert hit.relevance is None
        with pytest.raises(UsageError, match="--min-cosine"):
            index.search(np.eye(1, 8, dtype=np.float32)[0], min_score=0.5)


def test_a_film_that_is_asked_with_is_not_found_by_its_subtitles(index: Index, place: Path) -> None:
    film = str(place / "media" / "film.mp4")
    assert names(index.search("a red door", kind="text")) == ["film.mp4"]
    for text in (f"sound:{film}", film, f"{film}@1"):
        assert index.search(Query.parse(text), kind="text") == [], text
        assert "film.mp4" not in names(index.search(Query.parse(text), top=50)), text


def test_subtitles_of_another_film_are_found(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    for frames, name in enumerate(("film[1]", "film1", "film[1].more"), start=20):
        film = tmp_path / "media" / f"{name}.mp4"
        write_film(film, SoundPlan("aac", hertz=4000.0), frames=frames)
        (tmp_path / "media" / f"{name}.en.srt").write_text(SRT)
    with Index.create(tmp_path / "index", model="fake") as index:
        index.add([tmp_path / "media"])
        asked = Query.parse(f"{tmp_path}/media/film[1].mp4")
        assert len(index.search("red", kind="text")) == 3
        assert set(names(index.search(asked, kind="text"))) == {"film1.mp4", "film[1].more.mp4"}


def test_a_file_that_has_changed_since_is_no_hit_of_itself(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    for name in ("red", "blue"):
        Image.new("RGB", (64, 64), COLOURS[name]).save(tmp_path / "media" / f"{name}.png")
    with Index.create(tmp_path / "index", model="fake") as index:
        index.add([tmp_path / "media"])
        Image.new("RGB", (64, 64), COLOURS["green"]).save(tmp_path / "media" / "red.png")
        (tmp_path / "link.png").symlink_to(tmp_path / "media" / "red.png")
        for name in ("media/red.png", "link.png"):
            assert names(index.search(Query(pictures=tmp_path / name))) == ["blue.png"]
