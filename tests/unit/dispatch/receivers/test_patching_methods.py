"""Late patching of methods: patch.object over the name of a bound, static or class method."""

from __future__ import annotations

import gc
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest

from aksara_signals import Signal
from aksara_signals.dispatch.receivers import members, patching
from aksara_signals.testing import mock_receiver

MODULE = "aksara_patched_services"
SOURCE = """
class Service:
    async def notify(self, sender, **kwargs):
        return "notify"

    @classmethod
    async def create(cls, sender, **kwargs):
        return "create"

    @staticmethod
    async def index(sender, **kwargs):
        return "index"

    async def plain(sender, **kwargs):
        return "plain"

    async def __private(self, sender, **kwargs):
        return "private"

    @staticmethod
    async def __hidden(sender, **kwargs):
        return "hidden"

    class Inner:
        @staticmethod
        def nested(sender, **kwargs):
            return "nested"


class Special(Service):
    pass
"""


@pytest.fixture
def app() -> Iterator[Any]:
    """A module with classes whose methods are receivers, as an application has one."""
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module
    exec(compile(SOURCE, "services.py", "exec"), module.__dict__)
    yield module
    del sys.modules[MODULE]


def local_service() -> Any:
    """A class that no module knows."""

    class Service:
        async def notify(self, sender: Any, **kwargs: Any) -> str:
            return "notify"

        @classmethod
        async def create(cls, sender: Any, **kwargs: Any) -> str:
            return "create"

        @staticmethod
        async def index(sender: Any, **kwargs: Any) -> str:
            return "index"

    return Service


async def responses(signal: Signal) -> list[Any]:
    return [response for _, response in await signal.send(1)]


@pytest.mark.parametrize(
    ("name", "on"),
    # A class's own methods say nothing of the object through which they were connected.
    [("notify", "class"), ("notify", "object"), ("create", "class"), ("index", "class")],
)
@pytest.mark.parametrize("options", [{}, {"autospec": True}, {"new_callable": AsyncMock}])
@pytest.mark.parametrize("kind", ["module", "local"])
async def test_a_mock_is_called_instead(
    app: Any, kind: str, name: str, on: str, options: Any
) -> None:
    """The mock is called as Python would, the original isn't, and both only for a time."""
    cls = app.Service if kind == "module" else local_service()
    service, other, signal = cls(), cls(), Signal("patched")
    signal.connect(getattr(service, name))
    signal.connect(other.notify, priority=-1)
    before = await responses(signal)
    target = cls if on == "class" else service
    with patch.object(target, name, **options) as fake:
        fake.return_value = "mock"
        found = await responses(signal)
        assert found[0] == "mock"
        assert found[1:] == (["mock"] if (on, name) == ("class", "notify") else before[1:])
        assert fake.call_args.kwargs["sender"] == 1
    assert await responses(signal) == before


async def test_a_class_whose_name_is_given_to_another_is_still_patched(app: Any) -> None:
    """A static method's class is known from the time of the connection on."""
    signal, service = Signal("patched"), app.Service
    signal.connect(service.index)
    app.Service = local_service()
    with patch.object(service, "index", return_value="mock"):
        assert await responses(signal) == ["mock"]
    with patch.object(app.Service, "index", return_value="of another"):
        assert await responses(signal) == ["index"]


async def test_a_method_that_was_replaced_for_good_is_not_patched() -> None:
    """A mock that is put in the place of its successor is the successor's."""
    signal = Signal("patched")

    class Service:
        @staticmethod
        @signal.connect
        async def index(sender: Any, **kwargs: Any) -> str:
            return "index"

    async def successor(sender: Any, **kwargs: Any) -> str:
        return "successor"

    Service.index = staticmethod(successor)  # type: ignore[assignment]
    assert await responses(signal) == ["index"]
    with patch.object(Service, "index", return_value="mock"):
        assert await responses(signal) == ["index"]


async def test_a_string_names_a_method_too(app: Any) -> None:
    """``patch("module.Class.method")`` is ``patch.object`` of the same."""
    service, signal = app.Service(), Signal("patched")
    signal.connect(service.notify, concurrent=True)
    signal.connect(app.Service.index)
    with (
        patch(f"{MODULE}.Service.notify", return_value="one"),
        patch(f"{MODULE}.Service.index", return_value="two"),
    ):
        assert await responses(signal) == ["two", "one"]


