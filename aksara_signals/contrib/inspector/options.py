"""The options of an inspector, checked before anything is recorded or shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from aksara_signals.contrib.outbox import Outbox
from aksara_signals.dispatch.receivers.naming import describe_sender
from aksara_signals.exceptions import InvalidOptionError

__all__ = ["LOCAL_HOSTS", "Options"]

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")

_HOST = re.compile(
    r"[0-9a-z_-]+(\.[0-9a-z_-]+)*|\[?[0-9a-f]*:[0-9a-f.]*:[0-9a-f:.]*\]?", re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What :class:`Inspector` was given.

    Raises:
        InvalidOptionError: An option is of the wrong kind, or nothing protects the inspector.
    """

    debug: bool
    token: str | None
    allowed_hosts: Iterable[str]
    show: Iterable[str]
    show_errors: bool
    actions: bool
    outbox: Outbox | None
    sessions: Callable[[], Any] | None

    def __post_init__(self) -> None:
        for name in ("debug", "show_errors", "actions"):
            value = getattr(self, name)
            self._check(name, value, isinstance(value, bool), "True or False")
        self._check_token()
        hosts = self._check_names(
            "allowed_hosts", "a list of host names: ['localhost', 'dev.example']"
        )
        for host in hosts:
            if not _HOST.fullmatch(host):
                raise InvalidOptionError(
                    f"an Inspector can't have allowed_hosts={host!r}: it takes no pattern, port or "
                    f"address of a page, because any page could then reach it; name each host"
                )
        self._check("allowed_hosts", hosts, bool(hosts), "at least one host name")
        self._check_names("show", "a list of names of attributes: ['slug']")
        outbox: Any = self.outbox
        is_outbox = outbox is None or isinstance(outbox, Outbox)
        self._check("outbox", outbox, is_outbox, "an Outbox")
        sessions: Any = self.sessions
        are_sessions = sessions is None or callable(sessions)
        self._check("sessions", sessions, are_sessions, "an async_sessionmaker or a sessionmaker")
        if not self.debug and self.token is None:
            raise InvalidOptionError(
                "an Inspector shows the inside of an application, and nothing protects this one: "
                "give debug=True on a developer's machine (such as debug=settings.debug), or "
                "token=, a secret that has to be entered"
            )

    def _check_token(self) -> None:
        token: Any = self.token
        if token is not None and not isinstance(token, str):
            # Not shown: it may be the secret, as bytes.
            raise InvalidOptionError("an Inspector's token= must be a text")
        if token is not None and not token.strip():
            raise InvalidOptionError(
                "an Inspector's token= is empty, and protects nothing; make one by: python -c "
                "'import secrets; print(secrets.token_urlsafe())'"
            )

    def _check_names(self, option: str, expected: str) -> tuple[str, ...]:
        value: Any = getattr(self, option)
        is_list = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
        names: tuple[Any, ...] = tuple(value) if is_list else ()
        are_names = is_list and all(isinstance(each, str) and each for each in names)
        self._check(option, value, are_names, expected)
        object.__setattr__(self, option, names)
        return names

    def _check(self, option: str, value: object, is_valid: bool, expected: str) -> None:
        if not is_valid:
            raise InvalidOptionError(
                f"an Inspector can't have {option}={describe_sender(value)}; give {expected}"
            )
