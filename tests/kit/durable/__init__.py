"""A shop with durable receivers, in processes of its own that may be killed at any moment."""
