"""Connecting with ``durable=``: names, options that don't fit, and one receiver for each name."""

from __future__ import annotations

import asyncio
import functools
import importlib
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest
from kit.models import Base, Post
from kit.support import answering

import aksara_signals
from aksara_signals import (
    InvalidOptionError,
    InvalidPhaseError,
    InvalidReceiverError,
    NoSessionError,
    Signal,
    m2m_changed,
    post_bulk_create,
    post_bulk_update,
    post_delete,
    post_init,
    post_migrate,
    post_relation_remove,
    post_save,
    post_update,
    pre_delete,
    pre_init,
    pre_migrate,
    pre_relation_add,
    pre_save,
    receiver,
    typed_signal,
)
from aksara_signals.contrib.outbox import Durable, Retry
from aksara_signals.dispatch import adapter
from aksara_signals.dispatch.connections.durable import durable_connections

_numbers = itertools.count()


@pytest.fixture
def name() -> str:
    """A name that no other test has given: its signal may be alive."""
    return f"test_durable.{next(_numbers)}"


def receive(**kwargs: Any) -> None: ...


def other(**kwargs: Any) -> None: ...


def durables(signal: Signal) -> list[Any]:
    return [each.durable for each in signal.connections if each.durable is not None]


# -- names and options ----------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["a", "search.index", "_-.0", "x" * 200])
def test_a_name_of_the_permitted_characters_is_taken(given: str) -> None:
    """It is the connection's name, and its phase is durable."""
    post_save.connect(receive, sender=int, durable=given)
    (connection,) = post_save.connections
    assert connection.durable == connection.durable_name == given
    assert connection.phase == "durable"
    post_save.disconnect(receive, sender=int)


@pytest.mark.parametrize(
    "given", ["", "Search", "search index", "search/index", "é", "x" * 201, "a\n", "a\0", "\ud800"]
)
def test_any_other_name_is_refused(given: str) -> None:
    """With an example of a good one; also inside Durable."""
    with pytest.raises(InvalidOptionError, match=r"1 to 200 characters .* 'search.index'"):
        post_save.connect(receive, sender=int, durable=given)
    with pytest.raises(InvalidOptionError, match="1 to 200 characters"):
        Durable(given)


class Named:
    name = "no.conflict"


@pytest.mark.parametrize(
    "given", [True, False, 0, 1, b"x", ["x"], Durable, Named(), Mock(), Retry()]
)
def test_what_is_neither_a_name_nor_options_is_refused(given: Any) -> None:
    """The error says what to give."""
    with pytest.raises(
        InvalidOptionError, match=r"give a name, such as 'search.index', or Durable"
    ):
        post_save.connect(receive, sender=int, durable=given)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("weak", True),
        ("concurrent", True),
        ("coalesce", True),
        ("timeout_seconds", 5),
        ("timeout_seconds", 0),
        ("phase", "immediate"),
        ("phase", "after_commit"),
        ("phase", "after_rollback"),
        ("phase", "durable"),
    ],
)
def test_options_that_contradict_it_are_refused(name: str, option: str, value: Any) -> None:
    """When the decorator is made, not only when it is applied."""
    with pytest.raises(InvalidOptionError, match=f"and {option}= as well; leave {option}= out"):
        post_save(int, durable=name, **{option: value})


def test_the_time_limit_is_an_option_of_durable(name: str) -> None:
    """The error says so."""
    with pytest.raises(InvalidOptionError, match="set it in Durable"):
        post_save.connect(receive, sender=int, durable=name, timeout_seconds=1.5)


def test_durable_is_no_phase() -> None:
    """It takes a name, so phase= can't say it."""
    with pytest.raises(InvalidPhaseError, match="the phases are immediate, after_commit"):
        post_save.connect(receive, sender=int, phase="durable")


def test_options_that_say_what_holds_anyway_are_taken(name: str) -> None:
    """A wrapper may pass its own defaults on."""
    off = {"weak": False, "concurrent": False, "coalesce": False, "timeout_seconds": None}
    post_save.connect(receive, sender=int, durable=name, **off)
    post_save.connect(other, sender=int, durable=None)
    assert [each.phase for each in post_save.connections] == ["durable", "immediate"]


