"""From one flush to its signals."""
