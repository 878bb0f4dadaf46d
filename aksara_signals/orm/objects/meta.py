"""``Model.meta`` and ``Model.Meta``: the place where ormar, Edgy and Mongoz keep a model's signals.

A model may have a ``class Meta`` of its own; ``signals`` are then beside what stands in it.
"""

from __future__ import annotations

from types import MemberDescriptorType
from typing import Any

from sqlalchemy.orm import Mapped
from sqlalchemy.schema import SchemaItem

from aksara_signals.exceptions import InvalidOptionError
from aksara_signals.orm.objects.model_signals import Emitter


class Meta:
    """``signals``, and whatever stands in the ``Meta`` that the model has or inherits.

    Args:
        model: Whose signals they are.
        own: The ``Meta`` that was written for the model, or the one of the class that it inherits
            from; read and changed through this.
    """

    __slots__ = ("_model", "_own")

    def __init__(self, model: type, own: Any = None) -> None:
        object.__setattr__(self, "_model", model)
        object.__setattr__(self, "_own", own)

    @property
    def signals(self) -> Any:
        """The same as ``Model.signals``, unless the model's own ``Meta`` has something there."""
        own = getattr(self._own, "signals", None)
        return Emitter(self._model) if _is_nothing(own) else own

    def __getattr__(self, name: str) -> Any:
        if self._own is None:
            raise AttributeError(f"{self._model.__name__}.Meta has no {name!r}", name=name)
        return getattr(self._own, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if self._own is None:
            raise AttributeError(
                f"{self._model.__name__}.Meta holds signals only; to keep {name!r} there, give the "
                f"model a 'class Meta' of its own"
            )
        setattr(self._own, name, value)

    def __delattr__(self, name: str) -> None:
        if self._own is None:
            raise AttributeError(
                f"{self._model.__name__}.Meta has no {name!r} to delete", name=name
            )
        delattr(self._own, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the model's own ``Meta`` makes when it is called."""
        if not callable(self._own):
            raise InvalidOptionError(
                f"{self._model.__name__}.Meta can't be called; its signals are "
                f"{self._model.__name__}.Meta.signals"
            )
        return self._own(*args, **kwargs)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        """``class Meta(Base.Meta)`` inherits from what was written as a class."""
        if isinstance(self._own, Meta):
            return self._own.__mro_entries__(bases)
        return (self._own,) if isinstance(self._own, type) else ()

    def __dir__(self) -> list[str]:
        return sorted({"signals", *(() if self._own is None else dir(self._own))})

    def __repr__(self) -> str:
        return f"<Meta of {self._model.__name__}>"


class MetaAttribute:
    """``Model.meta``, and ``Model.Meta`` of a model that has none of its own."""

    def __get__(self, instance: object, owner: type) -> Meta:
        return Meta(owner)


def give_signals_to_meta(cls: type) -> None:
    """Put ``signals`` beside what stands in the ``Meta`` that a class has or inherits, if any.

    A class that was written in the body of this one stays what it is, with one attribute more.
    Anything else may be shared with other classes, or takes no attribute: :class:`Meta` stands
    before it.
    """
    written = (vars(base)["Meta"] for base in cls.__mro__ if "Meta" in vars(base))
    own = next((each for each in written if not isinstance(each, MetaAttribute)), None)
    if own is None or isinstance(own, (Mapped, SchemaItem)) or hasattr(type(own), "__get__"):
        return  # a column or a method of this name simply is what it is
    if _is_written_for(cls, own):
        if _is_nothing(getattr(own, "signals", None)):
            own.signals = Emitter(cls)
        return
    type.__setattr__(cls, "Meta", Meta(cls, own))  # past SQLAlchemy, which maps what it is given


def _is_written_for(cls: type, own: Any) -> bool:
    return (
        type(own) is type
        and own.__module__ == cls.__module__
        and own.__qualname__ == f"{cls.__qualname__}.Meta"
    )


def _is_nothing(signals: Any) -> bool:
    """Whether it isn't the user's: there is none, or that of a parent, or a mere slot."""
    return signals is None or isinstance(signals, (Emitter, MemberDescriptorType))
