"""Trained heads in an index: what they make is kept beside the mean, tied to their weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from clipsearch.encoders import load_encoder, parse_spec
from clipsearch.engine import Index
from clipsearch.errors import EncoderError, UsageError
from clipsearch.heads import load_head, save_head
from clipsearch.heads.apply import pool, score_videos
from clipsearch.heads.choose import PoolingSpec
from clipsearch.heads.initial import new_head
from clipsearch.ingest import AddOptions, Progress
from clipsearch.media import SamplingSpec
from clipsearch.search.rerank import Rerank
from clipsearch.types import IngestReport, Vectors
from clipsearch.video import Video
from tests.e2e.support import BLUE, GREEN, RED, write_film, write_photo
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


def head_file(path: Path, name: str, *, seed: int = 0, **facts: object) -> Path:
    """Weights of a head that is drawn at random, as training would write them."""
    head = new_head(name, DIM, depth=1, positions=12, seed=seed)
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
    index.repool(PoolingSpec("seqtransf", away))
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
        assert failed == ["cut.mp4", "empty.mp4", "junk.mp4", "sound.mp4"]
        assert len(seen) == 7  # 6 windows, and one of the black film, which keeps a frame
        assert min(seen) >= 1
        index.repool(spec)
        assert sorted(seen[:7]) == sorted(seen[7:])
        assert_pooled(index, place / "seqtransf.pt")
