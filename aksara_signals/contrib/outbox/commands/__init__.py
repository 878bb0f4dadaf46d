"""The commands ``aksara-signals worker`` and ``aksara-signals outbox``."""
