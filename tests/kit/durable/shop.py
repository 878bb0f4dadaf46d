"""The application: its models, its outbox and its sessions.

In a process that was started by :mod:`kit.durable.programs`, the database and the modules of the
receivers are in the environment. In the process of the tests there is neither.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from sqlalchemy import Column, ForeignKey, Table
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    MappedAsDataclass,
    mapped_column,
    relationship,
    sessionmaker,
)

from aksara_signals.contrib.outbox import Outbox
from aksara_signals.orm import SignalMixin
from kit.claims import async_outbox_engine, outbox_engine
from kit.durable import places

DATABASE, MODULES, FOLDER, SYNC, NATS = (
    "AKSARA_SHOP_DATABASE",
    "AKSARA_SHOP_MODULES",
    "AKSARA_SHOP_FOLDER",
    "AKSARA_SHOP_SYNC",
    "AKSARA_SHOP_NATS",
)
"""Names of the environment."""

folder = Path(os.environ.get(FOLDER, "."))
"""Where receivers leave files."""


class ShopBase(SignalMixin, DeclarativeBase):
    pass


labels_of_wares = Table(
    "labels_of_wares",
    ShopBase.metadata,
    Column("ware_id", ForeignKey("ware.id"), primary_key=True),
    Column("label_id", ForeignKey("ware_label.id"), primary_key=True),
)


class WareLabel(ShopBase):
    __tablename__ = "ware_label"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class Ware(ShopBase):
    """What is sold. Each change gets the next step, and a mark that no other change has."""

    __tablename__ = "ware"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(default=1)
    mark: Mapped[str]
    labels: Mapped[list[WareLabel]] = relationship(secondary=labels_of_wares)


class Change(MappedAsDataclass, ShopBase, kw_only=True):
    """A change of a ware, as the writer notes it in the same transaction: the truth."""

    __tablename__ = "ware_change"

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    kind: Mapped[str]
    ware_id: Mapped[int]
    step: Mapped[int]
    mark: Mapped[str]


class Effect(MappedAsDataclass, ShopBase, kw_only=True):
    """What a receiver has done, in its own transaction."""

    __tablename__ = "ware_effect"
    __table_args__ = {"sqlite_autoincrement": True}

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    receiver: Mapped[str]
    kind: Mapped[str]
    ware_id: Mapped[int]
    step: Mapped[int]
    mark: Mapped[str]


outbox = Outbox(ShopBase.metadata, modules=json.loads(os.environ.get(MODULES, "[]")))

if DATABASE in os.environ:
    _database = places.from_text(os.environ[DATABASE])
    engine = async_outbox_engine(_database)
    sync_engine = outbox_engine(_database)
    Sessions = async_sessionmaker(engine)
    SyncSessions = sessionmaker(sync_engine)
    outbox.install()
