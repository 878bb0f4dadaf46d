"""Three classes that send, and receivers that can be distinguished."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Model: ...


class Child(Model): ...


class Other: ...


def echo(name: str) -> Callable[..., str]:
    def receiver(**kwargs: Any) -> str:
        return name

    return receiver
