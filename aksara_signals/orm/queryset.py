"""QuerySet: the rows that match some criteria, to be read, updated or deleted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, delete, exists, func, inspect, select, tuple_, update
from sqlalchemy.exc import MultipleResultsFound, NoResultFound
from sqlalchemy.orm import Session

from aksara_signals.exceptions import UnknownFieldError
from aksara_signals.orm import bridge, sessions
from aksara_signals.orm.columns import attribute_named, columns_of, key_names, matching
from aksara_signals.orm.sessions import AnySession

__all__ = ["QuerySet"]

ModelT = TypeVar("ModelT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True)
class QuerySet(Generic[ModelT]):
    """Rows of a model, chosen by criteria; made by ``Model.objects.filter(…)``, never changed.

    Nothing is executed until a verb is awaited. Each verb takes ``session=``; without it, the
    session is found as for :class:`~aksara_signals.orm.SignalMixin`. Instances read through a
    session of the library's own are detached, and readable.

    Source: Django's ``QuerySet``, as far as signals are concerned. Anything richer is a
    ``select()``.
    """

    model: type[ModelT]
    """The mapped class."""
    criteria: tuple[ColumnElement[bool], ...] = ()
    """All of them must hold."""
    order: tuple[Any, ...] = ()
    """SQL expressions; without any, the order is the database's."""
    limited_to: int | None = None
    """How many rows at most; None means all."""
    session: AnySession | None = None
    """What :meth:`filter` was given."""
    sends_signals: bool = False
    """Whether :meth:`update` and :meth:`delete` send the signals of each instance."""

    # -- choosing ------------------------------------------------------------------------------

    def filter(
        self, *criteria: ColumnElement[bool], session: AnySession | None = None, **equals: Any
    ) -> QuerySet[ModelT]:
        """The rows that match besides.

        Args:
            criteria: SQL expressions, such as ``Post.views > 5``.
            session: The session of the verbs that follow, unless they are given another one.
            equals: Attribute names and their values; ``pk`` is the primary key.

        Raises:
            UnknownFieldError: A name is no attribute of the model.
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
            clauses: Attributes or SQL expressions (``Post.views.desc()``), or attribute names; a
                minus before a name turns the order round.

        Raises:
            UnknownFieldError: A name is no attribute of the model.
        """
        order = (
            self._clauses_named(each) if isinstance(each, str) else (each,) for each in clauses
        )
        return replace(self, order=tuple(chain.from_iterable(order)))

    def limit(self, count: int | None) -> QuerySet[ModelT]:
        """The first rows only, at most ``count``; None takes the limit away."""
        return replace(self, limited_to=count)

    def with_signals(self) -> QuerySet[ModelT]:
        """Make :meth:`update` and :meth:`delete` send the signals of each instance.

        They then select the rows, lock them where the database can (``FOR UPDATE``), and write
        them through the unit of work.

        Source: Edgy and Mongoz, whose query-level operations always send.
        """
        return replace(self, sends_signals=True)

    # -- reading -------------------------------------------------------------------------------

    async def all(self, session: AnySession | None = None) -> list[ModelT]:
        """The instances, in the order asked for."""
        statement = self._select()
        return await self._within(session, lambda plain: [*plain.scalars(statement).unique().all()])

    async def first(self, session: AnySession | None = None) -> ModelT | None:
        """The first instance, by primary key unless another order was asked for; or None."""
        statement = self._ordered().limit(1)
        return await self._within(session, lambda plain: plain.scalars(statement).unique().first())

    async def get(
        self, *criteria: ColumnElement[bool], session: AnySession | None = None, **equals: Any
    ) -> ModelT:
        """The one instance that matches, also what :meth:`filter` would take.

        Raises:
            sqlalchemy.exc.NoResultFound: There is none.
            sqlalchemy.exc.MultipleResultsFound: There are several.
        """
        return await self._one(criteria, equals, session, _one)

    async def get_or_none(
        self, *criteria: ColumnElement[bool], session: AnySession | None = None, **equals: Any
    ) -> ModelT | None:
        """The one instance that matches, or None.

        Raises:
            sqlalchemy.exc.MultipleResultsFound: There are several.
        """
        return await self._one(criteria, equals, session, _one_or_none)

    async def count(self, session: AnySession | None = None) -> int:
        """How many rows there are."""
        rows = self._select().with_only_columns(*self._key_columns()).order_by(None)
        statement = select(func.count()).select_from(rows.subquery())
        return await self._within(session, lambda plain: plain.scalars(statement).one())

    async def exists(self, session: AnySession | None = None) -> bool:
        """Whether there is any row."""
        rows = self._select().with_only_columns(*self._key_columns()).order_by(None)
        statement = select(exists(rows.subquery().select()))
        return await self._within(session, lambda plain: bool(plain.scalars(statement).one()))

    # -- writing -------------------------------------------------------------------------------

    async def update(self, session: AnySession | None = None, **values: Any) -> int:
        """Update the rows, in one statement and silently unless :meth:`with_signals`.

        Args:
            session: Which session.
            values: Attribute names and their values; SQL (``views=Post.views + 1``) works.

        Returns:
            How many rows were matched.

        Raises:
            UnknownFieldError: A name can't be written, or there are none.
        """
        for name in values:
            attribute_named(self.model, name)
        if not values:
            raise UnknownFieldError("update() was given no values; name at least one column")
        if self.sends_signals:
            return await self._within(session, lambda plain: self._update_each(plain, values))
        columns = columns_of(inspect(self.model))
        for name in values:
            synonym = inspect(self.model).synonyms.get(name)
            if (name if synonym is None else synonym.name) not in columns:
                raise UnknownFieldError(
                    f"update() names {name!r}, which is no column, and one UPDATE statement writes "
                    f"columns only; name the foreign key, or use .with_signals().update(…)"
                )
        statement = update(self.model).where(*self._one_statement_criteria()).values(**values)
        return await self._within(session, lambda plain: bridge.row_count(plain, statement))

    async def delete(self, session: AnySession | None = None) -> int:
        """Delete the rows, in one statement and silently unless :meth:`with_signals`.

        One statement knows nothing of the ORM's cascades: the database's have to do.

        Returns:
            How many rows were matched.
        """
        if self.sends_signals:
            return await self._within(session, self._delete_each)
        statement = delete(self.model).where(*self._one_statement_criteria())
        return await self._within(session, lambda plain: bridge.row_count(plain, statement))

    def _update_each(self, session: Session, values: dict[str, Any]) -> int:
        instances = self._lock(session)
        for instance in instances:
            for name, value in values.items():
                setattr(instance, name, value)
        sessions.flush(session)
        return len(instances)

    def _delete_each(self, session: Session) -> int:
        instances = self._lock(session)
        for instance in instances:
            session.delete(instance)
        sessions.flush(session)
        return len(instances)

    def _lock(self, session: Session) -> list[ModelT]:
        statement = self._ordered().with_for_update(of=self.model)
        if session.autoflush and not bridge.is_flushing(session):
            # Another transaction may have written them since they were loaded; what is pending
            # here has just been flushed.
            statement = statement.execution_options(populate_existing=True)
        return [*session.scalars(statement).unique().all()]

    # ------------------------------------------------------------------------------------------

    def _select(self) -> Select[Any]:
        statement = select(self.model).where(*self.criteria).order_by(*self.order)
        return statement if self.limited_to is None else statement.limit(self.limited_to)

    def _ordered(self) -> Select[Any]:
        statement = self._select()
        # Also what keeps two that lock the same rows from waiting for each other.
        return statement if self.order else statement.order_by(*self._key_columns())

    def _clauses_named(self, name: str) -> list[Any]:
        bare = name.removeprefix("-")
        found = self._key_columns() if bare == "pk" else [attribute_named(self.model, bare)]
        return found if bare == name else [each.desc() for each in found]

    def _key_columns(self) -> list[Any]:
        return [getattr(self.model, name) for name in key_names(inspect(self.model))]

    def _one_statement_criteria(self) -> tuple[ColumnElement[bool], ...]:
        if self.limited_to is None:
            return self.criteria
        keys = self._key_columns()
        chosen = self._ordered().with_only_columns(*keys)
        return ((tuple_(*keys) if len(keys) > 1 else keys[0]).in_(chosen),)

    async def _one(
        self,
        given: tuple[ColumnElement[bool], ...],
        equals: dict[str, Any],
        session: AnySession | None,
        choose: Callable[[QuerySet[ModelT], list[ModelT]], ResultT],
    ) -> ResultT:
        chosen = self.filter(*given, **equals)
        return choose(chosen, await chosen.limit(2).all(session))

    async def _within(
        self, session: AnySession | None, work: Callable[[Session], ResultT]
    ) -> ResultT:
        given = self.session if session is None else session
        async with sessions.session_for(self.model, given) as found:
            return await sessions.within(found, work)


def _one(queryset: QuerySet[ModelT], found: list[ModelT]) -> ModelT:
    instance = _one_or_none(queryset, found)
    if instance is None:
        raise NoResultFound(
            f"no {queryset.model.__name__} matches; get_or_none() gives None instead"
        )
    return instance


def _one_or_none(queryset: QuerySet[ModelT], found: list[ModelT]) -> ModelT | None:
    if len(found) > 1:
        raise MultipleResultsFound(
            f"more than one {queryset.model.__name__} matches; narrow the criteria, or use first()"
        )
    return found[0] if found else None
