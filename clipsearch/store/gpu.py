"""FAISS on a GPU: k-means for training, and scanning of rows that are copied there once.

A GPU only proposes rows. Every score that is returned is computed from the stored vectors as
without one, and a query for which the GPU cannot be sure of its best rows is searched without it:
results are those of an exact scan. Lists are not probed there: FAISS has no GPU code for the codes
of the recipes, and a GPU scans ten million rows in the time that a CPU takes for its lists.

Needs a GPU build of FAISS, which is a package of its own, and takes the place of `faiss-cpu`.
"""

from __future__ import annotations

import ctypes
import re
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from clipsearch.store.exact import Mask, load_faiss
from clipsearch.store.segment import Segment
from clipsearch.types import UnitKind, Vectors

LEAST_ROWS = 100_000  # a CPU scans so many in 4 ms
COPIED_AFTER = 32  # queries; copying the rows takes as long as scanning them some ten times
MEMORY_SHARE = 0.5  # of what is free; encoders want some, too
COPY_ROWS = 65_536
FETCHED = 256  # rows proposed for a query, at the least
MOST_FETCHED = 2048  # FAISS's limit on a GPU
# What scores on a GPU differ by at most: queries are rounded to half precision there, 2^-11 of
# each number, and sums of up to 4096 products of float32.
ROUNDING = 1e-3
TEMPORARY_BYTES = 256 << 20  # FAISS takes 1.5 GB by itself

MISSING = (
    "vectors are trained and searched on the CPU: the installed FAISS is its CPU build; "
    "`pip install --force-reinstall --no-deps faiss-gpu` puts the other one in its place"
)
NO_GPU = "vectors are trained and searched on the CPU: FAISS finds no GPU {number}"

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]


class Tools(Protocol):
    """What is asked of FAISS on one GPU."""

    def flat(self, dim: int, *, half: bool) -> Any:
        """An empty FAISS index for exact inner products, of float16 or float32 rows."""

    def free_bytes(self) -> int | None:
        """How much memory is free; None: not known."""


@dataclass(frozen=True, slots=True)
class Copy:
    """The rows of one kind of a segment, on a GPU."""

    first: int  # row of the segment
    count: int
    index: Any

    def best(self, queries: Vectors, k: int) -> tuple[Scores, Rows]:
        """(m, min(k, count)) approximate scores and rows of the segment, best first."""
        scores, rows = self.index.search(queries, min(k, self.count))
        return scores, rows + self.first


Copies = Mapping[Segment, Mapping[UnitKind, Copy]]


@dataclass(frozen=True, slots=True)
class Part:
    """A segment that is searched on a GPU: its copies by kind, the place of its first row among
    those of other segments, and which of its rows may be found (None: all).
    """

    copies: Mapping[UnitKind, Copy]
    start: int
    mask: Mask | None


class Gpu:
    """A store's use of a GPU, if it may use one and there is one. Safe to share between threads."""

    def __init__(
        self,
        device: str,
        on_notice: Callable[[str], None],
        *,
        find: Callable[[int], Tools | str] | None = None,
    ) -> None:
        """device: as encoders take it. "auto" uses the first GPU, if there is one, in silence.
        find: gives the tools for a GPU's number, or a sentence on why there are none.
        """
        self._number, self._is_asked_for = gpu_number(device), device.startswith("cuda")
        self._on_notice, self._find = on_notice, find or find_tools
        self._tools: Tools | None = None
        self._is_looked_for = self._has_told = False
        self._asked = 0
        self._too_large: weakref.WeakSet[Segment] = weakref.WeakSet()
        self._copies: weakref.WeakKeyDictionary[Segment, dict[UnitKind, Copy]]
        self._copies = weakref.WeakKeyDictionary()
        # Keeps what FAISS must not free while another thread uses the same resources.
        self._held: list[tuple[weakref.ref[Segment], dict[UnitKind, Copy]]] = []
        self._guard = threading.RLock()  # FAISS's GPU resources are for one thread at a time

    def clusterer(self, dim: int) -> Any:
        """A FAISS index for k-means by inner products, on the GPU; None: without one.

        It has resources of its own: other threads may search while it is used.
        """
        with self._guard:
            if self._number is None or self._found() is None:
                return None
            tools = self._find(self._number)
        return None if isinstance(tools, str) else tools.flat(dim, half=False)

    def copies(self, segments: Sequence[Segment], queries: int) -> Copies:
        """The segments whose rows are on the GPU, once enough queries were asked.

        queries: how many are asked now. Segments that do not fit are left out.
        """
        with self._guard:
            self._asked += queries
            self._held = [pair for pair in self._held if pair[0]() is not None]
            pays = sum(one.row_count for one in segments) >= LEAST_ROWS
            if not pays or self._asked < COPIED_AFTER or self._found() is None:
                return {}
            for segment in sorted(segments, key=lambda one: -one.row_count):
                if segment not in self._copies and segment not in self._too_large:
                    self._copy(segment)
            return {one: self._copies[one] for one in segments if one in self._copies}

    def propose(
        self, queries: Vectors, parts: Sequence[Part], kinds: Sequence[UnitKind], k: int
    ) -> list[Rows | None]:
        """For each query the places among which the `k` best rows of all `parts` are; None where
        that is not certain.
        """
        if 2 * k > MOST_FETCHED:
            return [None] * len(queries)
        fetched = min(MOST_FETCHED, max(FETCHED, 4 * k))
        scores, places = [], []
        unseen = np.full(len(queries), -np.inf, np.float32)  # no row that was left out is above
        for part in parts:
            for kind in kinds:
                if kind not in part.copies:
                    continue
                copy = part.copies[kind]
                with self._guard:
                    own, rows = copy.best(queries, fetched)
                if copy.count > fetched:
                    unseen = np.maximum(unseen, own[:, -1])
                scores.append(own if part.mask is None else np.where(part.mask[rows], own, -np.inf))
                places.append(rows + part.start)
        return certain(np.hstack(scores), np.hstack(places), unseen, k)

    def _found(self) -> Tools | None:
        if not self._is_looked_for and self._number is not None:
            self._is_looked_for = True
            found = self._find(self._number)
            if not isinstance(found, str):
                self._tools = found
            else:
                self._tell_once(found)
        return self._tools

    def _tell_once(self, notice: str) -> None:
        if self._is_asked_for and not self._has_told:
            self._has_told = True
            self._on_notice(notice)

    def _copy(self, segment: Segment) -> None:
        """Copy a segment's rows, unless there is no room for them."""
        tools = self._tools
        assert tools is not None, "only with a GPU"
        free, needed = tools.free_bytes(), segment.row_count * segment.dim * 2
        copies: dict[UnitKind, Copy] = {}
        try:
            if free is not None and needed > free * MEMORY_SHARE:
                raise MemoryError
            for kind, (first, end) in segment.blocks.items():
                if first < end:
                    copies[kind] = Copy(first, end - first, _filled(tools, segment, first, end))
        except (RuntimeError, MemoryError) as error:
            if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
                raise
            self._too_large.add(segment)
            self._tell_once(
                f"{segment.row_count} vectors are searched on the CPU: they do not fit into half "
                "of the GPU's free memory"
            )
            return
        self._copies[segment] = copies
        self._held.append((weakref.ref(segment), copies))


