import itertools
import random
from fractions import Fraction

import pytest

from clipsearch.errors import UsageError
from clipsearch.media.sampling import (
    SamplingSpec,
    Shown,
    Window,
    parse_sampling,
    shown_at_steps,
    uniform_step,
    windows,
)
from clipsearch.types import Unit


def chosen(times: list[Fraction], step: Fraction, end: Fraction) -> list[int]:
    frames = ((Shown(time, end), number) for number, time in enumerate(times))
    return [number for _, number in shown_at_steps(frames, step)]


def brute_force(times: list[Fraction], step: Fraction, end: Fraction) -> list[int]:
    """Look up each target time in the whole list."""
    found: list[int] = []
    target = times[0]
    while target < end or target <= times[-1]:
        number = max(i for i, time in enumerate(times) if time <= target)
        if number not in found:
            found.append(number)
        target += step
    return found


@pytest.mark.parametrize("seed", range(300))
def test_choice_is_the_brute_force_one(seed: int) -> None:
    dice = random.Random(seed)
    times, time = [], Fraction(dice.randrange(0, 3000), 1000)
    for _ in range(dice.randrange(1, 60)):
        times.append(time)
        time += Fraction(dice.choice([0, 0, 1, 33, 40, 250, 500, 1000, 4321]), 1000)
    step = Fraction(dice.choice([10, 40, 333, 500, 1000, 7000]), 1000)
    end = times[-1] + Fraction(dice.choice([1, 40, 2500]), 1000)
    assert chosen(times, step, end) == brute_force(times, step, end)


def test_frames_that_go_back_in_time_are_ignored() -> None:
    times = [Fraction(t) for t in (0, 1, 2, 1, 0, 3)]
    assert chosen(times, Fraction(1), Fraction(4)) == [0, 1, 2, 5]


def test_one_frame_is_held_at_most() -> None:
    asked = 0

    def frames():
        nonlocal asked
        for number in range(1000):
            asked += 1
            yield Shown(Fraction(number), Fraction(number + 1)), number

    stream = shown_at_steps(frames(), Fraction(1))
    next(stream)
    next(stream)
    assert asked == 3


@pytest.mark.parametrize(
    ("frames", "count"), [(1, 1), (7, 7), (7, 3), (7, 20), (250, 16), (99, 98)]
)
def test_uniform_gives_the_count_where_there_are_frames(frames: int, count: int) -> None:
    rate = Fraction(30000, 1001)
    times = [Fraction(i) / rate for i in range(frames)]
    end = frames / rate
    found = chosen(times, uniform_step(count, end), end)
    assert len(found) == min(frames, count)
    assert found[0] == 0


def test_no_frames_no_choice() -> None:
    assert chosen([], Fraction(1), Fraction(1)) == []


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("fps", SamplingSpec("fps", 2.0)),
        ("keyframes", SamplingSpec("keyframes", 2.0)),
        ("uniform:16", SamplingSpec("uniform", 2.0, 16)),
    ],
)
def test_parse_and_round_trip(text: str, spec: SamplingSpec) -> None:
    assert parse_sampling(text, fps=2.0) == spec
    assert SamplingSpec.from_dict(spec.to_dict()) == spec


@pytest.mark.parametrize(
    "text", ["", "fps:2", "uniform", "uniform:", "uniform:0", "uniform:-1", "uniform:²", "FPS"]
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_sampling(text)


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), "1", True, None])
def test_impossible_rates_are_refused(fps: object) -> None:
    with pytest.raises(UsageError):
        SamplingSpec(fps=fps)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        {"method": "scenes"},
        {"speed": 1},
        {"count": 3},
        {"method": "uniform"},
        {"method": "uniform", "count": True},
        {"keep_all_frames": 1},
    ],
)
def test_dicts_with_nonsense_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        SamplingSpec.from_dict(values)


def units(*edges: tuple[float, float]) -> list[Unit]:
    return [Unit("frame", start, end) for start, end in edges]


def test_a_short_video_is_one_window() -> None:
    frames = units(*((float(i), float(i + 1)) for i in range(30)))
    assert windows(frames) == [Window(0, 30, 0.0, 30.0)]
    assert windows([]) == []


def test_windows_are_consecutive_and_bounded() -> None:
    dice = random.Random(1)
    time, edges = 0.0, []
    for _ in range(500):
        time += dice.choice([0.0, 0.0, 5.0])
        edges.append((time, time + dice.choice([0.1, 1.0, 3.0, 12.0])))
        time = edges[-1][1]
    found = windows(units(*edges), window_seconds=10)
    assert [w.first for w in found] == [0, *(w.last_exclusive for w in found[:-1])]
    assert found[-1].last_exclusive == 500
    for window in found:
        assert window.last_exclusive > window.first
        assert (window.start_seconds, window.end_seconds) == (
            edges[window.first][0],
            edges[window.last_exclusive - 1][1],
        )
        one = window.last_exclusive - window.first == 1
        assert one or window.end_seconds - window.start_seconds <= 10 + 1e-6
    for window, following in itertools.pairwise(found):
        assert edges[following.first][1] - window.start_seconds > 10


def test_windows_of_images_or_no_length_are_refused() -> None:
    with pytest.raises(UsageError):
        windows([Unit("image")])
    with pytest.raises(UsageError):
        windows(units((0, 1)), window_seconds=0)
