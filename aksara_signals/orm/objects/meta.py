"""``Model.meta`` and ``Model.Meta``: where ormar, Edgy and Mongoz have a model's signals.

A model may have a ``class Meta`` of its own. Then ``signals`` is added to its attributes.
"""

from __future__ import annotations

from types import MemberDescriptorType
from typing import Any

from sqlalchemy.orm import Mapped
from sqlalchemy.schema import SchemaItem

from aksara_signals.exceptions import InvalidOptionError
from aksara_signals.orm.objects.model_signals import Emitter


class Meta:
    """``signals``, and the attributes of the ``Meta`` that the model has or inherits.

    Args:
        model: The model.
        own: The ``Meta`` of the model, or of a class that it inherits from. Its attributes are read
            and set through this object.
    """

    __slots__ = ("_model", "_own")

    def __init__(self, model: type, own: Any = None) -> None:
        object.__setattr__(self, "_model", model)
        object.__setattr__(self, "_own", own)

    @property
    def signals(self) -> Any:
        """The same as ``Model.signals``, unless the model's own ``Meta`` defines ``signals``."""
        own = getattr(self._own, "signals", None)
        return Emitter(self._model) if _is_nothing(own) else own

    def __getattr__(self, name: str) -> Any:
        if self._own is None:
            raise AttributeError(f"{self._model.__name__}.Meta has no {name!r}", name=name)
        return getattr(self._own, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if self._own is None:
            raise AttributeError(
                f"{self._model.__name__}.Meta holds signals only; to set {name!r} there, give the "
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
        """Call the model's own ``Meta``."""
        if not callable(self._own):
            raise InvalidOptionError(
                f"{self._model.__name__}.Meta can't be called; its signals are "
                f"{self._model.__name__}.Meta.signals"
            )
        return self._own(*args, **kwargs)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        """Let ``class Meta(Base.Meta)`` inherit from the class that was written as ``Meta``."""
        if isinstance(self._own, Meta):
            return self._own.__mro_entries__(bases)
        return (self._own,) if isinstance(self._own, type) else ()

    def __dir__(self) -> list[str]:
        return sorted({"signals", *(() if self._own is None else dir(self._own))})

    def __repr__(self) -> str:
        return f"<Meta of {self._model.__name__}>"


class MetaAttribute:
    """``Model.meta``, and ``Model.Meta`` of a model without a ``Meta`` of its own."""

    def __get__(self, instance: object, owner: type) -> Meta:
        return Meta(owner)


def give_signals_to_meta(cls: type) -> None:
    """Add ``signals`` to the ``Meta`` that a class has or inherits, if any.

    A ``Meta`` class that was written in the body of this class gets the attribute. Anything else
    may be shared with other classes, or can't have attributes, so it is wrapped in :class:`Meta`.
    """
    written = (vars(base)["Meta"] for base in cls.__mro__ if "Meta" in vars(base))
    own = next((each for each in written if not isinstance(each, MetaAttribute)), None)
    if own is None or isinstance(own, (Mapped, SchemaItem)) or hasattr(type(own), "__get__"):
        return  # a column or a method of that name stays as it is
    if _is_written_for(cls, own):
        if _is_nothing(getattr(own, "signals", None)):
            own.signals = Emitter(cls)
        return
    type.__setattr__(cls, "Meta", Meta(cls, own))  # bypasses SQLAlchemy, which would map it


def _is_written_for(cls: type, own: Any) -> bool:
    return (
        type(own) is type
        and own.__module__ == cls.__module__
        and own.__qualname__ == f"{cls.__qualname__}.Meta"
    )


def _is_nothing(signals: Any) -> bool:
    """Whether ``signals`` isn't the user's own: None, that of a parent, or the slot of a class."""
    return signals is None or isinstance(signals, (Emitter, MemberDescriptorType))
