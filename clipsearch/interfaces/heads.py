"""The commands around pooling heads: repool, train-head, and eval retrieval."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clipsearch.errors import UsageError
from clipsearch.interfaces.console import escaped, say, write
from clipsearch.interfaces.files import check_target
from clipsearch.interfaces.options import (
    EXIT_INTERRUPTED,
    DeviceOption,
    IndexOption,
    MaxFramesOption,
    NoWaitOption,
    PoolingWeightsOption,
    pooling_spec,
)
from clipsearch.interfaces.places import index_folder
from clipsearch.interfaces.render import as_json_object

if TYPE_CHECKING:
    from clipsearch.heads.training import EpochInfo, StepInfo, Trained
    from clipsearch.ingest import Progress

CaptionsOption = Annotated[
    Path,
    typer.Option(
        help="Captions of indexed videos: CSV or TSV with the columns video and caption, JSON "
        "lines, or JSON as MSR-VTT has it. Videos by path, file name or name without suffix."
    ),
]
SplitOption = Annotated[
    str | None, typer.Option(help="Only captions of this split, such as train or test.")
]


def repool(
    pooling: Annotated[
        str,
        typer.Option(help="mean, seqlstm or seqtransf; mean does without a head again."),
    ],
    pooling_weights: PoolingWeightsOption = None,
    max_frames: MaxFramesOption = None,
    index: IndexOption = None,
    no_wait: NoWaitOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Pool the videos of the index by another head, from the frames that it has."""
    from clipsearch.engine import Index
    from clipsearch.interfaces.progress import progress_bar

    spec = pooling_spec(pooling, pooling_weights, max_frames)
    assert spec is not None, "the pooling is given"
    with (
        Index.open(index_folder(index, os.environ, Path.cwd()), device=device) as opened,
        progress_bar("pooling", ("videos", "windows")) as bar,
    ):
        try:
            report = opened.repool(spec, wait=not no_wait, on_progress=bar.update)
        except KeyboardInterrupt:
            has = opened.status().pooling  # before or after the one transaction
            bar.say(f"interrupted: all videos are pooled by {has}, none in part")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        path, name = opened.path, opened.status().pooling
    for warning in report.warnings:
        say(f"warning: {warning}")
    say(f"{report.windows} windows of {report.videos} videos pooled by {name}: {path}")


