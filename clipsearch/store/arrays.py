"""Arrays on disk, read a piece at a time so that memory does not grow with their length."""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from clipsearch.errors import IndexDamagedError


class ArrayFile:
    """A .npy file of known type and shape, its first axis being rows.

    Safe to read from several threads. Stays readable when the file is deleted or replaced.
    Raises IndexDamagedError when the file holds something else.
    """

    def __init__(self, path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
        self._path, self._dtype, self.shape = path, np.dtype(dtype), shape
        self._row_bytes = self._dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        with path.open("rb") as file:
            try:
                np.lib.format.read_magic(file)
                stored_shape, _, stored_dtype = np.lib.format.read_array_header_1_0(file)
            except ValueError as error:
                raise IndexDamagedError(f"{path} is not an array file: {error}") from error
            self._offset = file.tell()
            self._descriptor = os.dup(file.fileno())
        # Searches in other threads may still use the file when its segment is let go.
        weakref.finalize(self, os.close, self._descriptor)
        if stored_shape != shape or stored_dtype != self._dtype:
            raise IndexDamagedError(
                f"{path} holds {stored_dtype} {stored_shape}, not {self._dtype} {shape}"
            )

    def read(self, first: int, count: int) -> NDArray[Any]:
        """(count, …) neighbouring rows, copied into memory."""
        buffer = np.empty((count, *self.shape[1:]), self._dtype)
        self.read_into(buffer.view(np.uint8).reshape(-1), first, count)
        return buffer

    def read_into(self, buffer: NDArray[np.uint8], first: int, count: int) -> None:
        """Fill the start of `buffer` with the bytes of neighbouring rows."""
        view = buffer.data[: count * self._row_bytes]
        position = self._offset + first * self._row_bytes
        while view:
            got = os.preadv(self._descriptor, [view], position)
            if got == 0:
                raise IndexDamagedError(f"{self._path} ends early")
            view, position = view[got:], position + got

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """(len(rows), …) scattered rows, copied; only their pages of the file are read."""
        if not len(rows):
            return np.empty((0, *self.shape[1:]), self._dtype)
        with mmap.mmap(self._descriptor, 0, access=mmap.ACCESS_READ) as pages:
            count = int(np.prod(self.shape, dtype=np.int64))
            mapped = np.frombuffer(pages, self._dtype, count, self._offset)
            taken: NDArray[Any] = mapped.reshape(self.shape)[rows]
            del mapped  # or the map cannot be closed
        return taken


def write_header(file: Any, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
    """Start a .npy file whose rows are then written one after the other."""
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(file, header)
