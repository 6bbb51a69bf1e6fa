"""Which of many vectors are nearly the same: connected components, found in blocks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from clipsearch.types import Vectors

ROWS_AT_ONCE = 1024
COLUMNS_AT_ONCE = 8192  # 32 MB of cosines
SLACK = 1e-6  # rounding of a cosine

Numbers = NDArray[np.int64]
Read = Callable[[int, int], Vectors]  # first row, end: (end - first, dim) unit rows
Done = Callable[[int, int], None]  # rows done, rows there are


class Joined:
    """Disjoint sets of the numbers 0 to n - 1; `labels[i]` is the least number of i's set."""

    def __init__(self, count: int) -> None:
        self.labels: Numbers = np.arange(count)

    def join(self, first: Numbers, second: Numbers) -> None:
        """Unite the sets of first[i] and second[i], for every i."""
        while True:
            one, other = self.labels[first], self.labels[second]
            apart = np.flatnonzero(one != other)
            if not len(apart):
                return
            first, second, one, other = first[apart], second[apart], one[apart], other[apart]
            np.minimum.at(self.labels, np.maximum(one, other), np.minimum(one, other))
            while (self.labels[self.labels] != self.labels).any():
                self.labels = self.labels[self.labels]


def join_all(
    joined: Joined, owners: Numbers, read: Read, threshold: float, on_progress: Done
) -> None:
    """Unite the owners, (n,) numbers in `joined`, of each two of n rows whose cosine reaches
    `threshold`: all are compared with all, n² / 2 cosines in blocks of the same memory.
    """
    count = len(owners)
    for top in range(0, count, ROWS_AT_ONCE):
        rows = read(top, min(top + ROWS_AT_ONCE, count))
        for left in range(top, count, COLUMNS_AT_ONCE):
            columns = read(left, min(left + COLUMNS_AT_ONCE, count))
            found = np.flatnonzero(rows @ columns.T >= threshold - SLACK)
            first, second = np.divmod(found, len(columns))
            joined.join(owners[first + top], owners[second + left])
        on_progress(top + len(rows), count)


def groups_of(joined: Joined) -> list[Numbers]:
    """The sets of two and more, each ascending, in the order of their least numbers."""
    order = np.argsort(joined.labels, kind="stable")
    ends = np.flatnonzero(np.diff(joined.labels[order])) + 1
    return [group for group in np.split(order, ends) if len(group) > 1]