@pytest.mark.parametrize(
    "signal",
    [pre_save, pre_delete, pre_init, post_init, pre_relation_add, pre_migrate, post_migrate],
    ids=str,
)
def test_what_precedes_the_fact_can_not_be_stored(signal: Signal, name: str) -> None:
    """Pre, init and migration signals refuse it, however they are connected to."""
    with pytest.raises(InvalidPhaseError, match="no outcome yet"):
        signal.connect(receive, durable=name)
    with pytest.raises(InvalidPhaseError, match="no outcome yet"):
        signal(durable=Durable(name))


# -- what a receiver may name ---------------------------------------------------------------------


def _with_instance(instance: Any, **kwargs: Any) -> None: ...
def _by_position(s: Any, i: Any, **kwargs: Any) -> None: ...
def _by_name_and_position(sender: Any, instance: Any, /, **kwargs: Any) -> None: ...
def _with_default(*, instance: Any = None, **kwargs: Any) -> None: ...
def _with_changes(changes: Any, **kwargs: Any) -> None: ...
def _with_objects(objects: Any, **kwargs: Any) -> None: ...
def _with_instances(instances: Any, **kwargs: Any) -> None: ...


@pytest.mark.parametrize(
    ("signal", "given", "missing"),
    [
        (post_delete, _with_instance, "instance"),
        (post_delete, _by_position, "instance"),
        (post_delete, _by_name_and_position, "instance"),
        (post_delete, _with_default, "instance"),
        (post_delete, functools.partial(_by_position), "instance"),
        (post_save, _with_changes, "changes"),
        (post_update, _with_changes, "changes"),
        (m2m_changed, _with_objects, "objects"),
        (post_bulk_create, _with_instances, "instances"),
        (post_bulk_create, _by_position, "instances"),
        (post_bulk_update, _with_instances, "instances"),
    ],
)
def test_a_receiver_that_names_what_is_not_stored_is_refused(
    signal: Signal, given: Any, missing: str, name: str
) -> None:
    """The error names what there is instead: event, and include=."""
    message = rf"is durable and has a parameter {missing}, .*event\.values .*Durable\(include=…\)"
    with pytest.raises(InvalidReceiverError, match=message):
        signal.connect(given, durable=name)
    assert not durables(signal)


def test_a_receiver_may_name_what_can_be_loaded(name: str) -> None:
    """The instance of any signal but a delete, the event, and everything else that is sent."""

    def all_of(
        instance: Any, created: Any, update_fields: Any, event: Any, **kwargs: Any
    ) -> None: ...
    def removed(instance: Any, child: Any, event: Any, session: Any, **kwargs: Any) -> None: ...
    def linked(s: Any, i: Any, action: Any, pk_set: Any, event: Any, **kwargs: Any) -> None: ...
    def deleted(event: Any, session: Any, **kwargs: Any) -> None: ...

    post_save.connect(all_of, sender=int, durable=f"{name}.a")
    post_relation_remove.connect(removed, sender=int, durable=f"{name}.b")
    m2m_changed.connect(linked, durable=f"{name}.c")
    post_delete.connect(deleted, sender=int, durable=f"{name}.d")
    (connection,) = m2m_changed.connections
    named = {"instance", "sender", "action", "pk_set", "event"}
    assert named <= connection.shape.named
    assert "session" not in connection.shape.named


def test_only_durable_receivers_are_sent_event() -> None:
    """Any other receiver with that parameter is refused as before."""

    def with_event(*, event: Any, **kwargs: Any) -> None: ...

    with pytest.raises(InvalidReceiverError, match="event"):
        post_save.connect(with_event, sender=int)


def test_arguments_of_custom_signals_have_any_names(name: str) -> None:
    """What a custom signal sends as changes or objects is stored like everything else."""
    signal = Signal("of_names", providing_args=["changes", "objects", "instances"])

    def all_of(changes: Any, objects: Any, instances: Any, **kwargs: Any) -> None: ...

    signal.connect(all_of, durable=name)
    assert durables(signal) == [name]


# -- ways to connect ------------------------------------------------------------------------------


