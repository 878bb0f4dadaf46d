"""Methods of a session that are replaced while its receivers run."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sqlalchemy.orm import Session

Namespace = dict[str, Any]


class Shadow(Protocol):
    """What replaces methods of a session for a time."""

    @property
    def methods(self) -> Namespace:
        """What stands in the place of the session's methods."""
        ...

    ended_by: str | None
    """What has ended the session's transaction meanwhile, if that was another task or thread."""


_SHADOWS = "_aksara_signals_shadows"
"""Where a session keeps its shadows, in order."""
_HIDDEN = "_aksara_signals_hidden"
"""Where it keeps attributes of the user's own that shadowed methods hide, a mock for example."""


def shadow(session: Session, one: Shadow) -> None:
    """Replace methods of a session while its receivers run.

    A receiver that commits the session, or closes it, would break the write that called the
    receiver. An event would come too late for ``rollback()`` and ``close()``, so the methods are
    shadowed on the session itself. AsyncSession and scoped sessions call the same ones.

    Two tasks that share a session, which they shouldn't, may shadow its methods at the same time,
    and restore them in any order.
    """
    namespace = vars(session)
    methods = one.methods
    active = namespace.get(_SHADOWS)
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
    for name in methods:
        namespace.pop(name, None)
    if _HIDDEN in namespace:
        namespace.update({name: own for name, own in namespace[_HIDDEN].items() if name in methods})
    for each in active:
        namespace.update({name: method for name, method in each.methods.items() if name in methods})
    if not active:
        del namespace[_SHADOWS]
        namespace.pop(_HIDDEN, None)


def shadows_of(session: Session) -> list[Shadow]:
    """What shadows methods of a session at the moment."""
    found: list[Shadow] = vars(session).get(_SHADOWS, [])
    return found


def beneath(session: Session, one: Shadow, name: str) -> Callable[..., Any]:
    """The method of a session that would be there without one of its shadows."""
    found: Callable[..., Any]
    active = shadows_of(session)
    if one not in active:  # it was, when another thread looked the method up
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
"""The method of a session by which statements get their connection."""


def is_connected(session: Session, engine: Any) -> bool:
    """Whether the session's transaction has its connection to an engine already."""
    transaction = session._transaction
    return transaction is not None and engine in transaction._connections
