"""The first schema. Frozen: later changes are later migrations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "roots",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("path", sa.Text, nullable=False, unique=True),
        sa.Column("path_from_index", sa.Text),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "media",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("root_id", ID, sa.ForeignKey("roots.id"), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("modified_ns", sa.BigInteger, nullable=False),
        sa.Column("content_hash", sa.Text, nullable=False),
        sa.Column("duration_seconds", sa.Float),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
        sa.UniqueConstraint("root_id", "path"),
    )
    op.create_index("media_content_hash", "media", ["content_hash"])
    op.create_table(
        "segments",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("name", sa.Text, nullable=False, unique=True),
        sa.Column("row_count", sa.BigInteger, nullable=False),
        sqlite_autoincrement=True,
    )
    _create_ranges()
    op.create_table(
        "settings",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )


def _create_ranges() -> None:
    op.create_table(
        "ranges",
        sa.Column("media_id", ID, sa.ForeignKey("media.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("segment_id", ID, sa.ForeignKey("segments.id"), nullable=False),
        sa.Column("first_row", sa.BigInteger, nullable=False),
        sa.Column("row_count", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_ranges_segment_id", "ranges", ["segment_id"])
    op.create_table(
        "dead_ranges",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column(
            "segment_id", ID, sa.ForeignKey("segments.id", ondelete="CASCADE"), nullable=False
        ),
        sa.Column("first_row", sa.BigInteger, nullable=False),
        sa.Column("row_count", sa.BigInteger, nullable=False),
    )
