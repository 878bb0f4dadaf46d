"""SignalMixin: makes the mapped subclasses of a class send signals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from sqlalchemy import inspect
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import QueryableAttribute

from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import InstanceStateError
from aksara_signals.orm.flush.partial_save import partial_save, writable_fields
from aksara_signals.orm.flush.requested import save
from aksara_signals.orm.mapping.registered import wire
from aksara_signals.orm.objects.criteria import require_mapped
from aksara_signals.orm.objects.manager import ManagerAttribute
from aksara_signals.orm.objects.meta import MetaAttribute, give_signals_to_meta
from aksara_signals.orm.objects.model_signals import EmitterAttribute
from aksara_signals.orm.objects.related import Related
from aksara_signals.orm.objects.values import require_values_for
from aksara_signals.orm.session.current import (
    AnySession,
    bind_sessions,
    flush,
    run_sync,
    session_for,
)


class SignalMixin:
    """Inherit it next to the declarative base, and writes of the mapped classes send signals.

    Nothing else is needed: signals are sent for everything that the unit of work of a ``Session``
    or ``AsyncSession`` writes. The methods here are a convenience. They add, set, delete and flush,
    and send nothing themselves. They never commit your session. If a column of a model has the name
    of a method, the model has the column instead.

    Each method finds its session in this order: ``session=``, the instance's own, the active one of
    the receiver that is running, the one of :func:`session_scope`, and a new one from the factory
    given to :meth:`bind_sessions`. Only a new one is committed and closed.

    ``Model.objects`` (or ``Model.query``) creates and reads; ``Model.signals`` connects receivers.

    >>> from sqlalchemy import Column, Integer
    >>> from sqlalchemy.orm import DeclarativeBase
    >>> class Base(SignalMixin, DeclarativeBase):
    ...     pass
    >>> class Post(Base):
    ...     __tablename__ = "post"
    ...     id = Column(Integer, primary_key=True)
    """

    # Class variables: to pydantic, and so to SQLModel, any other annotation is a field.
    objects: ClassVar[ManagerAttribute] = ManagerAttribute()
    """The :class:`~aksara_signals.orm.Manager` of the class."""
    query = objects
    """Edgy's name for :attr:`objects`."""
    signals: ClassVar[EmitterAttribute] = EmitterAttribute()
    """The signals of the class, as in ``Post.signals.post_save.connect(…)``."""
    meta: ClassVar[MetaAttribute] = MetaAttribute()
    Meta: ClassVar[MetaAttribute] = meta
    """``Model.meta.signals`` and ``Model.Meta.signals``, as in ormar, Edgy and Mongoz. The latter
    works also if the model has a ``class Meta`` of its own."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        give_signals_to_meta(cls)

    @classmethod
    def bind_sessions(cls, factory: Callable[..., AnySession] | None) -> None:
        """Give this class and its subclasses a factory of sessions, for operations without one.

        Args:
            factory: An ``async_sessionmaker`` or ``sessionmaker``. Each operation opens one
                session, with ``expire_on_commit=False``, and commits it. None removes the factory
                of this class.

        Raises:
            InvalidOptionError: The factory can't be called.
        """
        bind_sessions(cls, factory)

    async def save(
        self,
        session: AnySession | None = None,
        update_fields: Iterable[str | QueryableAttribute[Any]] | None = None,
    ) -> None:
        """Add this instance to a session and flush.

        Inside a pre receiver nothing is flushed: the instance is written by the flush under way.

        Signals are sent for an instance without a change, too: ``pre_save``, ``pre_update``,
        ``post_update`` and ``post_save``, with empty ``changes``. An UPDATE is issued only if a
        receiver sets something. Nothing is sent inside a save, update or delete receiver of the
        same row, nor for an instance that the session is to delete.

        Args:
            session: The session to use; without it, one is found as the class describes.
            update_fields: Write only these attributes, named by strings or as ``Post.title``.
                Others keep their pending values and stay unsaved. Attributes that pre receivers set
                are written, too. An empty list means to do nothing.

        Raises:
            UnknownFieldError: ``update_fields`` names an attribute that can't be written, such as a
                column that the database computes.
            InvalidOptionError: ``update_fields`` doesn't hold names.
            InstanceStateError: ``update_fields`` was given and there is no row to update yet.
            NoSessionError: There is no session.
            UnmappedClassError: The class is not mapped. The other methods raise it as well.

        Source: Django's ``Model.save``, async and with SQLAlchemy's sessions.
        """
        require_mapped(type(self))
        if update_fields is None:
            async with session_for(type(self), session, instance=self) as writer:
                await run_sync(writer, lambda plain: save(plain, self))
            return
        fields = writable_fields(type(self), update_fields)
        if not fields:
            return
        _require_row(self, "save(update_fields=…)")
        with partial_save(self, fields):  # the outer one: a new session flushes at its end
            async with session_for(type(self), session, instance=self) as writer:
                await run_sync(writer, lambda plain: save(plain, self))

    async def update(self, session: AnySession | None = None, **values: Any) -> None:
        """Set attributes and flush; without any, flush what was set before.

        Signals are sent even if nothing has changed, as by :meth:`save`.

        Args:
            session: The session to use; without it, one is found as the class describes.
            values: Attribute names and their new values.

        Raises:
            UnknownFieldError: A name is not an attribute that can be set. Nothing is set then.
            InvalidOptionError: A relationship is given anything but mapped instances.
            InstanceStateError: There is no row to update.
            NoSessionError: There is no session. Nothing is set then.

        Source: ormar's and Edgy's ``Model.update``.
        """
        cls = type(self)
        require_mapped(cls)
        require_values_for(cls, values, "update()")
        _require_row(self, "update()")
        async with session_for(cls, session, instance=self) as writer:
            await run_sync(writer, lambda plain: save(plain, self, values))

    async def delete(self, session: AnySession | None = None) -> None:
        """Delete this instance's row and flush. A pending instance is removed from its session.

        Args:
            session: The session to use; without it, one is found as the class describes.

        Raises:
            InstanceStateError: The instance was never added to a session.
            NoSessionError: There is no session.

        Source: Django's ``Model.delete``, async and with SQLAlchemy's sessions.
        """
        require_mapped(type(self))
        if inspect(self).transient:
            _require_row(self, "delete()")
        async with session_for(type(self), session, instance=self) as writer:
            if inspect(self).pending:
                writer.expunge(self)
                return
            await run_sync(writer, lambda plain: _delete(plain, self))

    def related(
        self,
        name: str | QueryableAttribute[Any],
        session: AnySession | None = None,
    ) -> Related:
        """A relationship of this instance, to add members to and remove them from.

        Args:
            name: The name of the relationship, or the relationship itself: ``Post.tags``.
            session: The session to use; without it, one is found as the class describes.

        Raises:
            UnknownFieldError: The class has no such relationship.
        """
        require_mapped(type(self))
        return Related(self, name, session)


def _delete(session: Session, instance: object) -> None:
    session.delete(instance)  # its cascades may have to load
    flush(session)


def _require_row(instance: object, operation: str) -> None:
    state = inspect(instance)
    if not state.has_identity:
        raise InstanceStateError(
            f"{operation} needs a row, and this {describe_sender(type(instance))} has none yet; "
            f"save() it first"
        )


wire(SignalMixin)
