"""Terms of queries as vectors: the arithmetic, what is read, and what is taken from the index."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsearch import AddOptions, Index
from clipsearch.encoders.fake import FakeEncoder
from clipsearch.encoders.prompts import templates
from clipsearch.errors import EncoderError, MediaError, UsageError
from clipsearch.ingest.changes import find_media, media_named
from clipsearch.ingest.listening import audio_spec
from clipsearch.media import ReadSpec, SamplingSpec, open_audio, open_media
from clipsearch.search.grammar import Term
from clipsearch.search.query import Ears, Query
from clipsearch.search.terms import QuerySpace, QueryVectors, query_vectors
from clipsearch.types import SOURCES, Source
from tests.media_files import VideoPlan, write_video
from tests.sound_files import SoundPlan, write_beeps, write_film

RED, BLUE = (255, 0, 0), (0, 0, 255)


class CountingEncoder(FakeEncoder):
    """Tells how often it was asked."""

    def __init__(self, dim: int = 64) -> None:
        super().__init__(dim)
        self.batches: list[list[str]] = []
        self.pictures = 0

    def encode_text(self, texts: Sequence[str], *, normalize: bool = True) -> np.ndarray:
        self.batches.append(list(texts))
        return super().encode_text(texts, normalize=normalize)

    def encode_images(
        self, prepared: Sequence[np.ndarray], *, normalize: bool = True
    ) -> np.ndarray:
        self.pictures += len(prepared)
        return super().encode_images(prepared, normalize=normalize)


class Asked:
    """An index with an encoder that counts, and how it is asked here."""

    def __init__(self, index: Index, ear: FakeEncoder | None = None) -> None:
        self.index, self.encoder = index, CountingEncoder()
        self.notices: list[str] = []
        store = index._store
        settings = store.manifest.audio
        self.space = QuerySpace(
            store,
            lambda: self.encoder,
            lambda: (
                settings
                and Ears(
                    ear or self.encoder, audio_spec(settings, ear or self.encoder), ear is None
                )
            ),
            lambda path: find_media(store.catalog, path)[1],
            lambda path: [media.id for _, media in media_named(store.catalog, path)],
            lambda: index.sampling,
            self.notices.append,
        )

    def all(
        self, queries: Sequence[Query], sources: Sequence[Source] = SOURCES, prompts: str = "none"
    ) -> list[QueryVectors]:
        return query_vectors(queries, self.space, sources=sources, prompts=prompts)

    def one(self, *arguments: str, sources: Sequence[Source] = ("visual",)) -> QueryVectors:
        return self.all([Query.of_terms(arguments)], sources)[0]

    def row(self, *arguments: str) -> np.ndarray:
        [row] = self.one(*arguments).rows["visual"]
        return row


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked")
    Image.new("RGB", (90, 70), RED).save(folder / "red.png")
    shutil.copy(folder / "red.png", folder / "copy.png")
    Image.new("RGB", (90, 70), BLUE).save(folder / "blue.jpg")
    write_film(folder / "film.mp4", SoundPlan("aac", hertz=4000.0, seconds=6.0), frames=150)
    write_beeps(folder / "low.wav", SoundPlan(beeps=(2.0, 17.0), seconds=21.0, hertz=100.0))
    return folder


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Index:
    made = Index.create(tmp_path_factory.mktemp("made") / "index", model="fake")
    assert made.add([media], fps=2.0).added == 5
    return made


@pytest.fixture
def asked(index: Index) -> Asked:
    return Asked(index)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Pictures and films that the index does not have."""
    Image.new("RGB", (300, 200), (20, 230, 30)).save(tmp_path / "green.jpg", exif=turned())
    write_video(tmp_path / "new.mp4", VideoPlan(frames=90))
    return tmp_path


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def unit(row: np.ndarray) -> np.ndarray:
    return row / np.linalg.norm(row)


def text(*texts: str) -> np.ndarray:
    return FakeEncoder().encode_text(texts).astype(np.float64)


