"""Relationships: which links a flush makes or cuts, and the signals about them."""
