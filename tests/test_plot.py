import itertools
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipsearch.errors import UsageError
from clipsearch.interfaces.curves import (
    PlotCurve,
    envelope,
    fitted,
    levels,
    mark,
    placed,
    printable,
    thumbnail_times,
    tick_times,
)
from clipsearch.interfaces.drawing import MOST_ROWS, strip_height
from clipsearch.interfaces.plot import check_plot, plot_curves
from clipsearch.types import Pixels, Span

RED = np.zeros((36, 64, 3), np.uint8)
RED[:] = (255, 0, 0)


def span(start: float, end: float, similarity: float = 0.3) -> Span:
    return Span(start, end, 1.0, similarity, 0.1, (0, 1))


def curve(
    label: str = "a bicycle", *, frames: int = 40, seconds: float = 10, spans: Sequence[Span] = ()
) -> PlotCurve:
    noise = np.random.default_rng(frames).normal(0.2, 0.02, frames)
    return PlotCurve(label, np.linspace(0, seconds, frames + 1), noise, spans)


def strip(seconds: float = 10, count: int = 10) -> list[tuple[float, Pixels]]:
    return [(time, RED) for time in thumbnail_times(seconds, count)]


def svg_texts(path: Path) -> list[str]:
    return [node.text or "" for node in ElementTree.parse(path).iter() if node.tag.endswith("text")]


# --- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [1, 7, 100, 5000])
def test_envelope_is_the_naive_loop(frames: int) -> None:
    random = np.random.default_rng(frames)
    times = np.concatenate([[2.0], 2.0 + np.cumsum(random.exponential(1.0, frames))])
    values = random.normal(size=frames)
    values[random.random(frames) < 0.2] = np.nan
    edges = np.linspace(0.0, times[-1] + 3.0, 78)
    found = envelope(PlotCurve("", times, values), edges)
    for step, (begin, end) in enumerate(itertools.pairwise(edges)):
        weights = np.minimum(times[1:], end) - np.maximum(times[:-1], begin)
        there = (weights > 0) & ~np.isnan(values)
        if not there.any():
            assert np.isnan([found.low[step], found.high[step], found.mean[step]]).all()
            continue
        inside = values[there]
        assert (found.low[step], found.high[step]) == (inside.min(), inside.max())
        assert found.mean[step] == pytest.approx(np.average(inside, weights=weights[there]))


def test_thumbnail_times_are_middles() -> None:
    assert thumbnail_times(10, 4) == [1.25, 3.75, 6.25, 8.75]
    assert thumbnail_times(0, 4) == []
    with pytest.raises(UsageError):
        thumbnail_times(10, 0)


@pytest.mark.parametrize("count", [1, 2, 10, 300])
@pytest.mark.parametrize("shape", [(36, 64), (64, 36)])
def test_thumbnails_do_not_overlap(count: int, shape: tuple[int, int]) -> None:
    pixels = np.zeros((*shape, 3), np.uint8)
    pictures = [(time, pixels) for time in thumbnail_times(100, count)]
    inches = strip_height(pictures, 13)
    height = inches / 13 * 100
    width = height * shape[1] / shape[0]
    found = placed(pictures, 0, 100, height_seconds=height)
    assert len(found) == min(count, int(100 / (width * 1.06) + 1e-6))
    lefts = [left for left, _, _ in found]
    assert lefts[0] >= 0
    assert lefts[-1] + width <= 100 + 1e-6
    assert all(b - a >= width for a, b in itertools.pairwise(lefts))
    assert all(left <= time <= left + width for left, time, _ in found)


def test_thumbnails_at_uneven_times_stay_at_their_times() -> None:
    pictures = [(time, RED) for time in (0.0, 1.0, 1.1, 50.0, 99.0, 300.0)]
    found = placed(pictures, 0, 100, height_seconds=9)  # each 16 wide
    assert [(left, time) for left, time, _ in found] == [(0, 1.1), (42, 50.0), (84, 99.0)]
    assert placed([], 0, 100, height_seconds=9) == []


