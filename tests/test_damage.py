"""Damage to every file of an index: an error that names the file, or the right answer.

Each case is a copy of one small index (`made`) with a file truncated, flipped, removed, replaced or
forged. Then every question that an index answers is asked of it in this process, `verify` has to
name the file, and `repair` has to save all that is left.

SQLite keeps no checksums, so a flipped byte of the catalog may be read as another value. There a
wrong answer is allowed if `verify` finds something; while `verify` is silent all must be right.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch.engine import Index
from clipsearch.errors import ClipsearchError, EncoderError, IndexDamagedError, UsageError
from clipsearch.store import exact as exact_module
from clipsearch.store import snapshot as snapshot_module
from clipsearch.store import writer as writer_module
from clipsearch.store.checks import salt_of
from clipsearch.store.exact import load_faiss
from clipsearch.store.lists import ID_BYTES, LIST_TABLE, LIST_TYPE, LISTS
from clipsearch.store.lookup import LOOKUP_TYPE, NO_MEDIA, lookup_checks
from clipsearch.store.manifest import FORMAT_VERSION, Manifest, Tuning, load_manifest
from clipsearch.store.segment import CHECKS, EXTRAS, FACTS, LOOKUP, ROWS, SUMS, VECTORS, file_facts
from clipsearch.store.store import Store
from clipsearch.store.vectors import blocks_of
from clipsearch.types import UNIT_KINDS, VECTOR_KINDS, VISUAL_KINDS
from tests.vectors import DIM, ROOT, many, unit_rows

REPOSITORY = Path(__file__).parents[1]
CATALOG, MANIFEST, QUANTISER = "catalog.sqlite", "manifest.json", "quantiser"
NAMES = (VECTORS, CHECKS, LOOKUP, EXTRAS, ROWS, SUMS, FACTS, LISTS, LIST_TABLE)
# big: files and vectors with columns, dead rows. loose: vectors with columns, dead rows. media:
# files, no columns, no dead rows; as many rows as loose. All of them have inverted lists.
BIG, LOOSE, MEDIA = ([f"{role}/{name}" for name in NAMES] for role in ("big", "loose", "media"))
SEGMENT_FILES = (*BIG, *LOOSE, *MEDIA)
FILES = (*SEGMENT_FILES, QUANTISER, CATALOG, MANIFEST)
OTHER = {"big": "loose", "loose": "media", "media": "loose"}  # where a swapped file comes from
SCANNED_ROWS, TRAINING_ROWS = 50, 624
FLIPS = 2  # in each file
CATALOG_FLIPS = MANIFEST_FLIPS = 40
SMALL_ROWS = 70  # of loose and of media
MOST = 1500  # more than there are rows
QUERIES = unit_rows(3, 99)
ORDINARY_HEADER = 128  # of a .npy file

Answers = dict[str, Any]
Found = list[dict[int, Any]]


@dataclass(frozen=True)
class Made:
    """An undamaged index: its place, the folders of its segments, all that it answers."""

    folder: Path
    segments: dict[str, str]
    quantiser: str
    ids: dict[str, list[int]]  # of each segment's rows, dead ones too
    stock: dict[int, tuple[Any, ...]]  # each live id's row, columns and vector
    answers: Answers

    def path(self, key: str, folder: Path) -> Path:
        """A file of a copy of the index."""
        if key == QUANTISER:
            return folder / "quantisers" / f"{self.quantiser}.faiss"
        role, _, name = key.rpartition("/")
        return folder / "segments" / self.segments[role] / name if role else folder / name

    def owner(self, id_: int) -> int:
        """The media that a live row is of."""
        owner: int = self.stock[id_][0]
        return owner

    def live(self, role: str, rows: Iterable[int]) -> set[int]:
        """The live ids among some rows of a segment."""
        return {self.ids[role][row] for row in rows} & self.stock.keys()

    def undamaged_without(self, lost: set[int]) -> dict[int, tuple[Any, ...]]:
        """The stock without lost rows, and without the other rows of files that lost one."""
        files = {self.owner(id_) for id_ in lost} - {NO_MEDIA}
        return {i: row for i, row in self.stock.items() if i not in lost and row[0] not in files}


def filled(keys: Iterable[str]) -> list[str]:
    """Without the one file that has no bytes to lose: there are no columns in `media`."""
    return [key for key in keys if key != f"media/{EXTRAS}"]


# Making the index


def add_loose(store: Store, count: int, seed: int) -> None:
    """Vectors of all kinds with columns, of as many bytes for each `seed` below ten."""
    kinds = [UNIT_KINDS[i % 3] for i in range(count)]
    times = [None if kind == "image" else float(i) for i, kind in enumerate(kinds)]
    table = {
        "path": [f"/loose/{seed}/{i:04}.mp4" for i in range(count)],
        "kind": kinds,
        "start": times,
        "end": times,
        "frame_number": [i if kind == "frame" else None for i, kind in enumerate(kinds)],
        "title": [f"\u00e9 {seed} {i:04}" for i in range(count)],
    }
    with store.writing() as writer:
        for block in blocks_of(unit_rows(count, seed), table, dim=DIM, normalize=False):
            writer.publish_vectors(block.vectors, block.rows, block.columns)


def add_media(store: Store, count: int, seed: int) -> None:
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        writer.publish(many(count, seed))


def maintain(store: Store) -> None:
    with store.writing() as writer:
        writer.maintain()


def build(folder: Path) -> None:
    manifest = Manifest(
        f"fake:{DIM}", f"fake:{DIM}@1", DIM, "ivfpq", {"method": "fps", "fps": 1.0}, written_by="0"
    )
    with closing(Store.create(folder, manifest)) as store:
        add_media(store, 45, 1)
        add_loose(store, 180, 2)
        maintain(store)  # one segment of both, with lists
        add_loose(store, SMALL_ROWS, 3)
        add_media(store, SMALL_ROWS // 10, 4)
        maintain(store)  # gives these their lists
        with store.writing() as writer:
            writer.catalog.remove_media([3, 4])
            writer.remove_vectors(np.array([470, 471, 500, 600, 640, 650]))
        [trained] = writer.quantisers()
        store.update_manifest(tuning=Tuning(trained.name, 4, 60))


def shrink(patch: Callable[[Any, str, int], None]) -> None:
    """Lists for few rows already."""
    patch(writer_module, "SMALLEST_TRAINING_ROWS", TRAINING_ROWS)
    for module in (writer_module, snapshot_module):
        patch(module, "SCANNED_ROWS", SCANNED_ROWS)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch.setattr)
    monkeypatch.setattr("os.fsync", lambda _: None)  # nobody pulls the plug here


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch.setattr)
        patch.setattr("os.fsync", lambda _: None)
        folder = tmp_path_factory.mktemp("made") / "index"
        build(folder)
        with closing(Store.open(folder)) as store:
            entries = [view.entry for view in store.snapshot().views]
            segments = dict(zip(OTHER, entries, strict=True))
            ids = {}
            for role, view in zip(segments, store.snapshot().views, strict=True):
                ids[role] = view.segment.rows(0, view.segment.row_count)["id"].tolist()
            [quantiser] = store.snapshot().quantisers
        names = {role: entry.name for role, entry in segments.items()}
        yield Made(folder, names, quantiser.facts.name, ids, stock_of(folder), ask(folder))


@pytest.fixture
def copy(made: Made, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.folder, tmp_path / "index"))


# What there is to ask


def ask(folder: Path, *names: str) -> Answers:
    """The answer to every question, or to those that are named; or the error that came instead."""
    names = names or tuple(QUESTIONS)
    try:
        store = Store.open(folder)
    except ClipsearchError as error:
        return dict.fromkeys(names, error)
    answers: Answers = {}
    with closing(store):
        for name in names:
            try:
                answers[name] = QUESTIONS[name](store)
            except ClipsearchError as error:
                answers[name] = error
    return answers


def units(store: Store, **how: Any) -> Found:
    found = store.search(QUERIES, **how)
    return [{unit.id: (unit.media_id, unit.unit, unit.score) for unit in own} for own in found]


def ids(store: Store, **how: Any) -> Found:
    scores, found = Index(store).search_vectors(QUERIES, **how)
    return [
        dict(zip(i.tolist(), s.tolist(), strict=True)) for i, s in zip(found, scores, strict=True)
    ]


def hits(store: Store) -> list[Any]:
    found = Index(store).search(QUERIES[0], kind=VECTOR_KINDS, top=8)
    places = [(hit.id, str(hit.path), hit.kind, hit.start, hit.end, hit.moment) for hit in found]
    return [places, [hit.score for hit in found], [dict(hit.columns) for hit in found]]


def rows(store: Store) -> list[Any]:
    found, columns, there = store.rows(np.arange(MOST))
    return [plain(found), columns, np.flatnonzero(there).tolist()]


def dictionaries(store: Store) -> list[dict[str, Any]]:
    """Of some live ids of each segment, all of which must be there."""
    return Index(store).rows([1, 40, 460, 520, 632, 660, 699, 702, 730, 770])


def counts(store: Store) -> list[Any]:
    found = Index(store).status()
    number = [found.images, found.videos, found.failed, found.rows, found.dead_rows]
    return [*number, found.segments, found.roots, found.model, found.recipe, found.lists]


def media(store: Store) -> list[Any]:
    return [(m.id, str(m.path), m.kind, m.state, m.error) for m in Index(store).media()]


QUESTIONS: dict[str, Callable[[Store], Any]] = {
    "exact": lambda store: units(store, k=25, exact=True),
    "probed": lambda store: units(store, k=25),
    "frames": lambda store: ids(store, top=10, kind="frame"),
    "all ids": lambda store: ids(store, top=MOST, exact=True),
    "rows": rows,
    "dictionaries": dictionaries,
    "hits": hits,
    "means": lambda store: [store.mean_score(query[None], VISUAL_KINDS) for query in QUERIES],
    "counts": counts,
    "media": media,
}


def plain(found: Any) -> list[tuple[Any, ...]]:
    """Rows without their places in a file; None instead of NaN."""
    names = ("id", "media_id", "kind", "start_seconds", "end_seconds", "frame_number")
    values = zip(*(found[name].tolist() for name in names), strict=True)
    return [tuple(None if value != value else value for value in row) for row in values]


def stock_of(folder: Path) -> dict[int, tuple[Any, ...]]:
    """Every live row: media, kind, times, frame, columns and bytes of its vector."""
    with closing(Store.open(folder)) as store:
        snapshot = store.snapshot()
        places = snapshot.live_places()
        live = snapshot.rows(places)["id"]
        found, columns, there = store.rows(live)
        assert there.all()
        vectors = [vector.tobytes() for vector in snapshot.vectors(places)]
        values = zip(plain(found), columns, vectors, strict=True)
        return {row[0]: (*row[1:], json.loads(c or b"null"), v) for row, c, v in values}


def same(found: Any, right: Any) -> bool:
    """Equal, but for the last digits of scores."""
    if isinstance(right, float) and isinstance(found, float):
        return found == right or math.isclose(found, right, abs_tol=1e-6)
    if isinstance(right, dict) and isinstance(found, dict):
        return found.keys() == right.keys() and all(same(found[k], right[k]) for k in right)
    if isinstance(right, (list, tuple)) and isinstance(found, (list, tuple)):
        return len(found) == len(right) and all(map(same, found, right))
    return bool(found == right)


def wrong(answers: Answers, right: Answers) -> list[str]:
    """What was answered otherwise, or blamed on the one who asks."""
    return [
        f"{name}: {answer}"[:300]
        for name, answer in answers.items()
        if isinstance(answer, UsageError)
        or not (isinstance(answer, ClipsearchError) or same(answer, right[name]))
    ]


# What verify says


@dataclass(frozen=True)
class Diagnosis:
    """The problems of an index, or why `verify` could not look."""

    problems: dict[Path, str]
    error: str

    @property
    def clean(self) -> bool:
        return not self.problems and not self.error

    def names(self, path: Path) -> bool:
        return path in self.problems or path.name in self.error


def diagnose(folder: Path) -> Diagnosis:
    try:
        with Index.open(folder) as index:
            return Diagnosis({p.path: p.what for p in index.verify()}, "")
    except IndexDamagedError as error:
        return Diagnosis({}, str(error))


def trouble(made: Made, folder: Path, path: Path) -> str | None:
    """What is wrong with how the damage to one file is dealt with."""
    try:
        lies = wrong(ask(folder), made.answers)
        found = diagnose(folder)
    except Exception as error:  # every kind of it is a crash for the user
        return f"{type(error).__name__}: {error}"
    if lies:
        return f"wrong: {lies}"
    return None if found.names(path) else f"verify does not name the file: {found}"


def catalog_trouble(made: Made, folder: Path, *, harmless: bool = True) -> str | None:
    """As `trouble`, for bytes of the catalog that are read as others, or may be `harmless`."""
    try:
        answers, found = ask(folder), diagnose(folder)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if not found.clean:
        return None
    errors = [f"{n}: {a}" for n, a in answers.items() if isinstance(a, ClipsearchError)]
    lies = wrong(answers, made.answers) + errors
    return None if harmless and not lies else f"verify is silent, answers are wrong: {lies}"


def manifest_trouble(made: Made, folder: Path) -> str | None:
    """As `trouble`, for bytes of the manifest that may be white space."""
    try:
        if load_manifest(folder) == load_manifest(made.folder):
            return None
    except IndexDamagedError:
        pass
    return trouble(made, folder, folder / MANIFEST)


def forgery_trouble(made: Made, folder: Path) -> str | None:
    """As `trouble`, for files that were made to harm: any of them may be named."""
    try:
        answers, found = ask(folder), diagnose(folder)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    exact = ("exact", "all ids", "rows", "dictionaries", "media")  # the lists have no part in it
    lies = wrong({name: answers[name] for name in exact}, made.answers)
    if lies:
        return f"wrong: {lies}"
    return "verify is silent" if found.clean else None


# Doing damage


@contextmanager
def content(path: Path, damaged: bytes) -> Iterator[None]:
    """Another content for a file, for the time being."""
    before = path.read_bytes()
    path.write_bytes(damaged)
    try:
        yield
    finally:
        for end in ("-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)
        path.write_bytes(before)


def places(size: int) -> list[int]:
    """Ten lengths to cut a file of `size` bytes to: none, in its header, in its middle, its end."""
    header = (0, 1, 7, ORDINARY_HEADER // 2, ORDINARY_HEADER)
    body = (size // 3, size // 2, size * 2 // 3, size - 8, size - 1)
    return sorted({place for place in (*header, *body) if 0 <= place < size})


def flipped(good: bytes, at: int, mask: int = 0xFF) -> bytes:
    return good[:at] + bytes([good[at] ^ mask]) + good[at + 1 :]


def flips(good: bytes, count: int, seed: str) -> Iterator[tuple[str, bytes]]:
    """One damaged byte at a time, at random places."""
    source = random.Random(seed)
    for _ in range(count):
        at, mask = source.randrange(len(good)), source.randrange(1, 256)
        yield f"byte {at} ^ {mask:#x}", flipped(good, at, mask)


def sql(folder: Path, statement: str, *values: Any) -> list[Any]:
    with closing(sqlite3.connect(folder / CATALOG)) as db:
        found = db.execute(statement, values).fetchall()
        db.commit()
        return found


def sign(made: Made, folder: Path, role: str) -> None:
    """Make segment.json and the catalog agree with the files of a segment as they are."""
    path = made.path(f"{role}/{FACTS}", folder)
    facts = json.loads(path.read_bytes())
    facts["files"] = {name: file_facts(path.with_name(name)) for name in facts["files"]}
    sign_facts(made, folder, role, json.dumps(facts).encode())


def sign_facts(made: Made, folder: Path, role: str, facts: bytes) -> None:
    """Write another segment.json, and its digest to the catalog."""
    made.path(f"{role}/{FACTS}", folder).write_bytes(facts)
    digest, name = hashlib.sha256(facts).hexdigest(), made.segments[role]
    sql(folder, "UPDATE segments SET digest = ? WHERE name = ?", digest, name)


def set_quantiser(folder: Path, **values: Any) -> None:
    """Change what the catalog says of the one quantiser."""
    [[text]] = sql(folder, "SELECT value FROM settings WHERE key = 'quantisers'")
    facts = json.dumps([{**json.loads(text)[0], **values}])
    sql(folder, "UPDATE settings SET value = ? WHERE key = 'quantisers'", facts)


def forge_quantiser(made: Made, folder: Path, forged: bytes) -> None:
    """Another quantiser file, that the catalog takes for the right one."""
    made.path(QUANTISER, folder).write_bytes(forged)
    set_quantiser(folder, bytes=len(forged), sha256=hashlib.sha256(forged).hexdigest())


# The index itself


def test_the_index_has_all_that_can_be_damaged(made: Made) -> None:
    covered = {made.path(key, made.folder) for key in FILES}
    files = {path for path in made.folder.rglob("*") if path.is_file() and path.name != "lock"}
    assert files == covered
    assert diagnose(made.folder).clean
    assert not any(isinstance(answer, ClipsearchError) for answer in made.answers.values())
    dead = sum(map(len, made.ids.values())) - len(made.stock)
    assert dead == 1 + 9 + 6
    loose = [row for row in made.stock.values() if row[0] == NO_MEDIA]
    assert {row[1] for row in loose} == {row[1] for row in made.stock.values()} == {0, 1, 2}
    assert len(loose) == 180 + SMALL_ROWS - 6
    assert all(row[5]["title"] for row in loose)


def test_lists_are_probed(made: Made) -> None:
    exact, probed = made.answers["exact"], made.answers["probed"]
    assert probed != exact
    common = sum(len(a.keys() & b.keys()) for a, b in zip(exact, probed, strict=True))
    assert common > 0.5 * sum(map(len, exact))


def test_a_copy_answers_as_the_index_does(made: Made, copy: Path) -> None:
    assert wrong(ask(copy), made.answers) == []
    assert stock_of(copy) == made.stock


# Damage and what is said of it


@pytest.mark.parametrize("key", [*BIG, QUANTISER, CATALOG, MANIFEST])
def test_a_file_that_was_cut_is_named(made: Made, copy: Path, key: str) -> None:
    path = made.path(key, copy)
    good = path.read_bytes()
    found = {}
    for place in places(len(good)):
        with content(path, good[:place]):
            what = manifest_trouble(made, copy) if key == MANIFEST else trouble(made, copy, path)
            found[place] = what
    assert len(found) == 10
    assert {place: what for place, what in found.items() if what} == {}


@pytest.mark.parametrize("key", [*filled(SEGMENT_FILES), QUANTISER])
def test_a_file_with_a_flipped_byte_is_named(made: Made, copy: Path, key: str) -> None:
    path = made.path(key, copy)
    found = {}
    for what, damaged in flips(path.read_bytes(), FLIPS, key):
        with content(path, damaged):
            found[what] = trouble(made, copy, path)
    assert {what: said for what, said in found.items() if said} == {}


def test_flips_in_the_catalog_are_found_or_harmless(made: Made, copy: Path) -> None:
    path = copy / CATALOG
    found = {}
    for what, damaged in flips(path.read_bytes(), CATALOG_FLIPS, CATALOG):
        with content(path, damaged):
            found[what] = catalog_trouble(made, copy)
    assert {what: said for what, said in found.items() if said} == {}


def test_flips_in_the_manifest_are_found_or_harmless(made: Made, copy: Path) -> None:
    """Harmless: in the white space of the JSON, so that all values are as they were."""
    path = copy / MANIFEST
    found = {}
    for what, damaged in flips(path.read_bytes(), MANIFEST_FLIPS, MANIFEST):
        with content(path, damaged):
            found[what] = manifest_trouble(made, copy)
    assert {what: said for what, said in found.items() if said} == {}


@pytest.mark.parametrize("name", LOOKUP_TYPE.names or ())
def test_no_field_of_a_row_is_wrong_in_silence(made: Made, copy: Path, name: str) -> None:
    """Ids above all: rows are found by them."""
    path, count = made.path(f"loose/{LOOKUP}", copy), SMALL_ROWS
    good, offset = path.read_bytes(), LOOKUP_TYPE.fields[name][1]  # type: ignore[index]
    header = len(good) - count * LOOKUP_TYPE.itemsize
    found = {}
    for row in (0, 10, 31, count - 1) if name == "id" else (10,):
        with content(path, flipped(good, header + row * LOOKUP_TYPE.itemsize + offset, 2)):
            found[row] = trouble(made, copy, path)
    assert {row: said for row, said in found.items() if said} == {}


def test_a_scan_in_blocks_notices_a_flipped_byte_in_each(
    made: Made, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact_module, "SMALL_SCAN_VALUES", 0)
    monkeypatch.setattr(exact_module, "SCAN_ROWS", 16)
    assert wrong(ask(copy), made.answers) == []
    path = made.path(f"loose/{VECTORS}", copy)
    good = path.read_bytes()
    for row in (0, 15, 16, SMALL_ROWS - 1):
        with content(path, flipped(good, len(good) - (SMALL_ROWS - row) * 2 * DIM)):
            assert trouble(made, copy, path) is None
            assert isinstance(ask(copy, "exact")["exact"], IndexDamagedError)


def remove(path: Path) -> None:
    path.unlink()


def be_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def dangle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


def turn_in_circles(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def be_noise(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(path.stat().st_size or 64))


def be_a_link(path: Path) -> None:
    """To the same content elsewhere."""
    elsewhere = path.parents[3] / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("key", [*BIG, f"media/{EXTRAS}", QUANTISER, CATALOG, MANIFEST])
def test_a_file_that_is_missing_is_named(made: Made, copy: Path, key: str) -> None:
    path = made.path(key, copy)
    path.unlink()
    assert trouble(made, copy, path) is None


@pytest.mark.parametrize(
    "key", [f"loose/{LOOKUP}", f"loose/{FACTS}", f"big/{LISTS}", QUANTISER, CATALOG, MANIFEST]
)
@pytest.mark.parametrize(
    "harm", [be_a_folder, dangle, turn_in_circles, be_noise], ids=lambda harm: harm.__name__
)
def test_a_file_that_is_no_more_what_it_was_is_named(
    made: Made, copy: Path, key: str, harm: Callable[[Path], None]
) -> None:
    path = made.path(key, copy)
    harm(path)
    assert trouble(made, copy, path) is None


@pytest.mark.parametrize("key", [*BIG, f"media/{EXTRAS}", QUANTISER])
def test_a_file_that_has_grown_is_named(made: Made, copy: Path, key: str) -> None:
    path = made.path(key, copy)
    path.write_bytes(path.read_bytes() + b"\0")
    assert trouble(made, copy, path) is None


@pytest.mark.parametrize("key", [*LOOSE, f"media/{EXTRAS}"])
def test_a_link_in_a_segment_is_named(made: Made, copy: Path, key: str) -> None:
    path = made.path(key, copy)
    be_a_link(path)
    assert trouble(made, copy, path) is None


@pytest.mark.parametrize("key", [QUANTISER, CATALOG, MANIFEST])
def test_a_link_to_the_same_content_is_as_good(made: Made, tmp_path: Path, key: str) -> None:
    """These are opened by their path; what they hold is checked all the same."""
    copy = Path(shutil.copytree(made.folder, tmp_path / "a" / "b" / "index"))
    path = made.path(key, copy)
    be_a_link(path)
    assert path.is_symlink()
    assert trouble(made, copy, path) in (None, f"verify does not name the file: {diagnose(copy)}")


def others(key: str) -> str:
    """The same file of another segment."""
    role, _, name = key.partition("/")
    return f"{OTHER[role]}/{name}"


@pytest.mark.parametrize("key", [*BIG, f"media/{EXTRAS}"])
def test_a_file_of_another_segment_is_named(made: Made, copy: Path, key: str) -> None:
    path, other = made.path(key, copy), made.path(others(key), copy).read_bytes()
    path.write_bytes(other)
    assert trouble(made, copy, path) is None


@pytest.mark.parametrize("key", filled(MEDIA))
def test_a_file_of_another_segment_cut_to_size_is_named(made: Made, copy: Path, key: str) -> None:
    path, other = made.path(key, copy), made.path(others(key), copy).read_bytes()
    size = path.stat().st_size
    path.write_bytes(other[:size].ljust(size, b"\0"))
    assert trouble(made, copy, path) is None


@pytest.mark.parametrize("name", NAMES)
def test_both_of_two_swapped_files_are_named(made: Made, copy: Path, name: str) -> None:
    one, two = made.path(f"loose/{name}", copy), made.path(f"media/{name}", copy)
    if name not in (EXTRAS, ROWS, FACTS, LISTS):
        assert one.stat().st_size == two.stat().st_size
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert trouble(made, copy, one) is None
    assert trouble(made, copy, two) is None


def test_a_row_of_another_segment_is_noticed(made: Made, copy: Path) -> None:
    """Its vector and its check with it: only the salt tells."""
    row = 12
    for name, row_bytes in ((VECTORS, 2 * DIM), (CHECKS, 8)):
        one, two = made.path(f"loose/{name}", copy), made.path(f"media/{name}", copy)
        mine, other = bytearray(one.read_bytes()), two.read_bytes()
        at = len(other) - (SMALL_ROWS - row) * row_bytes
        mine[at : at + row_bytes] = other[at : at + row_bytes]
        one.write_bytes(mine)
    answers = ask(copy)
    assert wrong(answers, made.answers) == []
    assert isinstance(answers["exact"], IndexDamagedError)


def folder_gone(folder: Path) -> None:
    shutil.rmtree(folder)


def folder_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_bytes(b"x")


def folder_a_link(folder: Path) -> None:
    elsewhere = folder.parents[2] / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)


def folder_of_another(folder: Path) -> None:
    other = next(path for path in folder.parent.iterdir() if path != folder)
    shutil.rmtree(folder)
    shutil.copytree(other, folder)


@pytest.mark.parametrize("role", ["big", "loose", "media"])
@pytest.mark.parametrize(
    "harm",
    [folder_gone, folder_a_file, folder_a_link, folder_of_another],
    ids=lambda harm: harm.__name__,
)
def test_a_damaged_folder_of_a_segment_is_named(
    made: Made, copy: Path, role: str, harm: Callable[[Path], None]
) -> None:
    folder = copy / "segments" / made.segments[role]
    harm(folder)
    assert wrong(ask(copy), made.answers) == []
    named = diagnose(copy).problems
    assert any(path == folder or path.parent == folder for path in named), named


def test_a_folder_without_segments_is_named(made: Made, copy: Path) -> None:
    shutil.rmtree(copy / "segments")
    assert wrong(ask(copy), made.answers) == []
    problems = diagnose(copy).problems
    assert {path.parent.name for path in problems} == set(made.segments.values())


# Manifests and catalogs


def edit_manifest(folder: Path, **values: Any) -> None:
    path = folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_manifest_of_a_newer_version_says_what_to_install(copy: Path) -> None:
    edit_manifest(copy, format_version=99, written_by="7.0.0")
    for opened in (Store.open, Index.open):
        with pytest.raises(IndexDamagedError, match=r"manifest\.json .*99.*clipsearch 7\.0\.0"):
            opened(copy)


@pytest.mark.parametrize(
    "values",
    [
        {"format": "other"},
        {"format_version": 0},
        {"format_version": "3"},
        {"format_version": FORMAT_VERSION - 1},
        {"dim": 0},
        {"dim": "32"},
        {"dim": True},
        {"encoder": 5},
        {"fingerprint": None},
        {"recipe": "nope"},
        {"recipe": ["ivfpq"]},
        {"sampling": "x"},
        {"catalog": 5},
        {"written_by": 5},
        {"tuning": 5},
        {"tuning": {"quantiser": "x"}},
        {"tuning": {"quantiser": "x", "nprobe": "8", "candidates": 100}},
        {"tuning": {"quantiser": "x", "nprobe": 0, "candidates": 100}},
        {"tuning": {"quantiser": "x", "nprobe": 8, "candidates": -1}},
        {"tuning": {"quantiser": "x", "nprobe": 8, "candidates": 100, "measured": 5}},
    ],
    ids=str,
)
def test_a_manifest_with_a_wrong_value_is_named(copy: Path, values: dict[str, Any]) -> None:
    edit_manifest(copy, **values)
    with pytest.raises(IndexDamagedError, match=r"manifest\.json"):
        Index.open(copy).close()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "9" * 10_000, '"\\ud800"'])
def test_a_manifest_that_no_parser_likes_is_named(copy: Path, text: str) -> None:
    (copy / MANIFEST).write_text(text)
    with pytest.raises(IndexDamagedError, match=r"manifest\.json"):
        Index.open(copy)


def test_an_index_of_another_encoder_refuses_words(copy: Path) -> None:
    with Index.open(copy) as index:
        assert index.search("red")
    with closing(Store.open(copy)) as store:
        store.update_manifest(fingerprint="fake:32@0")
    with Index.open(copy) as index, pytest.raises(EncoderError, match=r"fake:32@0.*fake:32@1"):
        index.search("red")


@pytest.mark.parametrize("dim", [DIM // 2, 2 * DIM])
def test_a_manifest_of_another_dimension_loses_nothing(made: Made, copy: Path, dim: int) -> None:
    """Segments that do not fit it must not be taken for damaged ones."""
    right = (copy / MANIFEST).read_bytes()
    with closing(Store.open(copy)) as store:
        store.update_manifest(dim=dim)
    for attempt in (write_nothing, repair):
        with pytest.raises(IndexDamagedError):
            attempt(copy)
    (copy / MANIFEST).write_bytes(right)
    assert stock_of(copy) == made.stock


@pytest.mark.parametrize("role", ["media", "big"])
def test_an_index_whose_manifest_is_lost_is_not_made_anew(
    made: Made, copy: Path, role: str
) -> None:
    right = (copy / MANIFEST).read_bytes()
    (copy / MANIFEST).unlink()
    if role == "media":
        shutil.rmtree(copy / "quantisers")  # as an index that was never trained
    with pytest.raises(ClipsearchError):
        Store.create(copy, Manifest("fake", "fingerprint", DIM, "auto", {}))
    (copy / MANIFEST).write_bytes(right)
    with closing(Store.open(copy)) as store:
        assert [entry.name for entry in store.catalog.segments()] == [*made.segments.values()]


@pytest.mark.parametrize("name", ["../../etc", "/etc", "..", "", "x\0y", 5, b"\xff", "A" * 32])
def test_a_segment_elsewhere_is_refused(made: Made, copy: Path, name: Any) -> None:
    """A catalog made by others must not lead out of the index."""
    sql(copy, "UPDATE segments SET name = ? WHERE name = ?", name, made.segments["media"])
    answers = ask(copy)
    assert isinstance(answers["exact"], IndexDamagedError)
    assert isinstance(answers["rows"], IndexDamagedError)
    assert CATALOG in str(answers["exact"])
    for attempt in (write_nothing, repair):
        with pytest.raises(IndexDamagedError):
            attempt(copy)
    assert CATALOG in diagnose(copy).error


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a/../../x", "..", b"\xff", "a\0b"])
def test_a_path_that_leaves_its_root_is_refused(copy: Path, path: Any) -> None:
    sql(copy, "UPDATE media SET path = ?  WHERE id = 1", path)
    with Index.open(copy) as index:
        with pytest.raises(IndexDamagedError):
            list(index.media())
        with pytest.raises(IndexDamagedError):
            index.rows([1])
        with pytest.raises(IndexDamagedError):
            index.search(QUERIES[0], top=MOST)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE settings SET value = 'x' WHERE key = 'generation'",
        "UPDATE settings SET value = 'x' WHERE key = 'next_unit_id'",
        "UPDATE settings SET value = '-5' WHERE key = 'next_unit_id'",
        "UPDATE settings SET value = 'x' WHERE key = 'next_media_id'",
        "UPDATE settings SET value = '[' WHERE key = 'quantisers'",
        "UPDATE settings SET value = '5' WHERE key = 'quantisers'",
        "UPDATE settings SET value = '[5]' WHERE key = 'quantisers'",
        "UPDATE settings SET value = '[{}]' WHERE key = 'quantisers'",
        "UPDATE segments SET row_count = 'x' WHERE id = (SELECT max(id) FROM segments)",
        "UPDATE segments SET row_count = -1 WHERE id = (SELECT max(id) FROM segments)",
        "UPDATE segments SET row_count = row_count + 1",
        "UPDATE segments SET digest = 5 WHERE id = (SELECT max(id) FROM segments)",
        "UPDATE segments SET digest = '' WHERE id = (SELECT max(id) FROM segments)",
        "UPDATE dead_ranges SET first_row = 'x'",
        "UPDATE dead_ranges SET first_row = -1",
        "UPDATE dead_ranges SET first_row = first_row + 1",
        "UPDATE dead_ranges SET row_count = 9223372036854775807",
        "UPDATE dead_ranges SET row_count = 0",
        "UPDATE dead_ranges SET segment_id = 99",
        "UPDATE ranges SET first_row = first_row + 1",
        "UPDATE ranges SET first_row = -1",
        "UPDATE ranges SET first_row = 'x'",
        "UPDATE ranges SET row_count = -1",
        "UPDATE ranges SET row_count = 9223372036854775807",
        "UPDATE ranges SET segment_id = (SELECT max(id) FROM segments)",
        "UPDATE ranges SET kind = 'x' WHERE kind = 'image'",
        "UPDATE media SET root_id = 99",
        "UPDATE media SET path = x'ff' WHERE id = 1",
        "UPDATE media SET kind = 'x'",
        "UPDATE media SET state = 'x'",
        "UPDATE roots SET path = x'ff'",
        "UPDATE roots SET path = 5",
        "UPDATE alembic_version SET version_num = '0001'",
        "UPDATE alembic_version SET version_num = '0000'",
        "UPDATE alembic_version SET version_num = '9999'",
        "DELETE FROM alembic_version",
        "DELETE FROM dead_ranges",
        "DELETE FROM ranges",
        "DELETE FROM media WHERE id = 1",
        "DELETE FROM roots",
        "DELETE FROM settings",
        "DROP TABLE dead_ranges",
        "DROP TABLE segments",
    ],
)
def test_a_catalog_with_a_wrong_value_is_found(made: Made, copy: Path, change: str) -> None:
    """As a flipped byte may leave it: no error but ours, and `verify` is not silent."""
    sql(copy, change)
    assert catalog_trouble(made, copy, harmless=False) is None


@pytest.mark.parametrize(
    "values",
    [
        {"name": "../evil"},
        {"name": 5},
        {"name": "x\0y"},
        {"recipe": "nope"},
        {"lists": -1},
        {"lists": 10**12},
        {"lists": "x"},
        {"lists": 5},
        {"bytes": 10**15},
        {"bytes": 10**30},
        {"bytes": -1},
        {"bytes": "x"},
        {"sha256": 5},
        {"rows": "x"},
        {"more": 1},
    ],
    ids=str,
)
def test_a_catalog_that_is_wrong_about_a_quantiser_is_refused(
    made: Made, copy: Path, values: dict[str, Any]
) -> None:
    shutil.copy(made.path(QUANTISER, copy), copy / "evil.faiss")
    set_quantiser(copy, **values)
    assert catalog_trouble(made, copy, harmless=False) is None
    assert isinstance(ask(copy, "probed")["probed"], IndexDamagedError)


@pytest.mark.parametrize("keyword", [b"TABLE media", b"TABLE segments", b"INDEX ranges_segment"])
@pytest.mark.parametrize("byte", [b"\x00", b"\x9b", b"\xf0", b"("])
def test_a_schema_that_is_no_text_is_found(
    made: Made, copy: Path, keyword: bytes, byte: bytes
) -> None:
    path = copy / CATALOG
    good = path.read_bytes()
    assert good.count(b"CREATE " + keyword) == 1
    for place in (3, 5 + len(keyword)):
        at = good.index(b"CREATE " + keyword) + place
        with content(path, good[:at] + byte + good[at + 1 :]):
            assert catalog_trouble(made, copy) is None


def forget_last_segment(folder: Path) -> None:
    """The number of cells of the page of the table of segments, one too small."""
    [[page]] = sql(folder, "SELECT rootpage FROM sqlite_master WHERE name = 'segments'")
    [[size]] = sql(folder, "PRAGMA page_size")
    path = folder / CATALOG
    damaged = bytearray(path.read_bytes())
    at = (page - 1) * size + 3
    damaged[at : at + 2] = (int.from_bytes(damaged[at : at + 2], "big") - 1).to_bytes(2, "big")
    path.write_bytes(damaged)


@pytest.mark.parametrize("attempt", ["write", "repair"])
def test_a_catalog_that_forgot_a_segment_lets_nobody_delete_it(
    made: Made, copy: Path, attempt: str
) -> None:
    right = (copy / CATALOG).read_bytes()
    forget_last_segment(copy)
    assert diagnose(copy).names(copy / CATALOG)
    with pytest.raises(IndexDamagedError, match=r"catalog\.sqlite"):
        repair(copy) if attempt == "repair" else write_nothing(copy)
    (copy / CATALOG).write_bytes(right)
    assert stock_of(copy) == made.stock


def vectors_in(folder: Path) -> set[bytes]:
    """Every vector in any file below a folder."""
    files = [np.load(path) for path in folder.rglob(VECTORS)]
    return {vector.tobytes() for file in files for vector in file}


def lose_the_log(folder: Path) -> None:
    (folder / f"{CATALOG}-wal").unlink()


def flip_the_log(folder: Path) -> None:
    path = folder / f"{CATALOG}-wal"
    path.write_bytes(flipped(path.read_bytes(), path.stat().st_size // 4))


@pytest.mark.parametrize("harm", [lose_the_log, flip_the_log], ids=lambda harm: harm.__name__)
def test_vectors_are_kept_that_only_the_log_of_the_catalog_knew(
    copy: Path, harm: Callable[[Path], None]
) -> None:
    """A process was killed before its log became part of the catalog, and the log is damaged: the
    catalog is as it was some publications ago.
    """
    killed, before = copy.parent / "killed", vectors_in(copy)
    with closing(Store.open(copy)) as store:
        for seed in (6, 7, 8):
            add_loose(store, 30, seed)
        shutil.copytree(copy, killed)
    harm(killed)
    published = vectors_in(copy)
    assert len(published - before) == 90
    for attempt in (write_nothing, repair):
        with suppress(IndexDamagedError):
            attempt(killed)
        assert published <= vectors_in(killed)


# Files made to do harm


@pytest.mark.parametrize(
    "values",
    [
        {"files": {"../x": {"bytes": 1, "sha256": ""}}},
        {"files": {"/etc/passwd": {"bytes": 1, "sha256": ""}}},
        {"files": {"..": {"bytes": 4096, "sha256": ""}}},
        {"files": {"x\0y": {"bytes": 1, "sha256": ""}}},
        {"files": {}},
        {"files": []},
        {"files": None},
        {"rows": 10**15},
        {"rows": -1},
        {"rows": "x"},
        {"rows": float(SMALL_ROWS)},
        {"dim": 10**9},
        {"kinds": {"image": [0, 10**12], "frame": [0, 0], "video": [0, 0]}},
        {"kinds": {"image": [0, 1.5], "frame": [0, 0], "video": [0, 0]}},
        {"kinds": {}},
        {"version": 1},
        {"version": 99},
        {"version": "3"},
    ],
    ids=str,
)
def test_a_forged_description_of_a_segment_is_refused(
    made: Made, copy: Path, values: dict[str, Any]
) -> None:
    path = made.path(f"loose/{FACTS}", copy)
    forged = json.dumps({**json.loads(path.read_bytes()), **values}).encode()
    sign_facts(made, copy, "loose", forged)
    assert forgery_trouble(made, copy) is None
    assert isinstance(ask(copy, "exact")["exact"], IndexDamagedError)


@pytest.mark.parametrize("text", [b"[]", b"5", b"null", b"{}", b"\xff", b"[" * 100_000])
def test_a_description_of_a_segment_that_is_none_is_refused(
    made: Made, copy: Path, text: bytes
) -> None:
    sign_facts(made, copy, "loose", text)
    assert trouble(made, copy, made.path(f"loose/{FACTS}", copy)) is None


def forge_lists(made: Made, folder: Path, change: Callable[[Any, bytearray], None]) -> None:
    """Change the table and the bytes of some lists, and every checksum with them."""
    table_path, path = (made.path(f"media/{name}", folder) for name in (LIST_TABLE, LISTS))
    table, lists = np.load(table_path), bytearray(path.read_bytes())
    code_size = DIM // 4 // 2
    change(table, lists)
    for number, (size, capacity, offset, _) in enumerate(table.tolist()):
        end = offset + capacity * code_size + size * ID_BYTES
        start = (int(salt_of(made.segments["media"], LISTS)) + number) & 0xFFFFFFFF
        table["crc"][number] = zlib.crc32(lists[offset:end], start)
    header = table_path.read_bytes()[: -len(table) * LIST_TYPE.itemsize]
    table_path.write_bytes(header + table.tobytes())
    path.write_bytes(lists)
    sign(made, folder, "media")


def set_ids(value: int) -> Callable[[Any, bytearray], None]:
    def change(table: Any, lists: bytearray) -> None:
        for size, capacity, offset, _ in table.tolist():
            start = offset + capacity * (DIM // 4 // 2)
            lists[start : start + size * ID_BYTES] = np.full(size, value, np.int64).tobytes()

    return change


def set_table(name: str, value: int) -> Callable[[Any, bytearray], None]:
    def change(table: Any, lists: bytearray) -> None:
        table[name][:] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        set_ids(10**9),
        set_ids(-5),
        set_ids(-(2**62)),
        set_table("offset", 2**40),
        set_table("offset", 2**64 - 64),
        set_table("offset", 1),
        set_table("capacity", 2**61),
        set_table("size", 2**63),
        set_table("size", 0),
    ],
)
def test_forged_lists_are_refused(
    made: Made, copy: Path, change: Callable[[Any, bytearray], None]
) -> None:
    """FAISS would read any memory that they point to."""
    forge_lists(made, copy, change)
    assert forgery_trouble(made, copy) is None
    probed = ask(copy, "probed")["probed"]
    assert isinstance(probed, IndexDamagedError)
    assert LISTS in str(probed)


def huge_vector(good: bytes, count: int) -> bytes:
    """The file of a quantiser whose centroids claim to be `count` numbers."""
    at = good.index(b"IxFI") + 4 + 4 + 8 + 8 + 8 + 1 + 4  # code, d, ntotal, 2 unused, flag, metric
    return good[:at] + count.to_bytes(8, "little") + good[at + 8 :]


def saved(index: Any) -> bytes:
    return bytes(load_faiss().serialize_index(index))


def made_as(good: bytes, text: str, dim: int, *, train: bool) -> bytes:
    """A quantiser by FAISS's `text`, in which LISTS stands for the number of lists of `good`."""
    faiss = load_faiss()
    lists = faiss.deserialize_index(np.frombuffer(good, np.uint8)).nlist
    index = faiss.index_factory(dim, text.replace("LISTS", str(lists)), faiss.METRIC_INNER_PRODUCT)
    if train:
        index.train(unit_rows(39 * 16, 1, dim))
    return saved(index)