def certain(scores: Scores, places: Rows, unseen: Scores, k: int) -> list[Rows | None]:
    """For each query the places that the `k` best by exact scores are among; None where a row that
    is not among `places` may be one of them.

    scores: (m, n) up to ROUNDING off, -inf for what must not be found. unseen: (m,) what no score
    of another row exceeds; -inf: there is no other.
    """
    found: list[Rows | None] = []
    for own, mine, above in zip(scores, places, unseen.tolist(), strict=True):
        live = own > -np.inf
        few = int(np.count_nonzero(live)) < k
        bar = -np.inf if few else np.partition(own, len(own) - k)[len(own) - k] - 2 * ROUNDING
        if above > -np.inf and above >= bar:
            found.append(None)
        else:
            found.append(mine[live & (own >= bar)])
    return found


def gpu_number(device: str) -> int | None:
    """Which GPU a device's name means; None for one that is none of CUDA's."""
    if device in ("auto", "cuda"):
        return 0
    match = re.fullmatch(r"cuda:(\d+)", device)
    return int(match[1]) if match else None


def find_tools(number: int) -> Tools | str:
    """FAISS on the GPU of that number, or why not."""
    faiss = load_faiss()
    if not hasattr(faiss, "StandardGpuResources"):
        return MISSING
    if number >= faiss.get_num_gpus():
        return NO_GPU.format(number=number)
    return _Cuda(number)


class _Cuda:
    def __init__(self, number: int) -> None:
        self._number = number
        self._resources = load_faiss().StandardGpuResources()
        self._resources.setTempMemory(TEMPORARY_BYTES)

    def flat(self, dim: int, *, half: bool) -> Any:
        faiss = load_faiss()
        config = faiss.GpuIndexFlatConfig()
        config.device, config.useFloat16 = self._number, half
        return faiss.GpuIndexFlatIP(self._resources, dim, config)

    def free_bytes(self) -> int | None:
        """As the CUDA runtime that FAISS has loaded says; FAISS itself does not tell."""
        free, total, before = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_int()
        for version in (12, 13, 11):
            try:
                cuda = ctypes.CDLL(f"libcudart.so.{version}")
            except OSError:
                continue
            cuda.cudaGetDevice(ctypes.byref(before))
            cuda.cudaSetDevice(self._number)
            failed = cuda.cudaMemGetInfo(ctypes.byref(free), ctypes.byref(total))
            cuda.cudaSetDevice(before.value)
            return None if failed else free.value
        return None


def _filled(tools: Tools, segment: Segment, first: int, end: int) -> Any:
    """An index of some rows of a segment."""
    index = tools.flat(segment.dim, half=True)
    for start in range(first, end, COPY_ROWS):
        block = segment.vectors(start, min(COPY_ROWS, end - start))
        index.add(block.astype(np.float32))  # to what is float16 again there: nothing is lost
    return index
