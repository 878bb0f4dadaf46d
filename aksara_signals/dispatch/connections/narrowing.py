"""``fields=`` and ``transition=``: what was given, and whether there are such attributes.

What is given is checked in two steps. Its form is checked at once. Whether a class has attributes
of these names is asked of the adapter for each class: when the receiver is connected, if the class
exists by then, and otherwise at the first send of the class.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from aksara_signals.dispatch.adapter import get_adapter
from aksara_signals.dispatch.receivers.identity import is_class
from aksara_signals.dispatch.receivers.naming import (
    describe_receiver,
    describe_sender,
    shortened,
)
from aksara_signals.dispatch.receivers.several import members_of
from aksara_signals.dispatch.senders import classes_named
from aksara_signals.exceptions import InvalidOptionError, UnknownFieldError
from aksara_signals.types import Sender

if TYPE_CHECKING:
    from aksara_signals.dispatch.connections.connection import Connection

CHANGE_FILTERS = ("fields", "transition")
"""The options that narrow a receiver to changes of certain attributes."""


class Transition(Mapping[str, tuple[Any, Any]]):
    """What was given as ``transition=``: attribute name to ``(old, new)``; never changes."""

    __slots__ = ("_pairs",)

    def __init__(self, pairs: Mapping[str, tuple[Any, Any]]) -> None:
        self._pairs = dict(pairs)

    def __getitem__(self, name: str) -> tuple[Any, Any]:
        return self._pairs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Transition)
            and self.keys() == other.keys()
            and all(
                _is_alike(one, another)
                for name, pair in self._pairs.items()
                for one, another in zip(pair, other[name], strict=True)
            )
        )

    __hash__ = None  # type: ignore[assignment]  # its values needn't be hashable

    def __repr__(self) -> str:
        return f"<Transition of {', '.join(self)}>"


def _is_alike(one: Any, other: Any) -> bool:
    """Whether two values of a transition are the same.

    Values of some types can't be compared (``==`` of arrays is an array): those are alike only if
    they are one object.
    """
    if one is other:
        return True
    return type(one) is type(other) and (one == other) is True


def settled(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The options, with ``fields`` and ``transition`` in a form that can be read again and again.

    Args:
        options: Those of ``connect()``, or settled ones.
        where: What they were given to, for the message.

    Raises:
        InvalidOptionError: What was given names no attributes, or isn't ``(old, new)`` for each.
    """
    options = dict(options)
    if options.get("fields") is not None:
        options["fields"] = _settled_fields(options["fields"], where)
    if options.get("transition") is not None:
        options["transition"] = _settled_transition(options["transition"], where)
    return options


