"""Connecting to the catalog's database: creation, migration, and its errors in our words."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import ArgumentError, DatabaseError, SQLAlchemyError

from clipsearch.errors import IndexDamagedError, UsageError
from clipsearch.store import schema

BUSY_SECONDS = 30  # how long SQLite waits for another process's transaction
SQLITE_FILE = "catalog.sqlite"
CATALOG_FILES = tuple(SQLITE_FILE + end for end in ("", "-wal", "-shm", "-journal"))
IMMEDIATE = "immediate"  # execution option of connections that will write
LOG_BYTES = 65_536  # what SQLite needs to open its write-ahead log


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

    Raises IndexDamagedError when it is missing or unreadable, or its schema is newer.
    """
    path = index_folder / SQLITE_FILE
    if url is None and not path.is_file():
        raise IndexDamagedError(f"{path} is missing: remove {index_folder} and index again")
    if url is not None or os.access(index_folder, os.W_OK):
        try:
            return _opened(_engine(url, index_folder, writable=True), writable=True)
        except OSError:  # a disk so full that SQLite cannot even share its log: reading may work
            if url is not None:
                raise
    return _opened(_engine(url, index_folder, writable=False), writable=False)


def drop_catalog(url: str, index_folder: Path) -> None:
    """Delete the tables of a catalog that lies outside of its index, as far as they are there."""
    engine = _engine(url, index_folder, writable=True)
    try:
        with translated_errors(engine), engine.begin() as db:
            schema.metadata.drop_all(db)
            db.execute(sa.text("DROP TABLE IF EXISTS alembic_version"))
    finally:
        engine.dispose()


def _opened(engine: Engine, *, writable: bool) -> Engine:
    with _closed_on_error(engine), translated_errors(engine):
        with engine.connect() as db:
            version = db.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
        if version != schema.SCHEMA_VERSION:
            if str(version) > schema.SCHEMA_VERSION:
                raise IndexDamagedError(
                    f"the catalog has schema {version}, this clipsearch knows up to "
                    f"{schema.SCHEMA_VERSION}: install a newer clipsearch"
                )
            if not writable:
                return _migrated_copy(engine)
            with engine.execution_options(**{IMMEDIATE: True}).begin() as db:
                _migrate(db)  # does nothing if another process was first
    return engine


def _migrated_copy(engine: Engine) -> Engine:
    """A catalog of an older schema that cannot be written to, as a temporary file."""
    folder = Path(tempfile.mkdtemp(prefix="clipsearch-"))
    with engine.connect() as db, closing(sqlite3.connect(folder / SQLITE_FILE)) as copy:
        original = db.connection.driver_connection
        assert isinstance(original, sqlite3.Connection), "only SQLite is ever read-only"
        original.backup(copy)
    engine.dispose()
    migrated = _opened(_engine(None, folder, writable=True), writable=True)
    weakref.finalize(migrated, shutil.rmtree, folder, ignore_errors=True)
    return migrated


def _engine(url: str | None, index_folder: Path, *, writable: bool) -> Engine:
    if url is not None and not url.startswith("sqlite"):
        try:
            return sa.create_engine(url, pool_pre_ping=True, isolation_level="REPEATABLE READ")
        except (ArgumentError, SQLAlchemyError, ImportError) as error:
            raise UsageError(f"catalog {_safe(url)}: {error}") from error
    path = index_folder / SQLITE_FILE
    mode = "rwc" if writable else _read_only_mode(path)
    engine = sa.create_engine(
        url or f"sqlite:///{path.absolute().as_uri()}?mode={mode}&uri=true",
        connect_args={"timeout": BUSY_SECONDS},
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # or sqlite3 would begin transactions as it sees fit
        cursor = connection.cursor()
        if writable:
            cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # Said by us, so that several SELECTs see one state. What will write says so at once: it
        # cannot wait for another's transaction once it has read.
        immediate = connection.get_execution_options().get(IMMEDIATE)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _read_only_mode(path: Path) -> str:
    """Immutable needs no lock files, but would not see what only the log has."""
    log = path.with_name(path.name + "-wal")
    return "ro" if log.exists() and log.stat().st_size else "ro&immutable=1"


_MIGRATING = threading.Lock()  # Alembic keeps what it works on in the process


def _migrate(db: Connection) -> None:
    # Alembic takes a sixth of a second to import and is needed once per index and release.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = db
    try:
        with _MIGRATING:
            command.upgrade(config, "head")
    except CommandError as error:
        raise IndexDamagedError(f"the catalog cannot be migrated: {error}") from error


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
    except UnicodeDecodeError as error:
        raise IndexDamagedError(f"the catalog {_shown(engine)} holds no text: {error}") from error
    except DatabaseError as error:
        if _disk_is_full(engine, str(error.orig)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), _shown(engine)) from error
        reason = str(error.orig).strip().partition("\n")[0]
        raise IndexDamagedError(f"the catalog {_shown(engine)} failed: {reason}") from error


def _disk_is_full(engine: Engine, message: str) -> bool:
    """SQLite says so, or has an I/O error where there is no room left for its log."""
    if "disk is full" in message:
        return True
    if engine.dialect.name != "sqlite":
        return False
    try:
        return shutil.disk_usage(Path(_shown(engine)).parent).free < LOG_BYTES
    except OSError:
        return False


def _shown(engine: Engine) -> str:
    """Where the database is, for messages: a path, or a URL without its password."""
    database = engine.url.database
    if engine.dialect.name == "sqlite" and database:
        return unquote(urlsplit(database).path)
    return engine.url.render_as_string(hide_password=True)


def _safe(url: str) -> str:
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "URL"
