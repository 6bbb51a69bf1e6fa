"""Kill -9 while vectors are added, removed, compacted and trained for, and while an index of
format 1 is migrated: what was committed stays, what was removed stays gone, nothing comes twice.

Twenty kills; CLIPSEARCH_KILLS=200 for the long run. See the counts with `pytest -s`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch import Index
from clipsearch.store import catalog, database, segment, snapshot, statements, vectors, writer
from clipsearch.store.manifest import FORMAT_VERSION, Manifest
from clipsearch.store.store import Store
from clipsearch.types import UNIT_KINDS, Unit
from tests.goldens.make_index import rows as golden_rows

KILLS = int(os.environ.get("CLIPSEARCH_KILLS", "20"))
REPOSITORY = Path(__file__).parents[2]
GOLDEN = REPOSITORY / "indexes" / "golden-v1"
DIM, BLOCK = 16, 20
FEWEST, MOST = 150, 500  # rows that the index has, about
PAUSE = 0.01  # seconds at most, at each place where a kill may hurt
RECIPES = (None, None, "flat", "ivfpq", "ivfpq", "ivfpq-large", "rabitq")
TARGETS = (  # what is waited for before each kill; None: nothing
    ("do", "compact"),
    ("at", "quantiser not trained"),
    ("do", "add"),
    ("do", "remove"),
    ("at", "old segment not removed"),
    None,
    ("do", "add"),
    ("at", "quantiser not trained"),
    ("at", "segment renamed"),
    ("at", "rows not dead"),
)
# Each place where the child pauses: before which function, and how things are then.
PLACES = (
    (database, "_migrate", "catalog not migrated"),
    (Manifest, "save", "manifest not saved"),
    (writer, "write_segment", "segment not begun"),
    (segment, "_write_facts", "segment without facts"),
    (writer, "sync_folder", "segment renamed"),
    (statements, "insert_segment", "transaction begun"),
    (statements, "kill_rows", "rows not dead"),
    (writer, "_remove", "old segment not removed"),
    (writer, "train", "quantiser not trained"),
    (catalog.Catalog, "set_setting", "setting not entered"),
)
MIGRATIONS = max(7, KILLS // 4)
MIGRATION_PLACES = (
    "catalog not migrated",
    "catalog half migrated",
    "manifest not saved",
    "segment not begun",
    "segment renamed",
    "transaction begun",
    "old segment not removed",
)

Row = tuple[str, int]  # the addition it came with, its number there
Record = dict[str, Any]


class Journal:
    """A file that is only appended to: what is about to be done, and what was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, **record: Any) -> None:
        line = json.dumps({**record, "time": time.monotonic()}) + "\n"
        os.write(self._file, line.encode())
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def read_journal(path: Path, start: int = 0) -> list[Record]:
    """Its whole lines after so many bytes; a killed process may have left half a line."""
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(start)
        content = file.read()
    return [json.loads(line) for line in content[: content.rfind(b"\n") + 1].splitlines()]


def length_of(path: Path) -> int:
    """The bytes of its whole lines."""
    return path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0


class Truth:
    """What the index holds by the journal, and the operation that has no end in it."""

    def __init__(self, records: list[Record]) -> None:
        self.rows: dict[int, Row] = {}
        self.gone: set[int] = set()
        self.begun: Record | None = None
        self.places: list[str] = []  # that it passed
        for record in records:
            self._follow(record)

    def _follow(self, record: Record) -> None:
        if "at" in record:
            self.places.append(record["at"])
        elif "do" in record:
            assert self.begun is None, "one operation ends before the next"
            self.begun, self.places = record, []
        elif "done" in record:
            self._commit(record)
            self.begun = None

    def _commit(self, record: Record) -> None:
        if record["done"] == "add":
            assert not (self.rows.keys() | self.gone) & set(record["ids"]), "an id was given twice"
            self.rows |= {id_: (record["name"], n) for n, id_ in enumerate(record["ids"])}
        elif record["done"] == "remove":
            for id_ in record["ids"]:
                del self.rows[id_]
            self.gone.update(record["ids"])


