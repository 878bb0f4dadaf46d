"""Receivers that raise the unusual, in each way of sending."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from kit.misfits import ENDS_THE_LOOP, EXCEPTIONS, SINGLETON, WAYS, Own, is_same, raising, send

from aksara_signals import Signal, SignalContext
from aksara_signals.dispatch.context import get_active_contexts
from aksara_signals.dispatch.delivery.frame import MAX_DEPTH, MAX_NOTES, get_current

TAKES_NO_NOTES = ("WithoutNotes", "NotesInATuple", "CancelledError", "GeneratorExit")


class Records(logging.Handler):
    """Keeps records and formats them, as a handler of production does."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        assert record.exc_info, "the traceback is logged"
        self.texts.append(record.getMessage())


@pytest.fixture
def records() -> Any:
    """What is logged, without pytest's own handlers, which trip over strange exceptions."""
    logger, handler = logging.getLogger("aksara_signals"), Records()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logger, "callHandlers", handler.handle)
        yield handler


@pytest.fixture(autouse=True)
def fresh_singleton() -> Any:
    yield
    SINGLETON.__notes__ = []
    SINGLETON.__traceback__ = None


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", EXCEPTIONS)
@pytest.mark.parametrize("way", WAYS)
async def test_what_a_receiver_raises_is_what_arrives(
    way: str, name: str, is_async: bool, records: Records
) -> None:
    """A robust send collects every Exception and no other; the rest escapes as it is."""
    signal = Signal("raised")
    received: list[str] = []
    thrown: list[BaseException] = []
    signal.connect(lambda **kwargs: received.append("before"))
    signal.connect(raising(EXCEPTIONS[name], is_async, thrown))
    signal.connect(lambda **kwargs: received.append("after"))
    caught: BaseException | None = None
    responses: Any = None
    with SignalContext.disable_for(int):
        inside = get_active_contexts()
        try:
            responses = await send(signal, way)
        except BaseException as error:
            caught = error
        assert get_active_contexts() == inside
    assert get_current() is None
    [error] = thrown
    if "robust" in way and isinstance(error, Exception):
        assert caught is None
        assert received == ["before", "after"]
        assert is_same(responses[1][1], error)
        assert len(records.texts) == 1
        return
    assert received == ["before"]
    assert caught is not None
    assert is_same(caught, error)
    assert records.texts == []
    if name not in TAKES_NO_NOTES and caught is error:
        [note] = caught.__notes__
        assert note.startswith("while raised sent by None to ")
    signal.disconnect(signal.connections[1].receiver)
    assert await send(signal, way) == [(each.receiver, None) for each in signal.connections]


@pytest.mark.parametrize("name", [each for each in EXCEPTIONS if each not in ENDS_THE_LOOP])
@pytest.mark.parametrize("way", ["send", "send_robust"])
async def test_concurrent_receivers_do_not_lose_one_another(
    way: str, name: str, records: Records
) -> None:
    """Whatever one concurrent receiver raises, the other runs to its end, CancelledError too."""
    signal = Signal("raised together")
    thrown: list[BaseException] = []
    received: list[str] = []
    signal.connect(raising(EXCEPTIONS[name], True, thrown), concurrent=True)

    @signal.connect(concurrent=True)
    async def good(**kwargs: Any) -> None:
        await asyncio.sleep(0)
        received.append("good")

    caught: BaseException | None = None
    try:
        await send(signal, way)
    except BaseException as error:
        caught = error
    assert received == ["good"]
    assert get_current() is None
    collected = way == "send_robust" and isinstance(thrown[0], Exception)
    assert (caught is None) if collected else (caught is not None and is_same(caught, thrown[0]))


@pytest.mark.parametrize("way", ["send", "send_robust"])
@pytest.mark.parametrize("name", ENDS_THE_LOOP)
@pytest.mark.parametrize("concurrent", [False, True])
def test_what_ends_a_process_ends_the_loop(name: str, way: str, concurrent: bool) -> None:
    """KeyboardInterrupt and SystemExit leave asyncio.run(), also from a concurrent receiver."""
    signal = Signal("ending")
    signal.connect(raising(EXCEPTIONS[name], True, []), concurrent=concurrent)

    async def program() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        await send(signal, way)

    with pytest.raises((KeyboardInterrupt, SystemExit)) as caught:
        asyncio.run(program())
    assert type(caught.value).__name__ == name
    assert get_current() is None


async def test_several_base_exceptions_come_as_a_group() -> None:
    """Two concurrent receivers' own BaseExceptions arrive together, from a robust send too."""
    signal = Signal("grouped")
    for _ in range(2):
        signal.connect(raising(lambda: Own("x"), True, []), concurrent=True)
    with pytest.raises(BaseExceptionGroup) as caught:
        await signal.send_robust(None)
    assert [type(each) for each in caught.value.exceptions] == [Own, Own]


@pytest.mark.parametrize("way", ["send", "send_sync"])
async def test_notes_do_not_pile_up(way: str) -> None:
    """One exception object that is raised a thousand times keeps the latest notes, each once."""
    signal = Signal("piled")
    signal.connect(raising(lambda: SINGLETON, False, []))
    for number in range(1000):
        with pytest.raises(ValueError, match="again and again"):
            await send(signal, way, number)
        SINGLETON.__traceback__ = None
    assert len(SINGLETON.__notes__) == MAX_NOTES
    assert "sent by 999 to" in SINGLETON.__notes__[-1]
    for _ in range(3):
        with pytest.raises(ValueError, match="again and again"):
            await send(signal, way, 999)
    assert len(SINGLETON.__notes__) == len(set(SINGLETON.__notes__)) == MAX_NOTES


async def test_a_long_way_out_keeps_all_its_notes() -> None:
    """An exception that passes through as many sends as may stand inside one another names all."""
    signal = Signal("deep")

    @signal.connect
    async def deeper(depth: int, **kwargs: Any) -> None:
        if depth == MAX_DEPTH:
            raise ValueError("at the bottom")
        await signal.send(depth + 1, depth=depth + 1)

    with pytest.raises(ValueError, match="at the bottom") as caught:
        await signal.send(1, depth=1)
    assert len(caught.value.__notes__) == MAX_DEPTH < MAX_NOTES
    assert "sent by 50 to" in caught.value.__notes__[0]
