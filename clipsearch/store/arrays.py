"""Arrays on disk, read a piece at a time so that memory does not grow with their length."""

from __future__ import annotations

import errno
import io
import mmap
import os
import stat
import threading
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from clipsearch.errors import IndexDamagedError

# Pages of mapped files count as this process's memory, though the system takes them back when it
# needs them. Files of up to MAPPED_WHOLE_BYTES in all stay mapped, which is the fastest to read
# (0.13 ms for 640 rows of 1 KB). Of larger ones scattered rows are read by a call each (1 ms):
# mapping pages that must soon go again takes longer (up to 4 us each on a virtual machine). What
# FAISS has mapped is dropped when about MAPPED_BYTES of it were touched.
MAPPED_WHOLE_BYTES = 1_250_000_000
MAPPED_BYTES = 400_000_000
NOT_A_FILE = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)


class Mapped(Protocol):
    """Something with a mapped file."""

    @property
    def mapped_bytes(self) -> int:
        """How much of memory its pages can take."""

    def drop_pages(self) -> None:
        """Unmap its pages; they come back when they are touched."""


class PageBudget:
    """Decides how the files of a store are read, so that they take little memory."""

    def __init__(self) -> None:
        self._files: weakref.WeakSet[Mapped] = weakref.WeakSet()
        self._touched = 0
        self._guard = threading.Lock()
        self.is_large = False  # files are too large to stay mapped

    def register(self, file: Mapped) -> None:
        """Count a file that may be mapped."""
        with self._guard:
            self._files.add(file)
            self.is_large = sum(f.mapped_bytes for f in self._files) > MAPPED_WHOLE_BYTES

    def spend(self, size: int) -> None:
        """Note that up to `size` more mapped bytes were touched; drop all when that is too much."""
        if not self.is_large:
            return
        with self._guard:
            self._touched += size
            if self._touched <= MAPPED_BYTES:
                return
            self._touched = 0
            files = list(self._files)
        for file in files:
            file.drop_pages()


def open_file(path: Path) -> int:
    """A descriptor of an ordinary file of an index; links are not followed.

    Raises FileNotFoundError, or IndexDamagedError when there is something else in its place.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in NOT_A_FILE:
            raise IndexDamagedError(f"{path} is a link or no file", path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IndexDamagedError(f"{path} is a link or no file", path)
    return descriptor


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have errors of reading an open file say which."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), str(path)) from error


def read_file(path: Path) -> bytes:
    """The content of an ordinary file of an index. Raises as `open_file`."""
    with open(open_file(path), "rb") as file, naming(path):
        return file.read()


class ArrayFile:
    """A .npy file of known type and shape, its first axis being rows.

    Safe to read from several threads. Stays readable when the file is deleted or replaced.
    Raises IndexDamagedError when the file holds something else.
    """

    def __init__(
        self, path: Path, dtype: DTypeLike, shape: tuple[int, ...], budget: PageBudget
    ) -> None:
        self.path, self._dtype, self.shape = path, np.dtype(dtype), shape
        self._budget = budget
        self._row_bytes = self._dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        header = header_bytes(self._dtype, shape)
        self._offset = len(header)
        self._size = len(header) + shape[0] * self._row_bytes
        self._descriptor = open_file(path)
        # Searches in other threads may still use the file when its segment is let go.
        weakref.finalize(self, os.close, self._descriptor)
        with naming(path):
            found = os.pread(self._descriptor, len(header), 0)
        if found != header:
            raise IndexDamagedError(f"{path} does not hold {self._dtype} {shape}", path)
        if os.fstat(self._descriptor).st_size != self._size:
            raise IndexDamagedError(f"{path} does not have {self._size} bytes", path)
        self._guard = threading.Lock()
        budget.register(self)
        self._pages: mmap.mmap | None = None
        self._mapped: NDArray[Any] | None = None

    @property
    def mapped_bytes(self) -> int:
        """The size of the file."""
        return self._size

    def drop_pages(self) -> None:
        """Unmap the pages that were touched so far."""
        if self._pages is not None:
            self._pages.madvise(mmap.MADV_DONTNEED)

    def read(self, first: int, count: int) -> NDArray[Any]:
        """(count, …) neighbouring rows, copied into memory."""
        buffer = np.empty((count, *self.shape[1:]), self._dtype)
        self.read_into(buffer.reshape(-1).view(np.uint8), first, count)
        return buffer

    def read_into(self, buffer: NDArray[np.uint8], first: int, count: int) -> None:
        """Fill the start of `buffer` with the bytes of neighbouring rows."""
        view = buffer.data[: count * self._row_bytes]
        position = self._offset + first * self._row_bytes
        while view:
            with naming(self.path):
                got = os.preadv(self._descriptor, [view], position)
            if got == 0:
                raise IndexDamagedError(f"{self.path} ends early", self.path)
            view, position = view[got:], position + got

    def take(self, rows: NDArray[np.int64], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """(len(rows), …) scattered rows, copied; only their pages of the file are read."""
        if not len(rows):
            return np.empty((0, *self.shape[1:]), self._dtype)
        if not self._budget.is_large:
            taken: NDArray[Any] = self.mapped().take(rows, axis=0, out=out, mode="clip")
            return taken
        descriptor, size, read = self._descriptor, self._row_bytes, os.pread
        with naming(self.path):
            places = (rows * size + self._offset).tolist()
            content = b"".join([read(descriptor, size, place) for place in places])
        if len(content) != len(rows) * size:
            raise IndexDamagedError(f"{self.path} ends early", self.path)
        taken = np.frombuffer(content, self._dtype).reshape(len(rows), *self.shape[1:])
        if out is None:
            return taken
        out[:] = taken
        return out

    def mapped(self) -> NDArray[Any]:
        """All rows as the file has them, read when they are touched."""
        with self._guard:
            if self._mapped is None:
                self._pages = mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ)
                count = int(np.prod(self.shape, dtype=np.int64))
                flat = np.frombuffer(self._pages, self._dtype, count, self._offset)
                self._mapped = flat.reshape(self.shape)
            return self._mapped


class BytesFile:
    """A file of bytes. Stays readable when it is deleted."""

    def __init__(self, path: Path, budget: PageBudget) -> None:
        self._path, self._budget = path, budget
        self._descriptor = open_file(path)
        weakref.finalize(self, os.close, self._descriptor)
        self._size = os.fstat(self._descriptor).st_size
        # An empty file cannot be mapped.
        self._pages = mmap.mmap(self._descriptor, 0, prot=mmap.PROT_READ) if self._size else b""
        budget.register(self)

    @property
    def mapped_bytes(self) -> int:
        """The size of the file."""
        return self._size

    def drop_pages(self) -> None:
        """Unmap the pages that were touched so far."""
        if isinstance(self._pages, mmap.mmap):
            self._pages.madvise(mmap.MADV_DONTNEED)

    def take(self, places: Iterable[tuple[int, int]]) -> list[bytes]:
        """The (at, size) pieces; shorter ones where the file ends early."""
        pages, descriptor, read = self._pages, self._descriptor, os.pread
        if not self._budget.is_large:
            return [pages[at : at + size] for at, size in places]
        with naming(self._path):
            return [read(descriptor, size, at) if size else b"" for at, size in places]


def header_bytes(dtype: DTypeLike, shape: tuple[int, ...]) -> bytes:
    """How a .npy file of that type and shape starts."""
    buffer = io.BytesIO()
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()