def test_labels_get_levels_best_first() -> None:
    assert levels([5, 5, 5, 9, 20], [4, 4, 4, 4, 4], 2) == [0, 1, None, 0, 0]


@pytest.mark.parametrize("end", [0.1, 0.7, 5.3, 10, 61, 600, 3599, 10_800, 1e6])
def test_round_ticks(end: float) -> None:
    ticks = tick_times(0, end)
    assert 1 < len(ticks) <= 13
    assert ticks[0] == 0
    assert ticks[-1] <= end
    labels = [mark(tick) for tick in ticks]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00"),
        (82, "1:22"),
        (82.5, "1:22.5"),
        (3682, "1:01:22"),
        (59.96, "1:00"),
        (-2, "-0:02"),
    ],
)
def test_marks(seconds: float, text: str) -> None:
    assert mark(seconds) == text


@pytest.mark.parametrize(
    ("text", "columns", "lines", "expected"),
    [
        ("a bicycle", 20, 1, "a bicycle"),
        ("a\tb\n\n c\x00\ud800", 20, 1, "a b c\ufffd\ufffd"),
        ("one two three", 9, 1, "one two…"),
        ("one two three", 9, 2, "one two\nthree"),
        ("one two three four five six", 9, 2, "one two\nthree fo…"),
        ("在车站告别", 10, 1, "在车站告别"),
        ("在车站告别", 9, 1, "在车站告…"),
        ("abcdefghijkl", 5, 2, "abcde\nfghi…"),
        ("", 5, 2, ""),
    ],
)
def test_fitted(text: str, columns: int, lines: int, expected: str) -> None:
    assert fitted(text, columns, lines) == expected


def test_printable_keeps_every_script() -> None:
    assert printable("नमस्ते 👩‍🚀 שלום $x$") == "नमस्ते 👩‍🚀 שלום $x$"


@pytest.mark.parametrize(
    ("times", "similarity"),
    [
        ([0.0, 1.0], []),
        ([0.0, 1.0], [0.1, 0.2]),
        ([0.0, 2.0, 1.0], [0.1, 0.2]),
        ([0.0, float("nan")], [0.1]),
        ([0.0, 1.0], [[0.1]]),
    ],
)
def test_curves_that_do_not_fit(times: list[float], similarity: list[float]) -> None:
    with pytest.raises(UsageError):
        PlotCurve("", np.array(times), np.array(similarity))


# --- pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "start"),
    [("c.png", b"\x89PNG"), ("c.SVG", b"<?xml"), ("c.pdf", b"%PDF"), ("c.jpg", b"\xff\xd8")],
)
def test_formats_equal_every_time(tmp_path: Path, name: str, start: bytes) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        target = tmp_path / folder / name
        target.write_text("what was there before")
        plot_curves(target, "v.mp4", [curve(spans=[span(2, 4)])], strip=strip())
        assert target.read_bytes().startswith(start)
        assert [path.name for path in target.parent.iterdir()] == [name]
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_any_text_is_written_as_it_is(tmp_path: Path) -> None:
    target = tmp_path / "c.svg"
    label = "$\\frac{1}$ costs $5 <b>&amp; 在车站 \ufdd0 👩‍🚀 \x1b[0m"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plot_curves(target, "my $video$_{x}^2.mp4", [curve(label)], strip=[])
    assert not caught
    texts = svg_texts(target)
    assert "my $video$_{x}^2.mp4" in texts
    assert "$\\frac{1}$ costs $5 <b>&amp; 在车站 \ufffd 👩‍🚀 \ufffd[0m" in texts


def test_ranks_and_similarities_stand_at_the_spans(tmp_path: Path) -> None:
    target = tmp_path / "c.svg"
    spans = [span(6, 8, 0.41), span(1, 2, 0.32)]
    plot_curves(target, "v.mp4", [curve(spans=spans)], strip=[])
    texts = svg_texts(target)
    assert "#1  0.410" in texts
    assert "#2  0.320" in texts
    assert {"0:00", "0:05", "0:10"} <= set(texts)


