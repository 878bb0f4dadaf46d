"""The registry: signals by name, and what string senders stand for."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from kit.support import answering

from aksara_signals import (
    AmbiguousSenderError,
    Signal,
    UnknownSignalError,
    UnresolvedSenderError,
    all_signals,
    check_senders,
    lookup,
    post_bulk_create,
    post_save,
    pre_init,
    pre_migrate,
)
from aksara_signals.dispatch import registry


def test_signals_are_found_by_name() -> None:
    """The built-in ones and one's own, as long as they live; the first of a name wins."""
    assert lookup("post_save") is post_save
    own = Signal("own")
    second = Signal("own")
    unnamed = Signal()
    assert lookup("own") is own
    del own
    gc.collect()
    assert lookup("own") is second
    assert {second, unnamed} <= set(all_signals())


def test_an_unknown_name_is_an_error_with_a_hint() -> None:
    """The nearest name is offered, and the error is an AttributeError too."""
    with pytest.raises(UnknownSignalError, match="did you mean 'post_save'"):
        lookup("post_sav")
    unnamed = Signal()
    with pytest.raises(AttributeError):
        lookup("nothing like it")
    assert unnamed.name is None


@pytest.fixture
def mapped() -> Iterator[list[type]]:
    """Classes that a mapping layer says are mapped."""
    gc.collect()  # signals of other tests
    classes: list[type] = []
    with answering(classes=lambda: classes):
        yield classes


def make(name: str) -> type:
    return type(name, (), {"__module__": "somewhere"})


def receiver(**kwargs: Any) -> None: ...


def test_a_name_for_two_classes_is_ambiguous(mapped: list[type]) -> None:
    """At connect if both are there, else at the send; the dotted path is the way out."""
    signal = Signal("x")
    mapped.append(make("Doubled"))
    signal.connect(receiver, sender="Doubled")
    signal.send_sync(mapped[0])
    mapped.append(type("Doubled", (), {"__module__": "elsewhere"}))
    registry.senders_changed()
    with pytest.raises(AmbiguousSenderError, match=r"elsewhere\.Doubled, somewhere\.Doubled"):
        signal.send_sync(mapped[0])
    with pytest.raises(AmbiguousSenderError):
        Signal().connect(receiver, sender="Doubled")
    signal.disconnect(receiver, sender="Doubled")
    signal.connect(receiver, sender="elsewhere.Doubled")
    assert signal.send_sync(mapped[0]) == []
    assert len(signal.send_sync(mapped[1])) == 1


def test_dead_classes_are_not_ambiguous() -> None:
    """A class without references doesn't count."""
    import weakref

    alive, dead = make("Twice"), make("Twice")
    references = [weakref.ref(alive), weakref.ref(dead)]
    del dead
    with answering(classes=lambda: [cls for each in references if (cls := each()) is not None]):
        Signal().connect(receiver, sender="Twice")


def test_names_without_a_class_are_listed(mapped: list[type]) -> None:
    """check_senders names signal, receiver and the nearest class."""
    signal = Signal("x")
    mapped.append(make("Gazette"))
    signal.connect(receiver, sender=["Gazette", "somewhere.Gazette", 5])
    check_senders()
    signal.connect(receiver, sender="Gazete")
    with pytest.raises(UnresolvedSenderError, match=r"'Gazete' of x for .*did you mean 'Gazette'"):
        check_senders()
    mapped.append(make("Gazette"))
    with pytest.raises(AmbiguousSenderError):
        check_senders()


@pytest.mark.parametrize("signal", [post_save, post_bulk_create, pre_init], ids=str)
def test_built_in_signals_are_sent_by_classes(signal: Signal) -> None:
    """Also those that have several instances, or none yet."""
    signal.connect(lambda **kwargs: None, sender="no such class")
    with pytest.raises(UnresolvedSenderError, match=f"of {signal.name}"):
        check_senders()


def test_strings_that_are_senders_themselves_name_no_class() -> None:
    """A migration is sent by its command, and a signal of one's own by whatever it likes."""
    paid = Signal("paid", providing_args=["amount"])
    paid.connect(lambda **kwargs: None, sender="no such class")
    with pre_migrate.connected_to(lambda **kwargs: None, sender="upgrade"):
        check_senders()
