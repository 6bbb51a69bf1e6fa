"""The parts of a plot, by matplotlib without its global state: rows of curves, heat map, strip."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from clipsearch.interfaces.curves import (
    STRIP_GAP,
    Array,
    PlotCurve,
    aspect,
    envelope,
    fitted,
    levels,
    mark,
    placed,
    tick_times,
)
from clipsearch.types import Pixels, Span

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Strip = Sequence[tuple[float, Pixels]]

DPI = 120
THUMBNAIL_COUNT = 10  # across the strip: 16:9 pictures are then 1.2 x 0.7 inches
THUMBNAIL_HEIGHT = 144  # pixels: the highest strip
# Inches
WIDTH, LEFT, LEFT_OF_MAP, RIGHT, TOP, BOTTOM, GAP = 14.0, 0.75, 3.2, 0.3, 0.5, 0.15, 0.12
TICK_LABELS, TEXT_LINE = 0.27, 0.19
CURVE, CURVE_OF_MANY, MAP_LINE, MAP_MOST = 3.0, 1.1, 0.24, 9.0
STRIP_LEAST, STRIP_MOST = 0.45, THUMBNAIL_HEIGHT / DPI
SPAN_LABEL_WIDTH, SPAN_LABEL_HEIGHT, SPAN_LABEL_LEVELS = 0.62, 0.17, 3
# Columns of text
HEADING_COLUMNS, LABEL_COLUMNS, MAP_LABEL_COLUMNS = 100, 150, 40
MOST_ROWS = 8  # more curves become a heat map
MOST_MAP_LABELS = 40
DRAWN_STEPS = 1500  # about one a pixel

INK, GRAY, GRID = "#222222", "#8a8a8a", "#e4e4e4"
CURVE_COLOUR, SPAN_COLOUR, SPAN_INK = "#1f5f99", "#f28e2b", "#9a4d05"
MAP_COLOURS, PATH_COLOUR = "Blues", "#e8590c"


def drawn(
    video: str, curves: Sequence[PlotCurve], strip: Strip, *, options: dict[str, Any]
) -> bytes:
    """The file's bytes; `options` go to matplotlib's savefig."""
    begin = min(float(curve.times[0]) for curve in curves)
    end = max(begin + 0.1, max(float(curve.times[-1]) for curve in curves))
    draw = _draw_rows if len(curves) <= MOST_ROWS else _draw_map
    sheet = draw(video, curves, np.linspace(begin, end, DRAWN_STEPS + 1), strip)
    buffer = io.BytesIO()
    sheet.figure.savefig(buffer, **options)
    return buffer.getvalue()


@dataclass(slots=True)
class Sheet:
    """A figure filled from the top, in inches."""

    figure: Figure
    left: float
    height: float
    used: float = 0.0

    @classmethod
    def empty(cls, height: float, left: float) -> Sheet:
        """A white page of the usual width."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        return cls(figure, left, height)

    @property
    def width(self) -> float:
        """Of the axes."""
        return WIDTH - self.left - RIGHT

    def axes(self, height: float, *, skip: float = 0.0) -> Axes:
        """The next axes, `skip` below what is there."""
        self.used += skip + height
        bottom = 1 - self.used / self.height
        box = (self.left / WIDTH, bottom, self.width / WIDTH, height / self.height)
        return self.figure.add_axes(box)

    def text(self, text: str, height: float, **style: Any) -> None:
        """Lines of text over the next axes."""
        x, y = self.left / WIDTH, 1 - (self.used + 0.03) / self.height
        self.figure.text(x, y, text, va="top", ha="left", **style)
        self.used += height

    def heading(self, video: str) -> None:
        """What is plotted, in bold, from the page's left edge."""
        text = fitted(video, HEADING_COLUMNS)
        self.figure.text(
            0.2 / WIDTH, 1 - 0.17 / self.height, text, va="top", size=12, weight="bold"
        )
        self.used = TOP


