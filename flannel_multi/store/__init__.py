"""Where leases live: one protocol (`protocol.py`), one implementation for each kind of store."""
