"""Rows written and one receiver called: this library, others, and SQLAlchemy by itself."""
