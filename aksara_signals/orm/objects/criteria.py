"""The arguments of query sets: criteria, keys, orders and limits, checked when they are given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import ColumnElement, and_, inspect
from sqlalchemy.orm import Mapper, RelationshipProperty
from sqlalchemy.orm.attributes import QueryableAttribute
from sqlalchemy.sql.selectable import ReturnsRows

from aksara_signals.dispatch.receivers.naming import describe_sender, nearest, shortened
from aksara_signals.exceptions import InvalidOptionError, UnknownFieldError, UnmappedClassError
from aksara_signals.orm.bridge.classes import property_of
from aksara_signals.orm.bridge.column_edits import is_expression
from aksara_signals.orm.bridge.states import state_of
from aksara_signals.orm.mapping.attributes import property_named
from aksara_signals.orm.mapping.info import info_of
from aksara_signals.orm.objects.values import problem_of_comparison, takes_one_value
from aksara_signals.orm.session.current import is_session


def require_mapped(model: Any) -> None:
    """Raise if SQLAlchemy doesn't map a class.

    Raises:
        UnmappedClassError: The class is not mapped.
    """
    if not isinstance(model, type) or not isinstance(inspect(model, raiseerr=False), Mapper):
        raise UnmappedClassError(
            f"{describe_sender(model)} is not mapped by SQLAlchemy, so there is nothing to "
            f"read or write; use a mapped subclass"
        )


def attribute_named(model: type, name: str) -> QueryableAttribute[Any]:
    """The mapped attribute of a name, including synonyms and association proxies.

    Raises:
        UnknownFieldError: There is none.
    """
    mapper: Mapper[Any] = inspect(model)
    if name not in mapper.all_orm_descriptors:
        hint = ""
        if "__" in name:
            hint = (
                f"; it takes equality only, and richer criteria as expressions: "
                f"filter({model.__name__}.column > 5)"
            )
        known = ["pk", *mapper.all_orm_descriptors.keys()]
        raise UnknownFieldError(
            f"{shortened(name)} is not an attribute of {describe_sender(model)}"
            f"{nearest(name, known)}{hint}"
        )
    attribute: QueryableAttribute[Any] = getattr(model, name)
    return attribute


def key_columns(model: type) -> list[Any]:
    """The attributes of the primary key, in its order."""
    return [getattr(model, name) for name in info_of(inspect(model)).key_names]


def matching(
    model: type, given: Iterable[ColumnElement[bool]], equals: dict[str, Any]
) -> tuple[ColumnElement[bool], ...]:
    """The criteria of a ``filter(…)``.

    Args:
        model: The class.
        given: SQL expressions.
        equals: Attribute names and the values they must equal. ``pk`` is the primary key, a tuple
            if it has several columns, unless the class has an attribute of that name.

    Raises:
        UnknownFieldError: A name is not an attribute, or ``pk`` has more or fewer values than the
            key has columns.
        InvalidOptionError: A criterion is not SQL, or a value is one that a row can't have.
    """
    found = [_criterion(model, each) for each in given]
    for name, value in equals.items():
        if name == "pk" and "pk" not in inspect(model).all_orm_descriptors:
            found.append(_key_equals(model, value))
        else:
            found.append(_equals(model, name, value))
    return tuple(found)


def with_key(model: type, given: tuple[Any, ...]) -> tuple[ColumnElement[bool], ...]:
    """The criteria of a ``get(…)``, whose first argument may be a primary key.

    Args:
        model: The class.
        given: First a key (a tuple or dict if it has several columns) or an SQL expression, then
            SQL expressions.

    Raises:
        UnknownFieldError: The key has more or fewer values than columns.
        InvalidOptionError: A key is an instance or a session, or there is a second one.
    """
    if not given or isinstance(given[0], bool) or is_expression(given[0]):
        return given
    key, *rest = given
    if is_session(key):
        raise InvalidOptionError(
            f"get() was given {describe_sender(key)} by position; a session goes into session=, as "
            f"in get(5, session=session)"
        )
    if state_of(key) is not None:
        raise InvalidOptionError(
            f"get() was given {describe_sender(key)}; it takes a primary key, criteria or "
            f"attributes: get(5), get({model.__name__}.id == 5), get(id=5)"
        )
    if rest and not is_expression(rest[0]):
        raise InvalidOptionError(
            f"get() of {describe_sender(model)} was given several values; a key of several "
            f"columns comes as one tuple: get((1, 2))"
        )
    return (_key_equals(model, key), *rest)


def order_clauses(model: type, given: Iterable[Any]) -> Iterator[Any]:
    """The clauses of an ``order_by(…)``.

    Raises:
        UnknownFieldError: A name is not an attribute of the model, or is a relationship.
        InvalidOptionError: A clause is neither a name nor SQL.
    """
    for each in given:
        if isinstance(each, str):
            bare = each.removeprefix("-")
            found = key_columns(model) if bare == "pk" else [_sortable(model, bare)]
            yield from found if bare == each else [clause.desc() for clause in found]
        elif is_expression(each) and not _returns_rows(each):
            prop = property_of(each)
            if isinstance(prop, RelationshipProperty):
                _sortable(model, prop.key)
            yield each
        else:
            raise InvalidOptionError(
                f"order_by() was given {describe_sender(each)}; it takes attributes, SQL "
                f'expressions and names, one by one: order_by("-views", {model.__name__}.id)'
            )


def require_limit(count: Any) -> None:
    """Raise if a limit is not a number of rows.

    Raises:
        InvalidOptionError: It is neither None nor an integer of at least 0.
    """
    if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
        raise InvalidOptionError(
            f"limit() was given {describe_sender(count)}; it takes an integer of at least 0, or "
            f"None for no limit"
        )


def _criterion(model: type, given: Any) -> Any:
    name = model.__name__
    if _returns_rows(given):
        raise InvalidOptionError(
            f"a criterion of {describe_sender(model)} is {describe_sender(given)}, which "
            f"returns rows and is not a condition; write filter({name}.id.in_(select(…)))"
        )
    if is_expression(given):
        return given
    if isinstance(given, bool):
        raise InvalidOptionError(
            f"a criterion of {describe_sender(model)} is {given}, which Python has computed "
            f"before any row was read; compare an attribute of the class, such as "
            f"{name}.id == 5, with is_(None) instead of 'is None'"
        )
    raise InvalidOptionError(
        f"a criterion of {describe_sender(model)} is {describe_sender(type(given))}, not an SQL "
        f"expression; write filter({name}.id == 5) or filter(id=5), and get(5) for a key"
    )


def _returns_rows(given: Any) -> bool:
    """Whether this is a table or a statement instead of an expression with one value."""
    return isinstance(given, ReturnsRows) and not isinstance(given, ColumnElement)


def _equals(model: type, name: str, value: Any) -> Any:
    attribute = attribute_named(model, name)
    problem = problem_of_comparison(property_named(inspect(model), name), value)
    if problem is not None:
        raise InvalidOptionError(
            f"a criterion of {describe_sender(model)} is {name}={describe_sender(value)}, and "
            f"{problem}"
        )
    return attribute == value


def _sortable(model: type, name: str) -> QueryableAttribute[Any]:
    if isinstance(property_named(inspect(model), name), RelationshipProperty):
        raise UnknownFieldError(
            f"order_by() names {shortened(name)}, which is a relationship of "
            f"{describe_sender(model)}; name its foreign key, or use a select() with a join"
        )
    return attribute_named(model, name)


def _key_equals(model: type, value: Any) -> ColumnElement[bool]:
    names = info_of(inspect(model)).key_names
    values = _key_values(model, names, value)
    if len(values) != len(names):
        raise UnknownFieldError(
            f"a key of {len(values)} value(s) was given, and the primary key of "
            f"{describe_sender(model)} consists of {', '.join(names)}; give a tuple in that order"
        )
    return and_(*(_equals(model, name, each) for name, each in zip(names, values, strict=True)))


def _key_values(model: type, names: Iterable[str], value: Any) -> tuple[Any, ...]:
    """The values of a key, given as a tuple, as a dict by names, or as one value."""
    names = [*names]
    is_one = len(names) == 1 and not takes_one_value(inspect(model).primary_key[0])
    if isinstance(value, tuple):
        return value
    if isinstance(value, Mapping) and not is_one:
        if {*value} != {*names}:
            raise UnknownFieldError(
                f"a key was given by the names {', '.join(map(shortened, value)) or '(none)'}, and "
                f"the primary key of {describe_sender(model)} consists of {', '.join(names)}"
            )
        return tuple(value[name] for name in names)
    return (value,)