def stored(index: Index, name: str, kind: str) -> list[tuple[dict, np.ndarray]]:
    """Rows of a file with their vectors, by the ids that the whole index has."""
    store = index._store
    found = []
    for source in SOURCES:
        snapshot = store.snapshot(source)
        places = snapshot.live_places()
        ids = snapshot.rows(places)["id"].tolist()
        for row, vector in zip(index.rows(ids), snapshot.vectors(places), strict=True):
            if row["kind"] == kind and Path(row["path"]).name == name:
                found.append((row, vector.astype(np.float64)))
    return sorted(found, key=lambda pair: pair[0]["id"])


def picture(path: Path) -> np.ndarray:
    encoder = FakeEncoder()
    [(_, pixels)] = open_media(path, ReadSpec(encoder.short_side)).units
    return encoder.encode_images([encoder.prepare(pixels)])[0]


def test_one_term_is_its_row_to_the_bit(asked: Asked) -> None:
    assert np.array_equal(asked.row("a red door"), FakeEncoder().encode_text(["a red door"])[0])
    assert np.array_equal(asked.row("7:a red door"), asked.row("a red door"))


def test_terms_are_added_with_their_weights(asked: Asked) -> None:
    rows = text("horse", "black stripes", "grass")
    wanted = unit(rows[0] + 2 * rows[1] - 0.5 * rows[2])
    row = asked.row("horse", "+", "2:black", "stripes", "-", "0.5:grass")
    assert row.dtype == np.float32
    np.testing.assert_allclose(row, wanted, atol=1e-7)
    np.testing.assert_allclose(
        asked.row("horse", "+", "grass"), unit((rows[0] + rows[2]) / 2), atol=1e-7
    )
    np.testing.assert_allclose(asked.row("-", "horse"), -rows[0], atol=1e-7)
    huge = asked.row("9e307:horse".replace("9e307", "9" + "0" * 307), "+", "grass")
    np.testing.assert_allclose(huge, rows[0], atol=1e-6)


def test_terms_that_cancel_each_other_are_refused(asked: Asked, media: Path) -> None:
    for arguments in (
        ["red", "-", "red"],
        ["2:red", "-", "red", "-", "red"],
        [f"{media}/red.png", "-", f"{media}/copy.png"],
    ):
        with pytest.raises(UsageError, match="cancel each other"):
            asked.one(*arguments)
    assert asked.row("2:red", "-", "red") == pytest.approx(asked.row("red"))


def test_words_of_many_queries_are_encoded_in_one_batch(asked: Asked) -> None:
    queries = [Query(f"thing {number % 40}") for number in range(60)]
    queries.append(Query.of_terms(["thing 3", "+", "more"]))
    found = asked.all(queries)
    assert [len(batch) for batch in asked.encoder.batches] == [41]
    for query, vectors in zip(queries[:60], found[:60], strict=True):
        assert tuple(vectors.rows) == SOURCES
        for row in vectors.rows.values():
            np.testing.assert_array_equal(row, FakeEncoder().encode_text([query.words]))
    alone = asked.all([queries[-1]])[0].rows["visual"]
    np.testing.assert_array_equal(found[-1].rows["visual"], alone)


def test_pictures_are_read_as_the_index_reads_them(asked: Asked, outside: Path) -> None:
    found = asked.one(f"{outside}/green.jpg")
    np.testing.assert_array_equal(found.rows["visual"][0], picture(outside / "green.jpg"))
    assert (found.media, found.units) == (frozenset(), frozenset())


def test_indexed_pictures_take_their_stored_vectors(
    asked: Asked, index: Index, media: Path
) -> None:
    found = asked.one(f"{media}/red.png")
    [(row, vector)] = stored(index, "red.png", "image")
    np.testing.assert_allclose(found.rows["visual"][0], unit(vector), atol=1e-7)
    assert asked.encoder.pictures == 0
    assert asked.encoder.batches == []
    names = {m.path.name: m.id for m in index.media()}
    assert found.media == {names["red.png"], names["copy.png"]}, "copies too"
    assert row["kind"] == "image"


