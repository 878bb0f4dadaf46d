"""Random mappings and transactions, and who witnesses what becomes of them."""
