"""Sessions: which one a write goes through, and whether it loads fixtures."""