def _draw_rows(video: str, curves: Sequence[PlotCurve], grid: Array, strip: Strip) -> Sheet:
    one = len(curves) == 1
    labels = [fitted(curve.label, LABEL_COLUMNS, 2 if one else 1) for curve in curves]
    if not one:
        labels = [f"{number}  {label}" for number, label in enumerate(labels)]
    texts = [TEXT_LINE * (label.count("\n") + 1) + 0.05 for label in labels]
    inches = CURVE if one else CURVE_OF_MANY
    high = strip_height(strip, WIDTH - LEFT - RIGHT)
    body = sum(texts) + (inches + GAP) * len(curves)
    sheet = Sheet.empty(TOP + body + TICK_LABELS + high + BOTTOM, LEFT)
    sheet.heading(video)
    places = [_label_levels(curve.spans, grid, sheet.width) for curve in curves]
    rows = max((level + 1 for row in places for level in row if level is not None), default=0)
    limits = _limits(curves, rows * SPAN_LABEL_HEIGHT / inches)
    for curve, label, text, row in zip(curves, labels, texts, places, strict=True):
        sheet.text(label, text, size=10)
        axes = sheet.axes(inches)
        axes.set_ylim(*limits)
        _time_axis(axes, grid, labelled=curve is curves[-1])
        _draw_spans(axes, curve.spans, row, inches)
        _draw_curve(axes, curve, grid)
        sheet.used += GAP
    _draw_strip(sheet, strip, high, grid)
    return sheet


def _limits(curves: Sequence[PlotCurve], headroom: float) -> tuple[float, float]:
    """The same range of similarity for all rows, `headroom` of it (a share) for labels."""
    values = np.concatenate([curve.similarity[np.isfinite(curve.similarity)] for curve in curves])
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    margin = max(0.07 * (high - low), 0.005)
    low, high = low - margin, high + margin
    return low, low + (high - low) / (1 - headroom)


def _label_levels(spans: Sequence[Span], grid: Array, width: float) -> list[int | None]:
    """On which line over the curve each span's label stands; the best spans have the choice."""
    label = SPAN_LABEL_WIDTH / width * float(grid[-1] - grid[0])
    centres = [_label_centre(span, grid, label) for span in spans]
    return levels(centres, [label] * len(spans), SPAN_LABEL_LEVELS)


def _label_centre(span: Span, grid: Array, label: float) -> float:
    low, high = float(grid[0]) + label / 2, float(grid[-1]) - label / 2
    return min(max((span.start + span.end) / 2, low), high)


def _draw_spans(
    axes: Axes, spans: Sequence[Span], row: Sequence[int | None], inches: float
) -> None:
    begin, end = axes.get_xlim()
    label = SPAN_LABEL_WIDTH / (axes.bbox.width / DPI) * (end - begin)
    grid = np.array([begin, end])
    for rank, (span, level) in enumerate(zip(spans, row, strict=True), 1):
        shade = 0.3 if rank == 1 else 0.16
        axes.axvspan(span.start, span.end, color=SPAN_COLOUR, alpha=shade, lw=0, zorder=1)
        for edge in (span.start, span.end):  # to be seen where the span is a hair wide
            axes.axvline(edge, color=SPAN_COLOUR, lw=0.7, zorder=1)
        axes.hlines(span.similarity, span.start, span.end, color=SPAN_COLOUR, lw=2.2, zorder=4)
        if level is not None:
            y = 1 - (level + 0.5) * SPAN_LABEL_HEIGHT / inches
            number = f"#{rank}  " if len(spans) > 1 else ""
            axes.text(
                _label_centre(span, grid, label),
                y,
                f"{number}{span.similarity:.3f}",
                transform=axes.get_xaxis_transform(),
                ha="center",
                va="center",
                size=8,
                weight="bold" if rank == 1 else "normal",
                color=SPAN_INK,
                zorder=5,
            )


def _draw_curve(axes: Axes, curve: PlotCurve, grid: Array) -> None:
    if len(curve.similarity) <= DRAWN_STEPS:
        values, edges = curve.similarity, curve.times
    else:
        reduced = envelope(curve, grid)
        axes.stairs(
            reduced.high,
            grid,
            baseline=reduced.low,
            fill=True,
            color=CURVE_COLOUR,
            alpha=0.3,
            lw=0,
            zorder=2,
        )
        values, edges = reduced.mean, grid
    axes.stairs(values, edges, baseline=None, color=CURVE_COLOUR, lw=1.1, zorder=3)


