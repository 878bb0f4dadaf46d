"""Engines that deliver to durable receivers on other machines."""
