"""Sends by hand to receivers that are narrowed to changes."""

from __future__ import annotations

from typing import Any

import pytest

from aksara_signals import SignalPayloadError, post_bulk_update, post_save


class Model: ...


class Child(Model): ...


def sent(*names: str, **payload: Any) -> list[str]:
    """The names of the receivers that a send by hand calls."""
    responses = post_save.send_sync(Child, instance=Child(), **payload)
    return [response for _, response in responses]


def named(name: str, sender: Any = Model, **options: Any) -> Any:
    """Connect a receiver that answers with its name."""

    def answer(**kwargs: Any) -> str:
        return name

    return post_save.connect(answer, sender, **options)


def test_changes_that_are_sent_decide() -> None:
    """As they would in a flush."""
    named("all")
    named("status", fields=["status"])
    named("either", fields=["status", "title"])
    named("moved", transition={"status": ("draft", {"open", "published"})})
    named("any old", transition={"status": (..., "open")})
    named("any new", transition={"status": ("draft", ...)})
    named("two", transition={"status": (..., "open"), "title": (..., ...)})
    named("both options", fields=["title"], transition={"status": (..., "open")})
    moved = ["status", "either", "moved", "any old", "any new"]
    assert sent(changes={"status": ("draft", "open")}) == ["all", *moved]
    assert sent(changes={"status": ("draft", "open"), "title": (1, 2)}) == [
        "all",
        *moved,
        "two",
        "both options",
    ]
    assert sent(changes={"title": ("draft", "open")}) == ["all", "either"]
    assert sent(changes={"status": ("x", "y")}) == ["all", "status", "either"]


@pytest.mark.parametrize("payload", [{}, {"changes": None}, {"changes": {}}, {"created": True}])
def test_without_changes_no_narrowed_receiver_is_called(payload: dict[str, Any]) -> None:
    """As with created=: what isn't known matches nothing."""
    named("all")
    named("status", fields=["status"])
    named("moved", transition={"status": (..., ...)})
    assert sent(**payload) == ["all"]


@pytest.mark.parametrize("changes", [5, ["status"], {"status": "open"}, {"status": (1, 2, 3)}])
def test_changes_of_another_form_are_refused(changes: Any) -> None:
    """Only if they have to be read."""
    named("all")
    assert sent(changes=changes) == ["all"]
    named("status", fields=["status"])
    with pytest.raises(SignalPayloadError, match="changes="):
        sent(changes=changes)


def test_one_receiver_is_called_once_if_any_of_its_connections_lets_it_through() -> None:
    """At the place of the first that does."""
    receiver = named("it", fields=["status"])
    named("between")
    post_save.connect(receiver, Model, fields=["title"])
    post_save.connect(receiver, Child, transition={"title": (..., 1)}, priority=-1)
    post_save.connect(receiver, Child, created=True, priority=-1)
    assert sent(changes={"status": (1, 2), "title": (0, 1)}) == ["it", "between"]
    assert sent(changes={"title": (0, 1)}) == ["between", "it"]
    assert sent(changes={"other": (0, 1)}) == ["between"]
    assert sent(changes={"other": (0, 1)}, created=True) == ["between", "it"]
    assert sent(changes={"status": (0, 1)}, created=True) == ["it", "between"]
    assert post_save.receivers_for(Child).count(receiver) == 1


def test_a_connection_without_filters_leaves_nothing_to_the_others() -> None:
    """It lets everything through."""
    receiver = named("it")
    post_save.connect(receiver, Child, fields=["status"])
    assert sent() == sent(changes={"status": (1, 2)}) == ["it"]


async def test_concurrent_receivers_are_narrowed_too() -> None:
    """In async sends."""
    called: list[str] = []
    for name in ("status", "title"):

        async def note(name: str = name, **kwargs: Any) -> None:
            called.append(name)

        post_save.connect(note, Model, concurrent=True, fields=[name], dispatch_uid=name)
    await post_save.send(Model, instance=Model(), changes={"title": (1, 2)})
    assert called == ["title"]


def test_the_fields_of_a_bulk_update_decide() -> None:
    """Its rows have no changes."""
    called: list[str] = []
    post_bulk_update.connect(lambda **kwargs: called.append("status"), Model, fields="status")
    post_bulk_update.send_sync(Model, instances=[], fields=frozenset(["title"]))
    post_bulk_update.send_sync(Model, instances=[])
    assert called == []
    post_bulk_update.send_sync(Model, instances=[], fields=frozenset(["title", "status"]))
    assert called == ["status"]