def flat_index(good: bytes) -> bytes:
    return saved(load_faiss().IndexFlatIP(DIM))


def other_lists(good: bytes) -> bytes:
    return made_as(good, "IVF5,PQ8x4fsr", DIM, train=True)


def other_dim(good: bytes) -> bytes:
    return made_as(good, "IVFLISTS,PQ4x4fsr", DIM // 2, train=True)


def other_codes(good: bytes) -> bytes:
    return made_as(good, "IVFLISTS,Flat", DIM, train=True)


def untrained(good: bytes) -> bytes:
    return made_as(good, "IVFLISTS,PQ8x4fsr", DIM, train=False)


def no_centroids(good: bytes) -> bytes:
    index = load_faiss().deserialize_index(np.frombuffer(good, np.uint8))
    index.quantizer.reset()
    return saved(index)


@pytest.mark.parametrize(
    "forge",
    [flat_index, other_lists, other_dim, other_codes, untrained, no_centroids],
    ids=lambda forge: forge.__name__,
)
def test_a_quantiser_of_another_kind_is_refused(
    made: Made, copy: Path, forge: Callable[[bytes], bytes]
) -> None:
    path = made.path(QUANTISER, copy)
    forge_quantiser(made, copy, forge(path.read_bytes()))
    assert forgery_trouble(made, copy) is None
    assert isinstance(ask(copy, "probed")["probed"], IndexDamagedError)


# Links out of the index


def lead_out(path: Path, outside: Path) -> None:
    """Put a link in the place of a file or folder of the index."""
    if path.exists():
        shutil.move(path, outside)
    else:
        outside.write_text("precious")
    path.symlink_to(outside)


@pytest.mark.parametrize("name", ["segments", "quantisers"])
def test_a_writer_deletes_nothing_where_a_link_leads(made: Made, copy: Path, name: str) -> None:
    outside = copy.parent / "outside"
    lead_out(copy / name, outside)
    (outside / "holiday").mkdir()
    (outside / "holiday" / "photo.jpg").write_text("precious")
    (outside / "letter.txt").write_text("precious")
    for attempt in (write_nothing, add_one, repair):
        with suppress(IndexDamagedError):
            attempt(copy)
    assert (outside / "holiday" / "photo.jpg").read_text() == "precious"
    assert (outside / "letter.txt").read_text() == "precious"


@pytest.mark.parametrize("name", ["lock", "lock.json", "manifest.json.tmp"])
def test_a_writer_writes_nothing_where_a_link_leads(made: Made, copy: Path, name: str) -> None:
    outside = copy.parent / "outside"
    (copy / name).unlink(missing_ok=True)
    lead_out(copy / name, outside)
    with suppress(ClipsearchError, OSError), closing(Store.open(copy)) as s, s.writing():
        s.update_manifest(written_by="1")
    assert outside.read_text() == "precious"


# Forged rows


def forge_row(made: Made, folder: Path, **values: Any) -> None:
    """Change the first live row of `loose`, and every checksum with it."""
    path = made.path(f"loose/{LOOKUP}", folder)
    found = np.load(path)
    row = int(np.flatnonzero(np.isin(found["id"], list(made.stock)))[0])
    for name, value in values.items():
        found[name][row] = value
    salt = salt_of(made.segments["loose"], LOOKUP)
    found["check"] = lookup_checks(found, np.arange(len(found)), salt)
    path.write_bytes(path.read_bytes()[: -found.nbytes] + found.tobytes())
    sign(made, folder, "loose")


@pytest.mark.parametrize(
    "values",
    [
        {"kind": 200},
        {"extra_at": 2**63},
        {"extra_at": 10**6},
        {"extra_bytes": 2**32 - 1},
        {"extra_bytes": 0},
        {"extra_at": 0, "extra_bytes": 3, "extra_crc": zlib.crc32(b'{"p')},
        {"media_id": 10**9},
        {"media_id": -1},
        {"id": -1},
    ],
    ids=str,
)
def test_a_forged_row_is_refused(made: Made, copy: Path, values: dict[str, Any]) -> None:
    forge_row(made, copy, **values)
    assert not any(isinstance(answer, UsageError) for answer in ask(copy).values())
    assert not diagnose(copy).clean


# In a process of its own


def run_child(function: str, *paths: Path) -> list[str]:
    """What a function of this file prints in another Python; that it ends well."""
    code = f"import sys; from tests import test_damage as t; t.{function}(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code, *paths],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split()


def peak_bytes() -> int:
    """The most memory that this process ever asked for."""
    found = re.search(r"VmPeak:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None, "only called on Linux"
    return int(found[1]) * 1024


def open_hostile(*folders: str) -> None:
    """Prints how a scan and a search by lists end, and how much memory the latter asked for."""
    shrink(setattr)
    load_faiss()
    for folder in map(Path, folders):
        exact = ask(folder, "exact")["exact"]
        before = peak_bytes()
        probed = ask(folder, "probed")["probed"]
        print(type(exact).__name__, type(probed).__name__, peak_bytes() - before)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the peak")
def test_a_quantiser_that_claims_much_memory_gets_none(made: Made, tmp_path: Path) -> None:
    folders = [tmp_path / str(count) for count in (2**30, 2**31, 2**40, 2**62, 2**64 - 1)]
    for folder in folders:
        shutil.copytree(made.folder, folder)
        good = made.path(QUANTISER, folder).read_bytes()
        forge_quantiser(made, folder, huge_vector(good, int(folder.name)))
    found = run_child("open_hostile", *folders)
    assert found[0::3] == ["list"] * 5
    assert found[1::3] == ["IndexDamagedError"] * 5
    assert max(map(int, found[2::3])) < 300_000_000


def flip_many(folder: str, *paths: str) -> None:
    """Sixty flips of some files in turn; prints how many were refused, how many answered wrong."""
    shrink(setattr)
    right = ask(Path(folder), "probed")
    refused = lied = 0
    for path in map(Path, paths):
        for _, damaged in flips(path.read_bytes(), 60 // len(paths), path.name):
            with content(path, damaged):
                answers = ask(Path(folder), "probed")
            refused += any(isinstance(answer, ClipsearchError) for answer in answers.values())
            lied += bool(wrong(answers, right))
    print(refused, lied)


def test_no_flip_ends_the_process(made: Made, copy: Path) -> None:
    keys = (f"big/{LISTS}", f"big/{LIST_TABLE}", QUANTISER)
    refused, lied = run_child("flip_many", copy, *(made.path(key, copy) for key in keys))
    assert int(refused) > 45  # others are in the padding between lists
    assert int(lied) == 0


# Mending


def repair(folder: Path) -> Any:
    with Index.open(folder) as index:
        return index.repair()


def write_nothing(folder: Path) -> None:
    with closing(Store.open(folder)) as store, store.writing():
        pass


def failed(folder: Path) -> set[int]:
    with closing(Store.open(folder)) as store:
        return {m.id for m in store.catalog.all_media() if m.state == "failed"}


def assert_holds(made: Made, folder: Path, lost: set[int]) -> None:
    """That an index is in order and has all rows but the lost ones and those of their files."""
    assert diagnose(folder) == Diagnosis({}, "")
    right = made.undamaged_without(lost)
    assert stock_of(folder) == right
    answers = ask(folder)
    errors = {name for name, answer in answers.items() if isinstance(answer, ClipsearchError)}
    assert errors <= ({"dictionaries"} if lost else set())  # these are asked for by their ids
    for found, before in zip(answers["all ids"], made.answers["all ids"], strict=True):
        expected = {i: score for i, score in before.items() if i in right}
        assert same({i: score for i, score in found.items() if i > 0}, expected)
    for found, before in zip(answers["probed"], made.answers["all ids"], strict=True):
        assert len(found) == 25
        assert all(same(unit[2], before[i]) for i, unit in found.items())
    assert failed(folder) == {made.owner(i) for i in lost} - {NO_MEDIA}


def assert_repaired(made: Made, folder: Path, lost: set[int]) -> None:
    report = repair(folder)
    assert report.problems
    assert report.left == ()
    loose = {i for i in lost if made.owner(i) == NO_MEDIA}
    assert sum(loss.vectors for loss in report.losses) == len(loose)
    assert sum(loss.files for loss in report.losses) == len(failed(folder))
    assert (folder / "damaged").exists() == bool(loose)
    assert_holds(made, folder, lost)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    good = path.read_bytes()
    path.write_bytes(flipped(good, len(good) * 2 // 3))


@pytest.mark.parametrize("key", [*BIG[1:], f"media/{LOOKUP}", QUANTISER])
def test_a_flip_in_what_can_be_derived_loses_no_row(made: Made, copy: Path, key: str) -> None:
    flip(made.path(key, copy))
    assert_repaired(made, copy, set())


@pytest.mark.parametrize("key", [*LOOSE[1:], QUANTISER])
def test_losing_what_can_be_derived_loses_no_row(made: Made, copy: Path, key: str) -> None:
    made.path(key, copy).unlink()
    assert_repaired(made, copy, set())


@pytest.mark.parametrize("harm", [cut, be_a_folder, dangle], ids=lambda harm: harm.__name__)
@pytest.mark.parametrize("key", [f"loose/{FACTS}", f"loose/{LOOKUP}", QUANTISER])
def test_odd_damage_to_what_can_be_derived_loses_no_row(
    made: Made, copy: Path, key: str, harm: Callable[[Path], None]
) -> None:
    harm(made.path(key, copy))
    assert_repaired(made, copy, set())


@pytest.mark.parametrize("role", ["big", "loose", "media"])
def test_damage_to_all_that_can_be_derived_at_once_loses_no_row(
    made: Made, copy: Path, role: str
) -> None:
    """What is left are vectors, their checks, rows and columns."""
    kept = {VECTORS, CHECKS, LOOKUP, EXTRAS}
    for path in (copy / "segments" / made.segments[role]).iterdir():
        if path.name not in kept:
            path.unlink()
    made.path(QUANTISER, copy).unlink()
    assert_repaired(made, copy, set())


def test_a_mended_segment_has_lists_again(made: Made, copy: Path) -> None:
    made.path(f"big/{LISTS}", copy).unlink()
    assert_repaired(made, copy, set())
    assert len(list(copy.glob(f"segments/*/{LISTS}"))) == 3


def test_swapped_files_of_rows_lose_no_row(made: Made, copy: Path) -> None:
    """Of either segment: each finds its rows in rows.parquet."""
    one, two = made.path(f"loose/{LOOKUP}", copy), made.path(f"media/{LOOKUP}", copy)
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert_repaired(made, copy, set())


@pytest.mark.parametrize("row", [0, 30, 50, 300, 500])
def test_a_damaged_vector_is_all_that_is_lost(made: Made, copy: Path, row: int) -> None:
    path = made.path(f"big/{VECTORS}", copy)
    good, count = path.read_bytes(), len(made.ids["big"])
    path.write_bytes(flipped(good, len(good) - (count - row) * 2 * DIM + 5))
    assert_repaired(made, copy, made.live("big", [row]))


def test_a_damaged_vector_that_is_dead_is_no_loss(made: Made, copy: Path) -> None:
    ids = made.ids["loose"]
    row = next(row for row, id_ in enumerate(ids) if id_ not in made.stock)
    path = made.path(f"loose/{VECTORS}", copy)
    good = path.read_bytes()
    path.write_bytes(flipped(good, len(good) - (len(ids) - row) * 2 * DIM))
    assert_repaired(made, copy, set())


@pytest.mark.parametrize("role", ["big", "loose", "media"])
def test_vectors_before_a_cut_are_kept(made: Made, copy: Path, role: str) -> None:
    path = made.path(f"{role}/{VECTORS}", copy)
    good, count = path.read_bytes(), len(made.ids[role])
    path.write_bytes(good[: len(good) - 2 * DIM * (count // 3) - 1])
    lost = made.live(role, range(count - count // 3 - 1, count))
    damaged = path.read_bytes()
    assert_repaired(made, copy, lost)
    if role != "media":
        kept = copy / "damaged" / made.segments[role]
        assert (kept / VECTORS).read_bytes() == damaged
        assert len(list(kept.iterdir())) == len(NAMES)


@pytest.mark.parametrize("role", ["big", "loose", "media"])
@pytest.mark.parametrize("whole", [False, True], ids=["vectors", "segment"])
def test_lost_vectors_take_only_their_segment(
    made: Made, copy: Path, role: str, whole: bool
) -> None:
    path = made.path(f"{role}/{VECTORS}", copy)
    if whole:
        shutil.rmtree(path.parent)
    else:
        path.unlink()
    report = repair(copy)
    lost = made.live(role, range(len(made.ids[role])))
    assert sum(loss.vectors for loss in report.losses) == len(
        {i for i in lost if made.owner(i) == NO_MEDIA}
    )
    assert report.left == ()
    assert_holds(made, copy, lost)


@pytest.mark.parametrize("role", ["big", "loose"])
def test_rows_that_both_of_their_files_lost_are_all_that_is_lost(
    made: Made, copy: Path, role: str
) -> None:
    ids = made.ids[role]
    cut(made.path(f"{role}/{ROWS}", copy))
    path = made.path(f"{role}/{LOOKUP}", copy)
    good, row = path.read_bytes(), 45
    path.write_bytes(flipped(good, len(good) - (len(ids) - row) * LOOKUP_TYPE.itemsize))
    assert_repaired(made, copy, made.live(role, [row]))


def test_columns_that_both_of_their_files_lost_are_all_that_is_lost(made: Made, copy: Path) -> None:
    cut(made.path(f"loose/{ROWS}", copy))
    path = made.path(f"loose/{EXTRAS}", copy)
    path.write_bytes(flipped(path.read_bytes(), 0))
    [row] = np.flatnonzero(np.load(made.path(f"loose/{LOOKUP}", copy))["extra_at"] == 0)
    assert_repaired(made, copy, made.live("loose", [int(row)]))


def test_several_damaged_segments_are_mended_together(made: Made, copy: Path) -> None:
    flip(made.path(f"big/{SUMS}", copy))
    made.path(f"loose/{VECTORS}", copy).unlink()
    cut(made.path(f"media/{LOOKUP}", copy))
    made.path(f"media/{CHECKS}", copy).unlink()
    flip(made.path(QUANTISER, copy))
    assert_repaired(made, copy, made.live("loose", range(SMALL_ROWS)))


# Writers


@pytest.mark.parametrize("role", ["big", "loose"])
@pytest.mark.parametrize("harm", [cut, remove, dangle], ids=lambda harm: harm.__name__)
def test_a_writer_refuses_to_lose_vectors(
    made: Made, copy: Path, role: str, harm: Callable[[Path], None]
) -> None:
    path = made.path(f"{role}/{VECTORS}", copy)
    good = path.read_bytes()
    harm(path)
    for attempt in (write_nothing, add_one):
        with pytest.raises(IndexDamagedError, match=r"vectors\.npy"):
            attempt(copy)
    path.unlink(missing_ok=True)
    path.write_bytes(good)
    assert_holds(made, copy, set())
    assert not (copy / "damaged").exists()


@pytest.mark.parametrize("how", ["compact", "merge"])
def test_a_writer_that_meets_a_damaged_vector_loses_nothing(
    made: Made, copy: Path, how: str
) -> None:
    path = made.path(f"loose/{VECTORS}", copy)
    good = path.read_bytes()
    path.write_bytes(flipped(good, len(good) - 20 * 2 * DIM))
    with Index.open(copy) as index, pytest.raises(IndexDamagedError, match=r"vectors\.npy"):
        index.compact() if how == "compact" else index.remove_vectors(made.ids["loose"][:40])
    path.write_bytes(good)
    gone = set(made.ids["loose"][:40]) if how == "merge" else set()
    expected = {i: row for i, row in made.stock.items() if i not in gone}
    assert stock_of(copy) == expected
    assert diagnose(copy).clean


@pytest.mark.parametrize("key", [f"loose/{FACTS}", f"loose/{LISTS}", f"media/{LOOKUP}"])
@pytest.mark.parametrize("harm", [cut, remove], ids=lambda harm: harm.__name__)
def test_a_writer_mends_what_it_can_by_itself(
    made: Made, copy: Path, key: str, harm: Callable[[Path], None]
) -> None:
    harm(made.path(key, copy))
    write_nothing(copy)
    assert_holds(made, copy, set())


def test_a_writer_has_files_read_again_whose_vectors_are_lost(made: Made, copy: Path) -> None:
    made.path(f"media/{VECTORS}", copy).unlink()
    with closing(Store.open(copy)) as store, store.writing() as writer:
        [loss] = writer.losses
    assert VECTORS in loss.reason
    assert_holds(made, copy, made.live("media", range(len(made.ids["media"]))))


def add_one(folder: Path) -> None:
    with Index.open(folder) as index:
        index.add_vectors(unit_rows(1, 7), {"path": ["new"]})