def test_a_copy_elsewhere_is_known_by_its_content(
    asked: Asked, index: Index, media: Path, tmp_path: Path
) -> None:
    shutil.copy(media / "film.mp4", tmp_path / "same.mkv.mp4")
    found = asked.one(f"{tmp_path}/same.mkv.mp4@2")
    assert asked.encoder.pictures == 0
    assert found.media == {m.id for m in index.media() if m.path.name == "film.mp4"}


def test_a_changed_file_is_read_again(
    tmp_path: Path, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(media / "red.png", tmp_path / "it.png")
    with Index.create(tmp_path / "index", model="fake") as index:
        index.add([tmp_path / "it.png"])
        asked = Asked(index)
        assert asked.one(f"{tmp_path}/it.png").media
        Image.new("RGB", (90, 70), BLUE).save(tmp_path / "it.png")
        found = asked.one(f"{tmp_path}/it.png")
        np.testing.assert_array_equal(found.rows["visual"][0], picture(tmp_path / "it.png"))
        assert found.media, "what is under its path is left out all the same"
        (tmp_path / "it.png").unlink()
        gone = asked.all([Query(pictures=[tmp_path / "it.png"])], ["visual"])[0]
        assert gone.media, "what is away has the content it had"
        assert asked.encoder.pictures == 1


def test_a_frame_of_an_indexed_film_is_the_stored_one_on_display(
    asked: Asked, index: Index, media: Path
) -> None:
    frames = stored(index, "film.mp4", "frame")
    assert len(frames) > 5
    for own, vector in frames:
        for at in (own["start"], own["end"] - 0.01):  # where one ends the next one begins
            row = asked.row(f"{media}/film.mp4@{at:f}")
            np.testing.assert_allclose(row, unit(vector), atol=1e-7)
    assert asked.encoder.pictures == 0


def test_a_frame_of_another_film_is_the_one_shown_at_that_time(asked: Asked, outside: Path) -> None:
    sampling = SamplingSpec(fps=25.0, keep_all_frames=True)
    encoder = FakeEncoder()
    units = list(open_media(outside / "new.mp4", ReadSpec(64, sampling=sampling)).units)
    for at in (0.0, 1.21, 3.57):
        row = asked.row(f"{outside}/new.mp4@{at}")
        [pixels] = [p for u, p in units if u.start_seconds <= at < u.end_seconds]
        near = encoder.encode_images([encoder.prepare(pixels)])[0, :4]
        np.testing.assert_allclose(row[:4], near, atol=0.02)  # its colour: pixels are scaled apart
    first, later = asked.row(f"{outside}/new.mp4@0.5"), asked.row(f"{outside}/new.mp4@0.62")
    assert not np.array_equal(first, later)
    for time in ("9", "3.7"):
        with pytest.raises(UsageError, match=r"new\.mp4: no frame is shown at"):
            asked.one(f"{outside}/new.mp4@{time}")


def test_a_time_behind_the_end_of_an_indexed_film_is_refused(asked: Asked, media: Path) -> None:
    with pytest.raises(UsageError, match=r"film\.mp4: it lasts 6\.\d+ seconds, .* nothing at 60"):
        asked.one(f"{media}/film.mp4@60")
    with pytest.raises(UsageError, match=r"low\.wav: it lasts 21\.000 seconds, .* nothing at 22"):
        asked.one(f"{media}/low.wav@22")


def test_a_video_is_the_mean_of_its_frames(
    asked: Asked, index: Index, media: Path, outside: Path
) -> None:
    vectors = [vector for _, vector in stored(index, "film.mp4", "frame")]
    assert len(vectors) > 5
    np.testing.assert_allclose(asked.row(f"{media}/film.mp4"), unit(np.mean(vectors, 0)), atol=1e-6)
    assert asked.encoder.pictures == 0
    encoder = FakeEncoder()
    spec = ReadSpec(64, sampling=SamplingSpec(fps=2.0))
    units = open_media(outside / "new.mp4", spec).units
    rows = encoder.encode_images([encoder.prepare(pixels) for _, pixels in units])
    np.testing.assert_allclose(asked.row(f"{outside}/new.mp4"), unit(rows.mean(0)), atol=1e-6)


def test_a_sound_is_the_mean_of_its_windows_or_the_one_there(
    asked: Asked, index: Index, media: Path, tmp_path: Path
) -> None:
    windows = stored(index, "low.wav", "audio")
    assert len(windows) > 2
    path = f"{media}/low.wav"
    mean = unit(np.mean([vector for _, vector in windows], 0))
    np.testing.assert_allclose(asked.row(path), mean, atol=1e-6)
    for at in (2.02, 17.02):
        off = [(max(o["start"] - at, at - o["end"], 0), i) for i, (o, _) in enumerate(windows)]
        np.testing.assert_allclose(
            asked.row(f"{path}@{at}"), unit(windows[min(off)[1]][1]), atol=1e-7
        )
    other = write_beeps(
        tmp_path / "other.flac", SoundPlan("flac", beeps=(2.0, 17.0), seconds=21.0, hertz=100.0)
    )
    settings = index._store.manifest.audio
    assert settings is not None
    encoder = FakeEncoder()
    waves = [wave for _, wave in open_audio(other, audio_spec(settings, encoder)).units]
    rows = encoder.encode_audio(waves)
    assert len(rows) == len(windows)
    np.testing.assert_allclose(asked.row(str(other)), unit(rows.mean(0)), atol=1e-6)
    np.testing.assert_array_equal(asked.row(f"{other}@2"), rows[0])
    late = asked.row(f"{other}@20")
    assert any(np.array_equal(late, row) for row in rows[1:]), "each of them has the second beep"
    with pytest.raises(UsageError, match=r"it lasts 21\.000 seconds"):
        asked.one(f"{other}@21.5")


def test_a_sound_of_a_film_leaves_the_film_out(asked: Asked, index: Index, media: Path) -> None:
    found = asked.all([Query(sounds=media / "film.mp4")], ["audio"])[0]
    assert found.media == {m.id for m in index.media() if m.path.name == "film.mp4"}
    [(_, vector)] = stored(index, "film.mp4", "audio")
    np.testing.assert_allclose(found.rows["audio"][0], unit(vector), atol=1e-7)


def test_stored_vectors_are_asked_by_their_ids(asked: Asked, index: Index) -> None:
    frames = stored(index, "film.mp4", "frame")
    row, vector = frames[3]
    found = asked.one(f"id:{row['id']}")
    np.testing.assert_allclose(found.rows["visual"][0], unit(vector), atol=1e-7)
    assert found.media == {m.id for m in index.media() if m.path.name == "film.mp4"}
    assert not found.units
    with pytest.raises(UsageError, match="no vector has the id 999999"):
        asked.one("id:999999")


def test_vectors_that_were_added_need_no_model(tmp_path: Path) -> None:
    rows = np.eye(4, dtype=np.float32)
    with Index.create(tmp_path / "index", model=None, dim=4) as index:
        ids = index.add_vectors(rows, {"path": ["a", "b", "c", "d"]})
        asked = Asked(index)
        found = asked.one(f"id:{ids[2]}", "-", f"id:{ids[0]}")
        np.testing.assert_allclose(found.rows["visual"][0], unit(rows[2] - rows[0]), atol=1e-7)
        assert (found.media, found.units) == (frozenset(), {ids[0], ids[2]})


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory, media: Path) -> Index:
    """An index that hears in another space than it sees in."""
    made = Index.create(tmp_path_factory.mktemp("apart") / "index", model="fake:64")
    made.add([media], options=AddOptions(audio_model="fake:32"))
    return made


