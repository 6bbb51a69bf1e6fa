"""Two writers and four readers on one index at once; threads; who holds the lock.

All vectors of a block are the same, so a search tells whether it saw one published state: it finds
a whole block or nothing of it. CLIPSEARCH_STRESS_SECONDS=120 for the long run.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipsearch import Index, IndexLockedError, UsageError
from clipsearch.store import snapshot, writer
from clipsearch.store import verify as verification
from clipsearch.store.lookup import LOOKUP_TYPE, Lookup
from clipsearch.store.statements import SegmentEntry
from clipsearch.store.store import Store
from clipsearch.types import VECTOR_KINDS
from tests.vectors import ROOT, image, manifest, unit_rows

SECONDS = float(os.environ.get("CLIPSEARCH_STRESS_SECONDS", "4"))
REPOSITORY = Path(__file__).parents[2]
WRITERS, READERS, THREADS = 2, 4, 8
DIM = 16
MOST_BLOCKS = 30  # of one writer, about
LARGEST_BLOCK = 30
RECIPES = (None, None, "flat", "ivfpq", "rabitq")
SAME = 0.999  # the least cosine of a block's rows to its vector
HELD_BY = re.compile(r"process (\d+) on |another process ")  # just before it has left its note


def make_small(patch: Callable[[Any, str, Any], None]) -> None:
    """Inverted lists for few rows already."""
    patch(writer, "SMALLEST_TRAINING_ROWS", 300)
    patch(writer, "SCANNED_ROWS", 50)
    patch(snapshot, "SCANNED_ROWS", 50)


@dataclass(frozen=True)
class Block:
    """Rows with one vector, as its name says."""

    name: str  # the writer's and the block's number

    @property
    def seed(self) -> list[int]:
        return list(map(int, self.name.split("/")))

    @property
    def counts(self) -> dict[str, int]:
        """How many rows there are of each kind."""
        sizes = np.random.default_rng([1, *self.seed]).integers(1, LARGEST_BLOCK // 3, 3)
        return dict(zip(VECTOR_KINDS, sizes.tolist(), strict=True))

    @property
    def vector(self) -> np.ndarray:
        """(1, dim) unit row."""
        found = np.random.default_rng([2, *self.seed]).standard_normal((1, DIM), np.float32)
        return found / np.linalg.norm(found)

    def rows(self) -> list[dict[str, Any]]:
        kinds = [kind for kind, count in self.counts.items() for _ in range(count)]
        times = {"image": None, "frame": 1.0, "video": 2.0}
        return [
            {"path": self.name, "kind": kind, "start": times[kind], "end": times[kind], "n": n}
            for n, kind in enumerate(kinds)
        ]

    def search(self, index: Index, kind: str | None, *, exact: bool) -> list[int]:
        """The ids of its rows that a search finds; all of the kind or none."""
        scores, ids = index.search_vectors(
            self.vector, top=LARGEST_BLOCK + 5, kind=kind, exact=exact
        )
        found = ids[0][scores[0] > SAME].tolist()
        expected = sum(self.counts.values()) if kind is None else self.counts[kind]
        assert len(found) in (0, expected), f"{len(found)} of {expected} rows of {self.name}"
        assert len(set(found)) == len(found)
        assert -1 not in found
        return found


def add(index: Index, *blocks: Block, wait: bool = True) -> list[int]:
    """Publish blocks at once; the ids of their rows."""
    rows = [(block, row) for block in blocks for row in block.rows()]
    vectors = np.concatenate([block.vector for block, _ in rows])
    table = {name: [row[name] for _, row in rows] for name in rows[0][1]}
    return index.add_vectors(vectors, table, normalize=True, wait=wait).tolist()


class Board:
    """What the writers did, in a file that they append to and all read."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def tell(self, what: str, block: Block) -> None:
        line = f"{what} {block.name}\n".encode()
        with self._path.open("ab", buffering=0) as file:
            assert file.write(line) == len(line)

    def state(self) -> dict[str, str]:
        """The last that was told of each block: adding, added, removing, removed."""
        text = self._path.read_text() if self._path.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        return {name: what for what, name in map(str.split, whole.splitlines())}


