"""Mapped classes: which of them send signals, their attributes and columns."""