def test_spans_and_thumbnails_are_where_they_belong(tmp_path: Path) -> None:
    target = tmp_path / "c.png"
    plot_curves(target, "v.mp4", [curve(spans=[span(5, 7.5)])], strip=[(2.0, RED)])
    with Image.open(target) as opened:
        picture = np.asarray(opened.convert("RGB")).astype(int)
    left, width = 0.75 * 120, (14 - 0.75 - 0.3) * 120
    seconds = (np.arange(picture.shape[1]) + 0.5 - left) / width * 10
    red = ((picture[:, :, 0] > 240) & (picture[:, :, 1:].max(axis=2) < 15)).any(axis=0)
    assert seconds[red].mean() == pytest.approx(2.0, abs=0.02)
    row = picture[150]  # in the curve's axes
    shaded = (row[:, 0] - row[:, 2] > 20) & (row[:, 0] > 200)
    assert seconds[shaded].min() == pytest.approx(5.0, abs=0.02)
    assert seconds[shaded].max() == pytest.approx(7.5, abs=0.02)


def test_rows_then_a_map(tmp_path: Path) -> None:
    target = tmp_path / "c.svg"
    curves = [curve(f"line {i}", spans=[span(i, i + 1)] if i != 2 else []) for i in range(9)]
    plot_curves(target, "v.mp4", curves[:MOST_ROWS], strip=[])
    texts = svg_texts(target)
    assert [f"{i}  line {i}" in texts for i in range(9)] == [True] * 8 + [False]
    assert "similarity" not in texts
    plot_curves(target, "v.mp4", curves, strip=strip())
    assert {f"{i}  line {i}" for i in range(9)} | {"similarity"} <= set(svg_texts(target))


def test_a_long_film_gives_a_small_file(tmp_path: Path) -> None:
    target = tmp_path / "c.svg"
    plot_curves(target, "v.mp4", [curve(frames=100_000, seconds=10_800)], strip=[])
    assert target.stat().st_size < 300_000
    assert {"0:00", "45:00", "3:00:00"} <= set(svg_texts(target))


@pytest.mark.parametrize("count", [1, 12])
def test_curves_with_nothing_to_see(tmp_path: Path, count: int) -> None:
    nothing = PlotCurve("", np.array([0.0, 0.0]), np.array([np.nan]))
    plot_curves(tmp_path / "c.png", "", [nothing] * count, strip=[])
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.width == 14 * 120


def test_the_users_settings_neither_matter_nor_change(tmp_path: Path) -> None:
    import matplotlib

    with matplotlib.rc_context({"text.usetex": True, "savefig.dpi": 30, "font.size": 30}):
        plot_curves(tmp_path / "one.png", "v.mp4", [curve()], strip=[])
        assert matplotlib.rcParams["text.usetex"]
    plot_curves(tmp_path / "two.png", "v.mp4", [curve()], strip=[])
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["c.gif", "c", "png", ".png"])
def test_other_suffixes(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.png, \.svg, \.pdf, \.jpg"):
        check_plot(tmp_path / name)


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        UsageError, match=r"^--plot needs matplotlib: pip install 'clipsearch\[plot"
    ):
        plot_curves(tmp_path / "c.png", "v.mp4", [curve()], strip=[])


def test_no_curve(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to plot"):
        plot_curves(tmp_path / "c.png", "v.mp4", [], strip=[])


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        plot_curves(tmp_path / "none" / "c.png", "v.mp4", [curve()], strip=[])
    (tmp_path / "c.png").mkdir()
    with pytest.raises(OSError):
        plot_curves(tmp_path / "c.png", "v.mp4", [curve()], strip=[])
    assert [path.name for path in tmp_path.iterdir()] == ["c.png"]


def test_importing_loads_neither_matplotlib_nor_pyplot() -> None:
    code = (
        "import sys, clipsearch.interfaces.plot as plot\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from pathlib import Path\n"
        "plot.check_plot(Path('c.png'))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