def test_each_space_is_asked_with_what_it_can_hold(apart: Index, media: Path) -> None:
    asked = Asked(apart, FakeEncoder(32))
    words = asked.all([Query("low")])[0].rows
    assert {source: row.shape for source, row in words.items()} == {
        "visual": (1, 64),
        "audio": (1, 32),
        "text": (1, 64),
    }
    assert tuple(asked.one(f"{media}/red.png", sources=SOURCES).rows) == ("visual", "text")
    sound = asked.one(f"{media}/low.wav", sources=SOURCES)
    assert tuple(sound.rows) == ("audio",)
    both = asked.one("low", f"{media}/low.wav", sources=SOURCES).rows["audio"][0]
    rows = FakeEncoder(32).encode_text(["low"])[0] + sound.rows["audio"][0]
    np.testing.assert_allclose(both, unit(rows), atol=1e-6)
    [(own, _), *_] = stored(apart, "low.wav", "audio")
    assert tuple(asked.one(f"id:{own['id']}", sources=SOURCES).rows) == ("audio",)
    for arguments, sources, message in (
        ([f"{media}/low.wav"], ("visual", "text"), "they find sounds"),
        ([f"{media}/red.png"], ("audio",), "what is seen finds pictures"),
        ([f"{media}/red.png", f"{media}/low.wav"], SOURCES, "says things of both spaces"),
    ):
        with pytest.raises(UsageError, match=f"a space of their own.*{message}"):
            asked.one(*arguments, sources=sources)


