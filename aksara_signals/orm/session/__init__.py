"""Which session an operation uses, and whether it loads fixtures."""
