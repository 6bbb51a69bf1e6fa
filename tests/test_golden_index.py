"""Every index that an earlier version wrote is still read, with the same answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from clipsearch.store.lookup import parse_columns
from clipsearch.store.manifest import FORMAT_VERSION, AudioSettings
from clipsearch.store.segment import SEGMENT_VERSION
from clipsearch.store.selection import Selection
from clipsearch.store.store import Store
from clipsearch.types import Unit
from clipsearch.where import parse
from tests.goldens.make_index import AUDIO_DIM, DIM, POOLING, TAGS, rows
from tests.vectors import image, unit_rows

INDEXES = Path(__file__).parents[1] / "indexes"


@pytest.fixture(params=range(1, FORMAT_VERSION + 1))
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A copy of the index of each format version; a missing one is an error."""
    shutil.copytree(INDEXES / f"golden-v{request.param}", tmp_path / "index")
    return Store.open(tmp_path / "index")


def version(golden: Store) -> int:
    """The format version that an index was written in."""
    return golden.manifest.format_version


def test_units_media_and_scores_are_as_written(golden: Store) -> None:
    units = sorted(golden.search(rows(1, 1), k=100)[0], key=lambda u: u.id)
    assert [(u.id, u.media_id, u.unit) for u in units] == [
        (1, 1, Unit("image")),
        (3, 2, Unit("frame", 0.0, 1.0, 0)),
        (4, 2, Unit("frame", 1.0, 2.0, 25)),
        (5, 2, Unit("frame", 2.0, 3.0, 50)),
        (6, 2, Unit("video", 0.0, 3.0)),
        *([(7, 2, Unit("pooled", 0.0, 3.0))] if version(golden) > 2 else []),
    ]
    expected = np.vstack([rows(1, s) for s in (0, 1, 2, 3, 4, 6)[: len(units)]]) @ rows(1, 1)[0]
    np.testing.assert_allclose([u.score for u in units], expected, atol=1e-3)
    kept = {m.relative: (m.id, m.kind, m.state, m.error) for m in golden.catalog.all_media()}
    assert kept == {
        "photo.jpg": (1, "image", "ready", None),
        "sub/film.mp4": (2, "video", "ready", None),
        "bad.jpg": (4, "image", "failed", "damaged"),
    }


def test_norms_and_pooling_are_as_written(golden: Store) -> None:
    norms = golden.frames(2).norms
    if version(golden) > 2:
        assert norms is not None
        assert norms.tolist() == [2, 3, 4]
        assert golden.snapshot().pooling == POOLING
    else:
        assert norms is not None
        assert np.isnan(norms).all()
        assert golden.snapshot().pooling is None
    pooled = golden.search(rows(1, 6), k=10, kinds=("pooled",))[0]
    assert [unit.id for unit in pooled] == ([7] if version(golden) > 2 else [])


def test_compaction_makes_it_one_of_the_newest_version(golden: Store) -> None:
    before = golden.search(rows(1, 1), k=100)[0]
    norms = golden.frames(2).norms
    with golden.writing() as writer:
        writer.compact(memory=0)
    assert version(golden) == FORMAT_VERSION
    assert golden.snapshot().views[0].segment.version == SEGMENT_VERSION
    assert golden.search(rows(1, 1), k=100)[0] == before
    np.testing.assert_array_equal(golden.frames(2).norms, norms)


def test_it_can_be_added_to(golden: Store) -> None:
    version_before = version(golden)
    with golden.writing() as writer:
        writer.publish([image("new.jpg", unit_rows(1, 1, DIM))])
    best = golden.search(unit_rows(1, 1, DIM), k=1)[0][0]
    assert (best.id, best.media_id) == ({1: 7, 2: 7, 3: 8, 4: 10, 5: 10}[version_before], 5)


def test_sound_and_texts_are_as_written(golden: Store) -> None:
    if version(golden) < 4:
        assert golden.sources() == ("visual",)
        assert all(media.sources == ("visual",) for media in golden.catalog.all_media())
        return
    assert golden.manifest.audio == AudioSettings("fake:12", "golden sound", 12, 10.0, 5.0)
    assert golden.manifest.texts
    [sound] = golden.search(rows(1, 2, AUDIO_DIM), k=5, kinds=("audio",))[0]
    assert (sound.media_id, sound.unit) == (2, Unit("audio", 0.0, 3.0))
    assert sound.score == pytest.approx(1, abs=1e-3)
    [said] = golden.search(rows(1, 3), k=5, kinds=("text",))[0]
    assert (said.media_id, said.unit.start_seconds, said.unit.end_seconds) == (2, 1.0, 2.5)
    _, columns, _ = golden.rows(np.array([sound.id, said.id]))
    assert parse_columns(columns) == [{"padding_seconds": 7.0}, {"text": "“Wuff!” sagt er"}]
    sources = {media.relative: media.sources for media in golden.catalog.all_media()}
    assert sources == {
        "photo.jpg": ("visual",),
        "sub/film.mp4": ("visual", "audio", "text"),
        "bad.jpg": () if version(golden) == 4 else ("visual",),
    }


def test_tags_are_as_written_and_can_be_set(golden: Store) -> None:
    newer = version(golden) > 4
    assert golden.catalog.tags_of([1, 2, 4]) == (
        {id_: sorted(tags, key=lambda tag: -(tag[1] or 1)) for id_, tags in TAGS.items()}
        if newer
        else {}
    )
    dogs = Selection(parse("tag = 'dog'"))
    assert [media.id for media in golden.selected_media(dogs)] == ([1, 2] if newer else [])
    with golden.writing() as writer:
        writer.catalog.set_tags({1: [("cat", 0.25)]}, replace=True)
    cats = golden.search(rows(1, 1), k=9, selection=Selection(parse("tag = 'cat'")))[0]
    assert [unit.media_id for unit in cats] == [1]
