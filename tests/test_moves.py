"""Where rows go when segments are merged, against looking each one up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clipsearch.errors import IndexDamagedError
from clipsearch.store import grouping, moves
from clipsearch.store.moves import Moves
from clipsearch.store.store import Store
from clipsearch.types import VISUAL_KINDS
from tests.vectors import ROOT, manifest, many, unit_rows


@pytest.mark.parametrize("seed", range(10))
def test_runs_say_of_each_range_what_its_rows_say(seed: int) -> None:
    random = np.random.default_rng(seed)
    live = random.random(60) < 0.8
    order = np.concatenate([np.arange(live[:30].sum()) + 40, np.arange(live[30:].sum()) + 3])
    places = np.full(60, -1)
    places[live] = order
    runs = Moves.of(7, places)
    for first in range(60):
        for count in range(1, 8):
            rows = places[first : first + count]
            together = len(rows) == count and (rows >= 0).all() and (np.diff(rows) == 1).all()
            if together:
                assert runs.of_ranges([(1, "image", first, count)]).tolist() == [places[first]]
            else:
                with pytest.raises(ValueError, match="rows of media 1 are not where they should"):
                    runs.of_ranges([(1, "image", first, count)])


@pytest.mark.parametrize(
    "row", [(1, "image", -1, 2), (1, "image", 0, 0), (1, "image", 0.5, 1), (1, "odd", 0, 1)]
)
def test_what_no_range_can_be(row: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match="a range of rows is"):
        Moves.of(7, np.arange(5)).of_ranges([(1, "image", 0, 1), row])


def test_a_segment_without_live_rows_has_no_runs() -> None:
    nowhere = Moves.of(7, np.full(5, -1))
    assert len(nowhere.firsts) == 0
    with pytest.raises(ValueError, match="not where they should be"):
        nowhere.of_ranges([(1, "image", 0, 1)])


@pytest.mark.parametrize("runs_by_row", [0, 16])
def test_ranges_moved_one_by_one_and_by_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs_by_row: int
) -> None:
    monkeypatch.setattr(moves, "RUNS_BY_ROW", runs_by_row)
    monkeypatch.setattr(moves, "READ_AT_ONCE", 7)
    monkeypatch.setattr(grouping, "MERGE_FACTOR", 3)
    store = Store.create(tmp_path / "index", manifest())
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        for seed in (1, 2):
            writer.publish(many(12, seed))
        writer.publish(many(12, 2)[5:9])  # known: their rows in the second segment die
        before = store.search(unit_rows(6, 5), k=400, kinds=VISUAL_KINDS)
        frames = {media.id: store.frames(media.id).starts for media in store.catalog.all_media()}
        writer.tidy()
        assert len(store.catalog.segments()) == 1
    after = store.search(unit_rows(6, 5), k=400, kinds=VISUAL_KINDS)
    assert [{u.id for u in own} for own in after] == [{u.id for u in own} for own in before]
    for media_id, starts in frames.items():
        np.testing.assert_array_equal(store.frames(media_id).starts, starts)


def test_a_range_that_leaves_its_rows_stops_the_merge(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "index", manifest())
    with store.writing() as writer:
        writer.catalog.add_root(ROOT)
        for seed in range(8):
            writer.publish(many(2, seed))
        with store.catalog._writing() as db:
            db.exec_driver_sql("UPDATE ranges SET first_row = 19 WHERE media_id = 4")
        with pytest.raises(IndexDamagedError, match="rows of media 4 are not where"):
            writer.tidy()
        assert len(store.catalog.segments()) == 8
