"""Words of other libraries: the error names ours."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import aksara_signals
from aksara_signals import Signal, post_save, typed_signal
from aksara_signals.dispatch import synonyms as words


@typed_signal
def typed(sender: type, *, amount: int) -> None: ...


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("asend", r"signal\.send\("),
        ("send_async", r"signal\.send\("),
        ("emit", r"send_sync"),
        ("asend_robust", r"signal\.send_robust\("),
        ("connect_via", r"signal\.connect\("),
        ("disconnect_all", r"signal\.disconnect\(.*restored_signals"),
        ("receivers", r"receivers_for\(sender\)"),
        ("_live_receivers", r"receivers_for\(sender\)"),
        ("has_receivers_for", r"has_receivers\(sender\)"),
        ("temporarily_connected_to", r"connected_to\("),
        ("muted", r"SignalContext\.disable_for\(signals=\[signal\]\)"),
        ("receiver_connected", r"signal\.connections"),
        ("ANY", "sender=None"),
        ("signature", "providing_args"),
        ("conect", "did you mean 'connect'"),
        ("receiver_for", "did you mean 'receivers_for'"),
    ],
)
@pytest.mark.parametrize("signal", [Signal("x"), post_save, typed], ids=["own", "model", "typed"])
def test_other_words_for_what_a_signal_has(signal: Any, name: str, ours: str) -> None:
    """An AttributeError, so that hasattr() says no; it names what there is instead."""
    assert not hasattr(signal, name)
    with pytest.raises(AttributeError, match=f"no attribute '{name}'.*{ours}") as caught:
        getattr(signal, name)
    assert (caught.value.name, caught.value.obj) == (name, signal)


@pytest.mark.parametrize("name", ["__len__", "_private", "qqqqq", "x" * 5000])
def test_names_that_mean_nothing(name: str) -> None:
    """They are named, shortened, without a guess."""
    with pytest.raises(AttributeError, match="a signal has no attribute") as caught:
        getattr(Signal("x"), name)
    assert ";" not in str(caught.value)
    assert len(str(caught.value)) < 120


def test_no_word_of_another_is_one_of_ours() -> None:
    """An entry that is an attribute by now would never be looked up; each promise holds."""
    assert [each for each in words._WORDS if hasattr(Signal, each)] == []
    assert [each for each in words._NAMES if each in aksara_signals.__all__] == []
    for module, names in words._ELSEWHERE.items():
        imported = importlib.import_module(module)
        assert [each for each in names.split() if not hasattr(imported, each)] == []


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("SignalMixin", "from aksara_signals.orm import SignalMixin"),
        ("capture_signals", "from aksara_signals.testing import capture_signals"),
        ("get_signal", r"lookup\(name\)"),
        *((name, "SignalContext") for name in ("mute_signals", "disable_signals", "no_signals")),
        ("post_sav", "did you mean 'post_save'"),
    ],
)
def test_other_names_for_what_the_package_has(name: str, ours: str) -> None:
    """The package names the module that has it, or what it is called here."""
    with pytest.raises(AttributeError, match=ours):
        getattr(aksara_signals, name)
