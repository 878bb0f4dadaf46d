"""Model.signals: built-in signals bound to the model, custom ones by assignment or first access."""

from __future__ import annotations

from typing import Any

import pytest
from kit.models import Author, Post

from aksara_signals import (
    InvalidOptionError,
    Signal,
    UnknownSignalError,
    all_signals,
    post_save,
    signals,
)


class Essay(Post):
    """A subclass: it inherits the custom signals of its base."""


@pytest.fixture(params=["signals", "meta.signals", "Meta.signals", "instance.signals"])
def emitter(request: pytest.FixtureRequest) -> Any:
    """Each way to the emitter of a model."""
    return {
        "signals": lambda: Post.signals,
        "meta.signals": lambda: Post.meta.signals,
        "Meta.signals": lambda: Post.Meta.signals,
        "instance.signals": lambda: Post(title="x").signals,
    }[request.param]()


async def test_every_way_connects_to_the_same_signal(emitter: Any) -> None:
    """A receiver connected through the model is called for it, and can be disconnected either way."""
    received: list[Any] = []

    async def receiver(sender: Any, **kwargs: Any) -> None:
        received.append(sender)

    assert emitter.post_save.connect(receiver) is receiver
    await post_save.send(Post, instance=1)
    await post_save.send(Author, instance=1)
    await emitter.post_save.send(instance=1)
    await emitter.post_save.send_robust(instance=1)
    emitter.post_save.send_sync(instance=1)
    emitter.post_save.send_robust_sync(Author, instance=1)
    assert received == [Post] * 4
    assert emitter.post_save.receivers == [receiver]
    assert [each.sender for each in emitter.post_save.connections] == [Post]
    assert emitter.post_save.has_receivers()
    assert post_save.disconnect(receiver, sender=Post) is True
    assert emitter.post_save.disconnect(receiver) is False


async def test_a_decorated_receiver_is_disconnected_through_the_model() -> None:
    """``@post_save([A, B])`` and ``A.signals.post_save.disconnect``: B still sends to it."""
    received: list[Any] = []

    @post_save([Post, Author])
    async def receiver(sender: Any, **kwargs: Any) -> None:
        received.append(sender)

    assert Post.signals.post_save.disconnect(receiver) is True
    await post_save.send(Post, instance=1)
    await post_save.send(Author, instance=1)
    assert received == [Author]


async def test_bound_signals_decorate() -> None:
    """With and without options."""

    @Post.signals.post_save
    async def plain(**kwargs: Any) -> None: ...

    @Post.signals.post_save(priority=5)
    async def first(**kwargs: Any) -> None: ...

    assert Post.signals.post_save.receivers == [first, plain]
    assert Post.signals.post_save.name == "post_save"
    assert "post_save" in repr(Post.signals.post_save)


def test_every_built_in_signal_is_an_attribute() -> None:
    """All of them, bound to the class that was asked."""
    for name in signals.__all__:
        bound = getattr(Essay.signals, name)
        assert bound.signal is getattr(signals, name)
        assert bound.model is Essay
        assert name in dir(Post.signals)
    assert "Post" in repr(Post.signals)


async def test_a_custom_signal_is_assigned_or_made_at_first_access() -> None:
    """Both are the model's own, known to its subclasses, and not to other models."""
    assigned = Signal(providing_args=["reason"])
    Post.signals.on_verify = assigned
    assert Post.signals.on_verify is assigned
    assert Essay.meta.signals.on_verify is assigned
    received: list[Any] = []
    made = Post.signals.on_publish
    assert isinstance(made, Signal)
    assert Post(title="x").signals.on_publish is made
    assert made.name == "Post.on_publish"
    assert made in all_signals()
    assert Author.signals.on_publish is not made
    assert "on_publish" in dir(Essay.signals)
    made.connect(lambda sender, my_param, **kwargs: received.append((sender, my_param)))
    await Post.Meta.signals.on_publish.send(sender=Post, my_param=True)
    assert received == [(Post, True)]
    del Post.signals.on_publish
    assert "on_publish" not in dir(Post.signals)
    with pytest.raises(UnknownSignalError, match="to delete"):
        del Post.signals.on_publish
    del Post.signals.on_verify
    del Author.signals.on_publish


@pytest.mark.parametrize("name", ["post_sav", "pre_saves", "m2m_change", "post_relation_ad"])
def test_nearly_a_built_in_signal_is_refused_with_the_right_name(name: str) -> None:
    """A misspelling would otherwise be a signal that is never sent."""
    with pytest.raises(UnknownSignalError, match="did you mean"):
        getattr(Post.signals, name)
    with pytest.raises(AttributeError):
        setattr(Post.signals, name, Signal())


@pytest.mark.parametrize("name", ["on_save", "on_verify", "published", "post_publish", "saved"])
def test_names_of_their_own_are_not_taken_for_misspellings(name: str) -> None:
    """What only resembles a built-in name is a custom signal."""
    assert isinstance(getattr(Essay.signals, name), Signal)
    delattr(Essay.signals, name)


def test_what_is_no_signal_is_refused() -> None:
    """Only signals can be assigned, and no built-in one can be replaced."""
    with pytest.raises(InvalidOptionError, match=r"assign a Signal\(\)"):
        Post.signals.on_verify = lambda: None
    with pytest.raises(InvalidOptionError, match="built in"):
        Post.signals.post_save = Signal()
    with pytest.raises(AttributeError, match="underscore"):
        Post.signals.__wrapped__  # noqa: B018 - reading it is what is refused


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("receivers_for", r"post_save\.receivers_for"),
        ("asend", r"signal\.send\("),
        ("conect", "did you mean 'connect'"),
        ("_private", "no attribute '_private'$"),
    ],
)
def test_a_models_signal_names_what_it_has_instead(name: str, ours: str) -> None:
    """The signal's own attributes are the signal's; words of other libraries are named ours."""
    assert not hasattr(Post.signals.post_save, name)
    with pytest.raises(AttributeError, match=ours):
        getattr(Post.signals.post_save, name)


@pytest.mark.parametrize("name", ["connect", "disconnect", "send", "send_sync", "connections"])
def test_what_a_signal_has_is_no_name_of_a_signal(name: str) -> None:
    """``Post.signals.connect(f)`` would make a signal ``connect`` that is never sent."""
    with pytest.raises(UnknownSignalError, match=rf"Post\.signals\.post_save\.{name}"):
        getattr(Post.signals, name)
    with pytest.raises(UnknownSignalError, match="another name"):
        setattr(Post.signals, name, Signal())


@pytest.mark.parametrize("name", ["POST_SAVE", "Post_Save", "M2M_Changed"])
def test_capitals_make_no_other_name(name: str) -> None:
    """They nearly spell a built-in signal, too."""
    with pytest.raises(UnknownSignalError, match=f"did you mean '{name.lower()}'"):
        getattr(Post.signals, name)
