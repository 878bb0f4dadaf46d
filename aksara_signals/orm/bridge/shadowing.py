"""Methods of a session that are replaced while its receivers run.

A receiver that commits or closes the session would break the write that called it. For
``rollback()`` and ``close()`` an event would come too late, so the methods themselves have to
raise. They are shadowed by attributes of the session, under the same names: AsyncSession and scoped
sessions call the methods of that session, too.

What makes it hard is several shadows at a time. A receiver flushes, which calls receivers in turn;
or two tasks share a session, which they shouldn't. Shadows may end in any order then, and each end
must leave the methods of the others in place. And the user may have attributes there, such as
mocks.
"""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sqlalchemy.orm import Session

Namespace = dict[str, Any]


class Shadow(Protocol):
    """A set of replacements for methods of a session."""

    @property
    def methods(self) -> Namespace:
        """The replacements by name."""
        ...

    ended_by: str | None
    """The other task or thread that has ended the session's transaction meanwhile, if any."""
    lost_by: BaseException | None
    """The error after which the database has rolled back the session's transaction, if any."""


_SHADOWS = "_aksara_signals_shadows"
"""The attribute of a session that holds its shadows, in order."""
_HIDDEN = "_aksara_signals_hidden"
"""The attribute that holds the user's own attributes that are shadowed, for example mocks."""


def shadow(session: Session, one: Shadow) -> None:
    """Replace methods of a session while its receivers run.

    Shadows may overlap, and be restored in any order.
    """
    namespace = vars(session)
    methods = one.methods
    active = namespace.get(_SHADOWS)
    # An attribute that no other shadow has put there is the user's own. It is saved for restore().
    if not namespace.keys().isdisjoint(methods):
        own = {
            name: namespace[name]
            for name in methods
            if name in namespace and not any(name in each.methods for each in active or ())
        }
        if own:
            namespace.setdefault(_HIDDEN, {}).update(own)
    if active is None:
        namespace[_SHADOWS] = [one]
    else:
        active.append(one)
    namespace.update(methods)


def restore(session: Session, one: Shadow) -> None:
    """Undo :func:`shadow`."""
    namespace = vars(session)
    active = namespace[_SHADOWS]
    active.remove(one)
    methods = one.methods
    pop = namespace.pop
    for name in methods:
        pop(name, None)
    # What was beneath this shadow comes back: first the user's own attributes, then the methods of
    # the remaining shadows, so that the latest of them is on top.
    if _HIDDEN in namespace:
        namespace.update({name: own for name, own in namespace[_HIDDEN].items() if name in methods})
    for each in active:
        namespace.update({name: method for name, method in each.methods.items() if name in methods})
    if not active:
        del namespace[_SHADOWS]
        namespace.pop(_HIDDEN, None)


def shadows_of(session: Session) -> list[Shadow]:
    """The active shadows of a session, in order."""
    found: list[Shadow] = vars(session).get(_SHADOWS, [])
    return found


def beneath(session: Session, one: Shadow, name: str) -> Callable[..., Any]:
    """The method of a session that one of its shadows hides."""
    found: Callable[..., Any]
    active = shadows_of(session)
    if one not in active:  # it was when another thread looked the method up
        found = getattr(session, name)
        return found
    for each in reversed(active[: active.index(one)]):
        if name in each.methods:
            found = each.methods[name]
            return found
    own = vars(session).get(_HIDDEN, {})
    found = own[name] if name in own else getattr(type(session), name).__get__(session)
    return found


CONNECT = "_connection_for_bind"
"""The method of a session that gives statements their connection."""


def is_connected(session: Session, engine: Any) -> bool:
    """Whether the session's transaction has a connection to an engine already."""
    transaction = session._transaction
    return transaction is not None and engine in transaction._connections