def test_prompts_are_for_what_is_seen(asked: Asked) -> None:
    [found] = asked.all([Query("a door")], prompts="simple")
    filled = [template.replace("{}", "a door") for template in templates("simple")]
    assert len(filled) == 7
    np.testing.assert_allclose(found.rows["visual"][0], unit(text(*filled).mean(0)), atol=1e-6)
    for source in ("audio", "text"):
        np.testing.assert_array_equal(found.rows[source], FakeEncoder().encode_text(["a door"]))
    with pytest.raises(UsageError, match="prompts 'all': use one of"):
        asked.all([Query("a door")], prompts="all")


def broken(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(b"no medium at all")
        return folder / name

    return write


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (lambda f: Query.of_terms([str(broken("bad.jpg")(f))]), r"bad\.jpg: not a picture"),
        (lambda f: Query.of_terms([str(broken("bad.mp4")(f))]), r"bad\.mp4: not a video"),
        (lambda f: Query.of_terms([f"{broken('bad.mp4')(f)}@1"]), r"bad\.mp4: not a video"),
        (lambda f: Query.of_terms([str(broken("bad.wav")(f))]), r"bad\.wav: not sound"),
        (lambda f: Query(pictures=[f / "gone.jpg"]), r"gone\.jpg: no such file"),
        (lambda f: Query(pictures=[f / "new.mp4"]), r"new\.mp4: not a picture"),
        (lambda f: Query(sounds=[f / "new.mp4"]), r"new\.mp4: there is nothing to hear in it"),
        (lambda f: Query(terms=[Term("video", str(f / "green.jpg"))]), r"green\.jpg: "),
    ],
)
def test_files_that_cannot_be_read(
    asked: Asked, outside: Path, query: Callable[[Path], Query], message: str
) -> None:
    with pytest.raises(MediaError, match=message):
        asked.all([query(outside)])


def test_an_index_without_sound_has_nothing_to_compare_sounds_with(
    tmp_path: Path, media: Path
) -> None:
    with Index.create(tmp_path / "deaf", model="fake") as index:
        index.add([media / "red.png"], options=AddOptions(audio=False))
        with pytest.raises(UsageError, match="no sound to compare with: index with --audio"):
            Asked(index).one(f"{media}/low.wav")
        with pytest.raises(UsageError, match="no sound to compare with"):
            Asked(index).one("red", "-", f"sound:{media}/film.mp4")


def test_long_words_are_told_of_once(asked: Asked) -> None:
    long = "word " * 1200
    asked.all([Query(long), Query(long + "x")], ["visual"])
    assert len(asked.notices) == 2
    assert all("encoded in" in notice for notice in asked.notices)


def test_an_encoder_without_text_refuses_words(asked: Asked) -> None:
    asked.encoder.supports_text = False
    with pytest.raises(EncoderError, match="takes no text"):
        asked.one("red")
