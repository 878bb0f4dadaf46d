"""Manager: ``Model.objects``, a thin layer over a session for one model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, inspect, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import QueryableAttribute

from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import InvalidOptionError, UnknownFieldError
from aksara_signals.orm.bridge.dialects import is_mysql
from aksara_signals.orm.bridge.sessions import is_flushing
from aksara_signals.orm.objects.bulk import check_batch_size, instances_given
from aksara_signals.orm.objects.bulk_create import bulk_create
from aksara_signals.orm.objects.bulk_update import bulk_update, changed_fields, column_fields
from aksara_signals.orm.objects.criteria import matching, require_mapped
from aksara_signals.orm.objects.queryset import QuerySet
from aksara_signals.orm.objects.values import require_constructible
from aksara_signals.orm.session.current import (
    AnySession,
    flush,
    run_sync,
    session_for,
    user_session,
)

ModelT = TypeVar("ModelT")


class Manager(Generic[ModelT]):
    """Creates, reads and writes instances of one model.

    ``Model.objects`` returns one. For a class without the mixin, create one: ``Manager(Model)``.
    Every method that runs a statement takes ``session=``. Without it, the session is found as for
    :class:`~aksara_signals.orm.SignalMixin`. Only a session that the library opens is committed.

    Args:
        model: A mapped class.

    Raises:
        UnmappedClassError: The class is not mapped.

    Source: Django's ``Manager``, with the verbs of ormar and Edgy.
    """

    __slots__ = ("model",)

    def __init__(self, model: type[ModelT]) -> None:
        require_mapped(model)
        self.model: type[ModelT] = model
        """The mapped class."""

    def __repr__(self) -> str:
        return f"<Manager of {describe_sender(self.model)}>"

    # -- writing -------------------------------------------------------------------------------

    async def create(self, session: AnySession | None = None, **values: Any) -> ModelT:
        """Create an instance, add it to the session and flush.

        Inside a pre receiver, the instance is written by the flush that is under way.

        Args:
            session: The session to use.
            values: The constructor's arguments.

        Raises:
            UnknownFieldError: A value can't be written, for example that of a computed column.
            InvalidOptionError: A relationship is given anything but instances of its class.
        """
        require_constructible(self.model, values, "create()")

        def work(plain: Session) -> ModelT:
            instance = self.model(**values)
            plain.add(instance)
            flush(plain)
            return instance

        async with session_for(self.model, session) as found:
            return await run_sync(found, work)

    async def get_or_create(
        self,
        defaults: Mapping[str, Any] | None = None,
        session: AnySession | None = None,
        **equals: Any,
    ) -> tuple[ModelT, bool]:
        """The one instance that matches, created if there is none.

        The INSERT runs in a savepoint. If another transaction inserts the same row first, that row
        is returned, under a lock if the snapshot of a MySQL transaction lacks it.

        Args:
            defaults: Constructor arguments of a new instance, in addition to ``equals``.
            session: The session to use.
            equals: Attribute names and their values.

        Returns:
            The instance, and whether it was created.

        Raises:
            InvalidOptionError: ``defaults`` is not a dict.
            sqlalchemy.exc.MultipleResultsFound: Several instances match.
            sqlalchemy.exc.IntegrityError: A new row collides with one that doesn't match.

        Source: Django's ``get_or_create``.
        """
        if defaults is not None and not isinstance(defaults, Mapping):
            raise InvalidOptionError(
                f"get_or_create() was given defaults={describe_sender(type(defaults))}; it takes a "
                f"dict of attribute names and values, and what must match by name: "
                f"get_or_create(name=…, defaults={{…}})"
            )
        async with session_for(self.model, session) as found:
            owner = user_session(found)
            instance = await self.get_or_none(session=owner, **equals)
            if instance is not None:
                return instance, False
            values = {**equals, **(defaults or {})}
            try:
                return await run_sync(found, lambda plain: self._insert(plain, values)), True
            except IntegrityError:
                instance = await self.get_or_none(session=owner, **equals)
                if instance is None:
                    instance = await run_sync(found, lambda plain: self._committed(plain, equals))
                if instance is None:
                    raise
                return instance, False

    def _committed(self, session: Session, equals: dict[str, Any]) -> ModelT | None:
        """The instance that matches, on MySQL, whatever the snapshot of the transaction holds.

        By default a transaction of MySQL reads from a snapshot (REPEATABLE READ). It lacks rows
        that others have committed since; an INSERT collides with them nevertheless. Only a SELECT
        that locks rows sees them.
        """
        if not is_mysql(session.get_bind(inspect(self.model)).dialect):
            return None
        # The collision has left a shared lock, also to others: an exclusive one is a deadlock.
        statement = select(self.model).where(*matching(self.model, (), equals))
        statement = statement.with_for_update(read=True).limit(2)
        return session.scalars(statement).unique().one_or_none()

    def _insert(self, session: Session, values: dict[str, Any]) -> ModelT:
        if "pk" in values:
            raise UnknownFieldError(
                "get_or_create(pk=…) can't create an instance: a constructor takes no pk; name the "
                "attributes of the key"
            )
        require_constructible(self.model, values, "get_or_create()")
        instance = self.model(**values)
        if is_flushing(session):
            session.add(instance)  # a savepoint can't be opened before a flush
            return instance
        with session.begin_nested():
            session.add(instance)
            session.flush()
        return instance

    async def bulk_create(
        self,
        instances: Iterable[ModelT],
        batch_size: int | None = None,
        session: AnySession | None = None,
    ) -> list[ModelT]:
        """Insert many rows in few statements. Only ``pre_`` and ``post_bulk_create`` are sent.

        Args:
            instances: New instances, without relationships set. Changes that ``pre_bulk_create``
                receivers make are written.
            batch_size: The maximum number of rows in one statement; None leaves it to SQLAlchemy.
            session: The session to use.

        Returns:
            The instances in their order, persistent (detached if the library has opened the
            session), with keys and server defaults.

        Raises:
            InstanceStateError: An instance has a row already, or relationships set, or holds SQL,
                or is of another model. Nothing is written then.
            InvalidOptionError: ``batch_size`` is not a positive integer, or ``instances`` isn't a
                list of mapped instances.

        Source: Django's ``bulk_create``, which sends nothing.
        """
        check_batch_size(batch_size)
        members = instances_given(instances, "bulk_create()")
        if members:
            async with session_for(self.model, session) as found:
                await run_sync(
                    found,
                    lambda plain: bulk_create(plain, self.model, members, batch_size),
                )
        return members

    async def bulk_update(
        self,
        instances: Iterable[ModelT],
        fields: Iterable[str | QueryableAttribute[Any]] | None = None,
        batch_size: int | None = None,
        session: AnySession | None = None,
    ) -> int:
        """Update columns of many rows by primary key.

        Only ``pre_bulk_update`` and ``post_bulk_update`` are sent. Nothing is flushed. The fields
        become committed. Columns that ``pre_bulk_update`` receivers set are written, too; other
        pending values stay pending.

        Args:
            instances: Instances with rows.
            fields: Names of columns outside the primary key, or their attributes. None means the
                changed columns of each instance; instances without a change are not written then.
            batch_size: The maximum number of rows in one statement; None means all.
            session: The session to use.

        Returns:
            The number of instances that were written.

        Raises:
            UnknownFieldError: ``fields`` names anything else, or nothing.
            InstanceStateError: An instance has no row yet, or holds SQL, or is of another model. Or
                ``fields`` is left out, and something was changed that a bulk update can't write.
            InvalidOptionError: ``batch_size`` is not a positive integer, or ``instances`` isn't a
                list of mapped instances.

        Source: Django's ``bulk_update``, which sends nothing; ormar's ``post_bulk_update``.
        """
        check_batch_size(batch_size)
        names = None if fields is None else column_fields(self.model, fields)
        members = instances_given(instances, "bulk_update()")
        if names is None:
            names = changed_fields(self.model, members)
        if not members or not names:
            return 0
        async with session_for(self.model, session) as found:
            return await run_sync(
                found,
                lambda plain: bulk_update(
                    plain, self.model, members, names, batch_size, only_changed=fields is None
                ),
            )

    async def update(self, session: AnySession | None = None, **values: Any) -> int:
        """Update every row; see :meth:`QuerySet.update`."""
        return await QuerySet(self.model).update(session, **values)

    async def delete(self, session: AnySession | None = None) -> int:
        """Delete every row; see :meth:`QuerySet.delete`."""
        return await QuerySet(self.model).delete(session)

    def with_signals(self, enabled: bool = True) -> QuerySet[ModelT]:
        """Every row, with signals when it is written; see :meth:`QuerySet.with_signals`."""
        return QuerySet(self.model).with_signals(enabled)

    # -- reading -------------------------------------------------------------------------------

    def filter(
        self, *criteria: ColumnElement[bool], session: AnySession | None = None, **equals: Any
    ) -> QuerySet[ModelT]:
        """The rows that match; see :meth:`QuerySet.filter`."""
        return QuerySet(self.model).filter(*criteria, session=session, **equals)

    def order_by(self, *clauses: Any) -> QuerySet[ModelT]:
        """Every row, in an order; see :meth:`QuerySet.order_by`."""
        return QuerySet(self.model).order_by(*clauses)

    def limit(self, count: int | None) -> QuerySet[ModelT]:
        """The first rows only; see :meth:`QuerySet.limit`."""
        return QuerySet(self.model).limit(count)

    async def all(self, session: AnySession | None = None) -> list[ModelT]:
        """Every instance."""
        return await QuerySet(self.model).all(session)

    async def first(self, session: AnySession | None = None) -> ModelT | None:
        """The instance with the lowest primary key, or None."""
        return await QuerySet(self.model).first(session)

    async def get(self, *criteria: Any, session: AnySession | None = None, **equals: Any) -> ModelT:
        """The one instance that matches; see :meth:`QuerySet.get`."""
        return await QuerySet(self.model).get(*criteria, session=session, **equals)

    async def get_or_none(
        self, *criteria: Any, session: AnySession | None = None, **equals: Any
    ) -> ModelT | None:
        """The one instance that matches, or None; see :meth:`QuerySet.get_or_none`."""
        return await QuerySet(self.model).get_or_none(*criteria, session=session, **equals)

    async def count(self, session: AnySession | None = None) -> int:
        """The number of rows."""
        return await QuerySet(self.model).count(session)

    async def exists(self, session: AnySession | None = None) -> bool:
        """Whether there is any row."""
        return await QuerySet(self.model).exists(session)


class ManagerAttribute:
    """``Model.objects``: the manager of the class that it is read from."""

    def __get__(self, instance: object, owner: type[ModelT]) -> Manager[ModelT]:
        if instance is not None:
            raise AttributeError(
                f"a manager belongs to a class, not to an instance: write {owner.__name__}.objects"
            )
        return Manager(owner)
