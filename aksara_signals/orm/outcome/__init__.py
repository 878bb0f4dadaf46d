"""What is queued until the outcome of a transaction is known, and what becomes of it."""