def changing(index: Index, board: Board, number: int, stop: Callable[[], bool]) -> Counter[str]:
    """Add and remove blocks and compact until told to stop."""
    chance = random.Random(f"writer {number}")
    mine: dict[Block, list[int]] = {}
    done: Counter[str] = Counter()
    for count in range(10**9):
        if stop():
            break
        block = Block(f"{number}/{count}")
        wait = chance.random() < 0.7
        try:
            if len(mine) > MOST_BLOCKS or (mine and chance.random() < 0.25):
                what, block = "remove", chance.choice(list(mine))
                remove(index, board, block, mine, wait=wait)
            elif chance.random() < 0.1:
                what = "compact"
                index.compact(
                    recipe=chance.choice(RECIPES), retrain=chance.random() < 0.3, wait=wait
                )
            else:
                what = "add"
                board.tell("adding", block)
                mine[block] = add(index, block, wait=wait)
                board.tell("added", block)
            done[what] += 1
        except IndexLockedError as error:
            told = str(error)
            assert not wait and HELD_BY.match(told), told  # noqa: PT018
            done["locked"] += 1
        time.sleep(chance.uniform(0, 0.05))  # so that the other one gets the lock
    return done


def remove(
    index: Index, board: Board, block: Block, mine: dict[Block, list[int]], *, wait: bool
) -> None:
    board.tell("removing", block)
    try:
        assert index.remove_vectors(mine[block], wait=wait) == len(mine[block])
    except IndexLockedError:
        board.tell("added", block)  # it still is
        raise
    del mine[block]
    board.tell("removed", block)


def looking(
    opened: Callable[[], AbstractContextManager[Index]],
    board: Board,
    seed: str,
    stop: Callable[[], bool],
) -> Counter[str]:
    """Search for blocks until told to stop: each is there as a whole, or not at all."""
    chance = random.Random(seed)
    done: Counter[str] = Counter()
    while not stop():
        with opened() as index:
            for _ in range(chance.randint(1, 20)):
                before = board.state()
                name = chance.choice(list(before)[-2 * MOST_BLOCKS :])
                done[look(index, board, Block(name), before[name], chance)] += 1
                time.sleep(chance.uniform(0, 0.02))  # so that the writers get the processor
    return done


def look(index: Index, board: Board, block: Block, before: str, chance: random.Random) -> str:
    """One search, and what is known of the rows that it found."""
    kind = chance.choice((None, None, *VECTOR_KINDS))
    found = block.search(index, kind, exact=chance.random() < 0.5)
    after = board.state()[block.name]
    if before == after == "added":
        assert found, f"{block.name} was added before the search and is not found"
    if before == "removed":
        assert not found, f"{block.name} was removed before the search and is found"
    try:
        rows = index.rows(found)
    except UsageError as error:
        told = str(error)
        assert told.startswith("no vector has the id")
        assert board.state()[block.name] in ("removing", "removed"), told
        return "removed meanwhile"
    assert [row["id"] for row in rows] == found
    assert {row["path"] for row in rows} <= {block.name}
    assert kind is None or {row["kind"] for row in rows} <= {kind}
    assert len({row["n"] for row in rows}) == len(rows)
    return "found" if found else "not there"


# In processes of their own


def until(seconds: float) -> Callable[[], bool]:
    """Say that everything is loaded, wait for the others; whether time is up since then."""
    import faiss
    import pyarrow.parquet

    assert faiss.__name__ + pyarrow.__name__
    make_small(setattr)
    print("ready", flush=True)
    sys.stdin.readline()
    limit = time.monotonic() + seconds
    return lambda: time.monotonic() > limit


