"""Random programs of connects, disconnects and sends do the same with others' dispatchers and ours.

As far as the differences that the other modules show allow: no receiver is connected to a base class,
and a receiver that Django calls twice in one send is expected once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kit.effort import times
from kit.peers.dispatchers import AKSARA, BLINKER, DJANGO, Dispatcher, Post, Tag

INSTANCE = Post()
SENDERS = st.sampled_from([None, Post, Tag, INSTANCE])
NUMBERS = st.integers(0, 5)
UIDS = st.sampled_from([None, None, "a", ("b", 1)])

CONNECT = st.tuples(st.just("connect"), NUMBERS, SENDERS, UIDS, st.booleans())
SEND = st.tuples(st.just("send"), SENDERS, st.sampled_from(["send", "send_robust"]))
REST = st.one_of(
    st.tuples(st.just("disconnect"), NUMBERS, SENDERS, UIDS),
    st.tuples(
        st.just("arm"), NUMBERS, st.sampled_from(["connect", "disconnect"]), NUMBERS, SENDERS
    ),
    st.tuples(st.just("fail"), NUMBERS),
    st.tuples(st.just("kill"), NUMBERS),
    st.tuples(st.just("ask"), SENDERS),
)
OF_DJANGO = st.lists(st.tuples(CONNECT, CONNECT, REST, SEND), min_size=4, max_size=10)
BLINKER_CONNECT = st.tuples(st.just("connect"), NUMBERS, SENDERS, st.none(), st.just(False))
BLINKER_REST = st.one_of(
    st.tuples(st.just("disconnect"), NUMBERS, st.sampled_from([Post, Tag, INSTANCE]), st.none()),
    st.tuples(st.just("fail"), NUMBERS),
)
BLINKER_SEND = st.tuples(st.just("send"), SENDERS, st.just("send"))
OF_BLINKER = st.lists(
    st.tuples(BLINKER_CONNECT, BLINKER_CONNECT, BLINKER_REST, BLINKER_SEND), min_size=4, max_size=10
)


class Owner:
    """Has a receiver: a method, which lives as long as its owner if it is held weakly."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.fails = False
        self.armed: tuple[Any, ...] | None = None

    def receive(self, sender: Any, **kwargs: Any) -> int:
        self.world.called.append(self.number)
        if self.armed is not None:
            verb, number, other = self.armed
            self.world.change(verb, number, other, None)
        if self.fails:
            raise ValueError(self.number)
        return self.number


@dataclass
class World:
    """One dispatcher, with receivers of its own, in which a program runs."""

    peer: Dispatcher
    called: list[int] = field(default_factory=list)
    log: list[Any] = field(default_factory=list)
    weak: dict[int, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.signal = self.peer.signal()
        self.owners: dict[int, Owner] = {number: Owner(self, number) for number in range(6)}

    def change(self, verb: str, number: int, sender: Any, uid: Any, weak: bool = False) -> Any:
        owner = self.owners.get(number)
        if owner is None:
            return None
        options = {} if uid is None else {"dispatch_uid": uid}
        if verb == "connect":
            # Connecting one receiver both weakly and strongly is refused here.
            weak = self.weak.setdefault(number, weak)
            self.peer.connect(self.signal, owner.receive, sender, weak=weak, **options)
            return None
        return self.peer.disconnect(self.signal, owner.receive, sender, **options)

    def run(self, step: tuple[Any, ...]) -> None:
        verb, *arguments = step
        result: Any = None
        if verb in ("connect", "disconnect"):
            result = self.change(verb, *arguments)
        elif verb == "arm":
            number, what, other, sender = arguments
            if number in self.owners:
                self.owners[number].armed = what, other, sender
        elif verb == "fail":
            if arguments[0] in self.owners:
                self.owners[arguments[0]].fails = True
        elif verb == "kill":
            self.owners.pop(arguments[0], None)
        elif verb == "ask":
            result = self.signal.has_listeners(*arguments)
        else:
            result = self.send(*arguments)
        self.log.append(result)

    def noted(self, response: Any) -> str:
        """A response in words. The traceback of an error would keep the killed alive for a while."""
        if isinstance(response, Exception):
            response.__traceback__ = None
        return repr(response)

    def send(self, sender: Any, way: str) -> Any:
        self.called.clear()
        send = getattr(self.signal, self.peer.methods[way])
        try:
            responses = [self.noted(response) for _, response in send(sender)]
        except ValueError as error:
            responses = [f"raised {error}"]
        # A receiver that matches a send twice is called twice by Django.
        return [*dict.fromkeys(self.called)], [*dict.fromkeys(responses)]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", logger="django.dispatch")
    caplog.set_level("CRITICAL", logger="aksara_signals")


def run(peer: Dispatcher, program: list[tuple[Any, ...]]) -> list[Any]:
    world = World(peer)
    for step in chain.from_iterable(program):
        world.run(step)
    return world.log


@settings(max_examples=times(100), deadline=None)
@given(OF_DJANGO)
def test_programs_of_django(program: list[tuple[Any, ...]]) -> None:
    """Who is called in which order, what comes back, and what disconnect and has_listeners say."""
    assert run(AKSARA, program) == run(DJANGO, program)


@settings(max_examples=times(100), deadline=None)
@given(OF_BLINKER)
def test_programs_of_blinker(program: list[tuple[Any, ...]]) -> None:
    """Who is called, whatever the order, which blinker doesn't promise."""

    def unordered(log: list[Any]) -> list[Any]:
        sends = [each for each in log if isinstance(each, tuple)]
        return [
            None if any("raised" in each for each in responses) else sorted(called)
            for called, responses in sends
        ]

    assert unordered(run(AKSARA, program)) == unordered(run(BLINKER, program))
