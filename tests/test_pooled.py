"""Trained heads in an index: what they make is kept beside the mean, tied to their weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from clipsearch import captioned
from clipsearch.encoders import load_encoder, parse_spec
from clipsearch.engine import Index
from clipsearch.errors import EncoderError, UsageError
from clipsearch.heads import load_head, save_head
from clipsearch.heads.apply import pool, score_videos
from clipsearch.heads.choose import PoolingSpec
from clipsearch.heads.initial import new_head
from clipsearch.ingest import AddOptions, Progress
from clipsearch.ingest.pooling import with_norms, with_windows
from clipsearch.media import SamplingSpec
from clipsearch.search.rerank import Rerank, rerank
from clipsearch.store.manifest import Manifest
from clipsearch.store.store import Store
from clipsearch.store.writer import Writer
from clipsearch.types import (
    EncodedMedia,
    FoundFile,
    Hit,
    IngestReport,
    MediaInfo,
    Unit,
    Vectors,
    VideoFrames,
)
from clipsearch.video import Video
from tests.e2e.support import BLUE, GREEN, RED, run, write_film, write_photo
from tests.media_files import write_sound

DIM = 64
ENCODER = load_encoder(parse_spec(f"fake:{DIM}"), device="cpu")
SAMPLING = SamplingSpec(fps=2.0, keep_all_frames=True)
OPTIONS = AddOptions(SAMPLING, window_seconds=4.0)


def films(folder: Path) -> Path:
    """Three films of 6, 3 and 10 seconds, and a photo."""
    write_film(folder / "a.mp4", [(RED, seconds(0, 3)), (BLUE, seconds(3, 6))])
    write_film(folder / "sub" / "b.mp4", [(GREEN, seconds(0, 3))])
    write_film(folder / "c.mp4", [(BLUE, seconds(0, 5)), (RED, seconds(5, 10))])
    write_photo(folder / "red.jpg", RED)
    return folder


def seconds(start: int, end: int) -> list[int]:
    return list(range(start * 1000, end * 1000, 110))


def head_file(
    path: Path, name: str, *, seed: int = 0, positions: int = 12, **facts: object
) -> Path:
    """Weights of a head that is drawn at random, as training would write them."""
    head = new_head(name, DIM, depth=1, positions=positions, seed=seed)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(4)  # so that the frames' order matters
    told = {"logit_scale": 1.0, "encoder": f"fake:{DIM}", "training": {}}
    fingerprint = facts.pop("encoder_fingerprint", ENCODER.fingerprint)
    save_head(path, head, **{**told, **facts}, encoder_fingerprint=fingerprint)  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Media, heads, and an index that pools with seqtransf."""
    folder = tmp_path_factory.mktemp("pooled") / "first"
    films(folder / "media")
    for name in ("seqlstm", "seqtransf", "tight"):
        head_file(folder / f"{name}.pt", name)
    head_file(folder / "other.pt", "seqtransf", seed=1)
    spec = PoolingSpec("seqtransf", folder / "seqtransf.pt")
    with Index.create(folder / "index", model=f"fake:{DIM}", pooling=spec) as index:
        fill(index, folder / "media")
    return folder.rename(folder.with_name("moved"))  # a copy finds what lies beside its index


