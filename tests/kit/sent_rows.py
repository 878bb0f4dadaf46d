"""What the save and delete signals send, in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Session

from aksara_signals import post_delete, post_save, pre_delete, pre_save

__all__ = ["SentRows"]


class SentRows:
    """Which rows the signals are sent for, before and after a flush."""

    def __init__(self) -> None:
        self.before: list[tuple[str, object]] = []
        self.after: list[tuple[str, object]] = []

        def save(into: list[tuple[str, object]]) -> Callable[..., None]:
            def receiver(instance: Any, created: bool, **kwargs: Any) -> None:
                into.append(("created" if created else "updated", instance))

            return receiver

        def delete(into: list[tuple[str, object]]) -> Callable[..., None]:
            def receiver(instance: Any, **kwargs: Any) -> None:
                into.append(("deleted", instance))

            return receiver

        pre_save.connect(save(self.before))
        post_save.connect(save(self.after))
        pre_delete.connect(delete(self.before))
        post_delete.connect(delete(self.after))

    def of(self, session: Session) -> list[str]:
        """Commit, and say what was sent, as ``"created Seat"``: where the rows can't be mistaken."""
        return [f"{what} {type(each).__name__}" for what, each in self._commit(session)]

    def rows_of(self, session: Session) -> list[str]:
        """Commit, and say of which rows what was sent, as ``"created Seat 1, b"``."""
        return [f"{what} {_row(each)}" for what, each in self._commit(session)]

    def _commit(self, session: Session) -> list[tuple[str, object]]:
        """The same rows before and after, in the same order: equal ones won't do."""
        self.before.clear()
        self.after.clear()
        session.commit()
        assert [(what, id(each)) for what, each in self.before] == [
            (what, id(each)) for what, each in self.after
        ]
        return self.before[:]


def _row(instance: object) -> str:
    """Class and key: of a new row it is known when it has been written."""
    identity = inspect(instance).identity
    key = "without a key" if identity is None else ", ".join(str(value) for value in identity)
    return f"{type(instance).__name__} {key}"
