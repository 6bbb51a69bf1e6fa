"""Features of places: what an encoder knows of each part of a picture, in the space of texts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.encoders.geometry import Geometry, resize
from clipsearch.encoders.patch_towers import places_of
from clipsearch.encoders.values import checked_pixels, unit_rows
from clipsearch.types import Pixels

if TYPE_CHECKING:
    import torch

Places = NDArray[np.float32]  # (rows, columns, dim) unit vectors
MAX_ASPECT = 8  # pictures longer than that are squeezed: their features would fill the memory


def fit(pixels: Pixels, short_side: int) -> Pixels:
    """The whole picture with a shorter side of `short_side` pixels, the longer at most 8 times it.

    Raises UsageError for no picture.
    """
    height, width = checked_pixels(pixels).shape[:2]
    ratio = min(height, width) / short_side
    rows, columns = (min(round(s / ratio), MAX_ASPECT * short_side) for s in (height, width))
    return np.array(resize(pixels, (rows, columns)))


def unit_places(places: NDArray[Any]) -> Places:
    """(rows, columns, dim) features scaled to unit length."""
    return unit_rows(places.reshape(-1, places.shape[2])).reshape(places.shape)


def enlarged(places: Places, shape: tuple[int, int]) -> Places:
    """(rows, columns, dim) features at a finer grid (rows, columns), interpolated linearly."""
    for axis, count in enumerate(shape):
        at = (np.arange(count) + 0.5) * places.shape[axis] / count - 0.5
        at = np.clip(at, 0, places.shape[axis] - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, places.shape[axis] - 1)
        share = (at - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        places = (1 - share) * places.take(low, axis) + share * places.take(high, axis)
    return places


@dataclass(frozen=True, slots=True)
class WindowPlaces:
    """Features of places from a tower that takes pictures of one size: of windows over a picture.

    places: (n, rows, columns, dim) of n pictures as the tower takes them. normalised: these, of
    (n, height, width, 3) uint8. batch: how many at once.
    """

    places: Callable[[torch.Tensor], torch.Tensor]
    normalised: Callable[[NDArray[np.uint8]], torch.Tensor]
    batch: int

    @staticmethod
    def of(
        visual: Any, normalised: Callable[[NDArray[np.uint8]], torch.Tensor], *, batch: int
    ) -> WindowPlaces | None:
        """For a tower of open_clip; None for one that cannot be asked for a place (`places_of`)."""
        places = places_of(visual)
        return None if places is None else WindowPlaces(places, normalised, batch)

    def of_windows(self, windows: list[Pixels]) -> NDArray[np.float32]:
        """(n, rows, columns, dim) features of pictures of the tower's input size."""
        import torch

        with torch.inference_mode():
            made = [
                self.places(self.normalised(np.stack(windows[start : start + self.batch])))
                .float()
                .cpu()
                .numpy()
                for start in range(0, len(windows), self.batch)
            ]
        return np.concatenate(made)

    def of_picture(self, pixels: Pixels, geometry: Geometry) -> Places:
        """(rows, columns, dim) unit vectors of a whole picture.

        Windows overlap by half at least, and their features are averaged. A tower that was made
        for squashed pictures gets one, as it gets others. Raises UsageError for no picture.
        """
        [whole] = self.of_windows([geometry.apply(pixels)])
        if geometry.mode == "squash":
            return unit_places(whole)
        windows = _Windows.over(pixels, geometry, (whole.shape[0], whole.shape[1]))
        return windows.averaged(self.of_windows(windows.cut()))


@dataclass(frozen=True, slots=True)
class _Windows:
    """Windows of `size` pixels and `grid` cells over a picture of `cells`, all (rows, columns)."""

    picture: Pixels  # resized to its cells
    size: tuple[int, int]
    grid: tuple[int, int]
    cells: tuple[int, int]

    @staticmethod
    def over(pixels: Pixels, geometry: Geometry, grid: tuple[int, int]) -> _Windows:
        """The shorter side of the picture fills one window."""
        sides, size = checked_pixels(pixels).shape[:2], geometry.crop
        ratio = min(side / window for side, window in zip(sides, size, strict=True))
        longest = [MAX_ASPECT * count for count in grid]
        wanted = [round(s / ratio * n / w) for s, n, w in zip(sides, grid, size, strict=True)]
        rows, columns = np.clip(wanted, grid, longest).tolist()
        height, width = (
            math.ceil(count * w / n)
            for count, w, n in zip((rows, columns), size, grid, strict=True)
        )
        return _Windows(resize(pixels, (height, width)), size, grid, (rows, columns))

    @property
    def corners(self) -> list[tuple[int, int]]:
        """The cells in which windows begin."""
        down, across = (_starts(n, g) for n, g in zip(self.cells, self.grid, strict=True))
        return [(row, column) for row in down for column in across]

    def cut(self) -> list[Pixels]:
        """The windows, (*size, 3) each, in the order of `corners`."""
        (height, width), (rows, columns) = self.size, self.grid
        found = []
        for row, column in self.corners:
            top = min(round(row * height / rows), self.picture.shape[0] - height)
            left = min(round(column * width / columns), self.picture.shape[1] - width)
            found.append(self.picture[top : top + height, left : left + width])
        return found

    def averaged(self, made: NDArray[np.float32]) -> Places:
        """(*cells, dim) unit vectors of the windows' features (n, *grid, dim)."""
        total = np.zeros((*self.cells, made.shape[3]), np.float32)
        for (row, column), features in zip(self.corners, made, strict=True):
            rows, columns = row + self.grid[0], column + self.grid[1]
            total[row:rows, column:columns] += unit_places(features)
        return unit_places(total)


def _starts(count: int, size: int) -> list[int]:
    """Where windows of `size` cells start that cover `count` cells, each two by half at least."""
    steps = math.ceil((count - size) / max(1, size // 2))
    return [round(k * (count - size) / steps) for k in range(steps + 1)] if steps else [0]
