"""Filters inside the search, against brute force in Python and numpy."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from clipsearch import Index
from clipsearch.errors import UsageError
from clipsearch.store import snapshot as snapshot_module
from clipsearch.store import writer as writer_module
from clipsearch.store.filtered import RowRuns
from clipsearch.store.lookup import LOOKUP_TYPE
from clipsearch.store.segment import Piece
from clipsearch.store.selection import Selection
from clipsearch.store.snapshot import Snapshot
from clipsearch.store.statements import NewMedia
from clipsearch.store.store import Store
from clipsearch.store.tags import Tag
from clipsearch.store.writer import Writer
from clipsearch.types import UNIT_KINDS, FoundFile, MediaInfo, MediaKind, Source, UnitKind, Vectors
from clipsearch.where import Condition, matches, media_values, parse
from tests.vectors import DIM, ROOT, image, manifest, many, unit_rows, video

FILES = 12_500
FRAMES = 15  # of a video
ROWS = 100_000
SECOND = 10**9
START = int(datetime(2020, 1, 1).timestamp()) * SECOND
DAY = 86_400 * SECOND
FOLDERS = ("holiday", "work", "a b", "ärger", "100%", "it's", "[x]")
SIZES = [(640, 480), (1920, 1080), (1080, 1920), (4000, 3000)]
TAGS = ("dog", "cat", "it's", "100%", "ünder_score")

Mask = NDArray[np.bool_]
Asked = tuple[str, Mask]  # a condition, and the files for which it holds


class Made:
    """An index of 100,000 rows, and what is in it as arrays with a place for each file."""

    def __init__(self, folder: Path) -> None:
        pick = np.random.default_rng(1)
        self.vectors = unit_rows(ROWS, 11).astype(np.float16)
        self.owners = np.empty(ROWS, np.int64)  # the file of each row
        self.film = np.arange(FILES) % 2 == 1
        self.folder = pick.choice(FOLDERS, FILES)
        self.name = [f"{n}.{'mp4' if n % 2 else 'jpg'}" for n in range(FILES)]
        self.path = [
            f"{folder}/x/{name}" for folder, name in zip(self.folder, self.name, strict=True)
        ]
        self.size = pick.integers(1, 10**8, FILES)
        self.day = pick.integers(0, 3 * 365, FILES)
        self.seconds = np.where(self.film, pick.integers(1, 400, FILES) / 2, np.nan)
        self.width, self.height = pick.choice(SIZES, FILES).T
        self.tag = np.where(pick.random(FILES) < 0.2, pick.choice(TAGS, FILES), "")
        self.store = Store.create(folder, manifest())
        with self.store.writing() as writer:
            writer.catalog.add_root(ROOT)
            for first in (0, FILES // 2):
                self._publish(writer, np.arange(first, first + FILES // 2))
            tagged = np.flatnonzero(self.tag != "").tolist()
            tags: dict[int, list[Tag]] = {n + 1: [(str(self.tag[n]), None)] for n in tagged}
            writer.catalog.set_tags(tags, replace=True)

    def _publish(self, writer: Writer, files: NDArray[np.int64]) -> None:
        """One segment: an image has one row, a video fifteen."""
        first = int(files[0]) * (1 + FRAMES) // 2
        count = len(files) * (1 + FRAMES) // 2
        pieces, media, cursor = [], [], 0
        for film, kind in ((False, "image"), (True, "frame")):
            own, each = files[self.film[files] == film], FRAMES if film else 1
            rows = np.zeros(len(own) * each, LOOKUP_TYPE)
            place = slice(first + cursor, first + cursor + len(rows))
            self.owners[place] = np.repeat(own, each)
            rows["id"] = np.arange(place.start, place.stop) + 1
            rows["media_id"] = self.owners[place] + 1
            rows["kind"] = UNIT_KINDS.index(kind)
            rows["start_seconds"] = np.tile(np.arange(each), len(own)) if film else np.nan
            rows["end_seconds"] = rows["start_seconds"] + 1
            pieces.append(Piece(kind, self.vectors[place], rows))  # type: ignore[arg-type]
            for at, number in enumerate(own.tolist()):
                media.append(self._media(number, {kind: (cursor + each * at, each)}))  # type: ignore[dict-item]
            cursor += len(rows)
        segment = writer._write(iter(pieces), count, "visual")
        writer.catalog.add_segments([segment], sorted(media, key=lambda new: new.id))

    def _media(self, number: int, ranges: dict[UnitKind, tuple[int, int]]) -> NewMedia:
        date = START + int(self.day[number]) * DAY + DAY // 2
        kind: MediaKind = "video" if self.film[number] else "image"
        file = FoundFile(ROOT, self.path[number], kind, int(self.size[number]), date)
        seconds = float(self.seconds[number]) if self.film[number] else None
        info = MediaInfo(int(self.width[number]), int(self.height[number]), seconds)
        return NewMedia(number + 1, file, f"{number}", info, None, ranges, ("visual",))

    def expected(self, files: Mask, query: Vectors, k: int) -> list[float]:
        """The best scores among the rows of some files."""
        scores = self.vectors[files[self.owners]].astype(np.float32) @ query
        return [float(score) for score in np.sort(scores)[::-1][:k]]

    def named(self, test: Callable[[str], bool], *, names: bool = False) -> Mask:
        """The files whose path, or name, is like this."""
        return np.array([test(text) for text in (self.name if names else self.path)])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    made = Made(tmp_path_factory.mktemp("filters") / "index")
    yield made
    made.store.close()


ORDER: dict[str, Any] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def random_test(made: Made, pick: random.Random) -> Asked:
    sign = pick.choice(list(ORDER))
    by: Any = ORDER[sign]
    number, folder, tag = pick.randrange(100), pick.choice(FOLDERS), pick.choice(TAGS)
    seconds, film = pick.randrange(400) / 2, made.film
    quoted, quoted_tag = folder.replace("'", "''"), tag.replace("'", "''")
    pixels = made.width * made.height
    day = pick.randrange(1000)
    date = str(np.datetime64("2020-01-01") + day)
    month = (np.datetime64("2020-01-01") + made.day).astype("datetime64[M]")
    tests: list[tuple[str, Callable[[], Mask]]] = [
        (f"size {sign} {number}MB", lambda: by(made.size, number * 10**6)),
        (f"size not between {number}MB and 1GiB", lambda: made.size < number * 10**6),
        (f"duration {sign} {seconds}", lambda: film & by(made.seconds, seconds)),
        (f"not duration {sign} 1:30", lambda: ~(film & by(made.seconds, 90))),
        ("duration is null", lambda: ~film),
        ("duration not in (5, 1m30s)", lambda: film & (made.seconds != 5) & (made.seconds != 90)),
        (f"date {sign} {date}", lambda: by(made.day, day)),
        (f"date {sign} 2021-07", lambda: by(month, np.datetime64("2021-07"))),
        (f"date {sign} '{date} 11:59'", lambda: by(made.day + 0.5, day + 0.4995)),
        (f"width {sign} 1080.5", lambda: by(made.width, 1080.5)),
        (f"megapixels {sign} 2.0736", lambda: by(pixels, 2_073_600)),
        ("resolution >= 1920x1080", lambda: (made.width >= 1920) & (made.height >= 1080)),
        ("kind != 'image' and kind in ('image', 'video')", lambda: film),
        (f"path glob '{quoted}/*'" if "[" not in folder else "path glob '[[]x]/*'",
         lambda: made.folder == folder),
        (f"path not glob '/media/*{number}.jpg'",
         lambda: ~made.named(lambda path: path.endswith(f"{number}.jpg"))),
        ("path glob '[^h-w]*'", lambda: made.named(lambda path: not "h" <= path[0] <= "w")),
        ("name glob '??.*'", lambda: made.named(lambda name: len(name) == 6, names=True)),
        (f"name in ('{number}.jpg', \"{number}.mp4\")",
         lambda: made.named(lambda name: name.split(".")[0] == str(number), names=True)),
        (f"tag = '{quoted_tag}'", lambda: made.tag == tag),
        (f"tag != '{quoted_tag}'", lambda: made.tag != tag),
        ("tag is null", lambda: made.tag == ""),
        ("tag glob '*[%_]*'", lambda: np.isin(made.tag, ["100%", "ünder_score"])),
    ]  # fmt: skip
    text, files = pick.choice(tests)
    return text, files()


def random_filter(made: Made, pick: random.Random, depth: int = 0) -> Asked:
    if depth == 3 or pick.random() < 0.3:
        return random_test(made, pick)
    text, files = random_filter(made, pick, depth + 1)
    for _ in range(pick.randint(0, 2)):
        more, others = random_filter(made, pick, depth + 1)
        if pick.random() < 0.5:
            text, files = f"({text} and {more})", files & others
        else:
            text, files = f"({text} OR {more})", files | others
    return (f"not ({text})", ~files) if pick.random() < 0.3 else (text, files)


def test_fifty_random_filters_find_what_brute_force_does(made: Made) -> None:
    pick = random.Random(7)
    stored = {media.id - 1: media for media in made.store.catalog.all_media()}
    left = []
    for number, query in enumerate(unit_rows(50, 21)):
        text, files = random_filter(made, pick)
        condition = parse(text)
        selection = Selection(condition)
        expected = made.expected(files, query, 25)
        [found] = made.store.search(query[None], k=25, selection=selection)
        np.testing.assert_allclose([u.score for u in found], expected, atol=2e-6, err_msg=text)
        for one in pick.sample(range(FILES), 100):  # the same in Python
            tags = (str(made.tag[one]),) if made.tag[one] else ()
            assert matches(condition, media_values(stored[one], tags)) == files[one], text
        if number in (0, 25):
            paths = sorted(made.path[at] for at in np.flatnonzero(files))
            assert [media.relative for media in made.store.selected_media(selection)] == paths
        left.append(len(expected))
    assert left.count(25) > 25
    assert left.count(0) < 10


def test_a_filter_of_one_in_a_hundred_leaves_the_exact_best(made: Made) -> None:
    queries = unit_rows(5, 3)
    selection = Selection(parse("size < 1MB"))
    for query, units in zip(
        queries, made.store.search(queries, k=100, selection=selection), strict=True
    ):
        expected = made.expected(made.size < 10**6, query, 100)
        np.testing.assert_allclose([unit.score for unit in units], expected, atol=2e-6)


ATTACKS = [
    "size > 1; drop table media",
    "size > 1 -- ",
    "1 = 1",
    "size > 1 union select * from settings",
    "size > (select 1)",
    "name = 'x' or 1 = 1",
    "media.id = 1",
    "size > 1 /* x */",
    "size) or (1=1",
    "id = 1",
    "name = char(39)",
    "load_extension('x') = 1",
]
LITERALS = ["x'; drop table media; --", "%s", ":size_1", "?", '" or "1"="1', "\\'", "x' or '1'='1"]


def test_injections_are_errors_or_plain_text(made: Made) -> None:
    before = made.store.catalog.counts()
    for text in ATTACKS:
        with pytest.raises(UsageError):
            made.store.search(unit_rows(1, 1), k=1, selection=Selection(parse(text)))
    for literal in LITERALS:
        quoted = literal.replace("'", "''")
        for text in (f"name = '{quoted}'", f"tag = '{quoted}'", f"path glob '{quoted}'"):
            assert list(made.store.selected_media(Selection(parse(text)))) == []
        with pytest.raises(UsageError, match="no field"):
            list(
                made.store.selected_media(
                    Selection(parse('"' + literal.replace('"', '""') + '" = 1'))
                )
            )
    assert made.store.catalog.counts() == before
    assert made.store.catalog.problems() == []


@pytest.mark.parametrize(
    "inner", ["(size > {0} and (width > 9 or {1}))", "not (size > {0} and {1})"]
)
def test_the_deepest_conditions_are_answered(made: Made, inner: str) -> None:
    text, own = "tag glob 'dog'", {n + 1: (str(tag),) for n, tag in enumerate(made.tag) if tag}
    for number in range(24):
        text = inner.format(number * 10**6, text)
    condition, everything = parse(text), list(made.store.catalog.all_media())
    left = {media.id for media in made.store.selected_media(Selection(condition))}
    assert left == {
        m.id for m in everything if matches(condition, media_values(m, own.get(m.id, ())))
    }
    assert 0 < len(left) < FILES


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.create(tmp_path / "index", manifest())
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        writer.publish(many(30, 1))
        writer.publish([image("red.jpg", unit_rows(1, 5)[0]), video("sea.mp4", unit_rows(8, 6))])
    yield store
    store.close()


def found(store: Store, text: str, **others: frozenset[int]) -> set[int]:
    """The media that a filter leaves."""
    selection = Selection(parse(text), **others)
    return {unit.media_id for unit in store.search(unit_rows(1, 9), k=999, selection=selection)[0]}


def test_media_and_units_are_left_out(store: Store) -> None:
    query = unit_rows(1, 9)
    everything = store.search(query, k=999)[0]
    gone = frozenset({everything[0].media_id, everything[5].media_id})
    units = frozenset({everything[9].id, 10**9})
    selection = Selection(without=gone, without_ids=units)
    left = [u for u in everything if u.media_id not in gone and u.id not in units]
    assert store.search(query, k=999, selection=selection)[0] == left
    _, ids = store.search_ids(
        query, k=len(left) + 1, kinds=("image", "frame", "video"), exact=False, selection=selection
    )
    assert ids[0].tolist() == [*(unit.id for unit in left), -1]
    media, _ = store.nearest_media(query, k=3, kinds=("image",), selection=selection)
    assert media == [unit.media_id for unit in left if unit.unit.kind == "image"][:3]
    both = Selection(parse("kind = 'image'"), without=gone)
    found = store.search(query, k=999, kinds=("image",), selection=both)[0]
    images = [u.id for u in everything if u.unit.kind == "image" and u.media_id not in gone]
    assert [unit.id for unit in found] == images


def test_filters_follow_every_change(store: Store) -> None:
    reader = Store.open(store.folder)
    assert found(reader, "name = 'red.jpg'") == {61}
    with store.writing() as writer:
        moved = FoundFile(ROOT, "blue.jpg", "image", 10, 30)
        writer.catalog.move_media([(61, moved)])
        writer.catalog.set_tags({62: [("sea", 0.5)]}, replace=False)
    assert found(reader, "name = 'red.jpg'") == set()
    assert found(reader, "name = 'blue.jpg' or tag = 'sea'") == {61, 62}
    with store.writing() as writer:
        writer.compact(memory=0)
    assert found(reader, "name = 'blue.jpg' or tag = 'sea'") == {61, 62}
    with store.writing() as writer:
        writer.catalog.remove_media([61])
    assert found(reader, "name = 'blue.jpg' or tag = 'sea'") == {62}
    reader.close()


def test_filters_are_answered_while_others_write_all_the_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Store.open(store.folder)
    ask, numbers = reader.catalog.runs_where, iter(range(99))

    def disturbed(where: Condition, source: Source) -> RowRuns:
        with store.writing() as writer:
            number = next(numbers)
            writer.catalog.set_setting("disturbance", str(number))
            if number == 1:
                writer.compact(memory=0)
        return ask(where, source)

    monkeypatch.setattr(reader.catalog, "runs_where", disturbed)
    for name, media_id in (("red.jpg", 61), ("sea.mp4", 62)):
        assert found(reader, f"name = '{name}'") == {media_id}
    assert next(numbers) == 4  # each was asked again, in one transaction
    assert reader.catalog.generation() == store.catalog.generation()
    assert len(reader.search(unit_rows(1, 9), k=9999)[0]) == 30 * 10 + 10
    reader.close()


def test_probing_finds_all_that_a_filter_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "SMALLEST_TRAINING_ROWS", 1500)
    for module in (writer_module, snapshot_module):
        monkeypatch.setattr(module, "SCANNED_ROWS", 150)
    monkeypatch.setattr(snapshot_module, "FILTERED_ROWS", 150)
    store = Store.create(tmp_path / "index", manifest("ivfpq"))
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        writer.publish(many(400, 1))
        writer.compact(memory=0)
    assert any(view.segment.lists for view in store.snapshot().views)
    text = "kind = 'video' and name glob '*[13].mp4'"
    query = unit_rows(1, 9)
    selection = Selection(parse(text))
    everything = store.search(query, k=9999, exact=True, selection=selection)[0]
    assert len(everything) == 80 * 9
    widest = store.search(query, k=9999, selection=selection)[0]
    assert {unit.id for unit in widest} == {unit.id for unit in everything}
    assert len(store.search(query, k=300, selection=selection)[0]) == 300
    times: list[int] = []
    probe = Snapshot.candidates

    def counted(self: Snapshot, queries: Vectors, *others: Any) -> Any:
        times.append(len(queries))
        return probe(self, queries, *others)

    monkeypatch.setattr(Snapshot, "candidates", counted)
    monkeypatch.setattr(snapshot_module, "probe_count", lambda *_: 1)
    queries = unit_rows(20, 8)
    for units in store.search(queries, k=720, selection=selection):
        assert {unit.id for unit in units} == {unit.id for unit in everything}
    assert sum(times) == 20  # those that the lists have too few for are scanned together
    store.close()


def test_added_vectors_are_matched_by_their_columns(tmp_path: Path) -> None:
    table = {
        "path": ["a/one.jpg", "a/two.mp4", "/b/three.mp4", "four.jpg"],
        "kind": ["image", "frame", "video", "image"],
        "start": [None, 1.0, 0.0, None],
        "end": [None, 2.5, 60.0, None],
        "label": ["red", "blue", None, "red"],
        "rank": [1, 2, 3, None],
        "good": [True, False, None, True],
        "words": [["x", "y"], [], None, ["y"]],
        "width": [640, 1920, 1920, None],
        "date": ["2024-05-31", None, "2023", "x"],
        "tag": [["red"], [], None, ["red", "sea"]],
    }
    vectors = unit_rows(4, 1)
    with Index.create(tmp_path / "index", model=None, dim=DIM) as index:
        index.add_vectors(vectors, table)

        def named(text: str) -> str:
            selection = Selection(parse(text))
            units = index._store.search(vectors[:1], k=9, selection=selection)[0]
            return "".join(sorted(str(unit.id) for unit in units))

        for text, expected in [
            ("label = 'red'", "14"),
            ("label != 'red'", "2"),
            ("not label = 'red'", "23"),
            ("rank >= 2", "23"),
            ("good = true", "14"),
            ("words = 'y'", "14"),
            ("label is null", "3"),
            ("path glob 'a/*'", "12"),
            ("path glob '/b/*'", "3"),
            ("name = 'two.mp4'", "2"),
            ("kind = 'video'", "23"),
            ("duration < 2", "2"),
            ("start >= 0 and duration is not null", "23"),
            ("width > 1000", "23"),
            ("size is null", "1234"),
            ("date > 2023-06", "1"),
            ("date is null", "24"),
            ("tag = 'red'", "14"),
            ("tag != 'sea'", "123"),
            ("tag is null", "23"),
        ]:
            assert named(text) == expected, text
        with pytest.raises(UsageError, match=r"no field 'colour'.*'label'"):
            named("colour = 'red'")
        with pytest.raises(UsageError, match=r"no field 'colour'.*'label'"):
            list(index.selected(where="size > 1 or colour = 'red'"))
        wrong = Selection(parse("colour = 'red'"))
        with pytest.raises(UsageError, match="no field 'colour'"):
            index._store.search(vectors[:1], k=1, kinds=("text",), selection=wrong)
        index.remove_vectors([1])
        assert named("label = 'red'") == "4"
    with (
        Index.create(tmp_path / "other", model="fake") as empty,
        pytest.raises(UsageError) as error,
    ):
        list(empty._store.selected_media(Selection(parse("colour = 'red'"))))
    assert str(error.value).startswith("there is no field 'colour': use path, name, kind, size,")
