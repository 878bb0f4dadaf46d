"""Column values stay out of logs, notes, errors and reprs: class and primary key, nothing else."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from kit import databases
from kit.misfits import SECRET, Account, Base, Team, membership, write
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aksara_signals import (
    AksaraSignalsError,
    InvalidSenderError,
    Signal,
    SignalContext,
    add_delivery_hook,
    on_delivery_error,
    post_save,
    pre_save,
    remove_delivery_hook,
    signals,
)
from aksara_signals.cli import main
from aksara_signals.contrib.opentelemetry import instrument, uninstrument
from aksara_signals.contrib.structured_logging import log_deliveries, stop_logging_deliveries
from aksara_signals.orm import Manager, SignalMixin
from aksara_signals.orm.bridge.states import describe
from aksara_signals.testing import capture_signals


class Shown:
    """All text that has become visible."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, *things: Any) -> None:
        self.texts += [each if isinstance(each, str) else repr(each) for each in things]

    def add_error(self, error: BaseException) -> None:
        self.add(str(error), repr(error), "".join(traceback.format_exception(error)))

    def check(self, *wanted: str) -> None:
        everything = "\n".join(self.texts)
        assert SECRET not in everything
        for each in wanted:
            assert each in everything


@pytest.fixture
def shown(caplog: pytest.LogCaptureFixture) -> Iterator[Shown]:
    """What was shown; whatever was logged at any level belongs to it."""
    caplog.set_level(logging.DEBUG, logger="aksara_signals")
    found = Shown()
    yield found
    for record in caplog.records:
        if record.name.startswith("aksara_signals"):
            found.add(logging.Formatter().format(record), str(vars(record)))
    found.check()


@pytest.fixture
async def session(async_engine: AsyncEngine) -> Any:
    await databases.create_all(async_engine, Base.metadata)
    async with AsyncSession(async_engine) as session:
        yield session


class Keyed(SignalMixin, DeclarativeBase):
    pass


class Ticket(Keyed):
    __tablename__ = "ticket"

    code: Mapped[str] = mapped_column(primary_key=True)


def fail(**kwargs: Any) -> None:
    raise ValueError("the receiver's own words")


@pytest.mark.parametrize("phase", ["immediate", "after_commit"])
@pytest.mark.parametrize("concurrent", [False, True])
async def test_errors_of_receivers(
    session: AsyncSession, shown: Shown, phase: str, concurrent: bool
) -> None:
    """Notes, logs and what on_delivery_error logs name class and key."""
    options: Any = {"phase": phase, "concurrent": concurrent}
    post_save.connect(fail, sender=Account, **options)
    signals.m2m_changed.connect(fail, sender=Account.teams, **options)
    on_delivery_error.connect(fail)
    try:
        await write(session, "x")
        await session.commit()
    except BaseException as error:
        shown.add_error(error)
    on_delivery_error.disconnect(fail)
    if phase == "after_commit":
        assert "of kit.misfits.Account 1 " not in shown.texts


async def test_recursion_shows_keys(session: AsyncSession, shown: Shown) -> None:
    """The chains of SignalRecursionError: of sends inside sends, and of rounds before a flush."""

    async def save_again(instance: Account, **kwargs: Any) -> None:
        instance.name += "!"
        await instance.save()

    async def add_more(session: AsyncSession, **kwargs: Any) -> None:
        session.add(Account(name="more"))

    for signal, receiver in ((post_save, save_again), (pre_save, add_more)):
        with signal.connected_to(receiver, sender=Account):
            session.add(Account(name="x"))
            with pytest.raises(RecursionError) as caught:
                await session.commit()
            shown.add_error(caught.value)
            await session.rollback()
    shown.check("post_save sent by kit.misfits.Account 1 to", "pre_save sent by Account (new) to")


