"""Videos of an index with captions: heads trained on them, and retrieval measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clipsearch.captioned import CaptionedVideos, HeadSpec, TrainListener, state_of
from clipsearch.engine import Index
from clipsearch.errors import UsageError
from clipsearch.eval import retrieval_report
from clipsearch.heads import load_clip4clip, load_head
from clipsearch.heads.choose import PoolingSpec
from clipsearch.heads.schedule import TrainSpec
from clipsearch.heads.training import EpochInfo, StepInfo
from clipsearch.ingest import AddOptions, Progress
from clipsearch.interfaces.heads import _epoch_line, _progress
from clipsearch.media import SamplingSpec
from tests.e2e.support import BLUE, RED, run, write_film, write_photo

MODEL = "fake:64"
OPTIONS = AddOptions(SamplingSpec(fps=2.0, keep_all_frames=True), window_seconds=10.0)
QUICK = TrainSpec(epochs=12, batch_size=8, learning_rate=3e-3)
SMALL = HeadSpec("seqtransf", layers=1, max_frames=4, validation=0.25)


def spread(start: int, count: int, step: int) -> list[int]:
    return list(range(start, start + count * step, step))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight films that turn from red to blue and eight that do the reverse, with captions."""
    folder = tmp_path_factory.mktemp("captioned")
    lines = ["video,caption"]
    for number in range(8):
        step = 110 + 3 * number  # so that no two films are alike
        first, second = spread(0, 10, step), spread(10 * step, 10, step)
        write_film(folder / "media" / f"fall{number}.mp4", [(RED, first), (BLUE, second)])
        write_film(folder / "media" / f"rise{number}.mp4", [(BLUE, first), (RED, second)])
        lines += [f"fall{number},it turns from red to blue", f"rise{number}.mp4,blue becomes red"]
    write_photo(folder / "media" / "fall.jpg", RED)
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")
    with Index.create(folder / "index", model=MODEL) as index:
        assert not index.add([folder / "media"], options=OPTIONS).failures
    return folder


@pytest.fixture
def index(place: Path) -> Iterator[Index]:
    with Index.open(place / "index") as opened:
        yield opened


@pytest.fixture
def videos(index: Index, place: Path) -> CaptionedVideos:
    return index.captioned(place / "captions.csv")


def test_captions_find_their_videos(videos: CaptionedVideos) -> None:
    assert len(videos.paths) == len(videos.media_ids) == 16
    assert videos.texts == ("it turns from red to blue", "blue becomes red")
    for text, video in videos.pairs.tolist():
        assert videos.paths[video].name.startswith(("fall", "rise")[text])
    assert videos.notice is None


def test_captions_of_other_videos_are_said(place: Path, tmp_path: Path) -> None:
    captions = tmp_path / "more.jsonl"
    rows = [{"video": f"{name}.mp4", "caption": "x"} for name in ("fall0", "a", "b", "c", "d")]
    captions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    told: list[str] = []
    with Index.open(place / "index", on_notice=told.append) as index:
        assert index.captioned(captions).missing == ("a.mp4", "b.mp4", "c.mp4", "d.mp4")
    [notice] = told
    assert notice.endswith("not in the index: 4 (a.mp4, b.mp4, c.mp4, …)")


def test_training_sees_the_raw_frames_evenly_and_the_raw_texts(
    index: Index, videos: CaptionedVideos
) -> None:
    data = videos.training_set(4)
    assert data.frames.shape == (16, 4, 64)
    for at, media_id in enumerate(videos.media_ids):
        raw = index._store.frames(media_id).raw()
        assert len(raw) > 4
        chosen = np.linspace(0, len(raw) - 1, 4, dtype=int)
        np.testing.assert_array_equal(data.frames[at][data.mask[at]], raw[chosen])
    expected = index.encoder.encode_text(videos.texts, normalize=False)
    np.testing.assert_array_equal(data.texts, expected)
    wide = videos.training_set(77)
    assert wide.frames.shape[1] == wide.mask.sum(axis=1).max() < 77


def test_a_head_learns_what_the_mean_cannot_tell(
    place: Path, tmp_path: Path, videos: CaptionedVideos
) -> None:
    with Index.create(tmp_path / "index", model=MODEL) as index:
        index.add([place / "media"], options=OPTIONS)
        before = index.captioned(place / "captions.csv").evaluate()
        assert before["pooling"] == "mean"
        out = tmp_path / "head.pt"
        trained = index.captioned(place / "captions.csv").train(SMALL, out, QUICK)
        assert trained.history[-1].train_loss < trained.history[0].train_loss
        assert not state_of(out).exists()
        index.repool(PoolingSpec("seqtransf", out))
        after = index.captioned(place / "captions.csv").evaluate()
        by_mean = index.captioned(place / "captions.csv").evaluate(pooling="mean")
    assert after["pooling"] == load_head(out).fingerprint
    assert after["video_to_text"]["r1"] >= 0.9
    assert after["text_to_video"]["r1"] >= before["text_to_video"]["r1"]
    assert by_mean == before
    assert before["video_to_text"]["r1"] <= 0.75


