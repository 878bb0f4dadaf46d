"""``instance.related(name)``: async changes of a relationship, whether it is loaded or not."""

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
    """The members of a relationship; created by ``instance.related(name)``.

    Each method loads what it needs, changes the relationship and flushes. It returns when the rows
    are written; inside a pre receiver it returns at once, and the flush under way will write them.
    Members are given one by one, in a list or in any other iterable. Keyword arguments are passed
    to the relation signals as ``passed_args``, and have no other use.

    Args:
        instance: The owner.
        name: The name of a relationship to many, or of a one-to-one relationship on the side
        without
            the foreign key. Or the relationship itself, as in ``related(Post.tags)``.
        session: The session to use; without it, one is found as for
            :class:`~aksara_signals.orm.SignalMixin`.

    Raises:
        UnknownFieldError: The class has no such relationship, or the instance holds its foreign
            key, or it is ``viewonly``.

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
        """Add instances; those that are members already are ignored.

        Like the other methods, it raises before anything is changed.

        Raises:
            InstanceStateError: An instance is of another class.
            InvalidOptionError: There are several, and the relationship refers to one.
        """
        wanted = self._instances(members)

        def work(collection: _Collection) -> None:
            present = _ids(collection.members())
            for member in wanted:
                if id(member) not in present:
                    self._pass(member, passed_args)
                    collection.add(member)

        await self._change(work)

    async def remove(self, *members: Any, **passed_args: Any) -> None:
        """Remove instances; those that are not members are ignored."""
        unwanted = self._instances(members)

        def work(collection: _Collection) -> None:
            present = _ids(collection.members())
            for member in unwanted:
                if id(member) in present:
                    self._pass(member, passed_args)
                    collection.remove(member)

        await self._change(work)

    async def set(self, *members: Any, **passed_args: Any) -> None:
        """Make these instances the only members: remove the others, then add the missing ones."""
        wanted = self._instances(members)

        def work(collection: _Collection) -> None:
            members = collection.members()  # holds those that are removed
            present, kept = _ids(members), _ids(wanted)
            for member in members:
                if id(member) not in kept:
                    self._pass(member, passed_args)
                    collection.remove(member)
            for member in wanted:
                if id(member) not in present:
                    self._pass(member, passed_args)
                    collection.add(member)

        await self._change(work)

    async def clear(self, **passed_args: Any) -> None:
        """Remove all members; ``m2m_changed`` has the action ``clear`` instead of ``remove``."""

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
    """A collection that is in memory: a list, a set, a dict or a class of the user's."""

    def __init__(self, instance: object, prop: RelationshipProperty[Any]) -> None:
        self._adapter: Any = collection_adapter(getattr(instance, prop.key))

    def members(self) -> list[Any]:
        """The present members."""
        return [*self._adapter]

    def add(self, member: object) -> None:
        """Add a member, with attribute events."""
        self._adapter.append_with_event(member)

    def remove(self, member: object) -> None:
        """Remove a member, with attribute events."""
        self._adapter.remove_with_event(member)


class _UnloadedCollection(_Collection):
    """A ``write_only`` or ``dynamic`` collection, which is never loaded."""

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


class _Scalar(_Collection):
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
        return _Scalar(instance, prop)
    if prop.lazy in ("write_only", "dynamic"):
        return _UnloadedCollection(session, instance, prop)
    return _Collection(instance, prop)


def _ids(members: Iterable[object]) -> set[int]:
    """Members by identity: they may define ``__eq__``, and there may be thousands."""
    return {id(each) for each in members}


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
        if state_of(member) is None and _is_iterable_of_members(member):
            yield from member
        else:
            yield member


def _is_iterable_of_members(member: Any) -> bool:
    return isinstance(member, Iterable) and not isinstance(member, (str, bytes, Mapping, type))
