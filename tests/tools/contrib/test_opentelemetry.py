"""Spans and metrics of deliveries, as the SDK of OpenTelemetry exports them."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from kit.claims import async_outbox_engine
from kit.databases import Database, create_all
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aksara_signals import Signal, post_save, pre_save, provenance
from aksara_signals.contrib import opentelemetry
from aksara_signals.contrib.opentelemetry import instrument, uninstrument
from aksara_signals.contrib.outbox import DurableEvent, Outbox, Worker, receive
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "traced_account"

    id: Mapped[int] = mapped_column(primary_key=True)
    password: Mapped[str]


_ACTOR = "aksara.provenance.actor"
PROVIDERS: list[TracerProvider] = []
"""That of the test, at its end."""


@pytest.fixture
def metrics() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def spans(metrics: InMemoryMetricReader) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider([metrics], shutdown_on_exit=False)
    instrument(provider, meters)
    instrument(provider, meters)
    PROVIDERS.append(provider)
    yield exporter
    PROVIDERS.pop()
    assert uninstrument()
    assert not uninstrument()


def points(metrics: InMemoryMetricReader, name: str) -> list[Any]:
    data = metrics.get_metrics_data()
    assert data is not None
    [scope] = data.resource_metrics[0].scope_metrics
    return [
        point
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    ]


def by_name(spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans.get_finished_spans()}


async def test_a_write_makes_spans_that_stand_inside_one_another(
    async_engine: AsyncEngine, spans: InMemorySpanExporter, metrics: InMemoryMetricReader
) -> None:
    """The send around its receivers, with class, key and place in the source, and no column."""

    @pre_save(Account)
    def before(**kwargs: Any) -> None: ...

    @post_save(Account)
    async def after(**kwargs: Any) -> None: ...

    async with async_engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(async_engine) as session:
        session.add(Account(id=7, password="secret"))
        await session.commit()
    names = [span.name for span in spans.get_finished_spans()]
    assert names == ["pre_save receive", "pre_save send", "post_save receive", "post_save send"]
    found = by_name(spans)
    send, receive = found["post_save send"], found["post_save receive"]
    assert receive.parent is not None
    assert receive.parent.span_id == send.context.span_id
    assert send.attributes is not None
    assert receive.attributes is not None
    assert send.attributes["aksara.signal"] == "post_save"
    assert str(send.attributes["aksara.sender"]).endswith("Account")
    assert receive.attributes["aksara.instance.key"] == "7"
    assert str(receive.attributes["code.function.name"]).endswith("after")
    assert receive.attributes["code.file.path"] == __file__
    assert receive.attributes["code.line.number"] == after.__code__.co_firstlineno
    assert "secret" not in "".join(span.to_json() for span in spans.get_finished_spans())
    durations = points(metrics, "aksara.receiver.duration")
    assert {point.attributes["aksara.signal"] for point in durations} == {"pre_save", "post_save"}


async def test_spans_have_the_provenance(spans: InMemorySpanExporter) -> None:
    """Scalars as they are, all else as text, None not at all; a metric has none of it."""
    signal = Signal("happened")
    signal.connect(lambda **_: None)
    async with provenance(
        actor=7, admin=True, ratio=0.5, via="web", none=None, tags=["a", {"b": 1}], long=2**64
    ):
        await signal.send("shop")
    for span in spans.get_finished_spans():
        assert span.attributes is not None
        found = {
            name.removeprefix("aksara.provenance."): value
            for name, value in span.attributes.items()
            if name.startswith("aksara.provenance.")
        }
        assert found == {
            "actor": 7,
            "admin": True,
            "ratio": 0.5,
            "via": "web",
            "tags": '["a", {"b": 1}]',
            "long": "18446744073709551616",
        }


async def test_spans_of_deferred_receivers_have_the_provenance_of_the_flush(
    async_engine: AsyncEngine, spans: InMemorySpanExporter
) -> None:
    """Each its own, whatever is in force at the commit."""

    @post_save(Account, phase="after_commit")
    async def after(**kwargs: Any) -> None: ...

    await create_all(async_engine, Base.metadata)
    async with AsyncSession(async_engine) as session:
        for key in (1, 2):
            async with provenance(actor=key):
                session.add(Account(id=key, password="secret"))
                await session.flush()
        async with provenance(actor=3):
            await session.commit()
    found = [
        ((span.attributes or {})["aksara.instance.key"], (span.attributes or {}).get(_ACTOR))
        for span in spans.get_finished_spans()
    ]
    assert found == [("1", 1)] * 2 + [("2", 2)] * 2


async def test_errors_are_recorded_and_counted(
    spans: InMemorySpanExporter, metrics: InMemoryMetricReader
) -> None:
    """On the receiver's span, and on its send's, which they reach."""
    signal = Signal("paid")

    class Refusal:
        async def __call__(self, **kwargs: Any) -> None:
            raise LookupError("no such account")

    signal.connect(Refusal())
    signal.connect(functools.partial(Refusal().__call__))
    await signal.send_robust("shop", amount=5)
    with pytest.raises(LookupError):
        await signal.send("shop", amount=5)
    finished = spans.get_finished_spans()
    receive = [span for span in finished if span.name == "paid receive"]
    first, last = [span for span in finished if span.name == "paid send"]
    assert all(span.status.description == "LookupError: no such account" for span in receive)
    assert (first.status.is_ok, last.status.is_ok) == (True, False)
    assert [event.name for event in receive[0].events] == ["exception"]
    failures = points(metrics, "aksara.receiver.failures")
    assert sum(point.value for point in failures) == 3
    assert {point.attributes["error.type"] for point in failures} == {"LookupError"}


def test_without_the_api_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library itself doesn't need it."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, opentelemetry.__name__)
    with pytest.raises(ImportError, match=r"aksara-signals\[opentelemetry\]"):
        importlib.import_module(opentelemetry.__name__)


# -- durable receivers ------------------------------------------------------------------------------


class Ledger(DeclarativeBase):
    pass


class Entry(SignalMixin, Ledger):
    __tablename__ = "traced_entry"

    id: Mapped[int] = mapped_column(primary_key=True)
    password: Mapped[str]


outbox = Outbox(Ledger.metadata)


@pytest.fixture
async def sessions(database: Database) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Sessions on a database with an outbox that is installed."""
    engine = async_outbox_engine(database)
    await create_all(engine, Ledger.metadata)
    outbox.install()
    yield async_sessionmaker(engine)
    outbox.uninstall()
    await engine.dispose()


