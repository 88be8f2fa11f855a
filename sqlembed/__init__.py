"""Semantic search inside SQLite, on one machine, offline.

The package in the order of the data. A text that SQL hands over meets:

``functions``   what each SQL function does, once for every door
``engine``      hash, cache, tokens, batch, model, pooling: text to vector
``weights``     what the engine loads: manifests, downloads, conversion
``index``       triggers, queue, stored vectors, nearest rows
``doors``       how SQL reaches the functions
``cli``         the ``sqlembed`` command
"""

from sqlembed.doors.apsw_door import connect, register

__version__ = "0.1.0"
__all__ = ["connect", "register"]
