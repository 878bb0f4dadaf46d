"""Receivers and senders: their identity, their signatures, and their names in messages."""
