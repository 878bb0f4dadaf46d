"""What the library has to know of databases that no capability of a dialect says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import FromClause
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError

MYSQL: tuple[str, ...] = ("mysql", "mariadb")
"""The names of SQLAlchemy's dialects for MySQL and MariaDB: of a MariaDB, the URL says which."""
MYSQL_DRIVERS: frozenset[str] = frozenset(
    ("MySQLdb", "aiomysql", "asyncmy", "mariadb", "mysql", "pymysql")
)
"""The packages of the drivers of MySQL and MariaDB."""
_NO_SUCH_INDEX = 1176


def is_mysql(dialect: Dialect) -> bool:
    """Whether this is MySQL or MariaDB."""
    return dialect.name in MYSQL


def by_primary_key(statement: Any, tables: Iterable[FromClause]) -> Any:
    """A SELECT that finds the rows whose primary keys it names by these keys, also on MySQL.

    Of a small table, that would look at each row otherwise, and lock it: also those of
    transactions that wait for this one.

    Args:
        statement: The SELECT. It names keys of the table that its FROM clause begins with, to
            which others are joined by theirs.
        tables: All of these.
    """
    for name in MYSQL:
        statement = statement.prefix_with("STRAIGHT_JOIN", dialect=name)
        for table in tables:
            statement = statement.with_hint(table, "FORCE INDEX (PRIMARY)", dialect_name=name)
    return statement


def mysql_number_of(error: BaseException) -> int | None:
    """The number of an error of MySQL or MariaDB, whose drivers give no SQLSTATE."""
    original = getattr(error, "orig", error)
    number = original.args[0] if isinstance(original, BaseException) and original.args else None
    is_mysql = type(original).__module__.partition(".")[0] in MYSQL_DRIVERS
    return number if is_mysql and isinstance(number, int) else None


def lacks_primary_key(error: DBAPIError) -> bool:
    """Whether a statement of :func:`by_primary_key` has failed for want of one, as in a view."""
    return mysql_number_of(error) == _NO_SUCH_INDEX
