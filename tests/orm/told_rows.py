"""What the save and delete signals tell, in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from aksara_signals import post_delete, post_save, pre_delete, pre_save

__all__ = ["Told"]


class Told:
    """What the signals tell, as ``"created Class key"`` and so on, before and after."""

    def __init__(self) -> None:
        self.before: list[str] = []
        self.after: list[str] = []

        def save(into: list[str]) -> Callable[..., None]:
            def receiver(instance: Any, created: bool, **kwargs: Any) -> None:
                into.append(f"{'created' if created else 'updated'} {type(instance).__name__}")

            return receiver

        def delete(into: list[str]) -> Callable[..., None]:
            def receiver(instance: Any, **kwargs: Any) -> None:
                into.append(f"deleted {type(instance).__name__}")

            return receiver

        pre_save.connect(save(self.before))
        post_save.connect(save(self.after))
        pre_delete.connect(delete(self.before))
        post_delete.connect(delete(self.after))

    def of(self, session: Session) -> list[str]:
        """Commit, and say what was told: the same before and after."""
        self.before.clear()
        self.after.clear()
        session.commit()
        assert self.before == self.after
        return self.before[:]