def write(folder: str, board: str, number: str, seconds: str) -> None:
    stop = until(float(seconds))
    with Index.open(folder) as index:
        done = changing(index, Board(Path(board)), int(number), stop)
    print(json.dumps(done))


def read_for_long(folder: str, board: str, number: str, seconds: str) -> None:
    stop = until(float(seconds))
    with Index.open(folder) as index:
        done = looking(lambda: nullcontext(index), Board(Path(board)), f"reader {number}", stop)
    print(json.dumps(done))


def read_anew(folder: str, board: str, number: str, seconds: str) -> None:
    stop = until(float(seconds))
    done = looking(lambda: Index.open(folder), Board(Path(board)), f"reader {number}", stop)
    print(json.dumps(done))


def hold(folder: str) -> None:
    """Be the writer until killed."""
    with Index.open(folder) as index, index._store.writing():
        print("ready", flush=True)
        time.sleep(600)


def open_and_search(folder: str) -> None:
    import alembic.command

    assert alembic.command
    until(0)
    with Index.open(folder) as index:
        query = np.eye(index.status().dim, dtype=np.float32)[:1]
        scores, _ = index.search_vectors(query, top=100)
    print(json.dumps(int(np.isfinite(scores).sum())))


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts processes in groups of their own."""
    started = []

    def start_one(task: Callable[..., None], *arguments: object) -> subprocess.Popen[str]:
        code = f"import sys; from {__name__} import {task.__name__} as task; task(*sys.argv[1:])"
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start_one
    for process in started:
        if process.returncode is None:
            kill(process)


def kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def results(processes: list[subprocess.Popen[str]]) -> list[Any]:
    """Let processes that wait begin together; what each printed at its end, which must be good."""
    for process in processes:
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    ends = [(process, *process.communicate(timeout=SECONDS + 60)) for process in processes]
    failed = [errors for process, _, errors in ends if process.returncode]
    assert not failed, "\n".join(failed)
    return [json.loads(out) for _, out, _ in ends]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An index with a few blocks that stay."""
    make_small(monkeypatch.setattr)
    board = Board(tmp_path / "board")
    with Index.create(tmp_path / "index", model=None, dim=DIM, recipe="ivfpq") as index:
        blocks = [Block(f"9/{number}") for number in range(25)]
        add(index, *blocks)
        for block in blocks:
            board.tell("added", block)
    return tmp_path / "index"


def assert_as_told(index: Index, board: Board) -> None:
    """The index is sound and holds the blocks that the board says, and no other row."""
    assert index.verify() == []
    state = board.state()
    assert set(state.values()) <= {"added", "removed", "adding"}  # adding: the lock was refused
    expected = Counter(
        {name: sum(Block(name).counts.values()) for name in state if state[name] == "added"}
    )
    status = index.status()
    query = Block("9/0").vector
    _, ids = index.search_vectors(query, top=status.rows + 1, exact=True)
    rows = index.rows(ids[ids >= 0].tolist())
    assert Counter(row["path"] for row in rows) == expected
    assert len({(row["path"], row["n"]) for row in rows}) == len(rows)
    for name in expected:
        assert Block(name).search(index, None, exact=True)


