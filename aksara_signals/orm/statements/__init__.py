"""What ORM statements send: the rows of ``insert()``, ``update()`` and ``delete()``."""
