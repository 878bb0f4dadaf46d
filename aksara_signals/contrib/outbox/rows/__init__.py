"""The table of an outbox: what is claimed, and what becomes of it."""