def test_what_is_written_says_how_it_came_about(
    videos: CaptionedVideos, index: Index, tmp_path: Path
) -> None:
    settings = TrainSpec(epochs=2, batch_size=4, seed=3)
    trained = videos.train(replace(SMALL, validation=0.5), tmp_path / "head.pt", settings)
    loaded = load_clip4clip(tmp_path / "head.pt", device="cpu")
    assert loaded.encoder is not None
    assert loaded.encoder.fingerprint == index.encoder.fingerprint
    assert loaded.logit_scale == pytest.approx(trained.logit_scale)
    assert loaded.head.max_frames == 4
    facts = load_head(tmp_path / "head.pt").training
    assert (facts["captions"], facts["videos"], facts["texts"]) == ("captions.csv", 16, 2)
    assert facts["settings"]["seed"] == 3
    assert facts["settings"]["validation"] == 0.5
    assert facts["best_epoch"] == trained.best_epoch
    assert facts["val_loss"] == trained.history[trained.best_epoch - 1].val_loss
    for name, tensor in trained.head.state_dict().items():
        np.testing.assert_array_equal(loaded.head.state_dict()[name], tensor)


@pytest.mark.parametrize("name", ["seqlstm", "seqtransf", "tight"])
def test_a_training_that_was_interrupted_ends_with_the_same_weights(
    videos: CaptionedVideos, tmp_path: Path, name: str
) -> None:
    spec = HeadSpec(name, layers=1, max_frames=4, validation=0.25)
    settings = TrainSpec(epochs=3, batch_size=4)
    whole = videos.train(spec, tmp_path / "whole.pt", settings)

    class Killed(BaseException):
        pass

    def kill(step: object) -> None:
        if (step.epoch, step.step) == (2, 2):  # type: ignore[attr-defined]
            raise Killed

    out = tmp_path / "resumed.pt"
    with pytest.raises(Killed):
        videos.train(spec, out, settings, listener=TrainListener(on_step=kill))
    assert state_of(out).exists()
    assert not out.exists()
    resumed = videos.train(spec, out, settings, resume=True)
    assert resumed.history == whole.history
    assert load_head(out).fingerprint == load_head(tmp_path / "whole.pt").fingerprint


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (HeadSpec("mean"), "has no weights"),
        (HeadSpec("max"), "use one of seqlstm, seqtransf, tight"),
        (HeadSpec("seqlstm", max_frames=78), "a seqlstm head takes 1 to 77"),
        (HeadSpec("tight", max_frames=77), "a tight head takes 1 to 76"),
        (HeadSpec("tight", max_frames=0), "0 frames a video"),
        (HeadSpec("seqlstm", validation=0.01), r"at least two each; .* none \(0\)"),
        (HeadSpec("seqlstm", validation=1.5), "between 0 and 1"),
        (HeadSpec("seqlstm", validation=float("nan")), "fraction nan"),
    ],
)
def test_trainings_that_cannot_be(
    videos: CaptionedVideos, tmp_path: Path, spec: HeadSpec, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        videos.train(spec, tmp_path / "head.pt")
    assert not list(tmp_path.iterdir())


def test_retrieval_is_that_of_searches(index: Index, videos: CaptionedVideos) -> None:
    report = videos.evaluate()
    scores = np.empty((2, 16))
    for text, words in enumerate(videos.texts):
        hits = {hit.path: hit.score for hit in index.search(words, kind="video", top=100)}
        scores[text] = [hits[path] for path in videos.paths]
    expected = retrieval_report(scores, videos.pairs)
    assert {name: report[name] for name in expected} == expected
    weighed = videos.evaluate(dual_softmax=True)
    assert weighed["dual_softmax"]
    assert weighed["text_to_video"]["queries"] == 2


# --- commands -----------------------------------------------------------------------------------


def test_the_commands_train_pool_score_and_measure(
    place: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    captions, media = place / "captions.csv", place / "media"
    run("index", media, "--model", MODEL, "--fps", "2", "--keep-all-frames").ok()
    small = ["--captions", captions, "--layers", "1", "--max-frames", "4", "--epochs", "2"]
    small += ["--validation", "0.25"]
    ran = run("train-head", "--pooling", "seqtransf", *small, "--out", "s.pt", "-b", "4").ok()
    assert [line.split(":")[0] for line in ran.err.splitlines()] == [
        "epoch 1/2",
        "epoch 2/2",
        f"seqtransf of epoch {load_head(Path('s.pt')).training['best_epoch']} of 2",
    ]
    assert ran.out == ""
    ran = run("repool", "--pooling", "seqtransf", "--pooling-weights", "s.pt").ok()
    fingerprint = load_head(Path("s.pt")).fingerprint
    assert f"16 windows of 16 videos pooled by {fingerprint}" in ran.err
    assert f"pooling: {fingerprint}\n" in run("status").ok().out
    report = json.loads(run("eval", "retrieval", "--captions", captions).ok().out)
    assert report["pooling"] == fingerprint
    assert report["text_to_video"]["candidates"] == 16
    by_mean = run("eval", "retrieval", "--captions", captions, "--pooling", "mean").ok()
    assert json.loads(by_mean.out)["pooling"] == "mean"
    run("train-head", "--pooling", "tight", *small, "--out", "t.pt").ok()
    tight = ["--rerank", "tight", "--pooling-weights", "t.pt"]
    again = json.loads(run("query", "red", *tight, "--json", "-t", "3").ok().out)
    assert [hit["kind"] for hit in again] == ["video"] * 3
    first = json.loads(run("query", "red", "--kind", "video", "--json").ok().out)
    mean = json.loads(
        run("query", "red", "--kind", "video", "--pooling", "mean", "--json").ok().out
    )
    assert [hit["score"] for hit in first] != [hit["score"] for hit in mean]
    run("index", media, "--pooling", "seqtransf", "--pooling-weights", "s.pt").ok()
    ran = run("index", media, "--pooling", "mean")
    assert ran.code == 2
    assert "change it with `clipsearch repool`" in ran.err


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        (["index", "MEDIA", "--pooling", "seqlstm"], 2, "clipsearch train-head --pooling seqlstm"),
        (["index", "MEDIA", "--pooling-weights", "a.pt"], 2, "name it with --pooling"),
        (["index", "MEDIA", "--pooling", "max"], 2, "use one of mean, seqlstm, seqtransf, tight"),
        (["repool", "--pooling", "seqlstm"], 2, "clipsearch train-head --pooling seqlstm"),
        (["repool", "--pooling", "tight", "--pooling-weights", "C"], 2, "--rerank tight"),
        (["repool", "--pooling", "seqlstm", "--pooling-weights", "C"], 3, "captions.csv"),
        (["query", "red", "--rerank", "tight"], 2, "clipsearch train-head --pooling tight"),
        (["query", "red", "--rerank", "mean"], 2, "use tight"),
        (["query", "red", "--pooling-weights", "C"], 2, "is for --rerank"),
        (
            ["query", "red", "--pooling", "seqlstm"],
            2,
            "no videos pooled by 'seqlstm', only by mean",
        ),
        (["eval", "retrieval", "--captions", "none.csv"], 2, "none.csv"),
        (["eval", "retrieval", "--captions", "C", "--split", "test"], 2, "split"),
        (["train-head", "--pooling", "mean", "--captions", "C", "--out", "a.pt"], 2, "no weights"),
        (["train-head", "--pooling", "tight", "--captions", "C", "--out", "C"], 2, "what is read"),
        (["train-head", "--pooling", "tight", "--captions", "C", "--out", "x/a"], 2, "no folder"),
    ],
)
def test_what_the_commands_refuse(
    place: Path, tmp_path: Path, monkeypatch, arguments: list[str], code: int, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIPSEARCH_INDEX", str(place / "index"))
    known = {"MEDIA": place / "media", "C": place / "captions.csv"}
    ran = run(*(known.get(argument, argument) for argument in arguments))
    assert ran.code == code
    [line] = ran.err.splitlines()
    assert line.startswith("error: ")
    assert reason in line
    assert ran.out == ""
    assert not list(tmp_path.iterdir())


def test_what_is_told_of_steps_and_epochs() -> None:
    step = StepInfo(epoch=2, epochs=3, step=1, steps=2, loss=0.5)
    assert _progress(step, 10) == Progress(3, 6, 15)  # videos, not steps times the batch size
    epoch = EpochInfo(2, 0.5, 0.25, {"text_to_video_r1": 0.5}, best=True)
    line = "epoch 2/3: loss 0.5000, validation 0.2500, text to video r1 0.500 (best)"
    assert _epoch_line(epoch, 3) == line
    alone = EpochInfo(2, 0.5, None, {}, best=True)  # the last one is taken: none was compared
    assert _epoch_line(alone, 3) == "epoch 2/3: loss 0.5000"


def test_a_training_is_begun_anew_only_if_that_is_said(
    place: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLIPSEARCH_INDEX", str(place / "index"))
    command = ["train-head", "--pooling", "seqlstm", "--captions", place / "captions.csv"]
    command += ["--out", "a.pt", "--epochs", "1", "--max-frames", "4", "--validation", "0.25"]
    Path("a.pt.state").write_text("of an interrupted training")
    assert "go on with --resume, or begin anew with --overwrite" in run(*command).err
    assert run(*command, "--resume").code != 0
    assert Path("a.pt.state").exists()
    run(*command, "--overwrite").ok()
    assert not Path("a.pt.state").exists()
    assert "a.pt exists" in run(*command).err
    run(*command, "--overwrite").ok()
