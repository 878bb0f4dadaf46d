"""Whether two senders are one."""

from __future__ import annotations

import gc

from aksara_signals.dispatch.receivers.identity import sender_key


class Thing: ...


def test_what_has_died_is_no_other_objects_sender() -> None:
    """Two senders that are gone are not the same for that; each is itself while it lives."""
    one, two = Thing(), Thing()
    keys = [sender_key(each) for each in (one, two)]
    assert keys[0].same(sender_key(one))
    assert not keys[0].same(keys[1])
    del one, two
    gc.collect()
    assert [each.get() for each in keys] == [None, None]
    assert not keys[0].same(keys[1])
    assert not keys[0].matches_one(None, exact=False)
