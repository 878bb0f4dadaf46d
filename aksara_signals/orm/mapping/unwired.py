"""A warning about receivers that are connected to mapped classes which send no signals."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Iterator
from typing import Any

from sqlalchemy import inspect

from aksara_signals.dispatch.live import live_signals
from aksara_signals.dispatch.receivers.identity import is_class, names_of
from aksara_signals.dispatch.receivers.naming import describe_receiver
from aksara_signals.dispatch.senders import classes_named, is_sent_by_classes
from aksara_signals.exceptions import AksaraSignalsWarning
from aksara_signals.orm.mapping.registered import is_wired

_classes: weakref.WeakValueDictionary[int, type] = weakref.WeakValueDictionary()
_names: dict[str, None] = {}
"""Senders of connections made since the last check, or not mapped at that time."""

_warned: weakref.WeakSet[type] = weakref.WeakSet()

is_check_due: bool = False
"""Whether receivers were connected since the last check; read at every flush."""


def note_connected(sender: Any) -> None:
    """Note the sender of a new connection for :func:`check_unwired`: a class or its name."""
    global is_check_due  # noqa: PLW0603 - one flag, read at every flush
    if is_class(sender):
        _classes[id(sender)] = sender
    else:
        _names[sender] = None
    is_check_due = True


def check_unwired() -> None:
    """Warn of receivers that are connected to mapped classes which send no signals.

    The check is made when the classes are used: ``register()`` may come after the receivers.
    """
    global is_check_due  # noqa: PLW0603 - the same flag
    is_check_due = False
    for cls in _candidates():
        if cls not in _warned and (receivers := list(_receivers_of(cls))):
            _warned.add(cls)
            name, path = names_of(cls)
            warnings.warn(
                f"{path} is mapped and sends no signals, but {' and '.join(receivers)}; "
                f"inherit SignalMixin, or call aksara_signals.orm.register({name})",
                AksaraSignalsWarning,
                stacklevel=2,
            )


def _candidates() -> Iterator[type]:
    """The noted classes that are mapped and don't send signals, nor do their subclasses."""
    mapped: list[type] = []
    for reference in _classes.valuerefs():
        cls = reference()
        if cls is not None and inspect(cls, raiseerr=False) is not None:
            _classes.pop(id(cls), None)
            mapped.append(cls)
    for name in list(_names):
        classes = classes_named(name)
        if classes:
            _names.pop(name, None)
            mapped.extend(classes)
    for cls in mapped:
        mapper: Any = inspect(cls)
        if not any(is_wired(each.class_) for each in mapper.self_and_descendants):
            yield cls


def _receivers_of(cls: type) -> Iterator[str]:
    for signal in live_signals():
        for connection in signal.connections:
            sender = connection.sender
            is_name = connection.sender_key.is_name and sender in names_of(cls)
            if (sender is cls or is_name) and is_sent_by_classes(signal.payload):
                receiver = describe_receiver(connection.receiver)
                yield f"{receiver} is connected to its {signal.display_name}"
