"""One change of a store at a time, whichever thread asks; merges that can be given up."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

from clipsearch.types import Stop

if TYPE_CHECKING:
    from clipsearch.store.catalog import Catalog


class HasCatalog(Protocol):
    """What changes a catalog."""

    catalog: Catalog


P = ParamSpec("P")
Own = TypeVar("Own", bound=HasCatalog)
R = TypeVar("R")
T = TypeVar("T")


class StoppedError(Exception):
    """What was being made was given up; nothing is changed."""


def alone(method: Callable[Concatenate[Own, P], R]) -> Callable[Concatenate[Own, P], R]:
    """A method during which no other thread changes the catalog.

    Ids are given and rows are copied between reading the catalog and writing it: what another
    thread entered meanwhile would be overwritten, rows that died meanwhile would live again.
    """

    @wraps(method)
    def changing_alone(self: Own, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.catalog.changing:
            return method(self, *args, **kwargs)

    return changing_alone


def never() -> bool:
    """Do not give up."""
    return False


def until(stop: Stop, pieces: Iterable[T]) -> Iterator[T]:
    """Pass pieces on. Raises StoppedError when `stop` says so."""
    for piece in pieces:
        if stop():
            raise StoppedError
        yield piece


@contextmanager
def where_there_is_room() -> Iterator[None]:
    """Leave what a full disk keeps from being made to the next time."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
