"""Mean pooling of frames into windows, against the formula written out."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from clipsearch.ingest.pooling import mean_pool, with_windows
from clipsearch.types import Unit
from tests.vectors import unit_rows

ONE = np.ones(1, np.float32)


def frames(count: int) -> list[Unit]:
    return [Unit("frame", float(i), float(i + 1), i) for i in range(count)]


def test_mean_pool_is_normalise_mean_normalise() -> None:
    rows = unit_rows(7, 1)
    expected = sum(row / np.linalg.norm(row) for row in rows) / 7
    np.testing.assert_allclose(mean_pool(rows), expected / np.linalg.norm(expected), atol=1e-6)


def test_frames_that_cancel_out_do_not_give_nan() -> None:
    row = unit_rows(1, 1)
    np.testing.assert_array_equal(mean_pool(np.vstack([row, -row])), row[0])


@pytest.mark.parametrize(
    ("count", "lengths"), [(1, [1]), (30, [30]), (31, [30, 1]), (95, [30, 30, 30, 5])]
)
def test_windows_cover_every_frame_once(count: int, lengths: list[int]) -> None:
    rows = unit_rows(count, 2)
    norms = np.arange(1, count + 1, dtype=np.float32)
    batch = with_windows(rows, norms, frames(count), window_seconds=30.0)
    np.testing.assert_array_equal(batch.norms[:count], norms)
    assert np.isnan(batch.norms[count:]).all()
    np.testing.assert_array_equal(batch.vectors[:count], rows)
    added = [unit for unit in batch.units if unit.kind == "video"]
    edges = np.concatenate([[0], np.cumsum(lengths)])
    assert [(u.start_seconds, u.end_seconds) for u in added] == list(pairwise(edges))
    for vector, first, last in zip(batch.vectors[count:], edges[:-1], edges[1:], strict=True):
        np.testing.assert_allclose(vector, mean_pool(rows[first:last]), atol=1e-7)


def test_images_have_no_windows() -> None:
    batch = with_windows(unit_rows(1, 1), ONE, [Unit("image")], window_seconds=30.0)
    assert [unit.kind for unit in batch.units] == ["image"]
