"""Labels of files."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    media_id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    owner = sa.ForeignKey("media.id", ondelete="CASCADE")
    op.create_table(
        "tags",
        sa.Column("media_id", media_id, owner, primary_key=True),
        sa.Column("tag", sa.Text, primary_key=True),
        sa.Column("probability", sa.Float),
    )
    op.create_index("tags_tag", "tags", ["tag", "media_id"])
