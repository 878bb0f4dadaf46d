"""Mapped classes by the names under which rows refer to them."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable

from aksara_signals.orm.bridge.classes import mapped_classes
from aksara_signals.orm.flush.recipients import generation

Classes = dict[str, Callable[[], type | None]]
"""Weak references to classes by name: a class must not live on because it was looked up."""

_known: tuple[object, Classes] = (None, {})
"""The generation for which the classes were listed, and the classes."""


def model_name(cls: type) -> str:
    """The name under which rows refer to a class: its module and qualified name."""
    return f"{cls.__module__}.{cls.__qualname__}"


def find_model(name: str) -> type | None:
    """The mapped class of a name; None if there is none in this process.

    A class that was moved to another module is found as long as no other class has its name.

    Args:
        name: The name, as of :func:`model_name`.
    """
    global _known  # noqa: PLW0603 - one value, which is replaced by a single assignment
    now = generation()
    if _known[0] is not now:
        _known = now, _listed()
    found = _known[1].get(name) or _known[1].get(name.rpartition(".")[2])
    return None if found is None else found()


def _listed() -> Classes:
    classes = list(mapped_classes())
    counts = Counter(cls.__name__ for cls in classes)
    listed: Classes = {
        cls.__name__: weakref.ref(cls) for cls in classes if counts[cls.__name__] == 1
    }
    listed.update((model_name(cls), weakref.ref(cls)) for cls in classes)
    return listed
