"""Slugs for the entries there are: a data migration through the ORM."""

import sqlalchemy as sa
from alembic import context, op
from kit.blog import Entry
from sqlalchemy.orm import Session

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("entry", sa.Column("slug", sa.String))
    if context.is_offline_mode():
        return
    with Session(op.get_bind()) as session:
        for entry in session.scalars(sa.select(Entry)):
            entry.slug = entry.title.lower().replace(" ", "-")
        session.add(Entry(title="Third Time", slug="third-time"))
        session.commit()


def downgrade() -> None:
    with Session(op.get_bind()) as session:
        for entry in session.scalars(sa.select(Entry).where(Entry.slug == "third-time")):
            session.delete(entry)
        session.commit()
    op.drop_column("entry", "slug")