async def test_other_names(app: Any) -> None:
    """Private ones, nested classes, functions used as static methods, and decorated methods."""
    service, signal = app.Service(), Signal("patched")

    def decorate(function: Any) -> Any:
        async def wrapper(self: Any, **kwargs: Any) -> Any:
            return await function(self, **kwargs)

        return wrapper

    app.Service.decorated = decorate(app.Service.notify)
    for receiver in (
        service._Service__private,
        app.Service._Service__hidden,
        app.Service.Inner.nested,
        app.Service.plain,
        service.decorated,
    ):
        signal.connect(receiver)
    before = await responses(signal)
    assert before == ["private", "hidden", "nested", "plain", "notify"]
    for target, name in (
        (app.Service, "_Service__private"),
        (app.Service, "_Service__hidden"),
        (app.Service.Inner, "nested"),
        (app.Service, "plain"),
        (service, "decorated"),
    ):
        with patch.object(target, name, return_value="mock"):
            after = await responses(signal)
        assert [new for new, old in zip(after, before, strict=True) if new != old] == ["mock"]
    assert await responses(signal) == before


async def test_inherited_methods(app: Any) -> None:
    """A mock in the base or in the subclass of the object; not one in another subclass."""
    special, signal = app.Special(), Signal("patched")
    signal.connect(special.notify)
    signal.connect(app.Special.create)
    for target in (app.Service, app.Special):
        for name, expected in (("notify", ["mock", "create"]), ("create", ["notify", "mock"])):
            with patch.object(target, name, return_value="mock"):
                assert await responses(signal) == expected

    class Other(app.Service):  # type: ignore[misc]
        pass

    with patch.object(Other, "notify", return_value="mock"):
        assert await responses(signal) == ["notify", "create"]


async def test_methods_that_share_a_name_are_not_confused(app: Any) -> None:
    """A name is that of the method seen there last; of another object's or class's never."""
    service, signal = app.Service(), Signal("patched")
    signal.connect(service.notify)
    signal.connect(app.Service.index)

    async def notify(self: Any, **kwargs: Any) -> str:
        return "second notify"

    async def index(**kwargs: Any) -> str:
        return "second index"

    index.__qualname__ = "Service.index"
    index.__module__ = MODULE
    app.Service.notify = notify
    app.Service.index = staticmethod(index)
    signal.connect(service.notify)
    signal.connect(app.Service.index)
    before = ["notify", "index", "second notify", "second index"]
    assert await responses(signal) == before
    with patch.object(app.Service, "notify", return_value="mock"):
        assert await responses(signal) == ["notify", "index", "mock", "second index"]
    with patch.object(app.Service, "index", return_value="mock"):
        assert await responses(signal) == ["notify", "index", "second notify", "mock"]


async def test_what_is_no_mock_is_not_taken_for_one(app: Any) -> None:
    """A name that is rebound or deleted doesn't change who is called."""
    service, signal = app.Service(), Signal("patched")
    signal.connect(service.notify)
    signal.connect(app.Service.index)
    service.notify = lambda **kwargs: "something else"
    app.Service.index = None
    assert await responses(signal) == ["notify", "index"]
    del service.notify, app.Service.notify, app.Service.index
    assert await responses(signal) == ["notify", "index"]


@pytest.mark.parametrize("is_sent_before", [True, False])
async def test_connected_inside_of_the_class_body(is_sent_before: bool) -> None:
    """The class isn't there yet; it is found when a mock could be. The last definition counts."""
    signal = Signal("patched")

    class Service:
        @staticmethod
        @signal.connect
        def index(sender: Any, **kwargs: Any) -> str:
            return "first"

        @staticmethod  # type: ignore[no-redef]
        @signal.connect
        def index(sender: Any, **kwargs: Any) -> str:  # noqa: F811
            return "second"

    if is_sent_before:
        assert await responses(signal) == ["first", "second"]
    for _ in range(2):
        with patch.object(Service, "index", return_value="mock"):
            assert await responses(signal) == ["first", "mock"]
        assert await responses(signal) == ["first", "second"]


async def test_connected_before_its_module_has_the_class(app: Any) -> None:
    """A class that no module has under its name is looked for once, and then let be."""
    signal = Signal("patched")
    index = app.Service.index
    del app.Service
    signal.connect(index)
    assert await responses(signal) == ["index"]
    assert await responses(signal) == ["index"]


