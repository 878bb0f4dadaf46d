"""The provenance of a change reaches the receivers that other processes call."""

from __future__ import annotations

import json
import os

from kit.durable import audited, drained, shop
from kit.durable.programs import Programs
from kit.durable.shop import Ware
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from aksara_signals import provenance


def test_a_worker_puts_the_stored_provenance_in_force(
    shop_engine: Engine, shop_programs: Programs
) -> None:
    """Its receivers are given it, and so are the durable receivers of what they write."""
    audited.connect()
    shop.outbox.install()
    try:
        with Session(shop_engine) as session, session.begin():
            for values in ({"actor": 7, "tags": ["a", {"b": None}]}, {}):
                with provenance(**values):
                    session.add(Ware(mark=str(len(values))))
                    session.flush()
    finally:
        shop.outbox.uninstall()
    worker = shop_programs.worker(modules=("kit.durable.audited",))
    drained.wait_until_drained(shop_engine)
    assert shop_programs.end_all() == []
    lines = (shop_programs.folder / audited.FILE).read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    given = {"actor": 7, "tags": ["a", {"b": None}]}
    assert {pid for pid, *_ in found} == {worker.pid}
    assert worker.pid != os.getpid()
    for receiver in ("ware", "effect"):
        both = [values for _, of, *values in found if of == receiver]
        assert sorted(both, key=str) == sorted([[given, given], [{}, {}]], key=str)
