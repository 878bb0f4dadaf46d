"""The only package that uses private names of SQLAlchemy.

It holds the hand-over from a flush to async receivers, the flag that forbids nested flushes, and
whatever else needs such a name. So a new version of SQLAlchemy concerns this package alone. Tested
with SQLAlchemy 2.0 and 2.1.
"""
