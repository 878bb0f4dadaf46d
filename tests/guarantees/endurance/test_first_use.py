"""Many threads come first: models are mapped, wired, configured and listened to at once."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any

import pytest
from kit.crowd import Entry, Label, at_once, new_base, new_class
from kit.databases import Database
from kit.effort import times
from sqlalchemy import inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, configure_mappers, mapped_column

from aksara_signals import Signal, m2m_changed, post_init, post_save, pre_save
from aksara_signals.orm import SignalMixin, register, unregister
from aksara_signals.orm.flush import recipients

pytestmark = pytest.mark.slow


def test_a_custom_signal_is_made_once() -> None:
    """Threads that first touch one name get one signal, so that no receiver is lost."""
    for _ in range(times(30)):
        model: Any = type("Model", (SignalMixin,), {})

        def connect(model: Any = model) -> Any:
            return model.signals.on_verify.connect(lambda **kwargs: "received")

        made = at_once([connect] * 5)
        assert [each for each, _ in model.signals.on_verify.send_sync(model)] != []
        assert {each for each, _ in model.signals.on_verify.send_sync(model)} == set(made)


def test_construction_is_sent_once_while_others_connect() -> None:
    """While threads connect, disconnect and map, each construction is sent exactly once."""
    base = new_base()
    classes = [new_class(f"Constructed{each}", base) for each in range(8)]
    sent: list[Any] = []
    post_init.connect(lambda instance, **kwargs: sent.append(instance), sender=base)
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            other = post_init.connect(lambda **kwargs: None, sender=Entry)
            post_init.disconnect(other, sender=Entry)

    def construct() -> list[Any]:
        return [cls() for _ in range(times(40)) for cls in classes]

    def map_more(name: str) -> list[Any]:
        try:
            return [new_class(f"{name}{each}", base)() for each in range(times(6))]
        finally:
            stop.set()

    work: list[Callable[[], Any]] = [lambda: map_more("LaterA"), lambda: map_more("LaterB")]
    made = at_once([churn, churn, construct, construct, *work])[2:]
    assert len(sent) == sum(map(len, made))
    assert {id(each) for each in sent} == {id(each) for some in made for each in some}
    base.registry.dispose()


def test_construction_costs_nothing_when_all_have_gone() -> None:
    """However threads connect and disconnect, at the end no constructor is wrapped."""
    before = inspect(Entry).class_manager.original_init
    for _ in range(times(10)):
        connected = at_once([lambda: post_init.connect(lambda **kwargs: None, sender=Entry)] * 4)
        assert inspect(Entry).class_manager.original_init is not before
        at_once([lambda each=each: post_init.disconnect(each, sender=Entry) for each in connected])
        assert inspect(Entry).class_manager.original_init is before


def test_string_senders_are_resolved_while_classes_are_mapped() -> None:
    """A name may be connected in one thread while others map classes, that one among them."""
    base = new_base()
    for turn in range(times(3)):
        sent: list[str] = []

        def connect(turn: int = turn, sent: list[str] = sent) -> None:
            for each in range(10):
                signal = Signal("by name", providing_args=["instance"])
                signal.connect(lambda **kwargs: None, sender=f"Named{turn}x{each}")
                signal.send_sync(Entry, instance=None)
            post_save.connect(
                lambda instance, **kwargs: sent.append(type(instance).__name__),
                sender=[f"Named{turn}x{each}" for each in range(10)],
            )

        def map_some(start: int, turn: int = turn) -> list[Any]:
            return [new_class(f"Named{turn}x{each}", base) for each in range(start, start + 5)]

        _, one, two = at_once([connect, lambda: map_some(0), lambda: map_some(5)])
        for cls in (*one, *two):
            post_save.send_sync(cls, instance=cls())
        assert sorted(sent) == [f"Named{turn}x{each}" for each in range(10)]
    base.registry.dispose()


@pytest.mark.parametrize("late", [register, unregister])
def test_what_is_registered_in_the_midst_of_a_flush_counts_from_the_next_one(
    late: Callable[[type], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receivers of a class that is (un)registered while they are looked up are looked up anew."""

    class Plain(DeclarativeBase):
        pass

    class Late(Plain):
        __tablename__ = "endured_late"
        id: Mapped[int] = mapped_column(primary_key=True)

    has_receivers = late is register
    if not has_receivers:
        register(Late)
    real = recipients.is_wired

    def overtaken(cls: type) -> bool:
        answer = real(cls)
        late(cls)
        return answer

    pre_save.connect(lambda **kwargs: None, sender=Late)
    with monkeypatch.context() as patched:
        patched.setattr(recipients, "is_wired", overtaken)
        assert recipients.recipients_of(Late).has_receivers is not has_receivers
    assert recipients.recipients_of(Late).has_receivers is has_receivers
    unregister(Late)
    Plain.registry.dispose()


