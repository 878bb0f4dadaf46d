"""Other libraries, and this one in their words."""
