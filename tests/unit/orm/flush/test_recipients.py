"""The receivers of a class: looked up once, and again when anything has changed."""

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
from aksara_signals.orm.flush.recipients import FlushRecipients, recipients_of
from aksara_signals.orm.kind import Kind


def receive(**kwargs: Any) -> None:
    """Receives."""


async def wait(**kwargs: Any) -> None:
    """Receives, and could wait."""


def test_it_is_worked_out_once() -> None:
    """Flush after flush, until a receiver is connected or disconnected."""
    post_save.connect(receive, Post)
    first = recipients_of(Post)
    assert recipients_of(Post) is first
    assert recipients_of(Audit) is not first
    pre_save.connect(receive, Audit)
    second = recipients_of(Post)
    assert second is not first
    assert recipients_of(Post) is second
    with SignalContext.disable_for(Post):
        assert not recipients_of(Post).has_receivers
    assert recipients_of(Post) is second


def test_a_flush_keeps_what_it_has_looked_up() -> None:
    """A receiver that is connected meanwhile is called by the next one."""
    of_flush = FlushRecipients()
    assert not of_flush.of(Post).has_receivers
    post_save.connect(receive, Post)
    assert not of_flush.of(Post).has_receivers
    assert FlushRecipients().of(Post).has_receivers
    assert not FlushRecipients().of(Audit).has_receivers


def test_signals_of_a_change() -> None:
    """An update is sent as two signals on either side, in opposite order."""
    for signal in (pre_save, post_save, pre_update, post_update, post_delete):
        signal.connect(receive, Post)
    recipients = recipients_of(Post)

    def names(of_kinds: dict[Kind, Any]) -> dict[Kind, list[str | None]]:
        return {kind: [signal.name for signal, _ in each.plans] for kind, each in of_kinds.items()}

    assert names(recipients.pre) == {
        Kind.CREATE: ["pre_save"],
        Kind.UPDATE: ["pre_save", "pre_update"],
        Kind.DELETE: [],
    }
    assert names(recipients.post) == {
        Kind.CREATE: ["post_save"],
        Kind.UPDATE: ["post_update", "post_save"],
        Kind.DELETE: ["post_delete"],
    }


def test_created_narrows() -> None:
    """A receiver of created rows isn't called for updated ones."""
    post_save.connect(receive, Post, created=True)
    recipients = recipients_of(Post)
    assert recipients.has_receivers
    assert recipients.post[Kind.CREATE].plans
    assert not recipients.post[Kind.UPDATE].plans


def test_who_is_sent_the_net() -> None:
    """Nothing is noted of a class for which no receiver coalesces, silenced or not."""
    silence = SignalContext.disable_for(Post, Audit)
    post_save.connect(receive, Post, phase="after_commit")
    assert not recipients_of(Post).coalesces
    with silence:
        assert not recipients_of(Post).coalesces
    post_delete.connect(receive, Post, phase="after_commit", coalesce=True)
    for context in (nullcontext(), silence):
        with context:
            assert recipients_of(Post).coalesces
            assert not recipients_of(Audit).coalesces


def test_runs_go_across_signals() -> None:
    """Neighbours that are called alike are one run; deferred ones are apart."""
    post_update.connect(receive, Post)
    post_update.connect(wait, Post)
    post_save.connect(wait, Post)
    post_save.connect(receive, Post)
    post_save.connect(receive, Post, phase="after_commit")
    recipients = recipients_of(Post).post[Kind.UPDATE]
    assert [
        (is_async, [signal.name for signal, _ in segments])
        for is_async, segments in recipients.runs
    ] == [
        (False, ["post_update"]),
        (True, ["post_update", "post_save"]),
        (False, ["post_save"]),
    ]
    [(signal, deferred)] = recipients.deferred
    assert signal is post_save
    assert [each.phase for each in deferred] == ["after_commit"]
    assert recipients_of(Post).pre[Kind.CREATE].deferred == []


def test_who_asks_for_changes() -> None:
    """Any receiver that names them, also a deferred one; of a deleted row there are none."""

    def ask(changes: Any = None, **kwargs: Any) -> None:
        """Names them."""

    post_save.connect(receive, Post)
    assert not recipients_of(Post).post[Kind.UPDATE].asks_for_changes
    post_save.connect(ask, Post, phase="after_commit")
    recipients = recipients_of(Post)
    assert recipients.post[Kind.UPDATE].asks_for_changes
    assert recipients.post[Kind.CREATE].asks_for_changes
    assert not recipients.pre[Kind.UPDATE].asks_for_changes
    post_delete.connect(receive, Post)
    assert not recipients.post[Kind.DELETE].asks_for_changes