def test_two_writers_and_four_readers(folder, tmp_path, start):
    board = tmp_path / "board"
    tasks = [write] * WRITERS + [read_for_long, read_anew] * (READERS // 2)
    done = results([start(task, folder, board, n, SECONDS) for n, task in enumerate(tasks)])
    written, read = done[:WRITERS], done[WRITERS:]
    print("", *(f"writer {counts}" for counts in written), *(f"reader {c}" for c in read), sep="\n")
    for counts in written:
        assert min(counts.get("add", 0), counts.get("remove", 0)) > 0, "a writer was starved"
    assert sum(counts.get("compact", 0) for counts in written) > 0
    for counts in read:
        assert counts["found"] > 10
    with Index.open(folder) as index:
        assert_as_told(index, Board(board))


def while_it_changes(
    index: Index, board: Board, task: Callable[..., Any], number: int, seconds: float
) -> tuple[Counter[str], list[Any]]:
    """What a thread did that changed an index, and what `number` others found meanwhile."""
    limit, stopped = time.monotonic() + seconds, threading.Event()

    def guarded(task: Callable[..., Any], *given: Any) -> Any:
        try:
            return task(*given, lambda: stopped.is_set() or time.monotonic() > limit)
        finally:
            stopped.set()  # one that fails ends the others

    with ThreadPoolExecutor(number + 1) as pool:
        writing = pool.submit(guarded, changing, index, board, 0)
        others = [pool.submit(guarded, task, n) for n in range(number)]
        return writing.result(), [other.result() for other in others]


def test_eight_threads_search_one_index_that_another_thread_changes(folder, tmp_path):
    board = Board(tmp_path / "board")
    with Index.open(folder) as index:

        def read(number: int, stop: Callable[[], bool]) -> Counter[str]:
            return looking(lambda: nullcontext(index), board, f"thread {number}", stop)

        written, found = while_it_changes(index, board, read, THREADS, SECONDS / 2)
        print(f"\nwriter {written}, readers {sum(found, Counter())}")
        assert min(written["add"], written["remove"], written["compact"]) > 0
        assert all(counts["found"] > 0 for counts in found)
        assert_as_told(index, board)


def ask_for_status(index: Index) -> None:
    status = index.status()
    assert 0 <= status.dead_rows < status.rows


def ask_for_problems(index: Index) -> None:
    assert index.verify() == []


@pytest.mark.parametrize("ask", [ask_for_status, ask_for_problems])
def test_an_index_that_changes_can_be_examined(folder, tmp_path, ask):
    def keep_asking(number: int, stop: Callable[[], bool]) -> int:
        with Index.open(folder) as index:
            for count in range(10**9):
                ask(index)
                if stop():
                    return count
        return 0

    with Index.open(folder) as index:
        board = Board(tmp_path / "board")
        written, counts = while_it_changes(index, board, keep_asking, 2, SECONDS / 3)
    assert written["add"] > 0
    assert min(counts) > 3


@pytest.mark.parametrize("when", ["quantiser", "segment"])
def test_verify_is_not_misled_by_a_compaction_that_comes_in_between(folder, when):
    with Index.open(folder) as index, Index.open(folder) as other:
        add(other, Block("0/0"))
        steps = []

        def compact_first(step: str) -> None:
            steps.append(step)
            if [each.split()[0] for each in steps].count(when) == 1 and step.startswith(when):
                other.compact(retrain=True)

        assert index.verify(on_step=compact_first) == []
        assert when in {step.split()[0] for step in steps}


def test_verify_is_not_misled_by_a_segment_that_is_merged_away_while_it_is_read(
    folder, monkeypatch
):
    facts_of = verification.file_facts
    with Index.open(folder) as index, Index.open(folder) as other:
        gone = []

        def compact_first(path: Path) -> Any:
            if not gone:
                other.compact(retrain=True)
                gone.append(path)
                assert not path.exists()
            return facts_of(path)

        monkeypatch.setattr(verification, "file_facts", compact_first)
        assert index.verify() == []
        assert gone


def test_verify_is_not_misled_by_files_that_go_in_between(tmp_path):
    store = Store.create(tmp_path / "index", manifest())
    with store.writing() as opened:
        opened.catalog.add_root(ROOT)
        opened.publish([image(f"{n}.jpg", row) for n, row in enumerate(unit_rows(9, 1))])
    store.close()

    def remove_one(step: str) -> None:
        if step.startswith("segment"):
            with store.writing() as opened:
                opened.catalog.remove_media([opened.catalog.next_media_id() - 1, 3])

    with Index.open(store.folder) as index:
        assert index.verify(on_step=remove_one) == []
    store.close()


def test_verify_names_damage_while_others_publish(folder):
    [damaged] = (folder / "segments").iterdir()
    content = bytearray((damaged / "rows.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / "rows.parquet").write_bytes(content)
    with Index.open(folder) as index, Index.open(folder) as other:

        def publish(step: str) -> None:
            if step.startswith("segment"):
                add(other, Block(f"0/{len(board)}"))
                board.append(step)

        board: list[str] = []
        problems = index.verify(on_step=publish)
    assert {problem.path for problem in problems} == {damaged / "rows.parquet"}
    assert 0 < len(board) < 10


def test_verify_ends_though_others_publish_all_the_time(folder, monkeypatch):
    """A damaged segment is not read again and again because others come."""
    [damaged] = (folder / "segments").iterdir()
    os.truncate(damaged / "rows.parquet", 100)
    look = verification._segment_problems
    with Index.open(folder) as index, Index.open(folder) as other:
        named = []

        def publish_meanwhile(*given: Any) -> Iterator[Any]:
            named.append(given[3].name)
            assert len(named) < 20, "it does not end"
            yield from look(*given)
            with other._store.writing(sweep=False) as opened:  # a sweep would mend the damage
                opened.publish_vectors(*vectors_to_publish(len(named)))

        monkeypatch.setattr(verification, "_segment_problems", publish_meanwhile)
        problems = index.verify()
    assert {problem.path for problem in problems} == {damaged / "rows.parquet"}
    assert named.count(damaged.name) <= 2


def vectors_to_publish(seed: int) -> tuple[np.ndarray, Lookup, list[bytes]]:
    return unit_rows(1, seed, DIM).astype(np.float16), np.zeros(1, LOOKUP_TYPE), [b"{}"]


def test_verify_takes_no_new_segment_for_a_lost_one(folder, monkeypatch):
    """One that is published after each look at what segments there are."""
    with Index.open(folder) as index, Index.open(folder) as other:
        read, published = index._store.catalog.segments, []

        def publish_after() -> tuple[SegmentEntry, ...]:
            entries = read()
            if len(published) < 20:
                block = Block(f"0/{len(published)}")
                published.append(block)
                add(other, block)
            return entries

        monkeypatch.setattr(index._store.catalog, "segments", publish_after)
        assert index.verify() == []
        assert published


def test_whoever_does_not_wait_is_told_which_process_writes(folder, start):
    from tests.e2e.support import run

    holder = start(hold, folder)
    assert holder.stdout.readline() == "ready\n"
    told = f"process {holder.pid} on "
    with Index.open(folder) as index:
        ids = Block("9/1").search(index, None, exact=True)
        for change in (
            lambda: add(index, Block("0/0"), wait=False),
            lambda: index.remove_vectors(ids, wait=False),
            lambda: index.compact(wait=False),
            lambda: index.repair(wait=False),
            index.check_unlocked,
        ):
            with pytest.raises(IndexLockedError, match=told):
                change()
        for command in ("compact", "repair"):
            ran = run(command, "--no-wait", "--index", folder)
            assert (ran.code, ran.out, ran.err.count("\n")) == (3, "", 1)
            assert told in ran.err
        assert Block("9/1").search(index, None, exact=False) == ids
        assert len(index.rows(ids)) == len(ids)


def test_the_lock_of_a_killed_process_is_free(folder, start):
    holder = start(hold, folder)
    assert holder.stdout.readline() == "ready\n"
    with Index.open(folder) as index, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(add, index, Block("0/0"))
        time.sleep(0.3)
        assert not waiting.done()
        kill(holder)
        ids = waiting.result(timeout=10)
        assert add(index, Block("0/1"), wait=False)
        assert Block("0/0").search(index, None, exact=True) == ids


def test_several_processes_open_an_index_of_format_1_at_once(tmp_path, start):
    """Each finds an old catalog, and one of them migrates it."""
    for number in range(2):
        folder = shutil.copytree(REPOSITORY / "indexes" / "golden-v1", tmp_path / str(number))
        assert results([start(open_and_search, folder) for _ in range(4)]) == [5] * 4