def vectors_of(name: str, count: int) -> np.ndarray:
    """Unit rows of an addition; of fewer rows they are the first ones."""
    found = np.random.default_rng(list(name.encode())).standard_normal((count, DIM), np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def record_of(name: str, number: int) -> Record:
    """What `rows` gives for a row, but for its id."""
    kind = UNIT_KINDS[number % 3]
    timed = kind != "image"
    return {
        "path": name,
        "kind": kind,
        "start": float(number) if timed else None,
        "end": number + 0.5 if timed else None,
        "frame_number": number if kind == "frame" else None,
        "n": number,
        "text": f"{name} · {number}" * (number % 4),
    }


# In the process that is killed


def make_small(patch: Callable[[Any, str, Any], None]) -> None:
    """Inverted lists for few rows already, and publications of few rows."""
    patch(writer, "SMALLEST_TRAINING_ROWS", 100)
    patch(writer, "SCANNED_ROWS", 30)
    patch(snapshot, "SCANNED_ROWS", 30)
    patch(vectors, "BLOCK_ROWS", BLOCK)


def pause_at_places(journal: Journal, delays: random.Random) -> None:
    """Note where the process is, and stay there for a moment."""
    for owner, name, place in PLACES:
        setattr(owner, name, paused(getattr(owner, name), place, journal, delays))


def paused(
    real: Callable[..., Any], place: str, journal: Journal, delays: random.Random
) -> Callable[..., Any]:
    def run(*given: Any, **named: Any) -> Any:
        journal.note(at=place)
        time.sleep(delays.uniform(0, PAUSE))
        return real(*given, **named)

    return run


def wait_for_go(journal: Journal, seed: str) -> random.Random:
    """Load everything that takes long, then wait for the parent; random numbers of this round."""
    import faiss
    import pyarrow.parquet  # noqa: F401

    make_small(setattr)
    pause_at_places(journal, random.Random(f"pause {seed}"))
    faiss.omp_set_num_threads(1)
    print("ready", flush=True)
    sys.stdin.readline()
    return random.Random(seed)


def churn(index_path: str, journal_path: str, seed: str) -> None:
    """Change an index at random until killed."""
    journal = Journal(Path(journal_path))
    chance = wait_for_go(journal, seed)
    known = Truth(read_journal(journal.path)).rows
    with Index.open(index_path) as index:
        while True:
            weights = (5, 2, 3) if FEWEST < len(known) < MOST else (9, 0, 2)
            if len(known) >= MOST:
                weights = (0, 4, 2)
            change = chance.choices((add_some, remove_some, compact_somehow), weights)[0]
            change(index, journal, chance, known)


def add_some(index: Index, journal: Journal, chance: random.Random, known: dict[int, Row]) -> None:
    name, count = f"{chance.getrandbits(64):016x}", chance.randint(1, 4 * BLOCK)
    records = [record_of(name, number) for number in range(count)]
    table = {key: [record[key] for record in records] for key in records[0]}
    journal.note(do="add", name=name, count=count)
    ids = index.add_vectors(vectors_of(name, count), table, normalize=True).tolist()
    journal.note(done="add", name=name, ids=ids)
    known.update(zip(ids, ((name, number) for number in range(count)), strict=True))


def remove_some(
    index: Index, journal: Journal, chance: random.Random, known: dict[int, Row]
) -> None:
    ids = chance.sample(sorted(known), chance.randint(1, len(known) // 3))
    journal.note(do="remove", ids=ids)
    assert index.remove_vectors(ids) == len(ids)
    journal.note(done="remove", ids=ids)
    for id_ in ids:
        del known[id_]


def compact_somehow(
    index: Index, journal: Journal, chance: random.Random, known: dict[int, Row]
) -> None:
    journal.note(do="compact")
    index.compact(recipe=chance.choice(RECIPES), retrain=chance.random() < 0.4)
    journal.note(done="compact")


def migrate(index_path: str, journal_path: str, seed: str) -> None:
    """Open an index of format 1 for writing and make one segment of it."""
    from alembic import op

    journal = Journal(Path(journal_path))
    delays = random.Random(f"late {seed}")
    op.create_index = paused(op.create_index, "catalog half migrated", journal, delays)
    wait_for_go(journal, seed)
    journal.note(do="open")
    with Index.open(index_path) as index:
        journal.note(done="open")
        journal.note(do="compact")
        index.compact()
        journal.note(done="compact")
        time.sleep(600)


# In the process that kills


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts processes in groups of their own that wait for a line before they begin."""
    started = []

    def start_one(task: Callable[..., None], *arguments: object) -> subprocess.Popen[bytes]:
        code = f"import sys; from {__name__} import {task.__name__} as task; task(*sys.argv[1:])"
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start_one
    for process in started:
        kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(
    journal: Path, seen: Callable[[Record], bool], start: int, *, seconds: float = 10
) -> None:
    """Until a record after the first `start` bytes is as it should be, or for so many seconds."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit and not any(map(seen, read_journal(journal, start))):
        time.sleep(0.002)


def durations(records: list[Record], kind: str | None) -> float:
    """How long an operation of the kind took in the middle, of those that ended."""
    begun, took = 0.0, [0.1]
    for record in records:
        if record.get("do") == kind:
            begun = record["time"]
        elif record.get("done") == kind and begun:
            took.append(record["time"] - begun)
    return sorted(took)[len(took) // 2]


def expected_after(truth: Truth, there: dict[int, Row]) -> Record | None:
    """Check what is there against the journal; the end of the operation that was interrupted,
    if it had one.
    """
    begun = truth.begun or {"do": ""}
    if begun["do"] == "add":
        new = {id_: row for id_, row in there.items() if row[0] == begun["name"]}
        numbers = sorted(number for _, number in new.values())
        assert numbers == list(range(len(numbers))), "a block is there without those before it"
        assert len(numbers) % BLOCK == 0 or len(numbers) == begun["count"], "half a block is there"
        assert {id_: row for id_, row in there.items() if id_ not in new} == truth.rows
        ids = sorted(new)
        assert [new[id_][1] for id_ in ids] == numbers
        return {"done": "add", "name": begun["name"], "ids": ids}
    if begun["do"] == "remove" and len(there) < len(truth.rows):
        left = {id_: row for id_, row in truth.rows.items() if id_ not in set(begun["ids"])}
        assert there == left, "half of a removal is there"
        return {"done": "remove", "ids": begun["ids"]}
    assert there == truth.rows
    return None


def contents(index: Index) -> dict[int, Row]:
    """Every row by its id, after checking that each comes once and as it was added."""
    status = index.status()
    live = status.rows - status.dead_rows
    _, found = index.search_vectors(vectors_of("any", 1), top=live + 5, exact=True)
    ids = found[found >= 0].tolist()
    assert len(ids) == len(set(ids)) == live
    there = {}
    for row in index.rows(ids):
        there[row.pop("id")] = row["path"], row["n"]
        assert row == record_of(row["path"], row["n"])
    assert len(set(there.values())) == len(there), "a row is there twice"
    return there


def assert_found_by_vectors(index: Index, there: dict[int, Row]) -> None:
    """Each row is the best hit of its own vector, with cosine 1; nearly so by its lists."""
    if not there:
        return
    ids = np.array(sorted(there))
    made = {name: vectors_of(name, 4 * BLOCK) for name, _ in there.values()}
    queries = np.array([made[there[id_][0]][there[id_][1]] for id_ in ids.tolist()])
    scores, found = index.search_vectors(queries, top=1, exact=True)
    np.testing.assert_array_equal(found[:, 0], ids)
    np.testing.assert_allclose(scores, 1, atol=2e-3)
    scores, found = index.search_vectors(queries, top=1)
    assert (found[:, 0] == ids).mean() > 0.95


def check(folder: Path, journal: Path) -> Truth:
    """Open the index as the killed process left it, to read and then to write."""
    os.truncate(journal, length_of(journal))
    truth = Truth(read_journal(journal))
    with Index.open(folder) as index:
        assert index.verify() == []
        there = contents(index)
        assert not there.keys() & truth.gone, "what was removed came back"
        end = expected_after(truth, there)
        assert_found_by_vectors(index, there)
        assert index.remove_vectors([], wait=False) == 0  # sweeps; a killed process has no lock
        assert index.verify() == []
        assert contents(index) == there
        assert_no_debris(index)
    noted = Journal(journal)
    noted.note(**(end or {"done": "nothing"}))
    noted.close()
    return truth


def assert_no_debris(index: Index) -> None:
    """Only what the catalog knows is on disk."""
    known = {entry.name for entry in index._store.catalog.segments()}
    assert {path.name for path in (index.path / "segments").iterdir()} == known
    trained = {view.facts.name for view in index._store.snapshot().quantisers}
    assert {path.stem for path in (index.path / "quantisers").glob("*")} == trained


def go(process: subprocess.Popen[bytes]) -> None:
    """Let a child begin that has loaded everything."""
    assert process.stdout.readline() == b"ready\n", process.communicate()[1].decode()
    process.stdin.write(b"go\n")
    process.stdin.flush()


def kill_running(process: subprocess.Popen[bytes]) -> None:
    """Kill a child, which must not have ended by itself."""
    assert process.poll() is None, process.communicate()[1].decode()
    kill(process)


def kill_at_random(
    process: subprocess.Popen[bytes],
    journal: Path,
    target: tuple[str, str] | None,
    chance: random.Random,
) -> None:
    """Kill in an operation of a kind, at a place of the code or soon after, or at any moment."""
    time.sleep(chance.uniform(0, 0.3))
    if target is None:
        time.sleep(chance.uniform(0, 0.3))
    else:
        key, value = target
        wait_for(journal, lambda record: record.get(key) == value, length_of(journal))
        longest = durations(read_journal(journal), value) if key == "do" else PAUSE
        time.sleep(chance.uniform(0, longest))
    kill_running(process)


def test_kills_lose_nothing_that_was_committed(tmp_path, monkeypatch, start):
    make_small(monkeypatch.setattr)
    folder, journal = tmp_path / "index", tmp_path / "journal"
    Index.create(folder, model=None, dim=DIM, recipe="ivfpq").close()
    chance = random.Random(20250817)
    kinds: Counter[str] = Counter()
    places: Counter[str] = Counter()
    following = start(churn, folder, journal, 0)
    number = 0
    while number < KILLS or (number < 2 * KILLS and not all_were_met(kinds)):
        process, following = following, start(churn, folder, journal, number + 1)
        go(process)
        kill_at_random(process, journal, TARGETS[number % len(TARGETS)], chance)
        truth = check(folder, journal)
        kinds[truth.begun["do"] if truth.begun else "none"] += 1
        kinds["training"] += "quantiser not trained" in truth.places
        places[last_place(truth)] += 1
        number += 1
    print(f"\n{number} kills: {dict(kinds)}", *sorted(places.items()), sep="\n  ")
    done = Counter(record["done"] for record in read_journal(journal) if "done" in record)
    print(f"  done {dict(done)}, {len(truth.rows)} rows left, {len(truth.gone)} removed")
    assert all_were_met(kinds)
    assert kinds["none"] <= number / 3, "most kills should meet an operation"
    assert len(places) >= 6
    with Index.open(folder) as index:
        index.compact(retrain=True)
        assert index.status().segments == 1
        assert index.verify() == []
        assert contents(index) == Truth(read_journal(journal)).rows


def all_were_met(kinds: Counter[str]) -> bool:
    """Whether operations of each kind were interrupted, compactions often."""
    rarest = min(kinds["add"], kinds["remove"], kinds["training"])
    return rarest >= KILLS / 20 and kinds["compact"] >= KILLS / 5


def last_place(truth: Truth) -> str:
    """Where the kill came, for people."""
    kind = truth.begun["do"] if truth.begun else "none"
    return f"{kind}: {truth.places[-1] if truth.begun and truth.places else 'begun'}"


GOLDEN_UNITS = [
    (1, 1, Unit("image")),
    (3, 2, Unit("frame", 0.0, 1.0, 0)),
    (4, 2, Unit("frame", 1.0, 2.0, 25)),
    (5, 2, Unit("frame", 2.0, 3.0, 50)),
    (6, 2, Unit("video", 0.0, 3.0)),
]
GOLDEN_MEDIA = {
    "photo.jpg": (1, "ready"),
    "sub/film.mp4": (2, "ready"),
    "bad.jpg": (4, "failed"),
}


def assert_golden(store: Store) -> None:
    query = golden_rows(1, 1)
    units = sorted(store.search(query, k=100)[0], key=lambda unit: unit.id)
    assert [(unit.id, unit.media_id, unit.unit) for unit in units] == GOLDEN_UNITS
    expected = np.vstack([golden_rows(1, start) for start in range(5)]) @ query[0]
    np.testing.assert_allclose([unit.score for unit in units], expected, atol=1e-3)
    kept = {media.relative: (media.id, media.state) for media in store.catalog.all_media()}
    assert kept == GOLDEN_MEDIA


def test_kills_while_an_index_of_format_1_is_migrated(tmp_path, start):
    chance = random.Random(8)
    seen: Counter[str] = Counter()
    journals = [tmp_path / f"journal {number}" for number in range(MIGRATIONS)]
    folders = [shutil.copytree(GOLDEN, tmp_path / str(n)) for n in range(MIGRATIONS)]
    following = start(migrate, folders[0], journals[0], 0)
    for number, (folder, journal) in enumerate(zip(folders, journals, strict=True)):
        process = following
        if number + 1 < MIGRATIONS:
            following = start(migrate, folders[number + 1], journals[number + 1], number + 1)
        place = MIGRATION_PLACES[number % len(MIGRATION_PLACES)]
        go(process)
        wait_for(journal, lambda record, at=place: record.get("at") == at, 0, seconds=10)
        time.sleep(chance.uniform(0, 1.5 * PAUSE))
        kill_running(process)
        truth = Truth(read_journal(journal))
        seen[last_place(truth)] += 1
        check_golden(folder)
    print(f"\nmigrations killed at {dict(seen)}")
    assert len(seen) >= len(MIGRATION_PLACES) / 2


def check_golden(folder: Path) -> None:
    """Open what a killed migration left, to read and then to finish it."""
    with Index.open(folder) as index:
        assert index.verify() == []
        assert_golden(index._store)
        index.compact(wait=False)
        assert index.verify() == []
        assert_golden(index._store)
        assert index._store.manifest.format_version == FORMAT_VERSION
        assert_no_debris(index)
        [view] = index._store.snapshot().views
        assert view.segment.version == segment.SEGMENT_VERSION
