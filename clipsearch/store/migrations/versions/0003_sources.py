"""Whose space the rows of a segment lie in, and what was looked at in each file.

Indexes from before have what is seen alone.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table, column in (("segments", "source"), ("media", "sources")):
        new = sa.Column(column, sa.Text, nullable=False, server_default="visual")
        op.add_column(table, new)
