"""``instance.related(name)``: a relationship changed by awaiting, loaded or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Mapper, RelationshipDirection, RelationshipProperty, Session
from sqlalchemy.orm.attributes import QueryableAttribute, instance_state
from sqlalchemy.orm.collections import collection_adapter

from aksara_signals.dispatch.receivers.naming import describe_sender, nearest
from aksara_signals.exceptions import InstanceStateError, InvalidOptionError, UnknownFieldError
from aksara_signals.orm.bridge.sessions import is_flushing
from aksara_signals.orm.bridge.states import state_of
from aksara_signals.orm.mapping.attributes import field_name
from aksara_signals.orm.relations.origins import RELATIONS, edits_of, forget_edits
from aksara_signals.orm.session.current import AnySession, flush, run_sync, session_for


class Related:
    """The instances that a relationship leads to; made by ``instance.related(name)``.

    Each verb loads what it needs, changes the relationship and flushes; it returns when the rows
    are written, or, inside a pre receiver, when the flush under way will write them. Members come
    one by one, in a list or in any other iterable. Keyword arguments go to the relation signals as
    ``passed_args`` and nowhere else.

    Args:
        instance: The owner.
        name: Of a relationship to many, or of a one-to-one relationship from its referred side; or
            the relationship itself, as in ``related(Post.tags)``.
        session: Which session; without it, it is found as for
            :class:`~aksara_signals.orm.SignalMixin`.

    Raises:
        UnknownFieldError: The class has no such relationship, or it refers to one instance by a
            foreign key, or it is ``viewonly``.

    Source: Django's related managers; ormar's ``passed_args``.
    """

    def __init__(
        self,
        instance: object,
        name: str | QueryableAttribute[Any],
        session: AnySession | None = None,
    ) -> None:
        self._instance = instance
        self._prop = _relationship(type(instance), name)
        self._session = session

    async def add(self, *members: Any, **passed_args: Any) -> None:
        """Add instances; those that are in it already are passed over.

        Raises:
            InstanceStateError: A member is of another class. Nothing is done, as in all verbs.
            InvalidOptionError: There are several, and the relationship refers to one. The same.
        """
        wanted = self._instances(members)

        def work(collection: _Collection) -> None:
            present = collection.members()
            for member in wanted:
                if not _is_in(member, present):
                    self._pass(member, passed_args)
                    collection.add(member)

        await self._change(work)

    async def remove(self, *members: Any, **passed_args: Any) -> None:
        """Take instances out; those that are not in it are passed over."""
        unwanted = self._instances(members)

        def work(collection: _Collection) -> None:
            present = collection.members()
            for member in unwanted:
                if _is_in(member, present):
                    self._pass(member, passed_args)
                    collection.remove(member)

        await self._change(work)

    async def set(self, *members: Any, **passed_args: Any) -> None:
        """Make these instances the only members: remove others, then add what is missing."""
        wanted = self._instances(members)

        def work(collection: _Collection) -> None:
            present = collection.members()
            for member in present:
                if not _is_in(member, wanted):
                    self._pass(member, passed_args)
                    collection.remove(member)
            for member in wanted:
                if not _is_in(member, present):
                    self._pass(member, passed_args)
                    collection.add(member)

        await self._change(work)

    async def clear(self, **passed_args: Any) -> None:
        """Take out all members; ``m2m_changed`` says ``clear`` instead of ``remove``."""

        def work(collection: _Collection) -> None:
            if RELATIONS.is_connected:
                found = edits_of(instance_state(self._instance))
                found.cleared.add(self._prop.key)
            for member in collection.members():
                self._pass(member, passed_args)
                collection.remove(member)

        await self._change(work)

    # ------------------------------------------------------------------------------------------

    def _instances(self, members: Iterable[Any]) -> list[Any]:
        found = [*{id(each): each for each in _flat(members)}.values()]  # each one once
        cls = self._prop.mapper.class_
        if len(found) > 1 and not self._prop.uselist:
            raise InvalidOptionError(
                f"related({self._prop.key!r}) of {describe_sender(type(self._instance))} was given "
                f"{len(found)} instances; it refers to one"
            )
        for member in found:
            if not isinstance(member, cls):
                raise InstanceStateError(
                    f"related({self._prop.key!r}) of {describe_sender(type(self._instance))} was "
                    f"given {describe_sender(type(member))}; its members are instances of "
                    f"{describe_sender(cls)}"
                )
        return found

    def _pass(self, member: object, passed_args: dict[str, Any]) -> None:
        if passed_args and RELATIONS.is_connected:
            found = edits_of(instance_state(self._instance))
            found.passed[self._prop.key, id(member)] = passed_args, member

    async def _change(self, work: Callable[[_Collection], None]) -> None:
        state = instance_state(self._instance)

        def change(session: Session) -> None:
            is_deferred = is_flushing(session)
            session.add(self._instance)
            try:
                with session.no_autoflush:
                    work(_collection(session, self._instance, self._prop))
                flush(session)
            finally:
                if not is_deferred:
                    forget_edits(state)

        cls = type(self._instance)
        async with session_for(cls, self._session, instance=self._instance) as session:
            await run_sync(session, change)


class _Collection:
    """A relationship's members in memory: a list, a set, a dict or a class of the user's."""

    def __init__(self, instance: object, prop: RelationshipProperty[Any]) -> None:
        self._adapter: Any = collection_adapter(getattr(instance, prop.key))

    def members(self) -> list[Any]:
        """Who is in it."""
        return [*self._adapter]

    def add(self, member: object) -> None:
        """Add a member, as its user would."""
        self._adapter.append_with_event(member)

    def remove(self, member: object) -> None:
        """Take a member out, as its user would."""
        self._adapter.remove_with_event(member)


class _UnloadedCollection(_Collection):
    """A ``write_only`` or ``dynamic`` relationship: its members stay in the database."""

    def __init__(self, session: Session, instance: object, prop: RelationshipProperty[Any]) -> None:
        self._session = session
        self._instance = instance
        self._collection: Any = getattr(instance, prop.key)

    def members(self) -> list[Any]:
        if not instance_state(self._instance).has_identity:
            return []
        select = getattr(self._collection, "select", None)
        if select is None:
            return [*self._collection]
        return [*self._session.scalars(select())]

    def add(self, member: object) -> None:
        self._collection.add(member)

    def remove(self, member: object) -> None:
        self._collection.remove(member)


class _Reference(_Collection):
    """A relationship to one instance."""

    def __init__(self, instance: object, prop: RelationshipProperty[Any]) -> None:
        self._instance = instance
        self._key = prop.key

    def members(self) -> list[Any]:
        member = getattr(self._instance, self._key)
        return [] if member is None else [member]

    def add(self, member: object) -> None:
        setattr(self._instance, self._key, member)

    def remove(self, member: object) -> None:
        setattr(self._instance, self._key, None)


def _collection(session: Session, instance: object, prop: RelationshipProperty[Any]) -> _Collection:
    if not prop.uselist:
        return _Reference(instance, prop)
    if prop.lazy in ("write_only", "dynamic"):
        return _UnloadedCollection(session, instance, prop)
    return _Collection(instance, prop)


def _relationship(cls: type, given: Any) -> RelationshipProperty[Any]:
    name = field_name(cls, given, "related()")
    mapper: Mapper[Any] = inspect(cls)
    known = {
        key: prop
        for key, prop in mapper.relationships.items()
        if prop.direction is not RelationshipDirection.MANYTOONE and not prop.viewonly
    }
    found = known.get(name) if isinstance(name, str) else None
    if found is None:
        hint = nearest(name, known) if isinstance(name, str) else ""
        raise UnknownFieldError(
            f"related({describe_sender(name)}) names no relationship of {describe_sender(cls)} "
            f"that members can be added to{hint}; a reference to one instance is set by assignment"
        )
    return found


def _flat(members: Iterable[Any]) -> Iterator[Any]:
    for member in members:
        if state_of(member) is None and _holds_several(member):
            yield from member
        else:
            yield member


def _holds_several(member: Any) -> bool:
    return isinstance(member, Iterable) and not isinstance(member, (str, bytes, Mapping, type))


def _is_in(member: object, members: Iterable[object]) -> bool:
    return any(each is member for each in members)