def test_every_way_to_connect_takes_it(name: str) -> None:
    """connect(), decorators, @receiver, the model's own signals, and for a while."""
    post_save.connect(receive, sender=int, durable=name)
    post_save(str, durable=name)(receive)
    post_save(float, durable=Durable(name))(receive)
    receiver(post_save, sender=bytes, durable=name)(receive)
    Post.signals.post_save.connect(receive, durable=name)
    with post_save.connected_to(receive, sender=complex, durable=name):
        assert [each.sender for each in post_save.connections] == [
            int,
            str,
            float,
            bytes,
            Post,
            complex,
        ]
        assert {each.durable_name for each in post_save.connections} == {name}
    assert len(post_save.connections) == 5
    assert Base in Post.__mro__


def test_typed_signals_take_it(name: str) -> None:
    """Their receivers may name the event as well."""

    @typed_signal
    def paid(sender: str, *, amount: int) -> None:
        """Something has been paid."""

    @paid("shop", durable=name)
    def book(sender: str, amount: int, event: Any = None, **kwargs: Any) -> None: ...

    assert durables(paid) == [name]


def test_a_list_of_signals_is_one_receiver(name: str) -> None:
    """One name, one function, on as many signals and senders as one likes."""
    receiver([post_save, post_delete], senders=[int, str], durable=Durable(name))(receive)
    assert len([each for _, each in durable_connections() if each.durable_name == name]) == 4


def test_it_can_be_disconnected(name: str) -> None:
    """As any receiver, by itself or by its dispatch_uid; its name is free again then."""
    post_save.connect(receive, sender=int, durable=name)
    assert post_save.disconnect(receive, sender=int)
    assert not post_save.disconnect(receive, sender=int)
    post_save.connect(other, sender=int, durable=name, dispatch_uid="uid")
    assert post_save.disconnect(sender=int, dispatch_uid="uid")
    assert not durables(post_save)


def test_an_equal_connect_is_ignored(name: str) -> None:
    """The same name, or equal options."""
    for _ in range(2):
        post_save.connect(receive, sender=int, durable=name)
        post_save.connect(receive, sender=str, durable=Durable(name, upgrade={}))
    assert len(post_save.connections) == 2


def test_created_makes_another_connection(name: str) -> None:
    """A receiver of INSERTs and of UPDATEs has two, and a send is stored for it once."""
    for created in (True, False, None):
        post_save.connect(receive, sender=int, durable=name, created=created)
    assert [each.created for each in post_save.connections] == [True, False, None]
    for created in (True, False):
        assert len(post_save.plan_for(int).narrowed(created).durable) == 1
    assert post_save.disconnect(receive, sender=int, created=True)
    assert [each.created for each in post_save.connections] == [False, None]


def test_one_receiver_may_be_immediate_deferred_and_durable(name: str) -> None:
    """These are three connections, each with its own life."""
    post_save.connect(receive, sender=int)
    post_save.connect(receive, sender=int, phase="after_commit")
    post_save.connect(receive, sender=int, durable=name)
    plan = post_save.plan_for(int)
    assert [len(each) for each in (plan.sequential, plan.deferred, plan.durable)] == [1, 1, 1]
    assert len(post_save.receivers_for(int)) == 3
    assert post_save.disconnect(receive, sender=int)
    assert not post_save.connections


def test_a_receiver_with_two_names_is_stored_under_both(name: str) -> None:
    """A dispatch_uid distinguishes the connections."""
    post_save.connect(receive, sender=int, durable=f"{name}.a")
    with pytest.raises(InvalidOptionError, match="give the second connection a dispatch_uid"):
        post_save.connect(receive, sender=int, durable=f"{name}.b")
    post_save.connect(receive, sender=int, durable=f"{name}.b", dispatch_uid="second")
    plan = post_save.plan_for(int)
    assert [each.durable_name for each in plan.durable] == [f"{name}.a", f"{name}.b"]


def test_a_durable_receiver_counts_as_a_receiver(name: str) -> None:
    """has_receivers() sees it; nobody calls it."""
    signal = Signal("counted")
    signal.connect(receive, durable=name)
    assert signal.has_receivers()
    assert signal.receivers_for("x") == [receive]
    assert "durable" in [each.phase for each in signal.connections_for("x")]


# -- one name, one receiver -----------------------------------------------------------------------


