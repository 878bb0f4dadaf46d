"""Connections whose receivers are called in turn, and whether mocks may stand for any of them.

In a process that has imported ``unittest.mock``, the names of receivers are looked up at each send
(:mod:`~aksara_signals.dispatch.receivers.patching` says why). Of functions at the top level of a
module, which most receivers are, all names of a module are looked up in one step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import is_not, itemgetter
from sys import modules
from typing import Any, Self

from aksara_signals.dispatch.connections.connection import Connection
from aksara_signals.dispatch.receivers.patching import ModuleName, owners
from aksara_signals.types import Receiver

Check = Callable[[Any], bool]
"""Takes the connections, and returns whether a mock may stand for any of their receivers."""


class InTurn(tuple[Connection, ...]):  # noqa: SLOT001 - a subclass of tuple can't have any
    """Connections in call order."""

    may_be_patched: Check

    def __new__(cls, connections: Iterable[Connection] = ()) -> Self:
        """The connections; nothing is known yet of the names of their receivers."""
        made = super().__new__(cls, connections)
        made.may_be_patched = _first_check
        return made


def _first_check(connections: InTurn) -> bool:
    """Find out which names there are, for later checks. Repeated when a name changes hands."""
    found: dict[str, dict[str, Receiver]] = {}
    for each in connections:
        place, receiver = each.patch_place, each.strong
        if place is None:
            continue
        if not isinstance(place, ModuleName) or receiver is None or not place.is_bound_to(receiver):
            return True  # this name has to be looked up by itself
        place.current(receiver)  # notes that the name belongs to it
        module, name = place.key
        found.setdefault(module, {})[name] = receiver
    checks = [_check_of(module, bound) for module, bound in found.items()]
    if len(checks) == 1:
        connections.may_be_patched = checks[0]
    else:
        connections.may_be_patched = lambda self: any(each(self) for each in checks)
    return False


def _check_of(module_name: str, bound: dict[str, Receiver]) -> Check:
    """The check of functions of one module, which have these names."""
    noted, module = owners.noted, modules[module_name]
    namespace, receivers = vars(module), tuple(bound.values())
    if len(bound) == 1:
        [(name, receiver)] = bound.items()

        def check_one(connections: InTurn) -> bool:
            if owners.noted != noted:
                return _first_check(connections)
            return modules.get(module_name) is not module or namespace.get(name) is not receiver

        return check_one
    get = itemgetter(*bound)

    def check(connections: InTurn) -> bool:
        if owners.noted != noted:
            return _first_check(connections)
        try:
            is_rebound = any(map(is_not, get(namespace), receivers))
        except KeyError:  # a name is gone
            return True
        return is_rebound or modules.get(module_name) is not module

    return check
