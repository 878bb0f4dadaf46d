"""Connections: which receivers a signal has, and which of them a sender's send calls."""
