"""Durable receivers whose events come by Celery or taskiq, in worker processes that may be killed."""
