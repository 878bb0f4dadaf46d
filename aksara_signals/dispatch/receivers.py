"""What a receiver looks like to a type checker. Nothing here exists when a program runs.

A receiver names what it wants and takes the rest as ``**kwargs``, so each of these calls it with
all there is. Only ``instance`` has a type that is checked: the rest is what readers call it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar, overload

__all__ = ["BulkConnector", "ModelConnector"]

M_co = TypeVar("M_co", covariant=True)
Given_contra = TypeVar("Given_contra", contravariant=True)
Returned_co = TypeVar("Returned_co", covariant=True)
Item = TypeVar("Item")
R = TypeVar("R")


class OfInstance(Protocol[Given_contra, Returned_co]):
    """``async def receiver(sender, instance, created, **kwargs)``."""

    def __call__(
        self,
        *,
        signal: Any,
        sender: type[Given_contra],
        instance: Given_contra,
        created: Any,
        update_fields: Any,
        session: Any,
        raw: Any,
        changes: Any,
        child: Any,
        relation_name: Any,
        passed_args: Any,
        action: Any,
        reverse: Any,
        model: Any,
        pk_set: Any,
        objects: Any,
        **kwargs: Any,
    ) -> Returned_co: ...


class OfInstanceByPosition(Protocol[Given_contra, Returned_co]):
    """``lambda s, i, **kwargs: …``: leading parameters of other names."""

    def __call__(
        self, sender: type[Given_contra], instance: Given_contra, /, *args: Any, **kwargs: Any
    ) -> Returned_co: ...


class OfInstances(Protocol[Item, Returned_co]):
    """``async def receiver(sender, instances, **kwargs)``."""

    def __call__(
        self,
        *,
        signal: Any,
        sender: type[Item],
        instances: list[Item],
        fields: Any,
        session: Any,
        raw: Any,
        **kwargs: Any,
    ) -> Returned_co: ...


class ModelConnector(Protocol[M_co]):
    """What ``@post_save(Post)`` gives: a decorator that gives the receiver back."""

    @overload
    def __call__(self, receiver: OfInstance[M_co, R], /) -> Callable[..., R]: ...

    @overload
    def __call__(self, receiver: OfInstanceByPosition[M_co, R], /) -> Callable[..., R]: ...


class BulkConnector(Protocol[Item]):
    """What ``@post_bulk_create(Post)`` gives."""

    def __call__(self, receiver: OfInstances[Item, R], /) -> Callable[..., R]:
        """Connect the receiver."""
        ...
