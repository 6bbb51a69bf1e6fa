"""Do trained heads see the direction of time, which the mean of the frames cannot?

    python -m benchmarks.heads [--held-out validation]

direction   Clips of heads_media.py, each forward and backward, indexed with the built-in encoder;
            heads trained on one split, asked of another which of the two captions is the clip's.
            The pair of a clip and its reverse has the same frames: chance is 50 %. `low` and
            `high`: 95 % (Wilson), each pair counted as one observation. `bar`: what the share
            right should at least be, for the mean the most it may differ from 50.
epoch       What an epoch over 10,000 videos of 12 stored frames takes, from fewer of them, in the
            settings of `clipsearch train-head`.

The settings below were chosen on the validation split. Each part in a process of its own.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.heads_media import FAMILIES, Clip, Split, make_clips
from benchmarks.measure import report, run
from benchmarks.peers import ENVIRONMENT
from clipsearch import Index
from clipsearch.heads import MeanHead
from clipsearch.heads.apply import score_videos
from clipsearch.heads.initial import new_head
from clipsearch.heads.training import TrainingSet, TrainSpec, train
from clipsearch.ingest.options import AddOptions
from clipsearch.media.sampling import SamplingSpec

Floats = NDArray[Any]

SCENES = {"rise": 160, "level": 160, "grow": 160, "appear": 160, "film": 80}
HELD_OUT = dict.fromkeys(FAMILIES, 40)
SAMPLING = SamplingSpec(fps=2, keep_all_frames=True)
TRAINING: dict[str, tuple[dict[str, int], TrainSpec]] = {
    "seqlstm": ({}, TrainSpec(60, 128, 6e-3, logit_scale=100)),
    "seqtransf": ({"depth": 1}, TrainSpec(25, 32, 5e-4, logit_scale=100)),
    "tight": ({"depth": 1}, TrainSpec(16, 16, 5e-4)),
}
BAR, MEAN_BAR = 90.0, 3.0
EPOCH_VIDEOS, EPOCH_FRAMES, EPOCH_DIM = 10_000, 12, 512
PRECISIONS: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")
TIMED = {"seqlstm": 2048, "seqtransf": 1024}  # tight: scores grow with the batch's square


def direction(held_out: Split) -> None:
    """Make, index, train, ask."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with _timed("making clips"):
            clips = make_clips(folder / "training", "training", SCENES)
            asked = make_clips(folder / "asked", held_out, HELD_OUT)
        with Index.create(folder / "index", model="builtin") as index:
            with _timed("indexing"):
                index.add([folder / "training", folder / "asked"], options=AddOptions(SAMPLING))
            data, videos = training_set(index, clips), [_frames(index, clip) for clip in asked]
            texts = {clip.caption: i for i, clip in enumerate(asked)}
            rows = index.encoder.encode_text(list(texts), normalize=False)
    captions = dict(zip(texts, rows, strict=True))
    _table("mean", MeanHead(data.frames.shape[2]), asked, videos, captions)
    for head, (shape, spec) in TRAINING.items():
        with _timed(f"training {head}"):
            trained = train(new_head(head, data.frames.shape[2], **shape), data, None, spec)
        _table(head, trained.head, asked, videos, captions)


def training_set(index: Index, clips: Sequence[Clip]) -> TrainingSet:
    """The stored frames of clips, and their captions."""
    videos = [_frames(index, clip) for clip in clips]
    texts = sorted({clip.caption for clip in clips})
    frames = np.zeros((len(videos), max(map(len, videos)), videos[0].shape[1]), np.float32)
    mask = np.zeros(frames.shape[:2], bool)
    for i, video in enumerate(videos):
        frames[i, : len(video)], mask[i, : len(video)] = video, True
    pairs = [(texts.index(clip.caption), i) for i, clip in enumerate(clips)]
    rows = index.encoder.encode_text(texts, normalize=False)
    return TrainingSet(frames, mask, rows, np.array(pairs, np.int64))


def _frames(index: Index, clip: Clip) -> Floats:
    return index.video(clip.path).frames.raw()


def _table(
    name: str,
    head: Any,
    clips: Sequence[Clip],
    videos: Sequence[Floats],
    captions: dict[str, Floats],
) -> None:
    """A line for each family and one for all."""
    with _timed(f"asking {name}"):
        scores = {text: score_videos(head, row, videos) for text, row in captions.items()}
    right = np.array(
        [scores[clip.caption][i] > scores[clip.opposite][i] for i, clip in enumerate(clips)]
    )
    family = np.array([clip.family for clip in clips])
    for which in (*FAMILIES, "all"):
        chosen = right if which == "all" else right[family == which]
        low, high = _wilson(chosen.mean(), len(chosen) // 2)
        report(
            name="direction of time",
            head=name,
            family=which,
            clips=len(chosen),
            right_percent=100 * float(chosen.mean()),
            low=100 * low,
            high=100 * high,
            **({"bar": MEAN_BAR if name == "mean" else BAR} if which == "all" else {}),
        )


def _wilson(share: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Bounds of a share of `count` independent observations."""
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    spread = math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    reach = z * spread / (1 + z * z / count)
    return float(centre - reach), float(centre + reach)


def epoch() -> None:
    """Training steps on random features; seconds scale with the number of steps."""
    generator = np.random.default_rng(0)
    for (name, count), precision in itertools.product(TIMED.items(), PRECISIONS):
        shape = (count, EPOCH_FRAMES, EPOCH_DIM)
        data = TrainingSet(
            generator.standard_normal(shape, dtype=np.float32),
            np.ones(shape[:2], bool),
            generator.standard_normal((count, EPOCH_DIM), dtype=np.float32),
            np.repeat(np.arange(count)[:, None], 2, axis=1),
        )
        start, cpu = time.monotonic(), time.process_time()
        train(new_head(name, EPOCH_DIM), data, None, TrainSpec(epochs=1, precision=precision))
        times = EPOCH_VIDEOS / count
        report(
            name="an epoch",
            head=name,
            precision=precision,
            videos=EPOCH_VIDEOS,
            frames=EPOCH_FRAMES,
            dim=EPOCH_DIM,
            measured_on=count,
            seconds=times * (time.monotonic() - start),
            cpu_seconds=times * (time.process_time() - cpu),
        )


@contextmanager
def _timed(step: str) -> Iterator[None]:
    start, cpu = time.monotonic(), time.process_time()
    yield
    seconds, used = time.monotonic() - start, time.process_time() - cpu
    report(name="time", step=step, seconds=seconds, cpu_seconds=used)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.heads")
    parser.add_argument("--held-out", choices=("validation", "test"), default="test")
    parser.add_argument("--part", choices=("direction", "epoch"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part == "direction":
        direction(arguments.held_out)
    elif arguments.part == "epoch":
        epoch()
    else:
        os.environ.update(ENVIRONMENT)  # read by libraries when they are loaded
        for part in ("direction", "epoch"):
            command = ("-m", "benchmarks.heads", "--held-out", arguments.held_out, "--part", part)
            print(run(sys.executable, *command).stdout, end="", flush=True)


if __name__ == "__main__":
    main()
