"""Training of a head on stored frame features and captions, the encoder left as it is.

    head = new_head("seqtransf", 512)
    train_set, validation = split(TrainingSet(frames, mask, texts, pairs), 0.1, seed=0)
    trained = train(head, train_set, validation, TrainSpec(epochs=5), state_path=Path("state.pt"))

The scores of a batch's texts against its videos are learned by `contrastive_loss`; a batch's wrong
matches are its other pairs. On a CPU with the same number of threads the same arguments give the
same weights to the bit, whether interrupted and resumed or not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_

from clipsearch.encoders.devices import pick_device
from clipsearch.errors import UsageError
from clipsearch.heads.batches import Batch, Captions, TrainingSet, batch_bounds, split
from clipsearch.heads.modules import Head
from clipsearch.heads.resume import TrainState, identity_of, load_state
from clipsearch.heads.schedule import TrainSpec, make_optimizer, rate_at
from clipsearch.heads.trainee import Trainee
from clipsearch.heads.validation import Validation

__all__ = ["EpochInfo", "StepInfo", "TrainSpec", "Trained", "TrainingSet", "split", "train"]


@dataclass(frozen=True)
class StepInfo:
    """One step taken. Epochs and steps count from 1; `loss` is the batch's, before the step.

    A batch without a wrong match teaches nothing: it takes a number, but no step.
    """

    epoch: int
    epochs: int
    step: int
    steps: int  # of each epoch
    loss: float


@dataclass(frozen=True)
class EpochInfo:
    """One epoch done. Losses are means over videos; metrics are of the validation set, 0..1.

    `best` says whether these weights are the best so far: what the training would return now.
    """

    epoch: int
    train_loss: float
    val_loss: float | None
    metrics: Mapping[str, float]  # text_to_video_r1, video_to_text_r1; empty for tight
    best: bool


@dataclass(frozen=True)
class Trained:
    """The outcome of a training."""

    head: Head  # of the best epoch; eval mode, CPU, fp32
    logit_scale: float  # the factor of that epoch; 1 for tight
    best_epoch: int
    history: tuple[EpochInfo, ...]


OnStep = Callable[[StepInfo], None]
OnEpoch = Callable[[EpochInfo], None]


def train(
    head: Head,
    data: TrainingSet,
    validation: TrainingSet | None,
    spec: TrainSpec,
    *,
    state_path: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> Trained:
    """Fit a copy of `head`; the given one stays as it is.

    The best epoch is the one with the lowest validation loss, the first of equals; without a
    validation set it is the last. The result's `max_frames` is that of the longest video of
    `data`, as later positions are not learned; longer ones of `validation` are sampled. After each
    epoch the state goes to `state_path`; with `resume`, what is there is continued, and nothing
    there means from the start. Whatever the callbacks raise comes through, and leaves the state
    of the last whole epoch.

    Raises UsageError for a head or data that do not fit, a state of another training, and a loss
    that is not finite; EncoderError for a device that is not there.
    """
    _check(head, data, validation, state_path, resume)
    data = data.narrowed(data.longest)
    validation = None if validation is None else validation.narrowed(data.longest)
    run = _Run(head, (data, validation), spec, pick_device(device))
    identity = identity_of(head, (data, validation), spec, run.model.device)
    if resume and state_path is not None and state_path.exists():
        run.restore(load_state(state_path, identity))
    for epoch in range(run.state.epoch + 1, spec.epochs + 1):
        info = run.epoch(epoch, on_step)
        if state_path is not None:
            run.state.save(state_path, identity)
        if on_epoch is not None:
            on_epoch(info)
    return run.outcome()


class _Run:
    """A training under way."""

    def __init__(
        self,
        head: Head,
        sets: tuple[TrainingSet, TrainingSet | None],
        spec: TrainSpec,
        device: torch.device,
    ) -> None:
        self._data, held = sets
        self._spec = spec
        self._captions = Captions(self._data)
        self._validation = Validation(held, spec) if held is not None else None
        self.model = Trainee(head, spec, device)
        self.model.head.max_frames = self._data.longest
        self._optimizer = make_optimizer(self.model.head, self.model.log_scale, spec)
        self._steps = len(batch_bounds(len(self._data.frames), spec.batch_size))
        self.state = TrainState(0, {}, {}, {}, 0, [])

    def restore(self, state: TrainState) -> None:
        """Go on from `state`."""
        self.model.load_state_dict(state.model)
        self._optimizer.load_state_dict(dict(state.optimizer))
        self.state = state

    def epoch(self, epoch: int, on_step: OnStep | None) -> EpochInfo:
        """Train for an epoch and measure it; only then is `state` another."""
        losses, weights = [], []
        for step, batch in self._batches(epoch):
            loss = self._step(epoch, step, batch)
            losses.append(loss)
            weights.append(len(batch.videos))
            if on_step is not None:
                on_step(StepInfo(epoch, self._spec.epochs, step, self._steps, loss))
        if not losses:
            raise UsageError(
                f"epoch {epoch}: no batch of {self._spec.batch_size} videos had one that some text "
                "of the batch does not fit; use a larger batch_size"
            )
        val_loss: float | None = None
        metrics: dict[str, float] = {}
        if self._validation is not None:
            val_loss, metrics = self._validation.measure(self.model)
            self._need_finite(val_loss, epoch, "the validation after the last step")
        return self._finish(epoch, float(np.average(losses, weights=weights)), val_loss, metrics)

    def outcome(self) -> Trained:
        """The best weights so far, as a head to use."""
        self.model.load_state_dict(self.state.best)
        return Trained(
            self.model.head.cpu().eval().requires_grad_(False),
            self.model.logit_scale,
            self.state.best_epoch,
            tuple(EpochInfo(**entry) for entry in self.state.history),
        )

    def _batches(self, epoch: int) -> Iterator[tuple[int, Batch]]:
        spec = self._spec
        key = (spec.seed, epoch)
        batches = self._captions.batches(spec.batch_size, spec.captions_per_video, key)
        return ((at, batch) for at, batch in enumerate(batches, 1) if batch.has_negatives)

    def _step(self, epoch: int, step: int, batch: Batch) -> float:
        spec = self._spec
        taken = (epoch - 1) * self._steps + step - 1
        rate = spec.learning_rate * rate_at(taken, spec.epochs * self._steps, spec.warmup)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        self._optimizer.zero_grad(set_to_none=True)
        loss, _ = self.model.loss(self._data, batch)
        value = self._need_finite(loss.item(), epoch, f"step {step}")
        torch.autograd.backward(loss)
        norm = clip_grad_norm_(self.model.parameters(), spec.clip_norm)
        self._need_finite(norm.item(), epoch, f"the gradient of step {step}")
        self._optimizer.step()
        self.model.clamp()
        return value

    def _need_finite(self, value: float, epoch: int, place: str) -> float:
        if not math.isfinite(value):
            raise UsageError(
                f"epoch {epoch}, {place}: the loss is {value}; use a learning rate lower than "
                f"{self._spec.learning_rate}"
            )
        return value

    def _finish(
        self, epoch: int, train_loss: float, val_loss: float | None, metrics: dict[str, float]
    ) -> EpochInfo:
        before = [entry["val_loss"] for entry in self.state.history]
        best = val_loss is None or all(val_loss < other for other in before)
        info = EpochInfo(epoch, train_loss, val_loss, metrics, best)
        weights = {name: tensor.cpu().clone() for name, tensor in self.model.state_dict().items()}
        self.state = TrainState(
            epoch,
            weights,
            self._optimizer.state_dict(),
            weights if best else self.state.best,
            epoch if best else self.state.best_epoch,
            [*self.state.history, asdict(info)],
        )
        return info


def _check(
    head: Head,
    data: TrainingSet,
    validation: TrainingSet | None,
    state_path: Path | None,
    resume: bool,
) -> None:
    if head.max_frames is None:
        raise UsageError(
            f"head {head.name!r} has no weights: it needs no training, use it as it is"
        )
    most = head.max_frames
    for name, given in (("training", data), ("validation", validation)):
        if given is None:
            continue
        _, frames, dim = given.frames.shape
        if dim != head.dim:
            raise UsageError(f"{name} data of {dim} dimensions for a head of {head.dim}")
        if frames > most:
            raise UsageError(
                f"{name} data of up to {frames} frames a video, where {most} are allowed: take "
                f"{most} evenly spaced ones of each"
            )
    if resume and state_path is None:
        raise UsageError("resume needs the state_path of the training to go on with")
    if state_path is not None and not state_path.parent.is_dir():
        raise UsageError(f"training state {state_path}: the folder is not there, make it first")
    if state_path is not None and state_path.is_dir():
        raise UsageError(f"training state {state_path} is a folder: name a file")
