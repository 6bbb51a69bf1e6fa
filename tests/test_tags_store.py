"""Tags of files, and when they stay and go."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from clipsearch.errors import UsageError
from clipsearch.store.selection import Selection
from clipsearch.store.store import Store
from clipsearch.store.tags import Tag
from clipsearch.types import FoundFile
from clipsearch.where import parse
from tests.vectors import ROOT, image, manifest, unit_rows, video


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Files 1 to 3 with tags, 4 without."""
    store = Store.create(tmp_path / "index", manifest())
    rows = unit_rows(4, 1)
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        writer.publish([image(f"{n}.jpg", rows[n]) for n in range(3)] + [video("v.mp4", rows)])
        given: dict[int, list[Tag]] = {
            1: [("dog", 0.9), ("cat", 0.95)],
            2: [("dog", None)],
            3: [("it's", 0.0)],
        }
        writer.catalog.set_tags(given, replace=False)
    yield store
    store.close()


def tags(store: Store) -> dict[int, list[tuple[str, float | None]]]:
    return store.catalog.tags_of(range(1, 9))


def test_tags_are_set_replaced_and_counted(store: Store) -> None:
    assert tags(store) == {
        1: [("cat", 0.95), ("dog", 0.9)], 2: [("dog", None)], 3: [("it's", 0.0)]
    }  # fmt: skip
    assert store.catalog.tag_counts() == {"cat": 1, "dog": 2, "it's": 1}
    with store.writing() as writer:
        more: dict[int, list[Tag]] = {
            1: [("dog", 0.5), ("owl", 1.0)],
            4: [("dog", 0.25)],
            99: [("none", None)],
        }
        writer.catalog.set_tags(more, replace=False)
    assert tags(store)[1] == [("owl", 1.0), ("cat", 0.95), ("dog", 0.5)]
    assert tags(store)[4] == [("dog", 0.25)]
    with store.writing() as writer:
        writer.catalog.set_tags({1: [("bee", None)], 2: []}, replace=True)
    assert tags(store) == {1: [("bee", None)], 3: [("it's", 0.0)], 4: [("dog", 0.25)]}
    assert store.catalog.problems() == []


@pytest.mark.parametrize(
    ("ids", "texts", "left"),
    [
        (None, None, {}),
        ([1, 3], None, {2: ["dog"]}),
        (None, ["dog", "none"], {1: ["cat"], 3: ["it's"]}),
        ([1], ["dog"], {1: ["cat"], 2: ["dog"], 3: ["it's"]}),
        ([], None, {1: ["cat", "dog"], 2: ["dog"], 3: ["it's"]}),
        (None, [], {1: ["cat", "dog"], 2: ["dog"], 3: ["it's"]}),
    ],
)
def test_tags_are_removed(
    store: Store, ids: list[int] | None, texts: list[str] | None, left: dict[int, list[str]]
) -> None:
    with store.writing() as writer:
        writer.catalog.remove_tags(ids, texts)
    assert {id_: [tag for tag, _ in own] for id_, own in tags(store).items()} == left


def test_tags_stay_when_a_file_moves_and_go_with_its_content(store: Store) -> None:
    before = tags(store)
    rows = unit_rows(4, 2)
    with store.writing() as writer:
        writer.catalog.move_media([(1, FoundFile(ROOT, "moved.jpg", "image", 1, 2))])
        again = replace(image("1.jpg", rows[0]), content_hash="hash of 1.jpg")
        writer.publish([again])  # read again, the same content
        kept = video("v.mp4", rows)
        writer.publish([replace(kept, batches={}, kept=("visual",))])  # it got another source
    assert tags(store) == before
    with store.writing() as writer:
        writer.publish([replace(image("2.jpg", rows[0]), content_hash="another")])
    assert tags(store) == {1: before[1], 2: before[2]}
    with store.writing() as writer:
        file = FoundFile(ROOT, "1.jpg", "image", 1, 2)
        writer.put_failure(file, "damaged now", "cannot be read")
        writer.catalog.remove_media([1])
    assert tags(store) == {}
    assert store.catalog.tag_counts() == {}


def test_tags_outlive_damage_to_the_vectors(store: Store) -> None:
    with store.writing() as writer:
        writer.catalog.lose([2], {})
        assert tags(store)[2] == [("dog", None)]
        writer.publish([image("1.jpg", unit_rows(1, 8)[0])])  # read again by the next run
    assert tags(store)[2] == [("dog", None)]


def test_a_file_that_takes_another_ones_place_has_its_own_tags(store: Store) -> None:
    with store.writing() as writer:
        writer.catalog.move_media([(2, FoundFile(ROOT, "0.jpg", "image", 1, 2))])
    assert tags(store) == {2: [("dog", None)], 3: [("it's", 0.0)]}


def test_search_by_tags(store: Store) -> None:
    query = unit_rows(1, 5)
    for text, expected in [
        ("tag = 'dog'", {1, 2}),
        ("tag = 'dog' and tag != 'cat'", {2}),
        ("tag != 'dog'", {3, 4}),
        ("tag glob '*''*'", {3}),
        ("tag is null", {4}),
        ("tag in ('cat', 'it''s')", {1, 3}),
    ]:
        units = store.search(query, k=99, selection=Selection(parse(text)))[0]
        assert {unit.media_id for unit in units} == expected, text


@pytest.mark.parametrize(
    ("tag", "probability"), [("", None), (" ", None), ("x" * 501, None), ("a\0", None),
                             ("a\udcff", None), ("dog", 1.5), ("dog", float("nan"))]
)  # fmt: skip
def test_what_is_no_tag_is_refused(store: Store, tag: str, probability: float | None) -> None:
    with store.writing() as writer, pytest.raises(UsageError, match="tag"):
        writer.catalog.set_tags({1: [(tag, probability)]}, replace=True)
    assert len(tags(store)[1]) == 2
