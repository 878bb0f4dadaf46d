"""Short scripts at random, and a connection that is killed at the n-th point of one."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

from kit.effort import times
from kit.faulty import (
    COMMIT,
    IMMEDIATE,
    ROLLBACK,
    ReceivedKeys,
    Row,
    Server,
    Twin,
    is_empty,
    is_sqlalchemys,
    process_of,
    recover,
    trips,
)
from sqlalchemy import Connection
from sqlalchemy.orm import Session

ENDS = ("rollback", "close", "reset", "invalidate")


class Script:
    """Steps drawn once, to be gone through as often as needed; each flush writes rows of its own."""

    def __init__(self, draw: random.Random, keys: Iterator[int], sent: ReceivedKeys) -> None:
        self._draw = draw
        self._keys = keys
        self._sent = sent
        self._seed = draw.random()

    def play(self, session: Session) -> None:
        draw = random.Random(self._seed)
        for _ in range(draw.randint(1, 3)):
            self._transaction(session, draw)

    def failure(self, session: Session) -> BaseException | None:
        try:
            self.play(session)
        except Exception as error:
            return error
        return None

    def _transaction(self, session: Session, draw: random.Random) -> None:
        savepoints = []
        rows: list[Row] = []
        for _ in range(draw.randint(1, 6)):
            step = draw.choice(["add", "add", "update", "begin", "release", "undo", "read"])
            if step == "add":
                rows = [Row(id=next(self._keys)) for _ in range(draw.randint(1, 3))]
                self._sent.promise(session, rows[0].id)
                session.add_all(rows)
                session.flush()
            elif step == "update" and rows and all(row in session for row in rows):
                rows[0].secret += "x"
                session.flush()
            elif step == "begin" and len(savepoints) < 3:
                savepoints.append(session.begin_nested())
            elif step == "release" and savepoints:
                savepoints.pop().commit()
            elif step == "undo" and savepoints:
                savepoints.pop().rollback()
                rows = []
            elif step == "read":
                session.get(Row, -1)
        getattr(session, draw.choice(["commit", "commit", "commit", "rollback", "close"]))()


async def test_a_connection_is_killed_at_random(
    twin: Twin, server: Server, sent: ReceivedKeys
) -> None:
    """Committed are the rows that the database shows, whatever is killed; the session goes on."""
    draw = random.Random(f"{twin.driver} 7")
    keys = iter(range(1, 10**9))
    kills = 0

    def kill(connection: Connection) -> None:
        server.kill(process_of(connection))

    for _ in range(times(40)):
        script = Script(draw, keys, sent)
        sent.clear()
        server.write()
        with trips(twin.engine, kill, draw.randrange(draw.choice([4, 12, 24]))) as found:
            error = await twin.do(script.failure)
        assert error is None or is_sqlalchemys(error), found.names
        kills += found.has_struck
        await twin.do(lambda session: recover(session, draw.choice(ENDS)))
        # Each flush of a row that was committed has left its mark in it.
        kept = {key: 1 + len(marks) for key, marks in server.contents()}
        assert Counter(sent.of(COMMIT)) == kept, found.names
        assert sorted(sent.of(IMMEDIATE)) == sorted(sent.of(COMMIT) + sent.of(ROLLBACK))
        assert set(sent.called[COMMIT]) <= set(kept)
        assert not set(sent.called[ROLLBACK]) & set(kept)
        assert is_empty(twin.plain)
        assert twin.engine.pool.checkedout() == 0
    assert kills > times(40) / 6
