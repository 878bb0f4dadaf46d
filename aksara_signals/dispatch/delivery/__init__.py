"""A signal on its way to its receivers: the loops, where they stand, what becomes of errors."""
