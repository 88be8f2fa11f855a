"""Semantic search inside SQLite, on one machine, offline.

The package in the order of the data. A text that SQL hands over meets:

``functions``   what each SQL function does, once for every door
``engine``      hash, cache, tokens, batch, model, pooling: text to vector
``weights``     what the engine loads: manifests, downloads, conversion
``index``       triggers, queue, stored vectors, nearest rows
``doors``       how SQL reaches the functions
``cli``         the ``sqlembed`` command
"""

import atexit
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlembed.doors.apsw_door import connect, register

__version__ = "0.1.0"
__all__ = ["connect", "register"]


@atexit.register
def _end() -> None:
    # Registered here, early: what the program registers later runs before, and may use SQL.
    if door := sys.modules.get("sqlembed.doors.apsw_door"):
        door.close()


def __getattr__(name: str) -> Any:
    # Imported when first used: llama.cpp takes a quarter of a second, `sqlembed --help` none of it.
    if name in __all__:
        from sqlembed.doors import apsw_door

        return getattr(apsw_door, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
