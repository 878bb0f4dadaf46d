"""The library's own verbs on connections that are killed at any point."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from kit.faulty import (
    COMMIT,
    IMMEDIATE,
    PHASES,
    ROLLBACK,
    ReceivedKeys,
    Row,
    Server,
    Twin,
    check_next_transaction,
    is_sqlalchemys,
    process_of,
    recover,
    some,
    trips,
)
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from aksara_signals import post_bulk_create, post_bulk_update

Verb = Callable[[Any], Awaitable[Any]]
VERBS: dict[str, Verb] = {}


def verb(function: Verb) -> Verb:
    """Rows 1 and 2 are there; ``session`` is None where the library opens its own."""
    VERBS[function.__name__] = function
    return function


@verb
async def save(session: Any) -> None:
    await Row(id=3).save(session=session)


@verb
async def create(session: Any) -> None:
    await Row.objects.create(id=3, session=session)


@verb
async def get_or_create(session: Any) -> None:
    await Row.objects.get_or_create(id=3, session=session)


@verb
async def update(session: Any) -> None:
    row = await Row.objects.get(id=1, session=session)
    await row.update(secret="changed", session=session)


@verb
async def save_fields(session: Any) -> None:
    row = await Row.objects.get(id=1, session=session)
    row.secret = "changed"
    await row.save(update_fields=["secret"], session=session)


@verb
async def delete(session: Any) -> None:
    row = await Row.objects.get(id=2, session=session)
    await row.delete(session=session)


@verb
async def bulk_create(session: Any) -> None:
    await Row.objects.bulk_create([Row(id=3), Row(id=4)], batch_size=1, session=session)


@verb
async def bulk_update(session: Any) -> None:
    rows = await Row.objects.all(session=session)
    for row in rows:
        row.secret = "changed"
    await Row.objects.bulk_update(rows, ["secret"], session=session)


@verb
async def update_with_signals(session: Any) -> None:
    await Row.objects.filter(id=1, session=session).with_signals().update(secret="changed")


@verb
async def delete_with_signals(session: Any) -> None:
    await Row.objects.filter(id=2, session=session).with_signals().delete()


@pytest.fixture
def sent_in_bulk() -> Iterator[dict[str, list[list[int]]]]:
    """The keys in each bulk signal, by phase."""
    keys: dict[str, list[list[int]]] = {phase: [] for phase in PHASES}
    connected = []
    for phase in PHASES:
        for signal in (post_bulk_create, post_bulk_update):

            def receiver(instances: list[Row], phase: str = phase, **kwargs: Any) -> None:
                keys[phase].append([row.id for row in instances])

            signal.connect(receiver, sender=Row, phase=phase)
            connected.append((signal, receiver))
    yield keys
    for signal, receiver in connected:
        signal.disconnect(receiver, sender=Row)


class Verbs:
    """Calls verbs in a session that is given, or bound, and kills the connection at one point."""

    def __init__(self, twin: Twin, server: Server, *, is_own: bool) -> None:
        self._twin = twin
        self._server = server
        self._is_own = is_own

    async def call(self, verb: Verb, at: int | None) -> tuple[BaseException | None, list[str]]:
        """What was raised, and the points that were passed."""
        self._server.write(1, 2)
        error = None
        with trips(self._twin.engine, self._kill, at) as found:
            try:
                await verb(None if self._is_own else self._twin.session)
                if not self._is_own:
                    await self._twin.do(Session.commit)
            except Exception as raised:
                error = raised
        await self._twin.do(recover)
        return error, found.names

    def _kill(self, connection: Connection) -> None:
        self._server.kill(process_of(connection))


@pytest.mark.parametrize("is_own", [False, True], ids=["given", "bound"])
async def test_a_verb_fails_with_its_connection(
    twin: Twin,
    server: Server,
    sent: ReceivedKeys,
    sent_in_bulk: dict[str, list[list[int]]],
    is_own: bool,
) -> None:
    """SQLAlchemy's error comes out of the verb; nothing is written or sent as committed."""

    def forget() -> None:
        sent.clear()
        for keys in sent_in_bulk.values():
            keys.clear()

    verbs = Verbs(twin, server, is_own=is_own)
    Row.bind_sessions(twin.sessions if is_own else None)
    try:
        for name, verb in VERBS.items():
            error, points = await verbs.call(verb, None)
            assert error is None
            assert sent.of(COMMIT) or sent_in_bulk[COMMIT], name
            for at, point in some(points, name):
                forget()
                error, _ = await verbs.call(verb, at)
                assert is_sqlalchemys(error), (name, point)
                assert server.contents() == [(1, ""), (2, "")], (name, point)
                assert sent.of(COMMIT) == sent_in_bulk[COMMIT] == [], (name, point)
                assert sorted(sent.of(ROLLBACK)) == sorted(sent.of(IMMEDIATE)), (name, point)
                assert sent_in_bulk[ROLLBACK] == sent_in_bulk[IMMEDIATE], (name, point)
                await check_next_transaction(twin, sent, server)
            forget()
    finally:
        Row.bind_sessions(None)
