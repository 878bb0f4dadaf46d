"""The pytest plugin: fixtures, failing a test whose receivers fail after a commit, and an option.

pytest loads it by itself where the library is installed; ``-p no:aksara_signals`` leaves it out.
All fixtures are synchronous, so they work with every plugin for async tests, in every mode.

A test run that doesn't use the library pays for these few lines only: neither the dispatcher nor
SQLAlchemy is imported before a test or a fixture needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from aksara_signals.failures import observers

if TYPE_CHECKING:
    from aksara_signals.testing.calls import Calls

__all__ = [
    "captured_signals",
    "delivery_errors",
    "drain_outbox",
    "restored_signals",
    "silenced_signals",
]

_MODES = ("off", "warn", "error")

_ERRORS = pytest.StashKey[list[BaseException]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--signals-statements``, and the setting ``signals_statements``."""
    text = (
        "what to do about ORM statements (insert, update, delete) on a class with receivers that "
        "aren't called for them: off (the default), warn or error"
    )
    parser.getgroup("aksara_signals").addoption(
        "--signals-statements", choices=_MODES, default=None, help=text
    )
    parser.addini("signals_statements", text, default="off")


def pytest_configure(config: pytest.Config) -> None:
    """Start the guard that ``--signals-statements`` asks for."""
    mode = config.getoption("signals_statements") or config.getini("signals_statements")
    if mode not in _MODES:
        raise pytest.UsageError(
            f"signals_statements is {mode!r} in the settings; give one of {', '.join(_MODES)}"
        )
    if mode != "off":
        from aksara_signals.testing.statements import StatementGuard

        guard = StatementGuard(raises=mode == "error")
        config.pluginmanager.register(guard, "aksara_signals_statements")
        config.add_cleanup(guard.close)


@pytest.fixture
def captured_signals() -> Iterator[Calls]:
    """What every signal sends during the test; see :class:`aksara_signals.testing.Calls`."""
    from aksara_signals.testing.capture import capture_signals

    with capture_signals() as calls:
        yield calls


@pytest.fixture
def drain_outbox() -> Iterator[Callable[..., Coroutine[Any, Any, int]]]:
    """The function :func:`aksara_signals.testing.drain_outbox`.

    At the end, the outboxes that the test has installed are uninstalled, and the reverse.
    """
    from aksara_signals.testing.outbox import drain_outbox, restored_outboxes

    with restored_outboxes():
        yield drain_outbox


@pytest.fixture
def restored_signals() -> Iterator[None]:
    """Undo what the test connects and disconnects."""
    from aksara_signals.testing.restoring import restored_signals

    with restored_signals():
        yield


@pytest.fixture
def silenced_signals() -> None:
    """No signal is sent in the test; signals are still sent for what fixtures write.

    The fixture can't enter a ``SignalContext`` itself, because an async test may run in another
    context; so the plugin makes the test function run inside ``SignalContext.disable_all()``.
    """


@pytest.fixture
def delivery_errors(request: pytest.FixtureRequest) -> list[BaseException]:
    """The errors of receivers that were called after the outcome of a transaction.

    A test that uses this fixture expects them: they don't fail it.
    """
    errors: list[BaseException] = request.node.stash.setdefault(_ERRORS, [])
    return errors


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Wrap the tests that use ``silenced_signals``, before other plugins wrap them."""
    for item in items:
        if isinstance(item, pytest.Function) and "silenced_signals" in item.fixturenames:
            from aksara_signals.dispatch.context import SignalContext

            item.obj = SignalContext.disable_all()(item.obj)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test whose receivers have failed after the outcome, where no caller sees the error."""
    errors = item.stash.setdefault(_ERRORS, [])
    observers.append(errors.append)
    try:
        result = yield
    finally:
        observers.remove(errors.append)
    if errors and "delivery_errors" not in getattr(item, "fixturenames", ()):
        receivers = "1 receiver" if len(errors) == 1 else f"{len(errors)} receivers"
        raise BaseExceptionGroup(
            f"{receivers} failed after the outcome of a transaction; a test that expects it "
            f"uses the fixture delivery_errors",
            errors,
        )
    return result
