"""Connections: which receivers a signal has, and which of them a send calls."""
