"""Delivers signals to receivers: the loops, their frames, errors and hooks."""