class Target(NamedTuple):
    """A sender that a receiver is connected to, and the attributes that were given in its place."""

    sender: Sender
    fields: tuple[Any, ...] = ()

    def options(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options of the connection to this sender."""
        return {**options, "fields": self.fields} if self.fields else options


def targets_of(
    senders: tuple[Sender, ...], options: Mapping[str, Any], where: str
) -> tuple[Target, ...]:
    """The senders, with a class in the place of each attribute: ``Post`` for ``Post.status``.

    Args:
        senders: Classes, attributes and others.
        options: Those of ``connect()``.
        where: What they were given to, for the message.

    Raises:
        InvalidOptionError: There are attributes among them, and either ``fields`` is given as well
            or their class.
    """
    attributes = [_column_attribute(each) for each in senders]
    if not any(attributes):
        return tuple(Target(each) for each in senders)
    of_class: dict[type, tuple[Any, ...]] = {}
    for sender, found in zip(senders, attributes, strict=True):
        if found is not None:
            owner, name = found
            if options.get("fields") is not None:
                raise InvalidOptionError(
                    f"{where} was given {owner.__name__}.{name}, which stands for the class and "
                    f"fields=['{name}'], and fields= as well; give all attributes in one way"
                )
            if any(each is owner for each in senders):
                raise InvalidOptionError(
                    f"{where} was given {owner.__name__}.{name} and {owner.__name__}, which "
                    f"includes it; leave one of them out"
                )
            of_class[owner] = (*of_class.get(owner, ()), sender)
    others = (each for each, found in zip(senders, attributes, strict=True) if found is None)
    return (*(Target(*each) for each in of_class.items()), *map(Target, others))


def _settled_fields(given: Any, where: str) -> Collection[Any]:
    several = (given,) if _is_name(given) else members_of(given)
    if several is None or not several:
        raise InvalidOptionError(
            f"{where} was given fields={_words_of(given)}; give the name of an attribute, the "
            f"attribute itself, or a list of these, as in fields=['status', 'title']"
        )
    for each in several:
        if not _is_name(each):
            raise InvalidOptionError(
                f"{where} was given fields= with {describe_sender(each)} among them; give names "
                f"of attributes or attributes, as in fields=['status', 'title']"
            )
    return several


def _settled_transition(given: Any, where: str) -> Mapping[Any, tuple[Any, Any]]:
    if isinstance(given, Transition):
        return given
    if not isinstance(given, Mapping) or not given:
        raise InvalidOptionError(
            f"{where} was given transition={_words_of(given)}; give a dict of attributes, each "
            f"with its old and its new value, as in transition={{'status': ('draft', 'published')}}"
        )
    for name, pair in given.items():
        if not _is_name(name):
            raise InvalidOptionError(
                f"{where} was given transition= with {describe_sender(name)} as a key; the keys "
                f"are names of attributes, or attributes"
            )
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise InvalidOptionError(
                f"{where} was given transition= with {describe_sender(pair)} for "
                f"{shortened(_name(name))}; give a tuple (old, new), each a value, a set of "
                f"values, or ... for any"
            )
        for each in pair:
            if isinstance(each, (set, frozenset)) and not each:
                raise InvalidOptionError(
                    f"{where} was given transition= with an empty set for "
                    f"{shortened(_name(name))}, which no value is in; give the values, or ... for "
                    f"any"
                )
    return dict(given)


def _words_of(given: Any) -> str:
    empty: Any = members_of(given) == () or (isinstance(given, Mapping) and not given)
    return f"an empty {type(given).__name__}" if empty else describe_sender(given)


def _is_name(given: Any) -> bool:
    return (issubclass(type(given), str) and bool(given)) or _attribute(given) is not None


def _attribute(given: Any) -> tuple[type, str] | None:
    """The class and the name of a mapped attribute; None for anything else."""
    return None if issubclass(type(given), str) else get_adapter().attribute_of(given)


def _column_attribute(given: Any) -> tuple[type, str] | None:
    """As :func:`_attribute`, without relationships, which send other signals."""
    found = _attribute(given)
    return found if found and get_adapter().problem_of_field(*found) is None else None


def _name(given: Any) -> str:
    found = _attribute(given)
    name: str = given if found is None else found[1]
    return name


def named(options: dict[str, Any], sender: Sender, signal_name: str) -> dict[str, Any]:
    """The options for one sender: settled ones, with names in the place of attributes.

    Raises:
        InvalidOptionError: The receiver is connected to every sender.
        UnknownFieldError: The sender is a class that has no such attribute.
    """
    given: list[tuple[str, Any]] = [
        (option, each) for option in CHANGE_FILTERS for each in options.get(option) or ()
    ]
    if not given:
        return options
    if sender is None:
        option, each = given[0]
        raise InvalidOptionError(
            f"{signal_name} can't be connected with {option}= to every sender: the attributes of "
            f"which class are meant is not known; name it, as in "
            f"@{signal_name}(Post, {option}=…)"
        )
    found = [sender] if is_class(sender) else classes_named(sender) if _is_text(sender) else []
    for cls in found:
        for option, each in given:
            problem = get_adapter().problem_of_field(cls, each)
            if problem is not None:
                raise UnknownFieldError(
                    f"{signal_name} can't be connected with {option}= to {describe_sender(cls)}: "
                    f"{shortened(_name(each))} {problem}"
                )
    return with_names(options, signal_name)


def with_names(options: dict[str, Any], signal_name: str = "disconnect()") -> dict[str, Any]:
    """Settled options, with names in the place of attributes."""
    options = dict(options)
    fields, transition = options.get("fields"), options.get("transition")
    if fields is not None:
        options["fields"] = frozenset(map(_name, fields))
    if transition is not None:
        pairs = {_name(key): transition[key] for key in transition}
        if len(pairs) != len(transition):
            raise InvalidOptionError(
                f"{signal_name} can't be connected with transition= that names an attribute "
                f"twice; give a set of values where several will do"
            )
        options["transition"] = Transition(pairs)
    return options


def _is_text(sender: Sender) -> bool:
    return issubclass(type(sender), str)


def require_fields(connection: Connection, sender: Sender) -> None:
    """Reject a sender that has none of the attributes that a connection is narrowed to.

    Args:
        connection: One that matches the sender.
        sender: What sends.

    Raises:
        UnknownFieldError: Names the attribute, and one that was probably meant.
    """
    if not is_class(sender):
        return
    for option in CHANGE_FILTERS:
        for name in getattr(connection, option) or ():
            problem = get_adapter().problem_of_field(sender, name)
            if problem is not None:
                raise UnknownFieldError(
                    f"receiver {describe_receiver(connection.receiver)} is connected to "
                    f"{describe_sender(connection.sender)} with {option}=, and can't be called for "
                    f"{describe_sender(sender)}: {shortened(name)} {problem}"
                )
