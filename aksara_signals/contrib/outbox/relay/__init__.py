"""Publishing rows to a broker, instead of calling receivers."""