def test_another_receiver_is_refused_under_a_name(name: str) -> None:
    """On any signal: it would get the rows of the first one. Nothing is connected then."""
    post_save.connect(receive, sender=int, durable=name)
    message = rf"durable='{name}': that name stands for receiver .*receive.* post_save"
    for signal in (post_save, post_delete, Signal("elsewhere")):
        with pytest.raises(InvalidOptionError, match=message):
            signal.connect(other, sender=str, durable=Durable(name))
        assert other not in [each.receiver for each in signal.connections]
    with (
        pytest.raises(InvalidOptionError, match="stands for receiver"),
        post_save.connected_to(other, sender=str, durable=name),
    ):
        raise AssertionError


def test_methods_of_one_instance_are_one_receiver(name: str) -> None:
    """Python makes a new method object each time; those of another instance are another one."""

    class Service:
        def receive(self, **kwargs: Any) -> None: ...

    service = Service()
    post_save.connect(service.receive, sender=int, durable=name)
    post_delete.connect(service.receive, sender=int, durable=name)
    with pytest.raises(InvalidOptionError, match="stands for receiver"):
        post_save.connect(Service().receive, sender=str, durable=name)


@pytest.mark.parametrize(
    ("one", "another", "option"),
    [
        ({"version": 1}, {"version": 2}, "version"),
        ({"ordered": True}, {"ordered": False}, "ordered"),
        ({"retry": Retry()}, {"retry": Retry(attempts=3)}, "retry"),
        ({"formerly": ()}, {"formerly": ("old",)}, "formerly"),
        ({"timeout_seconds": 1}, {"timeout_seconds": None}, "timeout_seconds"),
        ({"missing": "call"}, {"missing": "dead"}, "missing"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    name: str, one: Any, another: Any, option: str
) -> None:
    """A receiver has one policy, whichever signal its row comes from."""
    post_save.connect(receive, sender=int, durable=Durable(name, **one))
    message = f"another {option} than for post_save; give the same Durable to both"
    with pytest.raises(InvalidOptionError, match=message):
        post_delete.connect(receive, sender=int, durable=Durable(name, **another))
    post_delete.connect(receive, sender=int, durable=Durable(name, include=("id",), **one))


def test_a_name_means_the_default_options(name: str) -> None:
    """Beside a Durable with others it is refused: the rows of both signals are of one receiver."""
    post_save.connect(receive, sender=int, durable=Durable(name, version=2))
    with pytest.raises(InvalidOptionError, match="another version than for post_save"):
        post_delete.connect(receive, sender=int, durable=name)
    post_update.connect(other, sender=int, durable=f"{name}.b")
    with pytest.raises(InvalidOptionError, match="another ordered than for post_update"):
        post_delete.connect(other, sender=int, durable=Durable(f"{name}.b", ordered=False))
    post_delete.connect(other, sender=int, durable=Durable(f"{name}.b", include=("id",)))


# -- redefinition ---------------------------------------------------------------------------------

Write = Callable[[str], Any]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes the module of receivers and executes it, once more if it was there before."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = "durable_receivers"

    def write(code: str) -> Any:
        lines = "from aksara_signals import post_delete, post_save\n"
        (tmp_path / f"{module}.py").write_text(lines + code)
        importlib.invalidate_caches()
        if module in sys.modules:
            return importlib.reload(sys.modules[module])
        return importlib.import_module(module)

    yield write
    sys.modules.pop(module, None)


def test_a_reloaded_module_takes_its_names_back(write: Write, name: str) -> None:
    """The new function is connected in the place of the old one, with other options if it says so."""
    first = write(f"@post_save(int, durable={name!r})\ndef note(**kwargs): ...\n")
    old = first.note
    second = write(
        "from aksara_signals.contrib.outbox import Durable\n"
        f"@post_delete(int, durable=Durable({name!r}, version=2))\n"
        f"@post_save(int, durable=Durable({name!r}, version=2))\n"
        "def note(**kwargs): ...\n"
    )
    assert second.note is not old
    connected = [each for _, each in durable_connections() if each.durable_name == name]
    assert [each.receiver for each in connected] == [second.note, second.note]


def test_two_functions_of_one_execution_are_two_receivers(write: Write, name: str) -> None:
    """Also with one name in Python: the first one would get no rows, or the second one both's."""
    twice = f"@post_save(int, durable={name!r})\ndef note(**kwargs): ...\n" * 2
    with pytest.raises(InvalidOptionError, match=r"stands for receiver durable_receivers.note"):
        write(twice)


def test_a_loop_does_not_make_one_receiver_of_many(write: Write, name: str) -> None:
    """Each function that it makes needs a name of its own."""
    with pytest.raises(InvalidOptionError, match="stands for receiver"):
        write(
            "for number in (1, 2):\n"
            f"    @post_save(int, durable={name!r})\n"
            "    def note(number=number, **kwargs): ...\n"
        )


def test_a_renamed_function_is_another_receiver(write: Write, name: str) -> None:
    """Until the old one is disconnected, as in a new process."""
    first = write(f"@post_save(int, durable={name!r})\ndef note(**kwargs): ...\n")
    renamed = f"@post_save(int, durable={name!r})\ndef renamed(**kwargs): ...\n"
    with pytest.raises(InvalidOptionError, match="stands for receiver"):
        write(renamed)
    post_save.disconnect(first.note, sender=int)
    write(renamed)


# -- mocks ----------------------------------------------------------------------------------------


def test_mocks_may_be_durable(name: str) -> None:
    """A mock accepts everything, so nothing is missing; two mocks are two receivers."""
    mock = Mock()
    post_save.connect(mock, sender=int, durable=name)
    post_delete.connect(mock, sender=int, durable=name)
    with pytest.raises(InvalidOptionError, match="stands for receiver"):
        post_save.connect(Mock(), sender=int, durable=name)


def test_a_patched_receiver_stays_connected(name: str) -> None:
    """A send inside the patch is stored under the name all the same."""
    stored: list[Any] = []

    def store(signal: Signal, arguments: Any, connections: Any, can_await: bool) -> None:
        stored.extend(each.durable_name for each in connections)

    post_save.connect(other, sender=int, durable=name)
    with patch(f"{__name__}.other"), answering(store=store):
        post_save.send_sync(int, instance=1)
    assert stored == [name]


# -- without a database ---------------------------------------------------------------------------


async def test_a_dispatcher_without_a_database_stores_nothing(name: str) -> None:
    """It raises before it calls anybody, whichever way the signal is sent."""
    signal = Signal("stored_nowhere")
    called: list[Any] = []
    signal.connect(lambda **kwargs: called.append(kwargs))
    signal.connect(receive, durable=name)
    with answering(store=adapter.Adapter().store):
        for send in (signal.send_sync, signal.send_robust_sync):
            with pytest.raises(NoSessionError, match=r"are durable: .* pass session="):
                send("x", session=None)
        for async_send in (signal.send, signal.send_robust):
            with pytest.raises(NoSessionError, match="are durable"):
                await async_send("x")
    assert called == []


async def test_what_is_stored_comes_before_the_receivers(name: str) -> None:
    """An adapter may store at once, or give an awaitable to a sender that can await it."""
    signal = Signal("stored_first")
    order: list[str] = []
    signal.connect(lambda **kwargs: order.append("called"))
    signal.connect(receive, durable=name)

    async def stored() -> None:
        await asyncio.sleep(0)
        order.append("stored")

    def store(_signal: Any, _arguments: Any, _connections: Any, can_await: bool) -> Any:
        if can_await:
            return stored()
        order.append("stored")
        return None

    with answering(store=store):
        for async_send in (signal.send, signal.send_robust):
            assert len(await async_send("x")) == 1
        for send in (signal.send_sync, signal.send_robust_sync):
            assert len(send("x")) == 1
    assert order == ["stored", "called"] * 4


async def test_a_send_to_durable_receivers_alone_calls_nobody(name: str) -> None:
    """It returns no responses."""
    signal = Signal("stored_only")
    signal.connect(receive, durable=name)

    async def stored() -> None: ...

    with answering(store=lambda *_: stored()):
        assert await signal.send("x") == []
    with answering(store=lambda *_: None):
        assert signal.send_sync("x") == []


def test_the_face_has_the_error() -> None:
    """OutboxError is imported from the package itself."""
    assert issubclass(aksara_signals.OutboxError, aksara_signals.AksaraSignalsError)
