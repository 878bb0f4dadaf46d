"""QuerySet: the rows that match criteria, to read, update or delete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, delete, exists, func, select, tuple_, update
from sqlalchemy.exc import MultipleResultsFound, NoResultFound
from sqlalchemy.orm import Session

from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import InvalidOptionError, UnknownFieldError
from aksara_signals.orm.bridge.rows import row_count
from aksara_signals.orm.bridge.sessions import is_flushing
from aksara_signals.orm.objects.criteria import (
    attribute_named,
    key_columns,
    matching,
    order_clauses,
    require_limit,
    require_mapped,
    with_key,
)
from aksara_signals.orm.objects.values import require_column, require_values_for
from aksara_signals.orm.session.current import (
    AnySession,
    flush,
    run_sync,
    session_for,
    sync_session_of,
)

ModelT = TypeVar("ModelT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class QuerySet(Generic[ModelT]):
    """Rows of a model that match criteria; created by ``Model.objects.filter(…)``, immutable.

    Nothing is executed until a method is awaited. Each of these takes ``session=``. Without it, the
    session is found as for :class:`~aksara_signals.orm.SignalMixin`. If the library has opened the
    session, the instances are detached, and their columns are readable.

    Source: Django's ``QuerySet``, as far as signals are concerned. For anything richer, use a
    ``select()``.
    """

    model: type[ModelT]
    """The mapped class."""
    criteria: tuple[ColumnElement[bool], ...] = ()
    """All of them must hold."""
    order: tuple[Any, ...] = ()
    """SQL expressions to order by; without any, the order is the database's."""
    limited_to: int | None = None
    """The maximum number of rows; None means all."""
    session: AnySession | None = None
    """The session that :meth:`filter` was given."""
    sends_signals: bool = False
    """Whether :meth:`update` and :meth:`delete` send the signals of each instance."""

    def __post_init__(self) -> None:
        require_mapped(self.model)

    # -- choosing ------------------------------------------------------------------------------

    def filter(
        self, *criteria: ColumnElement[bool], session: AnySession | None = None, **equals: Any
    ) -> QuerySet[ModelT]:
        """The rows that match these criteria as well.

        Args:
            criteria: SQL expressions, such as ``Post.views > 5``.
            session: The session of the methods that follow, unless they are given another one.
            equals: Attribute names and their values; ``pk`` is the primary key.

        Raises:
            UnknownFieldError: A name is not an attribute of the model.
        """
        found = matching(self.model, criteria, equals)
        return replace(
            self,
            criteria=(*self.criteria, *found),
            session=self.session if session is None else session,
        )

    def order_by(self, *clauses: Any) -> QuerySet[ModelT]:
        """The same rows in another order.

        Args:
            clauses: Attributes or SQL expressions (``Post.views.desc()``), or attribute names. A
                minus before a name means descending order. Without any, the order is the
                database's again.

        Raises:
            UnknownFieldError: A name is not an attribute of the model, or is a relationship.
            InvalidOptionError: A clause is neither a name nor SQL.
        """
        return replace(self, order=tuple(order_clauses(self.model, clauses)))

    def limit(self, count: int | None) -> QuerySet[ModelT]:
        """The first rows only, at most ``count``; None removes the limit.

        Raises:
            InvalidOptionError: ``count`` is neither None nor an integer of at least 0.
        """
        require_limit(count)
        return replace(self, limited_to=count)

    def with_signals(self, enabled: bool = True) -> QuerySet[ModelT]:
        """Make :meth:`update` and :meth:`delete` send the signals of each instance.

        They then select the rows, lock them where the database can (``FOR UPDATE``), and write
        them through the unit of work.

        Args:
            enabled: False makes them send no signals again.

        Raises:
            InvalidOptionError: ``enabled`` is neither True nor False.

        Source: Edgy and Mongoz, whose query-level operations always send.
        """
        if not isinstance(enabled, bool):
            raise InvalidOptionError(
                f"with_signals() was given {describe_sender(enabled)}; it takes True, False or "
                f"nothing, and comes before update(…) or delete()"
            )
        return replace(self, sends_signals=enabled)

    # -- reading -------------------------------------------------------------------------------

    async def all(self, session: AnySession | None = None) -> list[ModelT]:
        """The instances, in the order of :meth:`order_by`."""
        statement = self._select()
        return await self._run(session, lambda plain: [*plain.scalars(statement).unique().all()])

    async def first(self, session: AnySession | None = None) -> ModelT | None:
        """The first instance, by primary key unless :meth:`order_by` was called; or None."""
        statement = self._ordered().limit(self._at_most(1))
        return await self._run(session, lambda plain: plain.scalars(statement).unique().first())

    async def get(self, *criteria: Any, session: AnySession | None = None, **equals: Any) -> ModelT:
        """The one instance that matches a primary key or the arguments of :meth:`filter`.

        ``get(5)`` is by primary key. A key of several columns is a tuple: ``get((1, 2))``.

        Raises:
            sqlalchemy.exc.NoResultFound: There is none.
            sqlalchemy.exc.MultipleResultsFound: There are several.
        """
        return await self._one(criteria, equals, session, _one)

    async def get_or_none(
        self, *criteria: Any, session: AnySession | None = None, **equals: Any
    ) -> ModelT | None:
        """The one instance that matches, or None; takes the arguments of :meth:`get`.

        Raises:
            sqlalchemy.exc.MultipleResultsFound: There are several.
        """
        return await self._one(criteria, equals, session, _one_or_none)

    async def count(self, session: AnySession | None = None) -> int:
        """The number of rows."""
        rows = self._select().with_only_columns(*key_columns(self.model)).order_by(None)
        statement = select(func.count()).select_from(rows.subquery())
        return await self._run(session, lambda plain: plain.scalars(statement).one())

    async def exists(self, session: AnySession | None = None) -> bool:
        """Whether there is any row."""
        rows = self._select().with_only_columns(*key_columns(self.model)).order_by(None)
        statement = select(exists(rows.subquery().select()))
        return await self._run(session, lambda plain: bool(plain.scalars(statement).one()))

    # -- writing -------------------------------------------------------------------------------

    async def update(self, session: AnySession | None = None, **values: Any) -> int:
        """Update the rows in one statement, or one by one after :meth:`with_signals`.

        One statement calls only receivers with ``statements=True``.

        Args:
            session: The session to use.
            values: Attribute names and their values, which may be SQL (``views=Post.views + 1``).

        Returns:
            The number of rows that were matched.

        Raises:
            UnknownFieldError: An attribute can't be written, or none was given.
            InvalidOptionError: A relationship is given anything but mapped instances.
        """
        if session is not None:
            sync_session_of(session)  # raises for a dict of values, a frequent mistake
        if not values:
            raise UnknownFieldError("update() was given no values; name at least one column")
        if self.sends_signals:
            require_values_for(self.model, values, "update()")
            return await self._run(session, lambda plain: self._update_each(plain, values))
        for name, value in values.items():
            attribute_named(self.model, name)
            require_column(self.model, name, value)
        statement = update(self.model).where(*self._one_statement_criteria()).values(**values)
        return await self._run(session, lambda plain: row_count(plain, statement))

    async def delete(self, session: AnySession | None = None) -> int:
        """Delete the rows in one statement, or one by one after :meth:`with_signals`.

        One statement calls only receivers with ``statements=True``. It doesn't run the ORM's
        cascades, only those of the database.

        Returns:
            The number of rows that were matched.
        """
        if self.sends_signals:
            return await self._run(session, self._delete_each)
        statement = delete(self.model).where(*self._one_statement_criteria())
        return await self._run(session, lambda plain: row_count(plain, statement))

    def _update_each(self, session: Session, values: dict[str, Any]) -> int:
        instances = self._lock(session)
        for instance in instances:
            for name, value in values.items():
                setattr(instance, name, value)
        flush(session)
        return len(instances)

    def _delete_each(self, session: Session) -> int:
        instances = self._lock(session)
        for instance in instances:
            session.delete(instance)
        flush(session)
        return len(instances)

    def _lock(self, session: Session) -> list[ModelT]:
        statement = self._ordered().with_for_update(of=self.model)
        if session.autoflush and not is_flushing(session):
            # Another transaction may have written the rows since they were loaded here. Pending
            # changes aren't lost: autoflush writes them before this SELECT.
            statement = statement.execution_options(populate_existing=True)
        return [*session.scalars(statement).unique().all()]

    # ------------------------------------------------------------------------------------------

    def _select(self) -> Select[Any]:
        statement = select(self.model).where(*self.criteria).order_by(*self.order)
        return statement if self.limited_to is None else statement.limit(self.limited_to)

    def _ordered(self) -> Select[Any]:
        statement = self._select()
        # Ordered by key if by nothing else: two transactions that lock the same rows in different
        # orders could deadlock.
        return statement if self.order else statement.order_by(*key_columns(self.model))

    def _at_most(self, count: int) -> int:
        return count if self.limited_to is None else min(self.limited_to, count)

    def _one_statement_criteria(self) -> tuple[ColumnElement[bool], ...]:
        if self.limited_to is None:
            return self.criteria
        keys = key_columns(self.model)
        # MySQL takes a LIMIT, and the table that is written, in a subquery of a subquery only.
        chosen = select(self._ordered().with_only_columns(*keys).subquery())
        return ((tuple_(*keys) if len(keys) > 1 else keys[0]).in_(chosen),)

    async def _one(
        self,
        given: tuple[Any, ...],
        equals: dict[str, Any],
        session: AnySession | None,
        choose: Callable[[QuerySet[ModelT], list[ModelT]], ResultT],
    ) -> ResultT:
        chosen = self.filter(*with_key(self.model, given), **equals)
        return choose(chosen, await chosen.limit(self._at_most(2)).all(session))

    async def _run(self, session: AnySession | None, work: Callable[[Session], ResultT]) -> ResultT:
        given = self.session if session is None else session
        async with session_for(self.model, given) as found:
            return await run_sync(found, work)


def _one(queryset: QuerySet[ModelT], found: list[ModelT]) -> ModelT:
    instance = _one_or_none(queryset, found)
    if instance is None:
        raise NoResultFound(
            f"no {queryset.model.__name__} matches; get_or_none() returns None instead"
        )
    return instance


def _one_or_none(queryset: QuerySet[ModelT], found: list[ModelT]) -> ModelT | None:
    if len(found) > 1:
        raise MultipleResultsFound(
            f"more than one {queryset.model.__name__} matches; narrow the criteria, or use first()"
        )
    return found[0] if found else None
