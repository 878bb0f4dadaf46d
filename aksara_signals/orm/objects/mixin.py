"""SignalMixin: the life cycle of a mapped class, wired to the signals."""

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
    """Inherit it beside the declarative base, and writes of the mapped classes send signals.

    Nothing else is needed: whatever is written through a ``Session`` or ``AsyncSession`` is told,
    however it is written. The methods here are a convenience; they add, set, delete and flush,
    and send nothing themselves. They never commit a session of yours. A model whose column is
    named like one of them simply has the column.

    Each finds its session in this order: ``session=``, the instance's own, the one at work in the
    receiver that is under way, the one of :func:`session_scope`, and a new one from the factory
    given to :meth:`bind_sessions`, which alone is committed and closed.

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
    """``Model.meta.signals`` and ``Model.Meta.signals``, as in ormar, Edgy and Mongoz; the latter
    also where the model has a ``class Meta`` of its own."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        give_signals_to_meta(cls)

    @classmethod
    def bind_sessions(cls, factory: Callable[..., AnySession] | None) -> None:
        """Give this class and its subclasses sessions for operations that find no other.

        Args:
            factory: An ``async_sessionmaker`` or ``sessionmaker``. Each operation opens one
                session, with ``expire_on_commit=False``, and commits it. None takes back what was
                given to this very class.

        Raises:
            InvalidOptionError: The factory can't be called.
        """
        bind_sessions(cls, factory)

    async def save(
        self,
        session: AnySession | None = None,
        update_fields: Iterable[str | QueryableAttribute[Any]] | None = None,
    ) -> None:
        """Add this instance to a session and flush it.

        Inside a pre receiver nothing is flushed: the instance joins the flush under way.

        An instance without a change is sent all the same: ``pre_save``, ``pre_update``,
        ``post_update`` and ``post_save``, with empty ``changes``. An UPDATE is issued only if a
        receiver sets something. Nothing is sent inside a save, update or delete receiver of the
        same row, nor for an instance that the session is to delete.

        Args:
            session: Which session; see the class for what happens without.
            update_fields: Write only these attributes, named by strings or as ``Post.title``.
                Others keep their pending values and stay unsaved; what pre receivers set is
                written besides. Empty means: do nothing.

        Raises:
            UnknownFieldError: ``update_fields`` names what can't be written, such as a column that
                the database computes.
            InvalidOptionError: ``update_fields`` holds no names.
            InstanceStateError: ``update_fields`` was given and there is no row to update yet.
            NoSessionError: No session is to be found.
            UnmappedClassError: The class is not mapped. The same for the other verbs.

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
        with partial_save(self, fields):  # outside, because a session of our own flushes at its end
            async with session_for(type(self), session, instance=self) as writer:
                await run_sync(writer, lambda plain: save(plain, self))

    async def update(self, session: AnySession | None = None, **values: Any) -> None:
        """Set attributes and flush; without any, flush what was set before.

        It was asked for, so it is sent as :meth:`save` is.

        Args:
            session: Which session; see the class for what happens without.
            values: Attribute names and their new values.

        Raises:
            UnknownFieldError: A name is no attribute that can be set. Nothing is set then.
            InvalidOptionError: A relationship is given something else than mapped instances.
            InstanceStateError: There is no row to update.
            NoSessionError: No session is to be found. Nothing is set then.

        Source: ormar's and Edgy's ``Model.update``.
        """
        cls = type(self)
        require_mapped(cls)
        require_values_for(cls, values, "update()")
        _require_row(self, "update()")
        async with session_for(cls, session, instance=self) as writer:
            await run_sync(writer, lambda plain: save(plain, self, values))

    async def delete(self, session: AnySession | None = None) -> None:
        """Delete this instance's row and flush; a pending instance is just taken out again.

        Args:
            session: Which session; see the class for what happens without.

        Raises:
            InstanceStateError: The instance was never added to a session.
            NoSessionError: No session is to be found.

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
        """A relationship of this instance, to add to and take out of by awaiting.

        Args:
            name: The relationship's, or the relationship itself: ``Post.tags``.
            session: Which session; see the class for what happens without.

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