def _time_axis(axes: Axes, grid: Array, *, labelled: bool) -> None:
    begin, end = float(grid[0]), float(grid[-1])
    axes.set_xlim(begin, end)
    ticks = tick_times(begin, end)
    axes.set_xticks(ticks, [mark(tick) for tick in ticks] if labelled else [""] * len(ticks))
    axes.tick_params(length=3, width=0.6, color=GRAY, labelsize=8.5)
    axes.grid(True, color=GRID, lw=0.6, zorder=0)
    axes.set_axisbelow(True)


def strip_height(strip: Strip, width: float) -> float:
    """Inches; as high as lets all thumbnails stand beside each other, within bounds."""
    if not strip:
        return 0.0
    widest = max(aspect(pixels) for _, pixels in strip)
    fitting = width / (len(strip) * widest * (1 + STRIP_GAP))
    return min(max(fitting, STRIP_LEAST), STRIP_MOST)


def _draw_strip(sheet: Sheet, strip: Strip, height: float, grid: Array) -> None:
    if not strip:
        return
    begin, end = float(grid[0]), float(grid[-1])
    axes = sheet.axes(height, skip=TICK_LABELS - GAP)
    scale = height / sheet.width * (end - begin)
    for left, time, pixels in placed(strip, begin, end, height_seconds=scale):
        right = left + aspect(pixels) * scale
        axes.imshow(pixels, extent=(left, right, 0, 1), aspect="auto")
        axes.plot([time], [1], "v", color=INK, ms=4, mew=0, clip_on=False)
    axes.set_xlim(begin, end)
    axes.set_ylim(0, 1)
    axes.set_axis_off()


def _draw_map(video: str, curves: Sequence[PlotCurve], grid: Array, strip: Strip) -> Sheet:
    inches = min(MAP_MOST, MAP_LINE * len(curves))
    high = strip_height(strip, WIDTH - LEFT_OF_MAP - RIGHT)
    sheet = Sheet.empty(TOP + inches + TICK_LABELS + GAP + high + BOTTOM, LEFT_OF_MAP)
    sheet.heading(video)
    axes = sheet.axes(inches)
    values = np.stack([envelope(curve, grid).mean for curve in curves])
    extent = (float(grid[0]), float(grid[-1]), float(len(curves)), 0.0)
    style = (
        "nearest" if inches * DPI > 3 * len(curves) else "auto"
    )  # sharp rows where they are seen
    image = axes.imshow(values, extent=extent, aspect="auto", cmap=MAP_COLOURS, interpolation=style)
    _time_axis(axes, grid, labelled=True)
    axes.grid(False)
    every = -(-len(curves) // MOST_MAP_LABELS)
    rows = range(0, len(curves), every)
    texts = [f"{row}  {fitted(curves[row].label, MAP_LABEL_COLUMNS)}" for row in rows]
    axes.set_yticks([row + 0.5 for row in rows], texts, size=8)
    _draw_path(axes, curves)
    _colour_bar(sheet, image)
    sheet.used += GAP
    _draw_strip(sheet, strip, high, grid)
    return sheet


def _draw_path(axes: Axes, curves: Sequence[PlotCurve]) -> None:
    """Each line's spans."""
    x, y = [], []
    for row, curve in enumerate(curves):
        for span in curve.spans:
            x += [span.start, span.end, np.nan]
            y += [row + 0.5] * 3
    for colour, width in (("white", 3.4), (PATH_COLOUR, 1.8)):
        axes.plot(x, y, color=colour, lw=width, solid_joinstyle="round", zorder=3)


def _colour_bar(sheet: Sheet, image: Any) -> None:
    bottom = 1 - 0.24 / sheet.height
    box = (1 - (RIGHT + 2.2) / WIDTH, bottom, 2.2 / WIDTH, 0.1 / sheet.height)
    axes = sheet.figure.add_axes(box)
    bar = sheet.figure.colorbar(image, cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)
    axes.tick_params(labelsize=7.5, length=2, pad=1)
    axes.locator_params(nbins=4)
    sheet.figure.text(
        box[0] - 0.1 / WIDTH,
        bottom + 0.05 / sheet.height,
        "similarity",
        size=8,
        ha="right",
        va="center",
    )
