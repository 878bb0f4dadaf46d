"""Where our dispatcher connects otherwise than Django's: each test shows what both of them do.

``docs/reference/coming-from.rst`` lists them; the documentation is not built if one is missing there.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
from types import SimpleNamespace
from typing import Any

import django.conf
import pytest
from kit.peers.dispatchers import AKSARA, DJANGO, Dispatcher, Essay, Notes, OnlyHere, Post

from aksara_signals import post_migrate, pre_migrate
from aksara_signals.exceptions import (
    InvalidOptionError,
    InvalidReceiverError,
    SignalPayloadError,
)

PEERS = [DJANGO, AKSARA]


# -- names ------------------------------------------------------------------------------------------


def test_send_is_async_and_send_sync_is_not(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """Django's send and asend are send_sync and send here."""
    peer.connect(signal, notes.receiver("received"))
    result = signal.send(Post)
    assert inspect.iscoroutine(result) is peer.choose(django=False, aksara=True)
    if peer is AKSARA:
        assert asyncio.run(result) == signal.send_sync(Post)
    assert hasattr(signal, "asend") is peer.choose(django=True, aksara=False)


def test_the_sender_may_be_left_out(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """A send without a sender has the sender None here, and is an error there."""
    peer.connect(signal, notes.receiver("received"))
    send = getattr(signal, peer.methods["send"])
    if peer is DJANGO:
        with pytest.raises(TypeError):
            send()
        return
    send()
    assert notes == ["received"]


def test_connect_gives_the_receiver_back(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """So that it decorates; Django's gives None."""
    receiver = notes.receiver("received")
    returned = peer.connect(signal, receiver)
    assert returned is peer.choose(django=None, aksara=receiver)


def test_what_is_connected_is_looked_up_otherwise(
    peer: Dispatcher, signal: Any, notes: Notes
) -> None:
    """Django's list `receivers` is `connections` and `receivers_for(sender)` here."""
    receiver = notes.receiver("received")
    peer.connect(signal, receiver, Post)
    assert hasattr(signal, "receivers") is peer.choose(django=True, aksara=False)
    if peer is AKSARA:
        [connection] = signal.connections
        assert (connection.receiver, connection.sender) == (receiver, Post)
        assert signal.receivers_for(Post) == [receiver]


def test_there_is_no_use_caching(peer: Dispatcher) -> None:
    """The receivers of a sender are always cached here, also of senders that Django can't cache."""
    if peer is AKSARA:
        with pytest.raises(TypeError):
            peer.signal(use_caching=True)
    signal = peer.signal(**peer.choose(django={"use_caching": True}, aksara={}))
    peer.connect(signal, lambda **kwargs: "received")
    unhashable: Any = [1]
    if peer is DJANGO:
        with pytest.raises(TypeError):
            peer.send(signal, unhashable)
    else:
        assert [response for _, response in peer.send(signal, unhashable)] == ["received"]


def test_migrations_are_commands_of_alembic(notes: Notes) -> None:
    """pre_migrate and post_migrate have the command's name as sender, and its connection."""
    seen: list[Any] = []
    with pre_migrate.connected_to(lambda **kwargs: seen.append(kwargs), sender="upgrade"):
        pre_migrate.send_sync("upgrade", connection="open")
        pre_migrate.send_sync("downgrade", connection="open")
    assert seen == [{"signal": pre_migrate, "sender": "upgrade", "connection": "open"}]
    assert post_migrate.payload.names == ("connection",)


# -- which receivers are called ---------------------------------------------------------------------


def test_references_are_strong_by_default(peer: Dispatcher, signal: Any) -> None:
    """A lambda without another reference goes at once in Django, and stays here."""
    signal.connect(lambda sender, **kwargs: "received")
    gc.collect()
    responses = [response for _, response in peer.send(signal, Post)]
    assert responses == peer.choose(django=[], aksara=["received"])


def test_a_class_stands_for_its_subclasses(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """A class stands for its subclasses here, unless exact=True."""
    peer.connect(signal, notes.receiver("posts"), Post)
    if peer is AKSARA:
        peer.connect(signal, notes.receiver("just posts"), Post, exact=True)
    peer.send(signal, Essay)
    assert notes == peer.choose(django=[], aksara=["posts"])


def test_a_receiver_reached_twice_is_called_once(
    peer: Dispatcher, signal: Any, notes: Notes
) -> None:
    """Connected to every sender and to this one: Django calls it twice in one send."""
    both = notes.receiver("both")
    peer.connect(signal, both)
    peer.connect(signal, both, Post)
    peer.send(signal, Post)
    assert notes == peer.choose(django=["both", "both"], aksara=["both"])


def test_a_receiver_with_two_names_is_called_once(
    peer: Dispatcher, signal: Any, notes: Notes
) -> None:
    """Under two dispatch_uids, Django calls it twice in one send."""
    both = notes.receiver("both")
    for name in ("one", "two"):
        peer.connect(signal, both, dispatch_uid=name)
    peer.send(signal, Post)
    assert notes == peer.choose(django=["both", "both"], aksara=["both"])


def test_options_go_by_name(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """Django takes weak and dispatch_uid by position, too; the sender may go so in both."""
    if peer is DJANGO:
        signal.connect(notes.receiver("received"), Post, False, "name")
    else:
        with pytest.raises(TypeError, match="positional"):
            signal.connect(notes.receiver("received"), Post, False, "name")
    signal.connect(receiver := notes.receiver("too"), Post)
    peer.send(signal, Post)
    assert notes == peer.choose(django=["received", "too"], aksara=["too"])
    assert receiver is not None  # Django holds it weakly


def test_strings_and_numbers_match_by_equality(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """Django compares the objects, so an equal string made elsewhere is another sender."""
    peer.connect(signal, notes.receiver("word"), "shop")
    peer.connect(signal, notes.receiver("number"), 10**20)
    peer.send(signal, str(b"shop", "ascii"))
    peer.send(signal, int("1" + "0" * 20))
    assert notes == peer.choose(django=[], aksara=["word", "number"])


def test_a_string_stands_for_a_class(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """Of any signal, by `Post` or `module.Post`; in Django, `app_label.Post` of its model signals."""
    peer.connect(signal, notes.receiver("short"), "OnlyHere")
    peer.connect(signal, notes.receiver("dotted"), f"{OnlyHere.__module__}.OnlyHere")
    peer.send(signal, OnlyHere)
    assert notes == peer.choose(django=[], aksara=["short", "dotted"])


def test_a_list_of_senders_is_several_senders(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """In Django a list is a sender of its own, which matches only itself."""
    peer.connect(signal, notes.receiver("received"), [Post, "shop"])
    peer.send(signal, Post)
    peer.send(signal, "shop")
    assert notes == peer.choose(django=[], aksara=["received", "received"])


def test_a_dead_sender_takes_its_connections_along(peer: Dispatcher, signal: Any) -> None:
    """In Django they stay, under an address that another object may get."""

    class Passing:
        pass

    sender: Any = Passing()
    peer.connect(signal, lambda **kwargs: None, sender)
    del sender
    gc.collect()
    left = signal.receivers if peer is DJANGO else signal.connections
    assert len(left) == peer.choose(django=1, aksara=0)


def test_a_falsy_dispatch_uid_is_a_name(peer: Dispatcher, signal: Any, notes: Notes) -> None:
    """Django takes 0 or an empty string for no name at all."""
    for name in ("first", "second"):
        peer.connect(signal, notes.receiver(name), dispatch_uid=0)
    peer.send(signal, Post)
    assert notes == peer.choose(django=["first", "second"], aksara=["first"])


# -- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("debug", [True, False])
def test_receivers_are_always_checked(
    peer: Dispatcher, signal: Any, debug: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django does so under DEBUG only; what takes no **kwargs is a ValueError there, a TypeError here."""
    settings = SimpleNamespace(configured=True, DEBUG=debug)
    monkeypatch.setattr(django.conf, "settings", settings)

    def refusal(receiver: Any) -> type[Exception] | None:
        try:
            peer.connect(signal, receiver)
        except (TypeError, ValueError) as error:
            return type(error)
        return None

    found = refusal(lambda sender: None), refusal("no function")
    theirs = (ValueError, TypeError) if debug else (None, None)
    assert found == peer.choose(django=theirs, aksara=(InvalidReceiverError,) * 2)
    assert issubclass(InvalidReceiverError, TypeError)


def test_disconnect_needs_a_receiver_or_a_name(peer: Dispatcher, signal: Any) -> None:
    """Neither receiver nor dispatch_uid: Django's says that nothing was connected that way."""
    if peer is DJANGO:
        assert signal.disconnect() is False
        return
    with pytest.raises(InvalidOptionError):
        signal.disconnect()


def test_the_decorator_takes_signals_only(peer: Dispatcher) -> None:
    """No signals at all is refused here, and connects nothing in Django; a set does here."""
    one = peer.signal()
    if peer is AKSARA:
        with pytest.raises(InvalidOptionError):
            peer.receiver([])
        peer.receiver({one})(lambda **kwargs: None)
        assert len(one.connections) == 1
        return
    peer.receiver([])(lambda **kwargs: None)
    with pytest.raises(AttributeError):
        peer.receiver({one})(lambda **kwargs: None)


def test_a_payload_named_signal_is_refused_in_words(
    peer: Dispatcher, signal: Any, notes: Notes
) -> None:
    """A TypeError in both; here even when no receiver is connected."""
    expected = peer.choose(django=[], aksara=SignalPayloadError)
    if peer is DJANGO:
        assert peer.send(signal, Post, signal=1) == expected
        peer.connect(signal, notes.receiver("received"))
        with pytest.raises(TypeError):
            peer.send(signal, Post, signal=1)
        return
    with pytest.raises(expected):
        peer.send(signal, Post, signal=1)
    assert issubclass(SignalPayloadError, TypeError)


def test_providing_args_is_kept_and_checked(peer: Dispatcher) -> None:
    """Django has dropped it; here a send without what is declared is an error."""
    if peer is DJANGO:
        with pytest.raises(TypeError):
            peer.signal(providing_args=["size"])
        return
    with pytest.raises(SignalPayloadError):
        peer.send(peer.signal(providing_args=["size"]), Post)
