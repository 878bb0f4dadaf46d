"""A program that changes the shop until it is ended: python -m kit.durable.write SEED PAUSE FILE [TOLERANT]."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from kit.durable import shop
from kit.durable.shop import Change, Ware, WareLabel

LABELS = range(1, 6)
ROLLBACKS = 0.2
"""The part of transactions, and of savepoints, that is rolled back."""
MOST_WARES = 40


def note(session: Session, kind: str, ware: Ware) -> None:
    session.add(Change(kind=kind, ware_id=ware.id, step=ware.step, mark=ware.mark))


def insert(session: Session, chance: random.Random) -> None:
    wares = [Ware(mark=uuid.uuid4().hex) for _ in range(chance.randint(1, 3))]
    session.add_all(wares)
    session.flush()
    for ware in wares:
        note(session, "save", ware)


def change(session: Session, ware: Ware, chance: random.Random) -> bool:
    """Change a ware in one of the ways there are; whether it is still there."""
    kind = chance.choices(["save", "delete", "labels"], [60, 15, 25])[0]
    if kind == "delete":
        note(session, kind, ware)
        session.delete(ware)
        session.flush()
        return False
    ware.step += 1
    ware.mark = uuid.uuid4().hex
    note(session, "save", ware)
    if kind == "labels":
        label = session.get_one(WareLabel, chance.choice(LABELS))
        has_it = label in ware.labels
        note(session, "post_remove" if has_it else "post_add", ware)
        (ware.labels.remove if has_it else ware.labels.append)(label)
    session.flush()
    return True


def transaction(session: Session, chance: random.Random) -> bool:
    """One transaction; whether it was committed."""
    keys = list(session.scalars(select(Ware.id)))
    session.rollback()  # on MariaDB, what is read below would be as it was here
    chosen = chance.sample(keys, min(len(keys), chance.randint(1, 3)))
    # Locked in one order, so that writers wait for each other instead of being in a deadlock.
    locked = select(Ware).where(Ware.id.in_(chosen)).order_by(Ware.id).with_for_update()
    for ware in session.scalars(locked).all():
        if chance.random() < 0.4:
            savepoint = session.begin_nested()
            change(session, ware, chance)
            if chance.random() < ROLLBACKS:
                savepoint.rollback()
            else:
                savepoint.commit()
        elif change(session, ware, chance) and chance.random() < 0.3:
            change(session, ware, chance)
    if chance.random() < (0.9 if len(keys) < MOST_WARES else 0.1):
        insert(session, chance)
    if chance.random() < ROLLBACKS:
        session.rollback()
        return False
    session.commit()
    return True


async def one_transaction(chance: random.Random) -> bool:
    if os.environ.get(shop.SYNC):
        with shop.SyncSessions() as plain:
            return transaction(plain, chance)
    async with shop.Sessions() as session:
        return await session.run_sync(transaction, chance)


async def main() -> None:
    seed, pause = int(sys.argv[1]), float(sys.argv[2])
    chance = random.Random(seed)
    is_ended: list[Any] = []
    signal.signal(signal.SIGTERM, lambda *_: is_ended.append(True))
    counts = {True: 0, False: 0}
    while not is_ended:
        try:
            committed = await one_transaction(chance)
        except Exception:
            if not sys.argv[4]:
                raise
            committed = False
        counts[committed] += 1
        Path(sys.argv[3]).touch()
        time.sleep(pause * chance.uniform(0.5, 1.5))
    await shop.engine.dispose()
    shop.sync_engine.dispose()
    print(f"{counts[True]} committed, {counts[False]} rolled back")


if __name__ == "__main__":
    asyncio.run(main())
