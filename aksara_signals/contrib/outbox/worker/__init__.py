"""Workers: they call durable receivers for the rows of an outbox."""
