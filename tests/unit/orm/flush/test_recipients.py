"""Who hears what of a class: asked once, and again when anything has changed."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from kit.models import Audit, Post

from aksara_signals import (
    SignalContext,
    post_delete,
    post_save,
    post_update,
    pre_save,
    pre_update,
)
from aksara_signals.orm.flush.recipients import POST, PRE, Audience, _audience_of
from aksara_signals.orm.kind import Kind


def receive(**kwargs: Any) -> None:
    """Hears."""


async def wait(**kwargs: Any) -> None:
    """Hears, and could wait."""


def test_it_is_worked_out_once() -> None:
    """Flush after flush, until somebody is connected or disconnected."""
    post_save.connect(receive, Post)
    first = _audience_of(Post)
    assert _audience_of(Post) is first
    assert _audience_of(Audit) is not first
    pre_save.connect(receive, Audit)
    second = _audience_of(Post)
    assert second is not first
    assert _audience_of(Post) is second
    with SignalContext.disable_for(Post):
        assert not _audience_of(Post).is_heard
    assert _audience_of(Post) is second


def test_a_flush_keeps_whom_it_has_asked_for() -> None:
    """Whoever is connected meanwhile is heard by the next one."""
    audience = Audience()
    assert not audience.is_heard(Post)
    post_save.connect(receive, Post)
    assert not audience.is_heard(Post)
    assert Audience().is_heard(Post)
    assert not Audience().is_heard(Audit)


def test_signals_of_a_change() -> None:
    """An update is told by two signals on either side, in opposite order."""
    for signal in (pre_save, post_save, pre_update, post_update, post_delete):
        signal.connect(receive, Post)
    audience = Audience()

    def names(kind: Kind, moment: Any) -> list[str | None]:
        return [signal.name for signal, _ in audience.hearers(Post, kind, moment).plans]

    assert names(Kind.CREATE, PRE) == ["pre_save"]
    assert names(Kind.UPDATE, PRE) == ["pre_save", "pre_update"]
    assert names(Kind.DELETE, PRE) == []
    assert names(Kind.CREATE, POST) == ["post_save"]
    assert names(Kind.UPDATE, POST) == ["post_update", "post_save"]
    assert names(Kind.DELETE, POST) == ["post_delete"]


def test_created_narrows() -> None:
    """A receiver of created rows isn't among those who hear of updated ones."""
    post_save.connect(receive, Post, created=True)
    audience = Audience()
    assert audience.is_heard(Post)
    assert audience.hearers(Post, Kind.CREATE, POST).plans
    assert not audience.hearers(Post, Kind.UPDATE, POST).plans


def test_who_is_sent_the_net() -> None:
    """Nothing is noted of a class for which nobody coalesces, silenced or not."""
    silence = SignalContext.disable_for(Post, Audit)
    post_save.connect(receive, Post, phase="after_commit")
    assert not Audience().coalesces(Post)
    with silence:
        assert not Audience().coalesces(Post)
    post_delete.connect(receive, Post, phase="after_commit", coalesce=True)
    for context in (nullcontext(), silence):
        with context:
            assert Audience().coalesces(Post)
            assert not Audience().coalesces(Audit)


def test_runs_go_across_signals() -> None:
    """Neighbours that are called alike are one run; those that wait are apart."""
    post_update.connect(receive, Post)
    post_update.connect(wait, Post)
    post_save.connect(wait, Post)
    post_save.connect(receive, Post)
    post_save.connect(receive, Post, phase="after_commit")
    hearers = Audience().hearers(Post, Kind.UPDATE, POST)
    assert [
        (is_async, [signal.name for signal, _ in segments]) for is_async, segments in hearers.runs
    ] == [
        (False, ["post_update"]),
        (True, ["post_update", "post_save"]),
        (False, ["post_save"]),
    ]
    [(signal, waiting)] = hearers.waiting
    assert signal is post_save
    assert [each.phase for each in waiting] == ["after_commit"]
    assert Audience().hearers(Post, Kind.CREATE, PRE).waiting == []


def test_who_asks_for_changes() -> None:
    """Anybody who names them, also one who waits; of a deleted row there are none."""

    def ask(changes: Any = None, **kwargs: Any) -> None:
        """Names them."""

    post_save.connect(receive, Post)
    assert not Audience().hearers(Post, Kind.UPDATE, POST).asks_for_changes
    post_save.connect(ask, Post, phase="after_commit")
    audience = Audience()
    assert audience.hearers(Post, Kind.UPDATE, POST).asks_for_changes
    assert audience.hearers(Post, Kind.CREATE, POST).asks_for_changes
    assert not audience.hearers(Post, Kind.UPDATE, PRE).asks_for_changes
    post_delete.connect(receive, Post)
    assert not audience.hearers(Post, Kind.DELETE, POST).asks_for_changes
