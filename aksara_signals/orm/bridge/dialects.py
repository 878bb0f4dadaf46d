"""What the library has to know of databases that no capability of a dialect says."""

from __future__ import annotations

from sqlalchemy.engine import Dialect


def is_mysql(dialect: Dialect) -> bool:
    """Whether this is MySQL or MariaDB; SQLAlchemy has a dialect of each name for MariaDB."""
    return dialect.name in ("mysql", "mariadb")
