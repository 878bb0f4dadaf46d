"""The outbox of an application: its tables, the modules of its receivers, and its encoders."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, Literal, TypeVar

from sqlalchemy import Engine, MetaData
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Session, SessionTransaction

from aksara_signals.contrib.outbox.encoding import Encoding
from aksara_signals.contrib.outbox.notifying import Notifier
from aksara_signals.contrib.outbox.registry import durable_receivers
from aksara_signals.contrib.outbox.relay.relay import Publish, Relay
from aksara_signals.contrib.outbox.rows.tables import Tables, make_tables
from aksara_signals.contrib.outbox.worker.gateway import Sessions
from aksara_signals.contrib.outbox.worker.worker import Worker
from aksara_signals.contrib.outbox.writing import OutboxWriter
from aksara_signals.dispatch.connections.options import is_seconds
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import InvalidOptionError, OutboxError
from aksara_signals.orm.outcome.callbacks import on_commit
from aksara_signals.orm.outcome.durable import install_writer

T = TypeVar("T")

Mode = Literal["workers", "cdc"]
"""Who takes the rows out of the table: workers, or change data capture (such as Debezium)."""

_MODES = ("workers", "cdc")

_installed: list[Outbox] = []
_writer = OutboxWriter(_installed)


def installed_outboxes() -> list[Outbox]:
    """The installed outboxes, in the order of their installation."""
    return list(_installed)


def the_outbox(given: Outbox | None = None) -> Outbox:
    """The outbox that is given, or else the one that is installed.

    Raises:
        OutboxError: None is given, and no outbox is installed, or several are.
    """
    if given is not None:
        return given
    if len(_installed) != 1:
        raise OutboxError(
            f"{len(_installed) or 'no'} outboxes are installed; give one by outbox=, or call its "
            f"install() first"
        )
    return _installed[0]


class Outbox:
    """The table in which is stored what durable receivers are sent.

    Both the application and its workers import and install it. It adds its tables to the metadata
    of the application, so migrations and ``create_all()`` make them.

    Args:
        metadata: The metadata of the mapped classes, ``Base.metadata``.
        modules: The dotted names of the modules that connect durable receivers. :meth:`install`
            imports them: a process that has not imported a receiver stores nothing for it.
        mode: ``"workers"``: rows stay until workers have run them. ``"cdc"``: they are deleted in
            the same transaction, for a tool that reads the database's log, such as Debezium.
        notify: Whether a process that has written rows announces them on PostgreSQL, after the
            commit, for the workers that were started with ``listen=True``.
        name: The name of the table.
        schema: The schema of the table; None: the default one.
        keep_done_seconds: How long rows stay that are done, before workers delete them; a day.
        keep_dead_seconds: The same of rows that are given up; thirty days.
        keep_inbox_seconds: How long it is known what a broker has delivered; seven days. A message
            that the broker repeats later is delivered again.

    Raises:
        InvalidOptionError: An argument is of the wrong kind, or the metadata has the table already.

    >>> from sqlalchemy.orm import DeclarativeBase
    >>> class Base(DeclarativeBase): ...
    >>> outbox = Outbox(Base.metadata, modules=["app.receivers"])
    >>> sorted(Base.metadata.tables)
    ['aksara_breaker', 'aksara_inbox', 'aksara_outbox']

    Source: the transactional outbox; the columns are those of Debezium's outbox event router.
    """

    def __init__(
        self,
        metadata: MetaData,
        *,
        modules: Iterable[str] = (),
        mode: Mode = "workers",
        notify: bool = False,
        name: str = "aksara_outbox",
        schema: str | None = None,
        keep_done_seconds: float = 86_400.0,
        keep_dead_seconds: float = 2_592_000.0,
        keep_inbox_seconds: float = 604_800.0,
    ) -> None:
        if not isinstance(metadata, MetaData):
            raise InvalidOptionError(
                f"Outbox was given {describe_sender(metadata)}; give the metadata of the mapped "
                f"classes, Base.metadata"
            )
        given: Any = modules
        is_list = isinstance(given, Iterable) and not isinstance(given, (str, bytes))
        names = tuple(modules) if is_list else ()
        if not is_list or not all(isinstance(each, str) for each in names):
            raise InvalidOptionError(
                f"Outbox(modules={describe_sender(modules)}) is not a list of the dotted names of "
                f"modules; give modules=['app.receivers']"
            )
        if mode not in _MODES:
            raise InvalidOptionError(
                f"Outbox(mode={describe_sender(mode)}) is not one of {', '.join(_MODES)}"
            )
        for option, value in (
            ("keep_done_seconds", keep_done_seconds),
            ("keep_dead_seconds", keep_dead_seconds),
            ("keep_inbox_seconds", keep_inbox_seconds),
        ):
            if not is_seconds(value) or value < 0:
                raise InvalidOptionError(
                    f"Outbox({option}={describe_sender(value)}) is not a number of seconds"
                )
        self.keep_done_seconds: float = keep_done_seconds
        self.keep_dead_seconds: float = keep_dead_seconds
        self.keep_inbox_seconds: float = keep_inbox_seconds
        self.metadata: MetaData = metadata
        self.modules: tuple[str, ...] = names
        self.mode: Mode = mode
        self.tables: Tables = _tables_in(metadata, name, schema)
        self.encoding: Encoding = Encoding()
        self._notifier = Notifier(self.tables) if notify else None
        self._wakers: list[Callable[[], object]] = []
        self._noted: weakref.WeakKeyDictionary[SessionTransaction, set[Engine]] = (
            weakref.WeakKeyDictionary()
        )

    @property
    def deletes(self) -> bool:
        """Whether rows are deleted as soon as they are inserted."""
        return self.mode == "cdc"

    @property
    def is_installed(self) -> bool:
        """Whether rows are written."""
        return self in _installed

    def install(self) -> None:
        """Import the modules of the receivers, and write rows from now on.

        To be called once in every process that writes, and in every worker. A second call only
        imports what has been added.

        Raises:
            ImportError: A module can't be imported.
            OutboxError: Two durable receivers claim one former name.
        """
        for module in self.modules:
            import_module(module)
        durable_receivers()
        if not self.is_installed:
            _installed.append(self)
        install_writer(_writer)

    def uninstall(self) -> None:
        """Stop writing rows. Sending to a durable receiver is an error then; for tests."""
        if self.is_installed:
            _installed.remove(self)
            if not _installed:
                install_writer(None)

    def encoder(self, kind: type[T], function: Callable[[T], Any]) -> None:
        """Store values of a type that is not JSON.

        datetime, date, time, UUID, Decimal and Enum have encoders.

        Args:
            kind: The type; its subclasses are included.
            function: Takes a value, and returns JSON or something that has an encoder.

        Raises:
            InvalidOptionError: ``kind`` is not a class, or ``function`` can't be called.
        """
        given: Any = kind
        if not isinstance(given, type) or not callable(function):
            raise InvalidOptionError(
                f"outbox.encoder() was given {describe_sender(kind)} and "
                f"{describe_sender(function)}; give a class and a function, as in "
                f"outbox.encoder(Color, Color.name)"
            )
        self.encoding.add(kind, function)

    def worker(self, sessions: Sessions, **options: Any) -> Worker:
        """A worker to run inside this process: ``async with outbox.worker(Sessions): …``.

        Args:
            sessions: An ``async_sessionmaker``, or a ``sessionmaker``.
            options: Those of :class:`Worker`.

        Raises:
            InvalidOptionError: An option is of the wrong kind, or out of range.
        """
        return Worker(self, sessions, **options)

    def relay(self, publish: Publish, sessions: Sessions, **options: Any) -> Relay:
        """A relay to run inside this process: ``async with outbox.relay(publish, Sessions): …``.

        Args:
            publish: Publishes an event, and returns once the broker has it.
            sessions: An ``async_sessionmaker``, or a ``sessionmaker``.
            options: Those of :class:`Relay`.

        Raises:
            InvalidOptionError: An option is of the wrong kind, or out of range.
        """
        return Relay(publish, self, sessions, **options)

    # -- wake-up -------------------------------------------------------------------------------

    def wake(self) -> None:
        """Let the workers in this process look for rows at once. May be called by any thread."""
        for wake in tuple(self._wakers):
            wake()

    def add_waker(self, wake: Callable[[], object]) -> None:
        """Call a function, in whichever thread, whenever rows have been committed here."""
        self._wakers.append(wake)

    def remove_waker(self, wake: Callable[[], object]) -> None:
        """Undo :meth:`add_waker`."""
        self._wakers.remove(wake)

    def written(self, session: Session, engine: Engine) -> None:
        """Wake workers once a session has committed; called by the writer.

        Args:
            session: The session that has written rows.
            engine: That of the database in which they are.
        """
        if not self._wakers and self._notifier is None:
            return
        # Of a savepoint that is rolled back, on_commit() calls nothing.
        transaction = session.get_nested_transaction() or session.get_transaction()
        if transaction is None:
            return
        noted = self._noted.setdefault(transaction, set())
        if engine not in noted:
            noted.add(engine)
            on_commit(session, lambda: self._announce(engine))

    def _announce(self, engine: Engine) -> None:
        self.wake()
        if self._notifier is not None:
            self._notifier.notify(engine)


def _tables_in(metadata: MetaData, name: str, schema: str | None) -> Tables:
    try:
        return make_tables(metadata, name=name, schema=schema)
    except InvalidRequestError as error:
        raise InvalidOptionError(
            f"the metadata has a table {name} already; make one Outbox, in a module that is "
            f"imported once, or give another name="
        ) from error
