"""Receivers and senders: who is who, how one is called, what it is called in messages."""
