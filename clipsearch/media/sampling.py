"""Which frames of a video become units, and how units group into windows: pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from typing import Any, Literal, NamedTuple, TypeVar, get_args

from clipsearch.errors import UsageError
from clipsearch.types import Unit

SamplingMethod = Literal["fps", "keyframes", "uniform"]
SAMPLING_METHODS: tuple[SamplingMethod, ...] = get_args(SamplingMethod)

WINDOW_SECONDS = 30.0
# Unit times are floats of exact fractions: 30 one-second units must fit a window of 30 s.
TIME_SLACK_SECONDS = 1e-6

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SamplingSpec:
    """Which frames of a video become units.

    fps: the frames shown at 0, 1/fps, 2/fps, … seconds after the first one. No more of a file is
        decoded than they need: with key frames denser than that, little else.
    keyframes: only the frames that the encoder stored whole, at most `fps` a second. Cheap.
    uniform: `count` frames, evenly spaced from the first one; decoded as for fps.

    Black frames and frames like the last kept one are dropped unless `keep_all_frames`.
    Raises UsageError for values out of range.
    """

    method: SamplingMethod = "fps"
    fps: float = 1.0
    count: int | None = None
    keep_all_frames: bool = False

    def __post_init__(self) -> None:
        if self.method not in SAMPLING_METHODS:
            raise UsageError(f"sampling {self.method!r}: use fps, keyframes or uniform:N")
        if not (_is_number(self.fps) and 0 < self.fps < math.inf):
            raise UsageError(f"{self.fps!r} frames a second: use a number above 0")
        if self.method == "uniform" and (type(self.count) is not int or self.count < 1):
            raise UsageError(f"uniform sampling of {self.count!r} frames: use uniform:N, N from 1")
        if self.method != "uniform" and self.count is not None:
            raise UsageError(f"sampling by {self.method} takes no count of frames")
        if type(self.keep_all_frames) is not bool:
            raise UsageError(f"keep_all_frames {self.keep_all_frames!r}: use true or false")

    def __str__(self) -> str:
        dropping = ", keeping all frames" if self.keep_all_frames else ""
        if self.method == "uniform":
            return f"uniform:{self.count}{dropping}"
        return f"{self.method} at --fps {self.fps:g}{dropping}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a JSON manifest; `from_dict` takes them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SamplingSpec:
        """The spec that `to_dict` wrote. Raises UsageError for unknown names or bad values."""
        unknown = values.keys() - {field.name for field in fields(cls)}
        if unknown:
            raise UsageError(f"sampling has no setting {', '.join(sorted(unknown))}")
        return cls(**values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def parse_sampling(text: str, *, fps: float = 1.0, keep_all_frames: bool = False) -> SamplingSpec:
    """The spec for `fps`, `keyframes` or `uniform:N`. Raises UsageError for anything else.

    `auto` is `fps`: how it is decoded goes by a file's key frames, the frames are the same.
    """
    name, _, number = text.partition(":")
    text = "fps" if text == "auto" else text
    if name == "uniform" and number.isascii() and number.isdigit():
        return SamplingSpec("uniform", fps, int(number), keep_all_frames)
    for method in SAMPLING_METHODS:
        if method == text and method != "uniform":
            return SamplingSpec(method, fps, None, keep_all_frames)
    raise UsageError(
        f"sampling {text!r}: use auto, fps, keyframes or uniform:N, for example uniform:16"
    )


class Shown(NamedTuple):
    """A frame's presentation: from `time` until the next frame, or until `end` if it is last."""

    time: Fraction
    end: Fraction


def shown_at_steps(frames: Iterable[tuple[Shown, T]], step: Fraction) -> Iterator[tuple[Shown, T]]:
    """The frames on display at t_0, t_0 + step, t_0 + 2 step, …: each once, in order.

    The frame on display at t is the last one with time <= t; of frames with the same time the
    last one. t_0 is the time of the first frame, which is always among the chosen (or the one
    that shares its time). Frames that go back in time are ignored. Holds one frame.
    """
    held: tuple[Shown, T] | None = None
    start = target = Fraction(0)
    for shown, item in frames:
        if held is None:
            start = target = shown.time
        elif shown.time < held[0].time:
            continue
        elif shown.time > target:
            if held[0].time <= target:
                yield held
            # The first target at or after this frame: the held frame had all those before.
            target = start + step * math.ceil((shown.time - start) / step)
        held = shown, item
    if held is not None and (held[0].time <= target < held[0].end or held[0].time == target):
        yield held


def uniform_step(count: int, duration: Fraction) -> Fraction:
    """The step that shows `count` frames over `duration` seconds, the first at its start."""
    return duration / count if duration > 0 else Fraction(1)


class Window(NamedTuple):
    """Consecutive units [first, last_exclusive), on display in [start_seconds, end_seconds)."""

    first: int
    last_exclusive: int
    start_seconds: float
    end_seconds: float


def windows(units: Sequence[Unit], *, window_seconds: float = WINDOW_SECONDS) -> list[Window]:
    """Group the units of one video, in order, into windows of at most `window_seconds`.

    Consecutive from the start: a window takes units while the last one's end stays inside, so
    windows do not depend on what comes later and the last may be short. A unit that is longer
    than a window is a window by itself; none is empty. Raises UsageError for units without
    times and for a length that is not above 0.
    """
    if not window_seconds > 0:
        raise UsageError(f"windows of {window_seconds} seconds: use more than 0")
    groups: list[Window] = []
    for number, unit in enumerate(units):
        if unit.start_seconds is None or unit.end_seconds is None:
            raise UsageError(f"a unit of kind {unit.kind} has no times: windows are for frames")
        limit = groups[-1].start_seconds + window_seconds if groups else -math.inf
        if unit.end_seconds <= limit + TIME_SLACK_SECONDS:
            first, _, start, _ = groups[-1]
            groups[-1] = Window(first, number + 1, start, unit.end_seconds)
        else:
            groups.append(Window(number, number + 1, unit.start_seconds, unit.end_seconds))
    return groups