async def test_errors_about_instances(session: AsyncSession, shown: Shown) -> None:
    """Every error that is about an instance, or was given one in the wrong place."""
    account, new = Account(name="x"), Account(name="new")
    session.add(account)
    await session.commit()
    await session.refresh(account)
    signal = Signal("misused", providing_args=["amount"])
    save = post_save
    objects = Account.objects
    calls: list[Any] = [
        lambda: objects.bulk_create([account], session=session),
        lambda: objects.bulk_create([new, Team(name="y")], session=session),
        lambda: objects.bulk_create([Account(name=text("x"))], session=session),
        lambda: objects.bulk_create([Account(name="x", teams=[Team(name="y")])], session=session),
        lambda: objects.bulk_create([new], batch_size=account, session=session),
        lambda: objects.bulk_update([new], ["name"], session=session),
        lambda: objects.bulk_update([Team(name="x")], ["name"], session=session),
        lambda: objects.bulk_update([account], [account], session=session),
        lambda: objects.bulk_update([account], ["id"], session=session),
        lambda: account.save(update_fields=[account]),
        lambda: new.save(session, update_fields=["name"]),
        lambda: new.delete(session),
        new.save,
        lambda: account.save(session=account),
        lambda: account.update(nothing=account.password),
        lambda: account.related("name").add(account),
        lambda: objects.get(pk=(account.password, account), session=session),
        lambda: objects.get(nothing=account.password, session=session),
        lambda: objects.filter(name="x").update(nothing=account.password, session=session),
        lambda: signal.send(account, other=account),
        lambda: save.send(account),
        lambda: save.connect(account),
        lambda: save.connect(fail, phase=account),
        lambda: save.connect(fail, created=account),
        lambda: save.connect(fail, priority=account),
        lambda: save.connect(fail, timeout_seconds=account, phase="after_commit"),
        lambda: save.connect(fail, coalesce=account),
        lambda: save.connect(lambda x: x, sender=account),
        lambda: Signal(account),
        lambda: Signal("x", providing_args=[account]),
        lambda: SignalContext.disable_for(account, signals=[]),
        lambda: SignalContext.disable_for(account),
        lambda: SignalContext(Account, receivers=[account]),
        lambda: add_delivery_hook(account),
        lambda: Account.bind_sessions(account),
        lambda: Manager(account),
    ]
    for call in calls:
        with pytest.raises(AksaraSignalsError) as caught:
            result = call()
            if asyncio.iscoroutine(result):
                await result
        shown.add(str(caught.value), repr(caught.value))
    shown.check("Account 1")


async def test_reprs(session: AsyncSession, shown: Shown) -> None:
    """What the library's own objects say of themselves."""
    account = Account(name="x", teams=[Team(name="y")])
    steps: list[Any] = []

    class Hook:
        def __call__(self, step: Any) -> Any:
            steps.append(step)
            return nullcontext()

    hook = Hook()
    add_delivery_hook(hook)
    with pytest.raises(InvalidSenderError) as refused:
        post_save.connect(lambda **kwargs: None, sender=account)
    shown.add(str(refused.value))
    post_save.connect(lambda **kwargs: None, dispatch_uid=(SECRET,), weak=False)
    post_save.connect(lambda **kwargs: None)
    with capture_signals() as calls:
        session.add(account)
        await session.commit()
    remove_delivery_hook(hook)
    await session.refresh(account)
    shown.add(*steps, *(repr(each) for each in post_save.connections), calls, *calls)
    shown.add(post_save, account.signals, Account.signals.post_save, Account.objects)
    shown.add(
        Account.objects.filter(password=SECRET),
        SignalContext.disable_for(account, signals=[Signal()]),
    )
    shown.add(describe(account), post_save.plan_for(Account))
    for check in (
        lambda: calls.assert_not_called(post_save),
        lambda: calls.assert_order(pre_save),
        lambda: calls.assert_called_with(post_save, instance=account, created=False),
        lambda: calls[99],
        lambda: calls[0].nothing,
    ):
        with pytest.raises((AssertionError, IndexError, AttributeError)) as caught:
            check()
        shown.add(str(caught.value))
    shown.check("Account 1")


async def test_contrib_and_command_line(
    session: AsyncSession, shown: Shown, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records of structured logging, spans, metrics and the tables of the command line."""
    spans, metrics = InMemorySpanExporter(), InMemoryMetricReader()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    post_save.connect(lambda **kwargs: None, sender=Account)
    post_save.connect(fail, sender=Account, phase="after_commit")
    account = Account(name="x")
    own = Signal("of_one_account")
    own.connect(lambda **kwargs: None, sender=account)
    log_deliveries(logging.DEBUG)
    instrument(provider, MeterProvider([metrics]))
    try:
        session.add(account)
        await session.commit()
    finally:
        uninstrument()
        stop_logging_deliveries()
    data = metrics.get_metrics_data()
    assert data is not None
    shown.add(*(each.to_json() for each in spans.get_finished_spans()), data.to_json())
    for command in (["receivers"], ["receivers", "--json"], ["graph"], ["check"]):
        main(command)
        shown.add(*capsys.readouterr())
    shown.check('"aksara.instance.key": "1"')


async def test_a_key_is_shown_on_one_line(session: AsyncSession) -> None:
    """A primary key is no secret; whatever it holds, it can't forge a line of the log."""
    await (await session.connection()).run_sync(Keyed.metadata.create_all)

    def refuse(**kwargs: Any) -> None:
        raise ValueError("no")

    post_save.connect(refuse, sender=Ticket)
    session.add(Ticket(code="a\nERROR root: b"))
    with pytest.raises(ValueError, match="no") as caught:
        await session.flush()
    assert r"Ticket a\nERROR root: b to" in caught.value.__notes__[0]
    await session.rollback()
    assert (await session.execute(select(membership))).all() == []
