"""Similarity over time as a picture: curves, the spans found, thumbnails of the video."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clipsearch.errors import UsageError
from clipsearch.interfaces.curves import PlotCurve, thumbnail_times
from clipsearch.interfaces.drawing import GRAY, INK, THUMBNAIL_COUNT, THUMBNAIL_HEIGHT, drawn
from clipsearch.interfaces.files import write_whole
from clipsearch.types import Pixels

__all__ = [
    "THUMBNAIL_COUNT",
    "THUMBNAIL_HEIGHT",
    "PlotCurve",
    "check_plot",
    "plot_curves",
    "thumbnail_times",
]

# What keeps a file from saying when it was made, so that equal plots are equal files.
FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"format": "png"},
    ".svg": {"format": "svg", "metadata": {"Date": None}},
    ".pdf": {"format": "pdf", "metadata": {"CreationDate": None}},
    ".jpg": {"format": "jpg"},
}
# The first that has a character draws it; those that are not installed are left out.
FONTS = (
    "DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP",
    "WenQuanYi Zen Hei", "Droid Sans Fallback", "PingFang SC", "Hiragino Sans",
    "Apple SD Gothic Neo", "Arial Unicode MS", "Noto Sans Arabic", "Noto Sans Devanagari",
    "Noto Sans Thai", "Noto Emoji", "Symbola",
)  # fmt: skip


def check_plot(target: Path) -> None:
    """Raise UsageError if no plot can be written to `target`, before the work for it is done.

    Its suffix says no known format, or matplotlib is not installed.
    """
    if target.suffix.lower() not in FORMATS:
        raise UsageError(f"--plot {str(target)!r}: use a name that ends in {', '.join(FORMATS)}")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise UsageError("--plot needs matplotlib: pip install 'clipsearch[plot]'") from error


def plot_curves(
    target: Path,
    video: str,
    curves: Sequence[PlotCurve],
    *,
    strip: Sequence[tuple[float, Pixels]],
) -> None:
    """Draw curves of one video to a .png, .svg, .pdf or .jpg file, replaced only when complete.

    `video` is the heading. At each shaded span stands its rank and mean similarity. More curves
    than `drawing.MOST_ROWS` become a heat map, a line a curve. strip: thumbnails with their
    times; those that find room are shown. Raises UsageError as `check_plot`, and OSError.
    """
    check_plot(target)
    if not curves:
        raise UsageError("nothing to plot: give one curve or more")
    with _our_style():
        content = drawn(video, curves, strip, options=FORMATS[target.suffix.lower()])
    write_whole(target, content)


@contextmanager
def _our_style() -> Iterator[None]:
    """The same plot whatever a matplotlibrc says; texts are never taken for formulas."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # characters that no font has become boxes
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.family": [font for font in FONTS if font in installed],
                "font.size": 9,
                "text.parse_math": False,
                "axes.edgecolor": GRAY,
                "axes.linewidth": 0.6,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "text.color": INK,
                "xtick.color": INK,
                "ytick.color": INK,
                "svg.fonttype": "none",
                "svg.hashsalt": "clipsearch",
                "pdf.fonttype": 42,
            }
        )
        yield
