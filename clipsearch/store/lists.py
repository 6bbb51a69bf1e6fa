"""A segment's inverted lists, mapped from disk: a search reads the lists that it probes.

lists.bin   list after list, each at a multiple of 64 bytes: its codes, as FAISS lays them out
            for the recipe, padded to whole blocks; then its rows as int64
lists.npy   for each list: size, capacity (size with the padding), offset, CRC-32 of its bytes
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import weakref
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clipsearch.errors import IndexDamagedError
from clipsearch.store.arrays import ArrayFile, PageBudget, header_bytes, open_file
from clipsearch.store.exact import load_faiss, selector_of, threads_for
from clipsearch.store.quantiser import Assignment, Quantiser
from clipsearch.types import Vectors

LISTS, LIST_TABLE = "lists.bin", "lists.npy"
LIST_TYPE = np.dtype(
    [
        ("size", "<u8"),  # these three as FAISS's OnDiskOneList has them
        ("capacity", "<u8"),
        ("offset", "<u8"),
        ("crc", "<u8"),
    ]
)
ALIGNMENT = 64
ID_BYTES = 8
BLOCK_ROWS = 32  # fast-scan codes come in blocks of so many rows
OTHER_BLOCK_ROWS = 8  # so that the rows behind the codes are aligned
FILL_ROWS = 8192  # larger blocks are no faster, and 16 MB at 512 dimensions


def write_lists(quantiser: Quantiser, vectors: ArrayFile, folder: Path, salt: np.uint64) -> None:
    """Write `lists.bin` and `lists.npy` for (n, dim) float16 vectors, row by row."""
    faiss = load_faiss()
    index = quantiser.for_filling()
    row_count = vectors.shape[0]
    for first in range(0, row_count, FILL_ROWS):
        block = vectors.read(first, min(FILL_ROWS, row_count - first))
        index.add(block.astype(np.float32))
    lists = index.invlists
    padding, fast = _block_rows(lists), _is_fast_scan(lists)
    table = np.zeros(index.nlist, LIST_TYPE)
    with (folder / LISTS).open("wb") as file:
        for number in range(index.nlist):
            size = lists.list_size(number)
            capacity = -(-size // padding) * padding
            content = b""
            if size:
                code_bytes = (capacity if fast else size) * index.code_size
                codes = faiss.rev_swig_ptr(lists.get_codes(number), code_bytes).tobytes()
                rows = faiss.rev_swig_ptr(lists.get_ids(number), size).tobytes()
                content = codes.ljust(capacity * index.code_size, b"\0") + rows
            crc = zlib.crc32(content, _start(salt, number))
            table[number] = (size, capacity, file.tell(), crc)
            file.write(content + bytes(-len(content) % ALIGNMENT))
    with (folder / LIST_TABLE).open("wb") as file:
        file.write(header_bytes(LIST_TYPE, table.shape))
        file.write(table.tobytes())


class ListFile:
    """The inverted lists of one segment: gives candidate rows, never a ranking.

    Files stay open, and lists are checked when they are first probed. Safe to share between
    threads. Raises IndexDamagedError when the files do not fit together.
    """

    def __init__(
        self, folder: Path, quantiser: Quantiser, rows: int, salt: np.uint64, budget: PageBudget
    ) -> None:
        self.path, self.quantiser = folder / LISTS, quantiser
        self._rows, self._salt, self._budget = rows, salt, budget
        shape = (quantiser.facts.lists,)
        table_file = ArrayFile(folder / LIST_TABLE, LIST_TYPE, shape, budget)
        self.table = table_file.read(0, shape[0])
        self._descriptor = open_file(self.path)
        weakref.finalize(self, os.close, self._descriptor)
        self._size = os.fstat(self._descriptor).st_size
        self._checked = np.zeros(shape, np.bool_)
        self._guard = threading.Lock()
        self._index: Any = None
        self._lists: Any = None
        self._bytes: NDArray[np.uint8] = np.empty(0, np.uint8)

    @property
    def mapped_bytes(self) -> int:
        """The size of the file."""
        return self._size

    def drop_pages(self) -> None:
        """Unmap the pages that were touched so far."""
        if len(self._bytes):
            address = ctypes.c_void_p(self._bytes.ctypes.data)
            ctypes.CDLL(None).madvise(address, ctypes.c_size_t(self._size), mmap.MADV_DONTNEED)

    def search(
        self, queries: Vectors, assignment: Assignment, count: int, mask: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """(m, count) approximate scores and rows of the probed lists; row -1 where there are less.

        assignment: what the quantiser says of the queries.
        """
        faiss = load_faiss()
        lists, coarse = np.ascontiguousarray(assignment[0]), np.ascontiguousarray(assignment[1])
        index = self._loaded()
        self._check(lists)
        scores = np.empty((len(queries), count), np.float32)
        rows = np.empty((len(queries), count), np.int64)
        selector = selector_of(mask)
        parameters = faiss.SearchParametersIVF(nprobe=lists.shape[1])
        if selector is not None:
            parameters.sel = selector
        with threads_for(len(queries)):
            # FAISS's own wrapper of this takes no parameters.
            index.search_preassigned_c(
                len(queries),
                faiss.swig_ptr(queries),
                count,
                faiss.swig_ptr(lists),
                faiss.swig_ptr(coarse),
                faiss.swig_ptr(scores),
                faiss.swig_ptr(rows),
                False,
                parameters,
            )
        return scores, rows

    def members(self, number: int) -> NDArray[np.int64]:
        """The rows in list `number`, checked."""
        self._loaded()
        self._check(np.array([number]))
        size, capacity, offset, _ = self.table[number].tolist()
        start = offset + capacity * self._code_size
        return self._bytes[start : start + size * ID_BYTES].view(np.int64)

    def _loaded(self) -> Any:
        with self._guard:
            if self._index is None:
                index = self.quantiser.for_searching()
                self._code_size = index.code_size
                self._list_bytes = self._size / len(self.table)  # of an average one
                self._check_table(_block_rows(index.invlists))
                self._lists = self._map(index)
                index.replace_invlists(self._lists, False)
                self._budget.register(self)
                self._index = index
            return self._index

    def _map(self, index: Any) -> Any:
        faiss = load_faiss()
        lists = faiss.OnDiskInvertedLists()
        lists.nlist, lists.code_size = index.nlist, index.code_size
        lists.read_only, lists.prefetch_nthread = True, 0
        lists.lists.resize(index.nlist)
        # The files may have been merged away since they were opened.
        lists.filename, lists.totsize = f"/dev/fd/{self._descriptor}", self._size
        places = np.ctypeslib.as_array(_at(lists.lists.data(), index.nlist * 24)).view("<u8")
        columns = [self.table[name] for name in ("size", "capacity", "offset")]
        places.reshape(index.nlist, 3)[:] = np.stack(columns, axis=1)
        lists.do_mmap()
        self._bytes = np.ctypeslib.as_array(_at(lists.ptr, self._size))
        return lists

    def _check_table(self, block: int) -> None:
        """Every list inside the file: what FAISS would otherwise read is anybody's memory."""
        size, capacity, offset = (self.table[name] for name in ("size", "capacity", "offset"))
        limit = np.uint64(self._size)
        sane = (size <= limit) & (capacity <= limit) & (offset <= limit)  # no overflow below
        needed = capacity * np.uint64(self._code_size) + size * np.uint64(ID_BYTES)
        inside = offset + needed <= limit
        whole = (-(-size.astype(np.int64) // block) * block) == capacity.astype(np.int64)
        if not (sane & inside & whole & (offset % ALIGNMENT == 0)).all():
            raise self._damaged("does not hold the lists that lists.npy says")
        if int(size.sum()) != self._rows:
            raise self._damaged("does not hold each row once")

    def _check(self, lists: NDArray[np.int64]) -> None:
        """Compare the bytes of lists that were not looked at yet with their checksums."""
        new = ~self._checked[lists] & (lists >= 0)  # -1: there is no further list
        for number in np.unique(lists[new]).tolist() if new.any() else ():
            size, capacity, offset, crc = self.table[number].tolist()
            end = offset + capacity * self._code_size + size * ID_BYTES
            if zlib.crc32(self._bytes[offset:end].data, _start(self._salt, number)) != crc:
                raise self._damaged(f"is damaged in list {number}")
            rows = self._bytes[end - size * ID_BYTES : end].view(np.int64)
            if size and not 0 <= rows.min() <= rows.max() < self._rows:
                raise self._damaged(f"names rows that the segment does not have in list {number}")
            self._checked[number] = True
        self._budget.spend(min(int(self._list_bytes * lists.size), self._size))

    def _damaged(self, what: str) -> IndexDamagedError:
        return IndexDamagedError(f"{self.path} {what}: run `clipsearch repair`", self.path)


def _at(pointer: Any, size: int) -> Any:
    """The `size` bytes at a FAISS pointer, as ctypes has them."""
    return (ctypes.c_uint8 * size).from_address(int(getattr(pointer, "this", pointer)))


def _is_fast_scan(lists: Any) -> bool:
    faiss = load_faiss()
    return isinstance(faiss.downcast_InvertedLists(lists), faiss.BlockInvertedLists)


def _block_rows(lists: Any) -> int:
    return BLOCK_ROWS if _is_fast_scan(lists) else OTHER_BLOCK_ROWS


def _start(salt: np.uint64, number: int) -> int:
    return (int(salt) + number) & 0xFFFFFFFF
