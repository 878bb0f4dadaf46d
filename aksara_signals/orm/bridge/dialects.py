"""What the library has to know of databases that no capability of a dialect says."""

from __future__ import annotations

from sqlalchemy.engine import Dialect

MYSQL: tuple[str, ...] = ("mysql", "mariadb")
"""The names of SQLAlchemy's dialects for MySQL and MariaDB: of a MariaDB, the URL says which."""


def is_mysql(dialect: Dialect) -> bool:
    """Whether this is MySQL or MariaDB."""
    return dialect.name in MYSQL
