"""A table of entries, and two of them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    table = op.create_table(
        "entry",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("title", sa.String, nullable=False),
    )
    op.bulk_insert(table, [{"title": "First Steps"}, {"title": "Second Thoughts"}])


def downgrade() -> None:
    op.drop_table("entry")
