"""Connecting to the catalog's database: creation, migration, and its errors in our words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import ArgumentError, DatabaseError, SQLAlchemyError

from clipsearch.errors import IndexDamagedError, IndexMissingError, UsageError
from clipsearch.store import schema

BUSY_SECONDS = 30  # how long SQLite waits for another process's transaction
SQLITE_FILE = "catalog.sqlite"


def create_database(url: str | None, index_folder: Path) -> Engine:
    """A new, empty catalog with the newest schema. Raises UsageError if there is one already."""
    engine = _engine(url, index_folder, writable=True)
    with _closed_on_error(engine), translated_errors(engine), engine.begin() as db:
        if sa.inspect(db).has_table(schema.media.name):
            raise UsageError(
                f"{_shown(engine)} holds a catalog already: give each index a database of its own"
            )
        _migrate(db)
    return engine


def open_database(url: str | None, index_folder: Path) -> Engine:
    """The catalog of an index, migrated if its schema is older.

    Raises IndexMissingError, or IndexDamagedError when the schema is newer or unreadable.
    """
    path = index_folder / SQLITE_FILE
    if url is None and not path.is_file():
        raise IndexMissingError(f"{path} is missing: the index is incomplete, build it again")
    writable = url is not None or os.access(index_folder, os.W_OK)
    engine = _engine(url, index_folder, writable=writable)
    with _closed_on_error(engine), translated_errors(engine):
        with engine.connect() as db:
            version = db.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        if version != schema.SCHEMA_VERSION:
            if str(version) > schema.SCHEMA_VERSION:
                raise IndexDamagedError(
                    f"the catalog has schema {version}, this clipsearch knows up to "
                    f"{schema.SCHEMA_VERSION}: install a newer clipsearch"
                )
            with engine.begin() as db:
                _migrate(db)
    return engine


def _engine(url: str | None, index_folder: Path, *, writable: bool) -> Engine:
    if url is not None and not url.startswith("sqlite"):
        try:
            return sa.create_engine(url, pool_pre_ping=True)
        except (ArgumentError, SQLAlchemyError, ImportError) as error:
            raise UsageError(f"catalog {_safe(url)}: {error}") from error
    file = (index_folder / SQLITE_FILE).absolute().as_uri()
    mode = "rwc" if writable else "ro&immutable=1"
    engine = sa.create_engine(
        url or f"sqlite:///{file}?mode={mode}&uri=true", connect_args={"timeout": BUSY_SECONDS}
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        if writable:
            cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    return engine


def _migrate(db: Connection) -> None:
    # Alembic takes a sixth of a second to import and is needed once per index and release.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = db
    command.upgrade(config, "head")


@contextmanager
def _closed_on_error(engine: Engine) -> Iterator[None]:
    try:
        yield
    except BaseException:
        engine.dispose()
        raise


@contextmanager
def translated_errors(engine: Engine) -> Iterator[None]:
    """Raise database errors as ours: OSError for a full disk, else IndexDamagedError."""
    try:
        yield
    except DatabaseError as error:
        if "disk is full" in str(error.orig):
            raise OSError(
                errno.ENOSPC, os.strerror(errno.ENOSPC), str(engine.url.database)
            ) from error
        reason = str(error.orig).strip().partition("\n")[0]
        raise IndexDamagedError(f"the catalog {_shown(engine)} failed: {reason}") from error


def _shown(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)


def _safe(url: str) -> str:
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "URL"
