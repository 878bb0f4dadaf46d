"""The dispatcher's adapter to SQLAlchemy."""
