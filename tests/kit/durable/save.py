"""A program that saves wares, one per flush, and ends: python -m kit.durable.save MARK…

A mark of the form ``KEY:MARK`` changes the ware with that key.
"""

from __future__ import annotations

import sys

from kit.durable import shop
from kit.durable.shop import Ware

if __name__ == "__main__":
    with shop.SyncSessions() as session, session.begin():
        for argument in sys.argv[1:]:
            key, _, mark = argument.rpartition(":")
            if key:
                ware = session.get_one(Ware, int(key))
                ware.mark, ware.step = mark, ware.step + 1
            else:
                session.add(Ware(mark=mark))
            session.flush()
    shop.sync_engine.dispose()
