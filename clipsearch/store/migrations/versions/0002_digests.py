"""The digest of a segment's facts; inverted lists on disk replace whole FAISS indexes.

Segments from before have no digest. Their FAISS indexes are not read any more: the setting that
named their quantiser goes, and they are scanned until they are merged.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("segments", sa.Column("digest", sa.Text, nullable=False, server_default=""))
    op.drop_index("ix_ranges_segment_id", "ranges")
    op.create_index("ranges_segment", "ranges", ["segment_id", "media_id", "kind"])
    op.execute(sa.text("DELETE FROM settings WHERE key = 'quantiser'"))
