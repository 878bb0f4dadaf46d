"""An audit row for every change of an account, in the transaction of the change."""

import asyncio

from sqlalchemy import select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from aksara_signals import post_update
from aksara_signals.orm import SignalMixin


class Base(SignalMixin, DeclarativeBase):
    pass


class Account(Base):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int]


class AuditRow(Base):
    __tablename__ = "audit_rows"
    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int]
    text: Mapped[str]


@post_update(Account)
async def keep_an_audit(sender, instance, session, changes, **kwargs):
    for name, (old, new) in changes.items():
        session.add(AuditRow(account_id=instance.id, text=f"{name}: {old} -> {new}"))


async def main():
    engine = create_async_engine("sqlite+aiosqlite://")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    sessions = async_sessionmaker(engine, expire_on_commit=False)

    async with sessions.begin() as session:
        account = Account(balance=100)
        session.add(account)

    async with sessions() as session:
        session.add(account)
        account.balance = 80
        await session.commit()
        account.balance = 0
        await session.flush()
        await session.rollback()  # undoes the change and its audit row

    async with sessions() as session:
        for row in await session.scalars(select(AuditRow)):
            print(row.account_id, row.text)
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main())
