"""The catalog's tables. Every change to them is a new migration in `migrations/versions`."""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = "0004"  # the newest file in migrations/versions

# SQLite only auto-increments a column declared INTEGER, which holds 64 bits there.
ID = BigInteger().with_variant(Integer, "sqlite")
CASCADE = "CASCADE"

metadata = MetaData()

roots = Table(
    "roots",
    metadata,
    Column("id", ID, primary_key=True, autoincrement=True),
    Column("path", Text, nullable=False, unique=True),  # absolute, as last seen
    Column("path_from_index", Text),  # relative to the index: survives moving both together
    sqlite_autoincrement=True,
)

media = Table(
    "media",
    metadata,
    Column("id", ID, primary_key=True, autoincrement=False),  # from the setting next_media_id
    Column("root_id", ID, ForeignKey("roots.id"), nullable=False),
    Column("path", Text, nullable=False),  # relative to the root, POSIX form
    Column("kind", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("modified_ns", BigInteger, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("duration_seconds", Float),
    Column("width", Integer),
    Column("height", Integer),
    Column("state", Text, nullable=False),  # ready | failed
    Column("error", Text),
    Column("sources", Text, nullable=False, server_default="visual"),  # what was read: a,b
    UniqueConstraint("root_id", "path"),
    Index("media_content_hash", "content_hash"),
)

segments = Table(
    "segments",
    metadata,
    Column("id", ID, primary_key=True, autoincrement=True),
    Column("name", Text, nullable=False, unique=True),  # the folder below segments/
    Column("row_count", BigInteger, nullable=False),
    Column("digest", Text, nullable=False, server_default=""),  # SHA-256 of its segment.json
    Column("source", Text, nullable=False, server_default="visual"),  # whose space its rows are in
    sqlite_autoincrement=True,
)

# The rows of one media and unit kind: always neighbours, in order of time.
ranges = Table(
    "ranges",
    metadata,
    Column("media_id", ID, ForeignKey("media.id", ondelete=CASCADE), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("segment_id", ID, ForeignKey("segments.id"), nullable=False),
    Column("first_row", BigInteger, nullable=False),
    Column("row_count", BigInteger, nullable=False),
    Index("ranges_segment", "segment_id", "media_id", "kind"),
)

# Rows whose media is gone or was indexed again; dropped when the segment is merged.
dead_ranges = Table(
    "dead_ranges",
    metadata,
    Column("id", ID, primary_key=True, autoincrement=True),
    Column("segment_id", ID, ForeignKey("segments.id", ondelete=CASCADE), nullable=False),
    Column("first_row", BigInteger, nullable=False),
    Column("row_count", BigInteger, nullable=False),
)

tags = Table(
    "tags",
    metadata,
    Column("media_id", ID, ForeignKey("media.id", ondelete=CASCADE), primary_key=True),
    Column("tag", Text, primary_key=True),
    Column("probability", Float),  # NULL: given by hand
    Index("tags_tag", "tag", "media_id"),
)

settings = Table(
    "settings",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
