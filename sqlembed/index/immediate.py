"""Immediate mode: a connection that has sqlembed stores what it writes at once.

Its own TEMP triggers do it, on the queue that the persistent triggers fill, so programs
without sqlembed see nothing of this. The model runs while the write lock is held: that is
what the mode means. If it cannot run, the row waits as in deferred mode.
"""

from sqlembed.engine.interface import Engine
from sqlembed.errors import SqlembedError
from sqlembed.index import catalog, flush
from sqlembed.plan import Plan, Statement

HAS_IMMEDIATE = "SELECT 1 FROM main.sqlembed_catalog WHERE mode = 'immediate'"
WATCH = """
CREATE TEMP TRIGGER IF NOT EXISTS sqlembed_immediate AFTER INSERT ON main.sqlembed_queue
WHEN NEW.index_id IN (SELECT index_id FROM main.sqlembed_catalog WHERE mode = 'immediate')
BEGIN SELECT sqlembed_store(NEW.index_id, NEW.generation); END"""


def watch() -> Plan[None]:
    """Have this connection store what it writes to the indexes in immediate mode."""
    if (yield from catalog.has_catalog()) and (yield Statement(HAS_IMMEDIATE)):
        yield Statement(WATCH)


def store(engine: Engine, index_id: int, generation: int) -> Plan[int]:
    """Store one row, called by the trigger; 0 if it has to wait."""
    for index in (yield from catalog.listed()):
        if index.index_id == index_id:
            try:
                return int((yield from flush.store_row(engine, index, generation)))
            except flush.UndoneError:
                raise
            except SqlembedError:
                return 0  # the others are raised before anything is written; the row waits
    return 0
