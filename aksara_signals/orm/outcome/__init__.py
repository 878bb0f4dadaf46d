"""Deferred receivers: queued until the outcome of a transaction is known, then called."""