def test_collections_are_changed_while_others_connect() -> None:
    """Receivers of relationships may come and go while other threads change collections."""
    configure_mappers()
    m2m_changed.connect(lambda **kwargs: None, sender=Entry, dispatch_uid="first")
    stop = threading.Event()

    def write() -> int:
        try:
            count = 0
            for _ in range(times(150)):
                entry = Entry()
                for each in range(5):
                    entry.labels.append(Label(text=str(each)))
                count += len(entry.labels)
            return count
        finally:
            stop.set()

    def churn() -> None:
        while not stop.is_set():
            m2m_changed.disconnect(sender=Entry, dispatch_uid="first")
            m2m_changed.connect(lambda **kwargs: None, sender=Entry, dispatch_uid="first")
            m2m_changed.disconnect(sender=Entry, dispatch_uid="first")

    assert at_once([write, write, churn, churn])[:2] == [times(750)] * 2


def test_threads_that_flush_first_are_sent_their_own_rows(database: Database) -> None:
    """Sessions of many threads, on classes never used before, send each thread its own rows."""
    base = new_base()

    class Fresh(base):
        __tablename__ = "endured_fresh"
        id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
        owner: Mapped[int]

    options: dict[str, Any] = {"timeout": 60} if database.dialect == "sqlite" else {}
    engine = database.create_sync_engine(connect_args=options)
    base.metadata.create_all(engine)
    sent: dict[tuple[str, int], list[int]] = {}
    here = threading.local()

    def receive(signal: Any, instance: Any, **kwargs: Any) -> None:
        assert instance.owner == here.owner, "sent in a thread of others"
        sent.setdefault((signal.name, instance.owner), []).append(instance.id)

    def receive_late(instance: Any, **kwargs: Any) -> None:
        assert instance.owner == here.owner, "sent in a thread of others"
        sent.setdefault(("committed", instance.owner), []).append(instance.id)

    count = times(10)

    def work(owner: int) -> None:
        here.owner = owner
        pre_save.connect(receive, sender=Fresh)
        post_save.connect(receive, sender="Fresh")
        post_save.connect(receive_late, sender=Fresh, phase="after_commit")
        for each in range(count):
            with Session(engine) as session, session.begin():
                session.add(Fresh(id=owner * count + each, owner=owner))

    at_once([lambda owner=owner: work(owner) for owner in range(4)])
    assert sent == {
        (name, owner): [*range(owner * count, (owner + 1) * count)]
        for name in ("pre_save", "post_save", "committed")
        for owner in range(4)
    }
    engine.dispose()
    base.registry.dispose()


def test_threads_may_import_and_use_it_first() -> None:
    """A process whose first threads import, map, connect and flush at once does all of it."""
    script = """
        import faulthandler, sys, threading
        faulthandler.dump_traceback_later(60, exit=True)
        sys.setswitchinterval(1e-6)
        barrier, errors, sent = threading.Barrier(6), [], []

        def work(each):
            try:
                barrier.wait()
                from aksara_signals import post_save, pre_init, m2m_changed
                from aksara_signals.orm import SignalMixin
                from sqlalchemy import create_engine
                from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
                post_save.connect(lambda instance, **k: sent.append(instance.id), f"Model{each}")
                pre_init.connect(lambda **k: None, sender=int)
                m2m_changed.connect(lambda **k: None, sender=int)
                class Base(SignalMixin, DeclarativeBase): ...
                model = type(f"Model{each}", (Base,), {
                    "__module__": __name__, "__tablename__": "model",
                    "id": mapped_column(__import__("sqlalchemy").Integer, primary_key=True)})
                engine = create_engine("sqlite://")
                Base.metadata.create_all(engine)
                with Session(engine) as session, session.begin():
                    session.add(model(id=each))
                engine.dispose()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(each,)) for each in range(6)]
        [each.start() for each in threads]
        [each.join() for each in threads]
        print(errors, sorted(sent))
    """
    for _ in range(min(times(1), 20)):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(script)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.stderr) == ("[] [0, 1, 2, 3, 4, 5]\n", "")
