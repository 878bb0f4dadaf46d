"""The one folder that touches what SQLAlchemy keeps to itself.

The hand-over from a flush to async receivers, the flag that forbids nested flushes, and every
private name of SQLAlchemy that the library needs, so that a new version of SQLAlchemy is a matter
of this folder. Tried on 2.0 and 2.1.
"""