def train_head(
    pooling: Annotated[str, typer.Option(help="The head to train: seqlstm, seqtransf or tight.")],
    captions: CaptionsOption,
    out: Annotated[Path, typer.Option(help="File to write the trained head to.")],
    index: IndexOption = None,
    split: SplitOption = None,
    epochs: Annotated[int, typer.Option(min=1, help="Times to go through all videos.")] = 10,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "-b",
            "--batch-size",
            min=2,
            help="Videos to tell apart at once. [default: 128, and 16 for tight]",
        ),
    ] = None,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", help="Highest, after the warm-up.")
    ] = 1e-4,
    layers: Annotated[
        int, typer.Option(min=1, help="Transformer blocks, of seqtransf and tight.")
    ] = 4,
    max_frames: Annotated[
        int, typer.Option(min=1, help="Frames of a video at most, evenly over its time.")
    ] = 12,
    validation: Annotated[
        float, typer.Option(help="Share of the videos that choose the best epoch; 0: the last.")
    ] = 0.1,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    seed: Annotated[int, typer.Option(min=0, help="Of everything random.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training that was interrupted.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUT and begin anew, if it is there.")
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Train a pooling head on indexed videos with captions; nothing is decoded or encoded anew."""
    from clipsearch.captioned import HeadSpec, TrainListener, state_of
    from clipsearch.engine import Index
    from clipsearch.heads.schedule import TrainSpec
    from clipsearch.interfaces.progress import progress_bar

    _check_out(out, state_of(out), captions, resume=resume, overwrite=overwrite)
    wanted = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "seed": seed,
        "precision": precision,
        **({} if batch_size is None else {"batch_size": batch_size}),
    }
    TrainSpec(**wanted)  # type: ignore[arg-type]  # refuses what cannot be before any work
    spec = HeadSpec(pooling, layers=layers, max_frames=max_frames, validation=validation)
    folder = index_folder(index, os.environ, Path.cwd())
    with (
        Index.open(folder, device=device, on_notice=_say) as opened,
        progress_bar("training", ("steps", "videos")) as bar,
    ):
        done: list[EpochInfo] = []

        def on_epoch(epoch: EpochInfo) -> None:
            done.append(epoch)
            bar.say(_epoch_line(epoch, epochs))

        try:
            found = opened.captioned(captions, split=split)
            settings = replace(found.default_settings(pooling), **wanted)  # type: ignore[arg-type]
            learned = round(len(found.paths) * (1 - validation))
            listener = TrainListener(
                on_videos=bar.stage("reading", ("videos", "frames")),
                on_texts=bar.stage("encoding", ("texts", "texts")),
                on_step=lambda step: bar.update(_progress(step, learned)),
                on_epoch=on_epoch,
            )
            trained = found.train(
                spec, out, settings, resume=resume, device=device, listener=listener
            )
        except KeyboardInterrupt:
            kept = done or (resume and state_of(out).exists())
            what = "whole epochs are kept, --resume goes on from there"
            bar.say(f"interrupted: {what if kept else 'no epoch was finished'}")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    say(_summary(trained, out))


def retrieval(
    captions: CaptionsOption,
    index: IndexOption = None,
    split: SplitOption = None,
    pooling: Annotated[
        str | None,
        typer.Option(help="mean, or the index's head. [default: the head if there is one]"),
    ] = None,
    dual_softmax: Annotated[
        bool,
        typer.Option(
            "--dual-softmax", help="Weigh scores by the softmax over all texts, as papers do."
        ),
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Measure how well captions find their videos, and videos their captions; print JSON."""
    from clipsearch.engine import Index
    from clipsearch.interfaces.progress import progress_bar

    folder = index_folder(index, os.environ, Path.cwd())
    with (
        Index.open(folder, device=device, on_notice=_say) as opened,
        progress_bar("encoding", ("texts", "texts")) as bar,
    ):
        found = opened.captioned(captions, split=split)
        report = found.evaluate(pooling=pooling, dual_softmax=dual_softmax, on_progress=bar.update)
    write(as_json_object(report))


COMMANDS: tuple[Callable[..., None], ...] = (repool, train_head)
EVAL_COMMANDS: tuple[Callable[..., None], ...] = (retrieval,)


def _say(notice: str) -> None:
    """A notice may hold names from a file."""
    say(escaped(notice))


def _check_out(out: Path, state: Path, captions: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse what must not be written before any work."""
    check_target(out, inputs=[captions], overwrite=overwrite)
    if state.exists() and not resume and not overwrite:
        raise UsageError(
            f"{state} is of a training that was interrupted: go on with --resume, or begin anew "
            "with --overwrite"
        )


def _progress(step: StepInfo, videos: int) -> Progress:
    """Steps, and how many videos were seen; `videos` are learned from in each epoch."""
    from clipsearch.ingest import Progress

    done = (step.epoch - 1) * step.steps + step.step
    return Progress(done, step.epochs * step.steps, done * videos // step.steps)


def _epoch_line(epoch: EpochInfo, epochs: int) -> str:
    parts = [f"epoch {epoch.epoch}/{epochs}: loss {epoch.train_loss:.4f}"]
    if epoch.val_loss is not None:
        parts.append(f"validation {epoch.val_loss:.4f}")
    parts += [f"{name.replace('_', ' ')} {value:.3f}" for name, value in epoch.metrics.items()]
    compared = epoch.val_loss is not None
    return ", ".join(parts) + (" (best)" if compared and epoch.best else "")


def _summary(trained: Trained, out: Path) -> str:
    return (
        f"{trained.head.name} of epoch {trained.best_epoch} of {len(trained.history)}: "
        f"{escaped(str(out))}"
    )
