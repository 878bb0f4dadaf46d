"""Bridges to outside systems, one module each; each needs an extra of the same name."""