@pytest.fixture
def place(shared: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(shared, tmp_path / "copy", symlinks=True)


@pytest.fixture
def index(place: Path) -> Iterator[Index]:
    with Index.open(place / "index") as opened:
        yield opened


def fill(index: Index, media: Path) -> IngestReport:
    report = index.add([media], options=OPTIONS)
    assert not report.failures
    return report


def windows(index: Index, kind: str = "pooled") -> dict[str, tuple[list[float], Vectors]]:
    """The starts and vectors of each film's windows."""
    found = {}
    for media in index.media():
        if media.kind == "video":
            rows = index._store.windows(media.id, kind)  # type: ignore[arg-type]
            found[media.relative] = rows.starts.tolist(), rows.vectors
    return found


def by_hand(index: Index, weights: Path) -> dict[str, tuple[list[float], Vectors]]:
    """The same, each window's frames collected one by one."""
    head = load_head(weights).head
    found = {}
    for media in index.media():
        if media.kind != "video":
            continue
        frames, mean = index._store.frames(media.id), index._store.windows(media.id)
        raw = frames.raw()
        runs = [
            np.array([r for r, at in zip(raw, frames.starts, strict=True) if start <= at < end])
            for start, end in zip(mean.starts, mean.ends, strict=True)
        ]
        found[media.relative] = mean.starts.tolist(), pool(head, runs)
    return found


def assert_pooled(index: Index, weights: Path) -> None:
    """The index has, to the bit of what it stores, what the head in `weights` makes."""
    expected, found = by_hand(index, weights), windows(index)
    assert found.keys() == expected.keys()
    for name, (starts, vectors) in expected.items():
        assert found[name][0] == starts
        np.testing.assert_array_equal(found[name][1], vectors.astype(np.float16))


# --- what is kept -------------------------------------------------------------------------------


def test_frames_are_kept_with_their_norms(index: Index) -> None:
    for media in index.media():
        if media.kind != "video":
            continue
        kept = index._store.frames(media.id)
        fresh = Video.read(media.path, ENCODER, SAMPLING).frames
        np.testing.assert_allclose(kept.norms, fresh.norms, rtol=2**-17)
        np.testing.assert_allclose(kept.raw(), fresh.raw(), rtol=1e-3, atol=1e-3)
        assert len(np.unique(kept.norms)) > 1, "the fake encoder's lengths differ"


def test_indexing_pools_every_window_by_the_head_beside_the_mean(index: Index, place: Path) -> None:
    assert {name: len(found[0]) for name, found in windows(index).items()} == {
        "a.mp4": 2,
        "sub/b.mp4": 1,
        "c.mp4": 3,
    }
    assert_pooled(index, place / "seqtransf.pt")
    mean = windows(index, "video")
    assert all((mean[name][1] != found[1]).any() for name, found in windows(index).items())
    assert index.status().pooling == load_head(place / "seqtransf.pt").fingerprint
    assert index.verify() == []


def test_pooling_anew_gives_to_the_bit_what_indexing_gives(index: Index, place: Path) -> None:
    before = windows(index)
    report = index.repool(PoolingSpec("seqtransf", place / "seqtransf.pt"))
    assert (report.videos, report.windows, report.warnings) == (3, 6, ())
    after = windows(index)
    for name, (_, vectors) in before.items():
        np.testing.assert_array_equal(after[name][1], vectors)
    assert index.verify() == []


@pytest.mark.parametrize(("name", "file"), [("seqlstm", "seqlstm.pt"), ("seqtransf", "other.pt")])
def test_another_head_takes_the_place_of_the_first(
    index: Index, place: Path, name: str, file: str
) -> None:
    shutil.rmtree(place / "media")  # nothing is decoded
    mean = windows(index, "video")
    index.repool(PoolingSpec(name, place / file))
    assert_pooled(index, place / file)
    assert index.status().pooling == load_head(place / file).fingerprint
    for film, (_, vectors) in windows(index, "video").items():
        np.testing.assert_array_equal(vectors, mean[film][1])
    assert index.verify() == []


def test_the_mean_does_without_a_head(index: Index, place: Path) -> None:
    rows = index.status().rows - index.status().dead_rows
    index.repool(PoolingSpec("mean"))
    assert index.status().pooling == "mean"
    assert all(not starts for starts, _ in windows(index).values())
    assert index.status().rows - index.status().dead_rows == rows - 6
    fill(index, place / "media")
    assert index.verify() == []


def test_a_head_can_come_to_an_index_that_has_none(place: Path) -> None:
    with Index.create(place / "plain", model=f"fake:{DIM}") as plain:
        fill(plain, place / "media")
        assert plain.status().pooling == "mean"
        plain.repool(PoolingSpec("seqtransf", place / "seqtransf.pt"))
        assert_pooled(plain, place / "seqtransf.pt")


def test_files_that_come_change_and_go_keep_the_rows_right(index: Index, place: Path) -> None:
    write_film(place / "media" / "new.mp4", [(GREEN, seconds(0, 6))])
    write_film(place / "media" / "a.mp4", [(GREEN, seconds(0, 9))])
    (place / "media" / "c.mp4").unlink()
    (place / "media" / "sub" / "b.mp4").rename(place / "media" / "moved.mp4")
    fill(index, place / "media")
    assert sorted(windows(index)) == ["a.mp4", "moved.mp4", "new.mp4"]
    assert_pooled(index, place / "seqtransf.pt")
    index.compact()
    assert_pooled(index, place / "seqtransf.pt")
    index.repool(PoolingSpec("seqtransf", place / "other.pt"))
    assert_pooled(index, place / "other.pt")
    assert index.verify() == []


def test_an_interrupted_pooling_leaves_the_index_as_it_was(index: Index, place: Path) -> None:
    before = windows(index)

    def interrupt(progress: Progress) -> None:
        if progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.repool(PoolingSpec("seqtransf", place / "other.pt"), on_progress=interrupt)
    after = windows(index)
    for name, (_, vectors) in before.items():
        np.testing.assert_array_equal(after[name][1], vectors)
    assert index.status().pooling == load_head(place / "seqtransf.pt").fingerprint
    assert index.verify() == []
    assert len(list((place / "index" / "segments").iterdir())) == index.status().segments


def test_a_reader_sees_a_pooling_as_a_whole(index: Index, place: Path) -> None:
    with Index.open(place / "index") as reader:
        before = reader.search("red", kind="video")
        index.repool(PoolingSpec("seqlstm", place / "seqlstm.pt"))
        after = reader.search("red", kind="video")
    assert [hit.score for hit in after] != [hit.score for hit in before]
    assert after == index.search("red", kind="video")


def test_windows_with_more_frames_than_the_head_takes_are_sampled_and_said(place: Path) -> None:
    spec = PoolingSpec("seqtransf", place / "seqtransf.pt", max_frames=5)
    with Index.create(place / "short", model=f"fake:{DIM}", pooling=spec) as index:
        report = fill(index, place / "media")
        [warning] = report.warnings
        assert warning.startswith("windows with more frames than the 5 that the head takes: 4;")
        head = load_head(place / "seqtransf.pt", max_frames=5).head
        [media] = [media for media in index.media() if media.relative == "sub/b.mp4"]
        raw = index._store.frames(media.id).raw()
        assert len(raw) == 7
        expected = pool(head, [raw[[0, 1, 3, 4, 6]]])  # linspace(0, 6, 5), rounded down
        np.testing.assert_array_equal(windows(index)["sub/b.mp4"][1], expected.astype(np.float16))
        assert index.repool(spec).warnings == (warning,)


# --- searching ----------------------------------------------------------------------------------


def test_videos_rank_by_the_head_and_by_the_mean_if_asked(index: Index) -> None:
    [query] = ENCODER.encode_text(["red"])
    for pooling, kind in ((None, "pooled"), ("seqtransf", "pooled"), ("mean", "video")):
        hits = index.search("red", kind="video", pooling=pooling)
        best = {
            n: (v.astype(np.float32) @ query).max() for n, (_, v) in windows(index, kind).items()
        }
        expected = sorted(best.items(), key=lambda item: -item[1])
        assert [hit.path.name for hit in hits] == [Path(name).name for name, _ in expected]
        np.testing.assert_allclose([h.score for h in hits], [s for _, s in expected], atol=1e-5)
        assert all(hit.kind == "video" and hit.moment is not None for hit in hits)
    with pytest.raises(UsageError, match=r"no videos pooled by 'seqlstm', only by mean and seqtr"):
        index.search("red", kind="video", pooling="seqlstm")
    with pytest.raises(
        UsageError, match=r"'tight': use one of mean, seqlstm, seqtransf; .*--rerank"
    ):
        index.search("red", kind="video", pooling="tight")


def test_moments_and_images_are_found_as_without_a_head(index: Index) -> None:
    with_head = index.search("red", top=5)
    index.repool(PoolingSpec("mean"))
    assert index.search("red", top=5) == with_head
    scores, ids = index.search_vectors(ENCODER.encode_text(["red"]), top=100)
    assert (ids[0] >= 0).sum() == index.status().rows - index.status().dead_rows
    assert np.isneginf(scores[0, (ids[0] >= 0).sum() :]).all()


def test_vectors_of_one_pooling_only_are_among_the_nearest(index: Index) -> None:
    _, ids = index.search_vectors(ENCODER.encode_text(["red"]), top=1000)
    kinds = [row["kind"] for row in index.rows(ids[0][ids[0] >= 0])]
    assert kinds.count("pooled") == 6
    assert "video" not in kinds


def test_the_best_videos_are_scored_again_by_a_tight_head(index: Index, place: Path) -> None:
    head = load_head(place / "tight.pt").head
    hits = index.search("a red thing", rerank=Rerank(place / "tight.pt"), top=10)
    first = index.search("a red thing", kind="video", top=50)
    [text] = ENCODER.encode_text(["a red thing"], normalize=False)
    expected = {}
    for hit in first:
        [media] = [media for media in index.media() if media.path == hit.path]
        frames = index._store.frames(media.id)
        inside = (frames.starts >= hit.start) & (frames.starts < hit.end)
        [expected[hit.path]] = score_videos(head, text, [frames.raw()[inside]])
    assert {hit.path for hit in hits} == expected.keys()
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for hit in hits:
        assert hit.score == pytest.approx(expected[hit.path], abs=1e-5)
    [best] = index.search("a red thing", rerank=Rerank(place / "tight.pt", candidates=1), top=1)
    assert best.path == first[0].path
    assert index.search("a red thing", rerank=Rerank(place / "tight.pt"), top=2) == hits[:2]


def test_windows_that_are_too_long_to_be_scored_are_sampled_and_said(place: Path) -> None:
    told: list[str] = []
    short = head_file(place / "short.pt", "tight", positions=5)
    with Index.open(place / "index", on_notice=told.append) as index:
        assert len(index.search("red", rerank=Rerank(short))) == 3
    [notice] = told
    assert notice.startswith("windows with more frames than the 4 that the head takes: ")


@pytest.mark.parametrize("kind", ["image", "frame", "span", ("video", "image")])
def test_only_videos_are_scored_again(index: Index, place: Path, kind: str) -> None:
    with pytest.raises(UsageError, match="use kind 'video'"):
        index.search("red", kind=kind, rerank=Rerank(place / "tight.pt"))


def test_a_vector_cannot_be_scored_again(index: Index, place: Path) -> None:
    with pytest.raises(UsageError, match="give the query as words"):
        index.search(ENCODER.encode_text(["red"]), rerank=Rerank(place / "tight.pt"))


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["seqlstm", "seqtransf", "tight"])
def test_a_head_without_weights_is_refused_with_the_command_that_trains_one(name: str) -> None:
    with pytest.raises(UsageError, match=f"clipsearch train-head --pooling {name} --captions"):
        PoolingSpec(name)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (("max",), r"pooling 'max': use one of mean, seqlstm, seqtransf, tight"),
        (("mean", Path("a.pt")), r"the mean has no weights.*--model clip4clip:a\.pt"),
        (("mean", None, 5), r"takes any number of frames"),
        (("seqlstm", Path("a.pt"), 0), r"at most 0 frames"),
    ],
)
def test_poolings_that_cannot_be(values: tuple[object, ...], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        PoolingSpec(*values)  # type: ignore[arg-type]


def test_heads_that_do_not_fit_are_refused_and_nothing_is_made(place: Path) -> None:
    elsewhere = head_file(place / "elsewhere.pt", "seqtransf", encoder_fingerprint="fake:64@other")
    (place / "text.pt").write_text("no weights")
    cases = {
        PoolingSpec("tight", place / "tight.pt"): "scores pairs and gives no vectors",
        PoolingSpec("seqtransf", place / "seqlstm.pt"): "holds a seqlstm head, not seqtransf",
        PoolingSpec("seqtransf", place / "absent.pt"): r"absent\.pt cannot be read: No such file",
        PoolingSpec("seqtransf", place / "text.pt"): r"text\.pt",
        PoolingSpec("seqtransf", elsewhere): r"trained on vectors of fake:64@other, but the index",
        PoolingSpec("seqtransf", place / "seqtransf.pt", 99): r"max_frames 99",
    }
    for spec, reason in cases.items():
        with pytest.raises((UsageError, EncoderError), match=reason):
            Index.create(place / "new", model=f"fake:{DIM}", pooling=spec)
        assert not (place / "new").exists()
    anywhere = head_file(place / "any.pt", "seqtransf", encoder_fingerprint="fake:32@1")
    with pytest.raises(EncoderError, match="takes vectors of 64 dimensions, the index has 32"):
        Index.create(place / "new", model="fake:32", pooling=PoolingSpec("seqtransf", anywhere))
    spec = PoolingSpec("seqtransf", place / "seqtransf.pt")
    with pytest.raises(UsageError, match="without a model has no frames"):
        Index.create(place / "new", model=None, dim=64, pooling=spec)


def test_an_index_pools_all_its_files_by_the_same_head(index: Index, place: Path) -> None:
    index.require(pooling=PoolingSpec("seqtransf", place / "seqtransf.pt"))
    for spec in (PoolingSpec("mean"), PoolingSpec("seqtransf", place / "other.pt")):
        with pytest.raises(UsageError, match="change it with `clipsearch repool`"):
            index.require(pooling=spec)


def test_a_head_that_is_gone_or_another_one_is_said_before_anything_is_read(
    index: Index, place: Path
) -> None:
    weights, away = place / "seqtransf.pt", place / "away.pt"
    write_film(place / "media" / "new.mp4", [(GREEN, seconds(0, 2))])
    weights.rename(away)
    with pytest.raises(EncoderError, match=r"the index pools with seqtransf@.*, but the weights"):
        index.add([place / "media"])
    assert index.search("red", kind="video"), "searching needs no head"
    shutil.copy(place / "other.pt", weights)
    with pytest.raises(EncoderError, match=r"is seqtransf@[0-9a-f]{12}: name its file with"):
        index.add([place / "media"])
    assert "new.mp4" not in windows(index)
    index.require(pooling=PoolingSpec("seqtransf", away))  # notes the file's new place
    index.add([place / "media"])
    assert "new.mp4" in windows(index)
    assert_pooled(index, away)


def test_frames_without_norms_are_refused_with_what_to_do(place: Path, tmp_path: Path) -> None:
    golden = Path(__file__).parents[1] / "indexes" / "golden-v2"
    shutil.copytree(golden, tmp_path / "old")
    with Index.open(tmp_path / "old") as old, pytest.raises(UsageError, match="build the index"):
        old._store.frames(2).raw()


def test_an_empty_or_unreadable_video_never_reaches_a_head(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    films(tmp_path / "odd")
    whole = (tmp_path / "odd" / "a.mp4").read_bytes()
    (tmp_path / "odd" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "odd" / "empty.mp4").write_bytes(b"")
    (tmp_path / "odd" / "junk.mp4").write_bytes(b"junk" * 1000)
    write_sound(tmp_path / "odd" / "sound.mp4")
    write_film(tmp_path / "odd" / "black.mp4", [((0, 0, 0), seconds(0, 3))])
    seen: list[int] = []

    def noted(head: object, videos: list[Vectors]) -> Vectors:
        seen.extend(map(len, videos))
        assert all(np.isfinite(video).all() for video in videos)
        return pool(head, videos)  # type: ignore[arg-type]

    monkeypatch.setattr("clipsearch.heads.apply.pool", noted)
    spec = PoolingSpec("seqtransf", place / "seqtransf.pt")
    with Index.create(tmp_path / "index", model=f"fake:{DIM}", pooling=spec) as index:
        report = index.add([tmp_path / "odd"], options=OPTIONS)
        failed = sorted(failure.path.name for failure in report.failures)
        assert failed == ["cut.mp4", "empty.mp4", "junk.mp4"]  # sound.mp4 is heard
        assert len(seen) == 7  # 6 windows, and one of the black film, which keeps a frame
        assert min(seen) >= 1
        index.repool(spec)
        assert sorted(seen[:7]) == sorted(seen[7:])
        assert_pooled(index, place / "seqtransf.pt")


# --- damage, and what comes in between ----------------------------------------------------------


def damaged_rows_of_the_head(index: Index, place: Path) -> Path:
    """Cut a file of the segment that has pooled rows and nothing else."""
    index.repool(PoolingSpec("seqtransf", place / "seqtransf.pt"))
    [film] = [media for media in index.media() if media.relative == "c.mp4"]
    [part] = [p for p in index._store.catalog.ranges_of(film.id) if p.kind == "pooled"]
    [entry] = [e for e in index._store.catalog.segments() if e.id == part.segment_id]
    path = place / "index" / "segments" / entry.name / "vectors.npy"
    path.write_bytes(path.read_bytes()[:-100])
    return path


@pytest.mark.parametrize("mend", ["repair", "repool", "index"])
def test_damage_to_the_rows_of_a_head_costs_no_frames(place: Path, mend: str) -> None:
    with Index.open(place / "index") as index:
        damaged_rows_of_the_head(index, place)
    before = place / "seqtransf.pt"
    with Index.open(place / "index") as index:
        if mend == "repair":
            [loss] = index.repair().losses
            assert (loss.files, loss.vectors, loss.pooled) == (0, 0, True)
        elif mend == "repool":
            assert index.repool(PoolingSpec("seqtransf", before)).warnings == ()
        else:
            assert any(
                "clipsearch repool" in text for text in fill(index, place / "media").warnings
            )
        assert {media.state for media in index.media()} == {"ready"}
        assert index.status().failed == 0
        assert all(len(starts) for starts, _ in windows(index, "video").values())
        if mend != "repool":
            assert index.status().pooling == "mean"
            assert len(index.search("red", kind="video")) == 3
            shutil.rmtree(place / "media")
            index.repool(PoolingSpec("seqtransf", before))
        assert_pooled(index, before)
        assert index.verify() == []


def test_a_repool_tells_which_files_it_found_damaged(index: Index, place: Path) -> None:
    index.compact()
    [entry] = index._store.catalog.segments()
    (place / "index" / "segments" / entry.name / "vectors.npy").unlink()
    with Index.open(place / "index") as fresh:
        [warning] = fresh.repool(PoolingSpec("mean")).warnings
    assert warning.endswith("is missing: 4 files are read again by the next `clipsearch index`")


def test_a_file_that_loses_frames_and_pooled_rows_is_read_again(index: Index, place: Path) -> None:
    index.compact()
    [film] = [media for media in index.media() if media.relative == "c.mp4"]
    [entry] = index._store.catalog.segments()
    path = place / "index" / "segments" / entry.name / "vectors.npy"
    content = bytearray(path.read_bytes())
    for part in index._store.catalog.ranges_of(film.id):
        content[128 + part.first_row * 2 * DIM] ^= 1
    path.write_bytes(content)
    with Index.open(place / "index") as fresh:
        [loss] = fresh.repair().losses
        assert (loss.files, loss.pooled) == (1, False), "the others keep the rows of the head"
        fill(fresh, place / "media")
        assert_pooled(fresh, place / "seqtransf.pt")


def test_norms_outlive_the_loss_of_either_of_their_files(index: Index, place: Path) -> None:
    [film] = [media for media in index.media() if media.relative == "c.mp4"]
    norms = index._store.frames(film.id).norms
    assert norms is not None
    for name in ("lookup.npy", "segment.json", "rows.parquet"):
        for path in (place / "index" / "segments").glob(f"*/{name}"):
            path.unlink()
        with Index.open(place / "index") as fresh:
            assert all(loss.files == 0 for loss in fresh.repair().losses)
            np.testing.assert_array_equal(fresh._store.frames(film.id).norms, norms)
            assert_pooled(fresh, place / "seqtransf.pt")


def test_rows_that_are_no_directions_are_never_kept(
    index: Index, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = index.status()
    with monkeypatch.context() as patch:
        patch.setattr(
            "clipsearch.ingest.repool.pool",
            lambda _, runs: np.full((len(runs), DIM), np.nan, np.float32),
        )
        with pytest.raises(UsageError, match=r"was not changed: row 0 of 2 has norm nan"):
            index.repool(PoolingSpec("seqtransf", place / "other.pt"))
    assert index.status().pooling == before.pooling
    assert_pooled(index, place / "seqtransf.pt")


def test_an_index_never_exists_without_the_head_it_is_made_with(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever finds it, or what a killed process left of its creation, pools by the head."""
    seen: list[str] = []
    save = Manifest.save

    def saved(manifest: Manifest, folder: Path) -> None:
        save(manifest, folder)
        with Index.open(folder) as other:
            seen.append(other.status().pooling)

    monkeypatch.setattr(Manifest, "save", saved)
    spec = PoolingSpec("seqtransf", place / "seqtransf.pt")
    Index.create(place / "new", model=f"fake:{DIM}", pooling=spec).close()
    assert seen == [load_head(place / "seqtransf.pt").fingerprint]


def test_retrieval_is_measured_on_the_rows_of_one_head(
    index: Index, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    captions = place / "captions.csv"
    captions.write_text("video,caption\na.mp4,red\nb.mp4,green\nc.mp4,something blue\n")
    index.repool(PoolingSpec("seqtransf", place / "other.pt"))
    expected = index.captioned(captions).evaluate()
    index.repool(PoolingSpec("seqtransf", place / "seqtransf.pt"))
    seen: list[float] = []
    ask = Store.windows

    def with_a_repool_after_the_first(store: Store, *arguments: Any) -> VideoFrames:
        found = ask(store, *arguments)
        if not seen:
            seen.append(0.0)
            with Index.open(place / "index") as other:
                other.repool(PoolingSpec("seqtransf", place / "other.pt"))
        return found

    scores: list[NDArray[np.float32]] = []
    report = captioned.retrieval_report
    monkeypatch.setattr(
        captioned, "retrieval_report", lambda s, *a, **k: (scores.append(s), report(s, *a, **k))[1]
    )
    monkeypatch.setattr(Store, "windows", with_a_repool_after_the_first)
    assert index.captioned(captions).evaluate() == expected
    index.captioned(captions).evaluate()
    np.testing.assert_array_equal(scores[0], scores[1])


def test_a_frame_of_no_length_at_the_end_is_scored_with_its_window(place: Path) -> None:
    raw = np.random.default_rng(0).standard_normal((5, DIM)).astype(np.float32)
    times = [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0), (3.0, 4.0), (4.0, 4.0)]
    units = [Unit("frame", *time) for time in times]
    told: list[str] = []
    for seconds_a_window, runs in ((9.0, [slice(0, 5)]), (2.0, [slice(0, 2), slice(2, 5)])):
        batch = with_windows(*with_norms(raw), units, window_seconds=seconds_a_window)
        folder = place / f"windows {seconds_a_window:g}"
        with Index.create(folder, model=f"fake:{DIM}") as index:
            file = FoundFile(place / "media", "odd.mp4", "video", 1, 1)
            with index._store.writing() as writer:
                info = MediaInfo(8, 8, 4.0)
                writer.publish([EncodedMedia(file, "0" * 32, info, {"visual": batch})])
            index.repool(PoolingSpec("seqtransf", place / "seqtransf.pt"))
            kept, head = index._store.frames(1).raw(), load_head(place / "seqtransf.pt").head
            expected = pool(head, [kept[run] for run in runs]).astype(np.float16)
            np.testing.assert_array_equal(index._store.windows(1, "pooled").vectors, expected)
            [text] = ENCODER.encode_text(["red"], normalize=False)
            for frames, start in zip(runs, index._store.windows(1).starts, strict=True):
                hit = next(h for h in windows_as_hits(index) if h.start == start)
                [again] = rerank(index._store, [hit], text, head, on_notice=told.append)
                assert again.score == score_videos(head, text, [kept[frames]])[0]


def windows_as_hits(index: Index) -> list[Hit]:
    """Every window of the mean as a hit."""
    [query] = ENCODER.encode_text(["red"])
    found = index._store.search(query[None], k=100, kinds=("video",))[0]
    times = [(unit.unit.start_seconds, unit.unit.end_seconds) for unit in found]
    return [
        Hit(Path("odd.mp4"), "video", unit.score, start, end, id=unit.id)
        for unit, (start, end) in zip(found, times, strict=True)
    ]


def test_an_interruption_after_the_change_does_not_deny_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: Writer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Writer, "maintain", interrupt)
    weights = place / "other.pt"
    options = ("--pooling", "seqtransf", "--pooling-weights", weights, "--index", place / "index")
    ran = run("repool", *options)
    assert ran.code == 130
    assert f"interrupted: all videos are pooled by {load_head(weights).fingerprint}" in ran.err
    with Index.open(place / "index") as index:
        assert_pooled(index, weights)


def test_a_recorded_head_that_takes_fewer_frames_now_is_said_with_what_to_do(
    place: Path,
) -> None:
    spec = PoolingSpec("seqtransf", place / "other.pt", max_frames=12)
    with Index.open(place / "index") as index:
        index.repool(spec)
        shorter = new_head("seqtransf", DIM, depth=1, positions=5, seed=0)
        told = {"logit_scale": 1.0, "encoder": f"fake:{DIM}", "training": {}}
        save_head(place / "other.pt", shorter, encoder_fingerprint=ENCODER.fingerprint, **told)  # type: ignore[arg-type]
        with pytest.raises(EncoderError, match=r"pools with seqtransf@.*max_frames 12.*repool"):
            index.add([place / "media"])
