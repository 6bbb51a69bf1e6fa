"""Groups of near-copies against brute force, and what of them is shown."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsearch import Index
from clipsearch.errors import UsageError
from clipsearch.search import alike, compared, duplicates
from clipsearch.search.alike import Joined, groups_of
from clipsearch.search.duplicates import DuplicateSpec, find_duplicates
from clipsearch.store.store import Store
from clipsearch.store.vectors import blocks_of
from clipsearch.types import (
    EmbeddingBatch,
    EncodedMedia,
    FoundFile,
    MediaInfo,
    Unit,
    Vectors,
)
from tests.test_retrieve import store_of
from tests.vectors import DIM, ROOT, image, manifest, unit_rows


def film(name: str, windows: Vectors, *, size: int = 10, width: int = 640) -> EncodedMedia:
    """A video of one frame and one window of ten seconds for each row."""
    units = [Unit("frame", 10.0 * i, 10.0 * i + 1, i) for i in range(len(windows))]
    pooled = [Unit("video", 10.0 * i, 10.0 * i + 10) for i in range(len(windows))]
    batch = EmbeddingBatch(np.vstack([windows, windows]), (*units, *pooled))
    info = MediaInfo(width, 480, 10.0 * len(windows))
    return EncodedMedia(FoundFile(ROOT, name, "video", size, 20), name, info, {"visual": batch})


def close_to(rows: Vectors, cosine: float, seed: int) -> Vectors:
    """Unit rows with this cosine to each of `rows`."""
    other = np.random.default_rng(seed).standard_normal(rows.shape).astype(np.float32)
    other -= np.einsum("nd,nd->n", other, rows)[:, None] * rows
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    made: Vectors = cosine * rows + np.float32(np.sqrt(1 - cosine**2)) * other
    return made


def found(
    store: Store, threshold: float = 0.95, **options: object
) -> list[list[tuple[str, float | None, float | None]]]:
    groups = find_duplicates(store, DuplicateSpec(threshold, **options))  # type: ignore[arg-type]
    return [[(hit.path.name, hit.start, hit.end) for hit in group.members] for group in groups]


def components(cosines: np.ndarray, threshold: float) -> set[frozenset[int]]:
    """By following every edge from every vertex."""
    found, seen = set(), set()
    for start in range(len(cosines)):
        group, waiting = set(), [start]
        while waiting:
            at = waiting.pop()
            if at not in group:
                group.add(at)
                waiting += np.flatnonzero(cosines[at] >= threshold).tolist()
        if len(group) > 1 and start not in seen:
            found.add(frozenset(group))
        seen |= group
    return found


def clustered(count: int, seed: int) -> Vectors:
    """Rows of which many are near others, some by way of a third."""
    generator = np.random.default_rng(seed)
    rows = unit_rows(count, seed)
    for at in range(count // 3, count):
        noise = 0.25 * generator.random() / np.sqrt(DIM)
        rows[at] = rows[generator.integers(at)] + noise * generator.standard_normal(DIM)
    made: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return made.astype(np.float32)


@pytest.mark.parametrize("way", ["scan", "probe"])
def test_pictures_are_grouped_as_by_brute_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(alike, "ROWS_AT_ONCE", 64)
    monkeypatch.setattr(alike, "COLUMNS_AT_ONCE", 96)
    monkeypatch.setattr(compared, "NEAREST", 2)
    monkeypatch.setattr(compared, "BLOCK_ROWS", 50)
    monkeypatch.setattr(duplicates, "ASKED_AT_ONCE", 70)
    monkeypatch.setattr(duplicates, "SCANNED_ROWS", 0 if way == "probe" else 10_000)
    rows = clustered(500, 1)
    store = store_of(tmp_path, *(image(f"{i}.jpg", row) for i, row in enumerate(rows)))
    stored = rows.astype(np.float16).astype(np.float64)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    for threshold in (0.9, 0.97, 0.99):
        right = components(stored @ stored.T, threshold)
        assert len(right) > 10
        groups = found(store, threshold, kinds=("image",))
        named = {frozenset(int(name.split(".")[0]) for name, _, _ in group) for group in groups}
        assert named == right
        assert len(groups) == len(right)


def test_sets_are_united_however_they_are_given() -> None:
    generator = np.random.default_rng(2)
    for _ in range(50):
        count, edges = 40, generator.integers(0, 40, (2, int(generator.integers(1, 60))))
        matrix = np.eye(count)
        matrix[edges[0], edges[1]] = matrix[edges[1], edges[0]] = 1
        joined = Joined(count)
        half = edges.shape[1] // 2
        joined.join(edges[0, :half], edges[1, :half])
        joined.join(edges[0, half:], edges[1, half:])
        made = {frozenset(group.tolist()) for group in groups_of(joined)}
        assert made == components(matrix, 0.5)


def test_the_first_member_has_the_most_pixels_and_scores_are_cosines_to_it(tmp_path: Path) -> None:
    [row] = unit_rows(1, 1)
    near = close_to(row[None], 0.98, 2)[0]
    small, large = image("a-small.jpg", row), image("b-large.jpg", near)
    large = EncodedMedia(large.file, "b", MediaInfo(4000, 3000), large.batches)
    other = image("c.jpg", unit_rows(1, 9)[0])
    [group] = find_duplicates(store_of(tmp_path, small, large, other), DuplicateSpec(0.95))
    assert [hit.path.name for hit in group.members] == ["b-large.jpg", "a-small.jpg"]
    assert [hit.score for hit in group.members] == pytest.approx([1, 0.98], abs=1e-3)
    assert [path.name for path in group.spare] == ["a-small.jpg"]


def test_of_equal_files_the_oldest_is_kept(tmp_path: Path) -> None:
    [row] = unit_rows(1, 1)
    media = [image(name, row) for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg")]
    ages, sizes = (4, 2, 1, 3), (10, 10, 5, 10)
    facts = zip(media, ages, sizes, strict=True)
    media = [replace(m, file=replace(m.file, modified_ns=a, size_bytes=s)) for m, a, s in facts]
    [group] = found(store_of(tmp_path, *media))
    assert [name for name, _, _ in group] == ["b.jpg", "d.jpg", "a.jpg", "c.jpg"]


def test_groups_that_are_most_alike_come_first(tmp_path: Path) -> None:
    rows = unit_rows(3, 1)
    media = [image(f"{i}.jpg", row) for i, row in enumerate(rows)]
    media += [image("near0.jpg", close_to(rows[:1], 0.96, 5)[0]), image("same1.jpg", rows[1])]
    media += [image("same2.jpg", rows[2]), image("again2.jpg", rows[2])]
    groups = found(store_of(tmp_path, *media))
    assert [[name for name, _, _ in group] for group in groups] == [
        ["2.jpg", "again2.jpg", "same2.jpg"],
        ["1.jpg", "same1.jpg"],
        ["0.jpg", "near0.jpg"],
    ]


def test_a_copied_video_is_one_group_and_spare(tmp_path: Path) -> None:
    windows = unit_rows(6, 3)
    copy = film("copy.mp4", close_to(windows, 0.99, 4))
    store = store_of(
        tmp_path, copy, film("good.mp4", windows, width=1920), film("x.mp4", windows[:0])
    )
    [group] = find_duplicates(store, DuplicateSpec(0.95))
    assert [(h.path.name, h.kind, h.start, h.end) for h in group.members] == [
        ("good.mp4", "video", 0.0, 60.0),
        ("copy.mp4", "video", 0.0, 60.0),
    ]
    assert [path.name for path in group.spare] == ["copy.mp4"]


def test_a_shared_part_spares_no_file(tmp_path: Path) -> None:
    windows = unit_rows(9, 3)
    one = film("1.mp4", windows[:5])
    two = film("2.mp4", np.vstack([windows[5:], windows[1:3]]))
    [group] = find_duplicates(store_of(tmp_path, one, two), DuplicateSpec(0.95))
    assert [(h.path.name, h.start, h.end) for h in group.members] == [
        ("1.mp4", 10.0, 30.0),
        ("2.mp4", 40.0, 60.0),
    ]
    assert group.spare == ()


def test_what_does_not_move_is_no_repetition_but_what_comes_again_is(tmp_path: Path) -> None:
    still, other = unit_rows(2, 3)
    alone = film("still.mp4", np.vstack([still] * 8))
    assert found(store_of(tmp_path / "a", alone)) == []
    again = film("again.mp4", np.vstack([still, still, other, still]))
    assert found(store_of(tmp_path / "b", again)) == [
        [("again.mp4", 0.0, 20.0), ("again.mp4", 30.0, 40.0)]
    ]


def test_windows_are_grouped_as_by_brute_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compared, "BLOCK_ROWS", 7)
    rows = clustered(120, 4)
    places = [(f"{i}.mp4", 10.0 * j) for i in range(30) for j in range(4)]
    order = np.random.default_rng(0).permutation(len(rows))
    films = [film(f"{i}.mp4", rows[order[4 * i : 4 * i + 4]]) for i in range(30)]
    store = store_of(tmp_path, *films)
    stored = rows[order].astype(np.float16).astype(np.float64)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    cosines = stored @ stored.T
    next_alike = [i % 4 < 3 and cosines[i, i + 1] >= 0.97 for i in range(len(rows) - 1)]
    run = np.concatenate([[0], np.cumsum(~np.array(next_alike))])
    grouped = set()
    for group in components(cosines, 0.97):
        if len({run[i] for i in group}) > 1:
            grouped |= {places[i] for i in group}
    assert len(grouped) > 20
    shown = {
        (name, start)
        for group in found(store, 0.97)
        for name, first, end in group
        for start in np.arange(first, end, 10.0)
    }
    assert shown == grouped


def test_kinds_are_compared_apart(tmp_path: Path) -> None:
    [row] = unit_rows(1, 1)
    store = store_of(tmp_path, image("a.jpg", row), film("b.mp4", row[None]))
    assert found(store) == []


def test_vectors_without_files_count_by_their_paths(tmp_path: Path) -> None:
    rows = unit_rows(4, 1)
    store = Store.create(tmp_path / "index", manifest())
    table = {
        "path": ["a.jpg", "b.jpg", "c.jpg", "v.mp4", "v.mp4", "v.mp4", "w.mp4"],
        "kind": ["image"] * 3 + ["video"] * 4,
        "start": [None, None, None, 0.0, 5.0, 10.0, 0.0],
        "end": [None, None, None, 5.0, 10.0, 15.0, 5.0],
        "mark": [1, 2, 3, 4, 5, 6, 7],
    }
    vectors = rows[[0, 1, 0, 2, 2, 3, 2]]
    with store.writing() as writer:
        for block in blocks_of(vectors, table, dim=DIM, normalize=False):
            writer.publish_vectors(block.vectors, block.rows, block.columns)
    pictures, windows = find_duplicates(store, DuplicateSpec(0.95))
    assert [str(hit.path) for hit in pictures.members] == ["a.jpg", "c.jpg"]
    assert [hit.columns["mark"] for hit in pictures.members] == [1, 3]
    assert [str(path) for path in pictures.spare] == ["c.jpg"]
    shown = [(str(hit.path), hit.start, hit.end) for hit in windows.members]
    assert shown == [("v.mp4", 0.0, 10.0), ("w.mp4", 0.0, 5.0)]
    assert windows.spare == ()


def test_an_empty_index_has_none(tmp_path: Path) -> None:
    assert found(store_of(tmp_path)) == []


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.5, float("nan")])
def test_a_threshold_is_a_cosine(threshold: float) -> None:
    with pytest.raises(UsageError, match="use a cosine above 0"):
        DuplicateSpec(threshold)


def test_kinds_are_those_that_are_compared() -> None:
    with pytest.raises(UsageError, match="'frame': use image or video"):
        DuplicateSpec.of(0.9, ["image", "frame"], None)
    assert DuplicateSpec.of(0.9, "video", None).kinds == ("video",)


def test_where_leaves_out_files_and_vectors(tmp_path: Path) -> None:
    [row] = unit_rows(1, 1)
    with Index.create(tmp_path / "index", model=None, dim=DIM) as index:
        table = {"path": ["a.jpg", "b.jpg", "c.jpg"], "mark": [1, 2, 3]}
        index.add_vectors(np.vstack([row] * 3), table)
        [group] = index.duplicates(where="mark >= 2")
        assert [str(hit.path) for hit in group.members] == ["b.jpg", "c.jpg"]
        done: list[tuple[int, int | None]] = []
        index.duplicates(kind="image", on_progress=lambda p: done.append((p.done, p.total)))
        assert done == [(3, 3)]


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    from clipsearch.interfaces.cli import main

    with pytest.raises(SystemExit) as stopped:
        main(["duplicates", *arguments])
    code = stopped.value.code
    return int(code or 0), *capfd.readouterr()


def test_the_command_prints_groups_or_what_to_spare(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    odd = "-a 'b'\t\"c\"\n\u202eé.png"
    colours = {"red.png": (255, 0, 0), odd: (255, 0, 0), "blue.png": (0, 0, 255)}
    (tmp_path / "media").mkdir()
    for number, (name, colour) in enumerate(colours.items()):
        size = (64 - number, 64)  # the first has the most pixels
        Image.new("RGB", size, colour).save(tmp_path / "media" / name)
    place = ("--index", str(tmp_path / "index"))
    with Index.create(tmp_path / "index", model="fake") as index:
        index.add([tmp_path / "media"])
    code, out, err = run(capfd, *place, "--jsonl")
    records = [json.loads(line) for line in out.splitlines()]
    assert [(r["group"], Path(r["path"]).name, r["score"]) for r in records] == [
        (1, "red.png", 1.0),
        (1, odd, 1.0),
    ]
    assert (code, err) == (0, "groups: 1, files to spare: 1\n")
    assert run(capfd, *place, "-0")[1] == str(tmp_path / "media" / odd) + "\0"
    assert run(capfd, *place)[1].splitlines()[0] == "group\tscore\tpath\tstart\tend"
    code, out, err = run(capfd, *place, "--where", "name = 'blue.png'", "--fail-empty")
    assert (code, out, err) == (1, "", "no duplicates found\n")
    code, _, err = run(capfd, *place, "--threshold", "2")
    assert (code, err) == (2, "error: threshold 2.0: use a cosine above 0, up to 1\n")


def pictures_in(folder: Path, *names: str) -> None:
    folder.mkdir()
    for name in names:
        Image.new("RGB", (64, 64), (255, 0, 0)).save(folder / name)


def spared(index: Index) -> list[str]:
    return [path.name for group in index.duplicates() for path in group.spare]


def test_a_file_is_not_spare_for_a_link_to_it(tmp_path: Path) -> None:
    media = tmp_path / "media"
    pictures_in(media, "copy.png", "taken.png")
    (media / "a link.png").symlink_to("taken.png")
    os.utime(media / "taken.png", (1, 1))  # the oldest
    with Index.create(tmp_path / "index", model="fake") as index:
        index.add([media])
        [group] = index.duplicates()
        assert group.members[0].path == media / "a link.png"
        assert spared(index) == ["copy.png"]


def test_nothing_is_spare_for_a_file_that_is_gone_or_has_changed(tmp_path: Path) -> None:
    media = tmp_path / "media"
    pictures_in(media, "a.png", "b.png")
    os.utime(media / "a.png", (1, 1))  # the oldest
    with Index.create(tmp_path / "index", model="fake") as index:
        index.add([media])
        assert spared(index) == ["b.png"]
        Image.new("RGB", (64, 64), (0, 0, 255)).save(media / "a.png")
        assert spared(index) == []
        (media / "a.png").unlink()
        assert spared(index) == []
