"""What the dispatcher asks of the layer that knows SQLAlchemy."""
