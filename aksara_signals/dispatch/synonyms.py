"""The names that other signal libraries use, so that error messages can suggest ours."""

from __future__ import annotations

from collections.abc import Iterable

from aksara_signals.dispatch.receivers.naming import nearest, shortened

_SEND = "await signal.send(…), or signal.send_sync(…) in synchronous code"
_SEND_ROBUST = "await signal.send_robust(…), or signal.send_robust_sync(…) in synchronous code"
_CONNECT = "signal.connect(receiver, sender=…), or @signal(Sender)"
_DISCONNECT = "signal.disconnect(receiver, sender=…)"
_DISCONNECT_ALL = (
    "signal.disconnect(each.receiver, sender=each.sender) for each of signal.connections, or, in "
    "tests, aksara_signals.testing.restored_signals()"
)
_RECEIVERS = "signal.receivers_for(sender), or signal.connections"
_HAS_RECEIVERS = "signal.has_receivers(sender)"
_CONNECTED_TO = "with signal.connected_to(receiver), or async with"
_SILENCE = "with SignalContext.disable_for(signals=[signal]), for the current task"
_CONNECTIONS = "signal.connections, or signal.is_connected"
_ANY_SENDER = "sender=None, for every sender"
_PAYLOAD = "signal.providing_args"

_THEIRS: dict[str, str] = {
    _SEND: (
        "asend async_send send_async send_now sync_send emit emit_async async_emit aemit fire "
        "trigger dispatch publish notify notify_all invoke propagate"
    ),
    _SEND_ROBUST: ("asend_robust send_robust_async send_async_robust robust_send send_sync_robust"),
    _CONNECT: (
        "connect_via connect_to connect_async subscribe register receiver listen listens_for add "
        "add_listener add_receiver add_handler addListener attach append on once bind hook "
        "connect_once connect_setattr aconnect"
    ),
    _DISCONNECT: (
        "disconnect_via unsubscribe unregister remove remove_listener remove_receiver "
        "remove_handler removeListener detach off unbind adisconnect"
    ),
    _DISCONNECT_ALL: (
        "disconnect_all clear clear_receivers reset remove_all remove_all_listeners _clear_state"
    ),
    _RECEIVERS: (
        "receivers live_receivers _live_receivers sender_receivers get_receivers getReceivers "
        "receivers_of listeners listeners_for handlers slots _slots subscribers observers "
        "callbacks by_sender _by_sender _by_receiver"
    ),
    _HAS_RECEIVERS: (
        "has_receivers_for has_connections has_handlers has_subscribers has_listeners_for is_silent"
    ),
    _CONNECTED_TO: (
        "temporarily_connected_to temporarily_connected connected temporary_connection "
        "connected_once"
    ),
    _SILENCE: (
        "muted mute unmute is_muted disabled disable enable silenced silence block blocked unblock "
        "paused pause resume suspend blockSignals suppressed suppress"
    ),
    _CONNECTIONS: "receiver_connected receiver_disconnected connectNotify connect_notify watch",
    _ANY_SENDER: "ANY ANY_ID Any Anonymous",
    _PAYLOAD: "signature arguments args check_nargs",
}
_WORDS: dict[str, str] = {word: ours for ours, words in _THEIRS.items() for word in words.split()}

_ELSEWHERE: dict[str, str] = {
    "aksara_signals.orm": (
        "Manager QuerySet SignalMixin loading_fixtures on_commit on_rollback register "
        "session_scope unregister"
    ),
    "aksara_signals.testing": (
        "Call Calls as_if_committed capture_signals mock_receiver restored_signals rolled_back"
    ),
    "aksara_signals.contrib.alembic": "migration_signals",
    "aksara_signals.contrib.opentelemetry": "instrument uninstrument",
    "aksara_signals.contrib.structured_logging": "log_deliveries stop_logging_deliveries",
}
_NAMES: dict[str, str] = {
    **{
        name: f"from {module} import {name}"
        for module, names in _ELSEWHERE.items()
        for name in names.split()
    },
    **dict.fromkeys(
        ("signal", "Namespace", "NamedSignal", "default_namespace", "get_signal", "signal_named"),
        "lookup(name) for an existing signal, or Signal(name) for a new one",
    ),
    **dict.fromkeys(
        ("mute_signals", "disable_signals", "no_signals", "suppress_signals", "muted", "silence"),
        "SignalContext.disable_for(…), or SignalContext.disable_all()",
    ),
    **dict.fromkeys(("connect", "on", "listens_for", "subscribe"), "@receiver(signal, sender=…)"),
    **dict.fromkeys(("post_commit", "after_commit"), "post_save with phase='after_commit'"),
    **dict.fromkeys(("ANY", "ANY_ID", "Any"), _ANY_SENDER),
}


def missing_word(kind: str, name: str, known: Iterable[str], obj: object) -> AttributeError:
    """The error for a missing attribute of a signal; suggests what to use instead.

    Args:
        kind: What the object is, with an article.
        name: The missing attribute.
        known: The existing attributes.
        obj: The object.
    """
    return _missing(kind, name, _WORDS.get(name), known, obj)


def missing_name(module: str, name: str, known: Iterable[str], obj: object) -> AttributeError:
    """The error for a missing name of a module of the library; see :func:`missing_word`."""
    return _missing(f"module {module!r}", name, _NAMES.get(name), known, obj)


def _missing(
    kind: str, name: str, ours: str | None, known: Iterable[str], obj: object
) -> AttributeError:
    if ours is not None:
        clause = f"; use {ours}"
    elif name.startswith("_"):
        clause = ""  # Python and tools look for such names, and catch the error
    else:
        clause = nearest(name, [each for each in known if not each.startswith("_")])
    return AttributeError(f"{kind} has no attribute {shortened(name)}{clause}", name=name, obj=obj)