async def test_two_classes_of_one_name_are_not_guessed_between() -> None:
    """A function can't be assigned to one of them while both have a mock."""
    signal = Signal("patched")

    def make() -> Any:
        class Service:
            @staticmethod
            @signal.connect
            def index(sender: Any, **kwargs: Any) -> str:
                return "index"

        return Service

    one, two = make(), make()
    with patch.object(one, "index"), patch.object(two, "index"):
        assert await responses(signal) == ["index", "index"]


async def test_without_mocks_no_class_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where unittest.mock isn't imported, looking at every class there is would be for nothing."""
    signal, service = Signal("patched"), local_service()

    def refuse() -> Any:
        raise AssertionError("every class was looked at")

    with monkeypatch.context() as patched:
        patched.delitem(sys.modules, "unittest.mock")
        patched.setattr(members, "live_classes", refuse)
        signal.connect(service.index)
        assert await responses(signal) == ["index"]
    with patch.object(service, "index", return_value="mock"):
        assert await responses(signal) == ["mock"]


async def test_strange_objects_are_not_asked() -> None:
    """Neither __getattr__ nor properties nor metaclasses run on the way to a name."""

    def refuse(*args: Any) -> Any:
        raise AssertionError("asked")

    class Meta(type):
        def from_meta(cls, **kwargs: Any) -> str:
            return "from meta"

    class Slotted(metaclass=Meta):
        __slots__ = ()

        def method(self, **kwargs: Any) -> str:
            return "slotted"

    class Strange:
        __getattr__ = refuse
        __dict__ = property(refuse)  # type: ignore[assignment]
        notify = property(refuse)

        def method(self, **kwargs: Any) -> str:
            return "strange"

    signal = Signal("patched")
    for receiver in (Slotted().method, Strange().method, Slotted.from_meta):
        signal.connect(receiver)
    assert await responses(signal) == ["slotted", "strange", "from meta"]
    with patch.object(Slotted, "method", return_value="mock"):
        assert await responses(signal) == ["mock", "strange", "from meta"]
    with patch.object(Meta, "from_meta", autospec=True, return_value="mock") as fake:
        assert await responses(signal) == ["slotted", "strange", "mock"]
    assert fake.call_args.args == (Slotted,)


def test_what_has_no_name_there() -> None:
    """Inner functions, lambdas, methods made by hand and of other than functions."""

    class Service:
        quick = staticmethod(lambda **kwargs: None)

        def named(self, **kwargs: Any) -> None: ...
        def renamed(self, **kwargs: Any) -> None: ...

    class Text(str):
        __slots__ = ()

    def inner(self: Any, **kwargs: Any) -> None: ...

    by_text = types.FunctionType(inner.__code__, {})
    by_text.__qualname__ = Text("Service.inner")
    method = types.MethodType(by_text, Service())
    unnamed = types.FunctionType(inner.__code__, {})
    unnamed.__name__ = Text("inner")
    Service.renamed.__name__ = Text("renamed")
    receivers: list[Callable[..., Any]] = [
        inner,
        Service.quick,
        by_text,
        method,
        types.MethodType(unnamed, Service()),
        Service().renamed,
        types.MethodType(inner, Service()),
        types.MethodType(print, Service()),
        print,
    ]
    for receiver in receivers:
        assert patching.patch_place_of(receiver) is None
    assert patching.patch_place_of(Service().named) is not None


async def test_a_class_that_is_gone_is_forgotten() -> None:
    """Neither the class nor the object of a weak receiver is kept; its function may live on."""
    signal, service = Signal("patched"), local_service()
    instance = service()
    signal.connect(service.index)
    signal.connect(instance.notify, weak=True)
    gone = [weakref.ref(service), weakref.ref(instance)]
    known = len(members._holders)
    del service, instance
    gc.collect()
    assert [each() for each in gone] == [None, None]
    assert len(members._holders) < known
    assert await responses(signal) == ["index"]


async def test_mock_receiver_goes_first(app: Any) -> None:
    """A receiver that was given to mock_receiver is replaced by that mock."""
    service, signal = app.Service(), Signal("patched")
    signal.connect(service.notify)
    with (
        patch.object(service, "notify", return_value="patch"),
        mock_receiver(app.Service.notify.__get__(service), return_value="double"),
    ):
        assert await responses(signal) == ["double"]
