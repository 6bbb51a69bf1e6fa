"""A catalog's database and index folder, and what every transaction of it is in."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine

from clipsearch.errors import ClipsearchError, IndexDamagedError
from clipsearch.store import schema, statements
from clipsearch.store.database import IMMEDIATE, SQLITE_FILE, translated_errors


class Connected:
    """One index's database. Safe to share between threads."""

    def __init__(self, engine: Engine, index_folder: Path) -> None:
        self._engine = engine
        self._writes = engine.execution_options(**{IMMEDIATE: True})
        self._folder = index_folder
        self._shared = threading.local()  # a connection of this thread, inside `one_state`
        self.changing = threading.RLock()  # held by the one thread that changes something
        inside = index_folder / SQLITE_FILE
        self._file = inside if inside.exists() else None

    @property
    def path(self) -> Path:
        """The database's file; the index's folder if it is elsewhere."""
        return self._file or self._folder

    def close(self) -> None:
        """Release every connection."""
        self._engine.dispose()

    @contextmanager
    def one_state(self) -> Iterator[None]:
        """What this thread reads inside is of one moment, whatever others write meanwhile."""
        with self._reading() as db:
            self._shared.db = db
            try:
                yield
            finally:
                del self._shared.db

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        if hasattr(self._shared, "db"):
            yield self._shared.db
            return
        with self._checked(), translated_errors(self._engine), self._engine.connect() as db:
            yield db

    @contextmanager
    def _checked(self) -> Iterator[None]:
        """Raise IndexDamagedError for values in the database that cannot be what was written."""
        try:
            yield
        except ClipsearchError:
            raise
        except (ValueError, TypeError, KeyError) as error:
            raise IndexDamagedError(
                f"the catalog {self.path} has a wrong value: {error}", self._file
            ) from error

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with (
            self.changing,  # else PostgreSQL refuses the second of two transactions
            self._checked(),
            translated_errors(self._engine),
            self._writes.begin() as db,
        ):
            statements.add_to_setting(db, "generation", 1, start=0)
            yield db

    def _roots(self, db: Connection) -> dict[int, Path]:
        return {
            row.id: self._locate(row.path, row.path_from_index)
            for row in db.execute(sa.select(schema.roots).order_by(schema.roots.c.id))
        }

    def _locate(self, path: str, path_from_index: str | None) -> Path:
        """A root as recorded, or beside the index when both were moved together."""
        texts = isinstance(path, str) and isinstance(path_from_index, str | None)
        if not texts or not Path(path).is_absolute():
            raise ValueError(f"a root is {path!r}, {path_from_index!r}")
        recorded = Path(path)
        if path_from_index is not None and not recorded.exists():
            beside = Path(os.path.normpath(self._folder / path_from_index))
            if beside.exists():
                return beside
        return recorded