async def test_a_trace_goes_on_in_the_worker(
    sessions: async_sessionmaker[AsyncSession],
    spans: InMemorySpanExporter,
    metrics: InMemoryMetricReader,
) -> None:
    """The span of the call is part of the trace in which the row was written."""

    @post_save(Entry, durable="traced.entry")
    async def book(event: Any, **kwargs: Any) -> None: ...

    tracer = trace.get_tracer("test", tracer_provider=PROVIDERS[-1])
    with tracer.start_as_current_span("request") as request:
        async with sessions.begin() as session:
            session.add(Entry(password="secret"))
    await Worker(outbox, sessions).run_until_idle()
    received = by_name(spans)["post_save receive"]
    assert received.context.trace_id == request.get_span_context().trace_id
    attributes = dict(received.attributes or {})
    assert attributes["aksara.event.attempt"] == 1
    assert "secret" not in str(attributes)
    async with sessions() as session:
        [stored] = await session.scalars(select(outbox.tables.outbox.c.id))
        [headers] = await session.scalars(select(outbox.tables.outbox.c.headers))
    assert attributes["aksara.event.id"] == str(stored)
    assert headers["traceparent"].split("-")[1] == f"{received.context.trace_id:032x}"
    [point] = points(metrics, "aksara.outbox.done")
    assert (point.value, point.attributes) == (1, {"aksara.receiver": "traced.entry"})
    [duration] = points(metrics, "aksara.outbox.duration")
    [lag] = points(metrics, "aksara.outbox.lag")
    assert duration.count == lag.count == 1


async def test_spans_of_a_worker_have_the_provenance_of_the_flush(
    sessions: async_sessionmaker[AsyncSession], spans: InMemorySpanExporter
) -> None:
    """As it is stored in the row."""

    @post_save(Entry, durable="traced.entry")
    async def book(event: Any, **kwargs: Any) -> None: ...

    async with provenance(actor=7), sessions.begin() as session:
        session.add(Entry(password="secret"))
    await Worker(outbox, sessions).run_until_idle()
    assert [(span.attributes or {})[_ACTOR] for span in spans.get_finished_spans()] == [7, 7]


async def test_a_trace_goes_on_beyond_a_broker(
    sessions: async_sessionmaker[AsyncSession],
    spans: InMemorySpanExporter,
    metrics: InMemoryMetricReader,
) -> None:
    """A consumer continues the trace of what it receives, and counts repeats."""

    @post_save(Entry, durable="traced.entry")
    async def book(event: Any, **kwargs: Any) -> None: ...

    published: list[dict[str, Any]] = []

    async def publish(event: DurableEvent) -> None:
        published.append(event.as_cloudevent())

    tracer = trace.get_tracer("test", tracer_provider=PROVIDERS[-1])
    with tracer.start_as_current_span("request") as request:
        async with sessions.begin() as session:
            session.add(Entry(password="secret"))
    await outbox.relay(publish, sessions).run_until_idle()
    [message] = published
    assert [await receive(message, sessions, outbox=outbox) for _ in range(2)] == [True, False]
    received = by_name(spans)["post_save receive"]
    assert received.context.trace_id == request.get_span_context().trace_id
    [repeated] = points(metrics, "aksara.outbox.repeated")
    assert (repeated.value, repeated.attributes) == (1, {"aksara.receiver": "traced.entry"})
    [done] = points(metrics, "aksara.outbox.done")
    assert done.value == 2  # it was published, and its receiver was called


async def test_without_instrumentation_nothing_is_stored_of_a_trace(
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    """And nothing is asked for."""

    @post_save(Entry, durable="traced.entry")
    async def book(event: Any, **kwargs: Any) -> None: ...

    async with sessions.begin() as session:
        session.add(Entry(password="secret"))
    async with sessions() as session:
        [headers] = await session.scalars(select(outbox.tables.outbox.c.headers))
    assert headers is None
