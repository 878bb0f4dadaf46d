"""The durable receivers of a process, by name."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from kit.outbox_world import Article, Base, Label

from aksara_signals import OutboxError, Signal, post_delete, post_save, post_update
from aksara_signals.contrib.outbox import Durable
from aksara_signals.contrib.outbox.registry import durable_receivers, find_connection

_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    """A name that no other test has given: its signal may be alive."""
    return f"test_registry.{next(_numbers)}"


def receive(**kwargs: Any) -> None: ...


def other(**kwargs: Any) -> None: ...


def test_a_receiver_is_found_with_all_its_connections(name: str) -> None:
    """In the order in which it was connected, whatever the order of the signals is."""
    for signal, sender in ((post_update, Article), (post_delete, Article), (post_save, Label)):
        signal.connect(receive, sender=sender, durable=name)
    entry = durable_receivers()[name]
    assert (entry.name, entry.options, entry.names) == (name, Durable(name), (name,))
    assert [signal for signal, _ in entry.connections] == [post_update, post_delete, post_save]


def test_methods_are_receivers(name: str) -> None:
    """Python makes a new method object for each connection."""

    class Service:
        def receive(self, **kwargs: Any) -> None: ...

    service = Service()
    for signal in (post_save, post_delete):
        signal.connect(service.receive, sender=Article, durable=Durable(name, version=2))
    entry = durable_receivers()[name]
    assert [signal for signal, _ in entry.connections] == [post_save, post_delete]
    assert entry.options.version == 2


def test_the_last_definition_comes_first(name: str) -> None:
    """After a reload, the old function may be left on a signal that the new one isn't connected to."""
    cell = "def note(**kwargs): ...\nfor each in signals:\n    each(sender, durable=name)(note)"
    namespace: dict[str, Any] = {"__name__": "__main__", "name": name, "sender": Article}
    found = []
    for signals in ((post_save, post_update, post_delete), (post_save,)):
        namespace["signals"] = signals
        exec(compile(cell, "<cell>", "exec"), namespace)
        found.append(namespace["note"])
    first, last = found
    entry = durable_receivers()[name]
    assert [(signal, each.receiver) for signal, each in entry.connections] == [
        (post_save, last),
        (post_update, first),
        (post_delete, first),
    ]


def test_options_are_those_that_were_given(name: str) -> None:
    """The first connection with Durable says them; include= is that of each connection."""
    post_save.connect(receive, sender=Article, durable=name)
    post_delete.connect(receive, sender=Article, durable=Durable(name, include=("title",)))
    entry = durable_receivers()[name]
    assert entry.options == Durable(name, include=("title",))


def test_former_names_belong_to_one_receiver(name: str) -> None:
    """The error names both, whether it is the other's present or former name."""
    old = f"{name}.old"
    post_save.connect(receive, sender=Article, durable=Durable(name, formerly=(old,)))
    assert durable_receivers()[name].names == (old, name)
    assert old not in durable_receivers()
    post_save.connect(other, sender=Article, durable=old)
    with pytest.raises(
        OutboxError, match=f"'{old}', which belongs to the durable receiver '{old}'"
    ):
        durable_receivers()
    post_save.disconnect(other, sender=Article)
    post_save.connect(other, sender=Article, durable=Durable(f"{name}.b", formerly=(old,)))
    with pytest.raises(OutboxError, match=f"'{old}', which belongs to the durable receiver"):
        durable_receivers()


def test_a_row_is_matched_with_its_connection(name: str) -> None:
    """By signal and sender; if there is no such connection any more, by the most similar one."""
    for signal, sender in ((post_save, Label), (post_save, Base), (post_delete, Article)):
        signal.connect(receive, sender=sender, durable=name)
    entry = durable_receivers()[name]

    def found(type_name: str, sender: Any) -> tuple[Signal, Any]:
        signal, connection = find_connection(entry, type_name, sender)
        return signal, connection.sender

    assert found("post_save", Label) == (post_save, Label)
    assert found("post_save", Article) == (post_save, Base)
    assert found("post_delete", Label) == (post_delete, Article)
    assert found("post_bulk_create", Label) == (post_save, Label)


def test_disconnected_receivers_are_unknown(name: str) -> None:
    """The registry is made of what is connected now."""
    post_save.connect(receive, sender=Article, durable=name)
    post_save.disconnect(receive, sender=Article)
    assert name not in durable_receivers()
