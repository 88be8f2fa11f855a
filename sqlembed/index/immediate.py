"""Immediate mode: a connection that has sqlembed stores what it writes at once.

Its own TEMP triggers do it, on the queue that the persistent triggers fill, so programs
without sqlembed see nothing of this. The model runs while the write lock is held: that is
what the mode means. If it cannot run, the row waits as in deferred mode.
"""

from sqlembed.engine.interface import Engine
from sqlembed.errors import SchemaError, SqlembedError
from sqlembed.index import backlog, catalog, flush, store
from sqlembed.index import source as sources
from sqlembed.index.catalog import Index
from sqlembed.index.embedding import check_space, embed_rows, ready
from sqlembed.plan import Boundary, Plan, Statement

HAS_IMMEDIATE = "SELECT 1 FROM main.sqlembed_catalog WHERE mode = 'immediate'"
WATCH = """
CREATE TEMP TRIGGER IF NOT EXISTS sqlembed_immediate AFTER INSERT ON main.sqlembed_queue
WHEN NEW.index_id IN (SELECT index_id FROM main.sqlembed_catalog WHERE mode = 'immediate')
BEGIN SELECT sqlembed_store(NEW.index_id, NEW.generation); END"""
KEY_OF_ENTRY = "SELECT key FROM main.sqlembed_queue WHERE index_id = ? AND generation = ?"
# With the older ones of its key: as far as anybody knows, these are done too.
ENTRIES = """
SELECT generation FROM main.sqlembed_queue
WHERE index_id = ?1 AND generation <= ?2 AND key = ?3 ORDER BY generation"""
UNDONE = (
    "index {} is in immediate mode, and the statement that writes was undone while its row was"
    " stored, since another connection has changed the database's schema; run it again"
)


class UndoneError(SchemaError):
    """A statement in immediate mode was undone while it ran, and must not go on."""


def watch() -> Plan[None]:
    """Have this connection store what it writes to the indexes in immediate mode."""
    if (yield from catalog.has_catalog()) and (yield Statement(HAS_IMMEDIATE)):
        yield Statement(WATCH)


def store_entry(engine: Engine, index_id: int, generation: int) -> Plan[int]:
    """Store one row, called by the trigger; 0 if it has to wait."""
    for index in (yield from catalog.listed()):
        # What an older format keeps beside the vectors is not known here any more.
        if index.index_id == index_id and index.has_blocks:
            try:
                return int((yield from _store_row(engine, index, generation)))
            except UndoneError:
                raise
            except SqlembedError:
                return 0  # the others are raised before anything is written; the row waits
    return 0


def _store_row(engine: Engine, index: Index, generation: int) -> Plan[bool]:
    """Store the row of one entry of the log, within the statement that wrote it."""
    yield from catalog.check_watched(index)
    yield from ready(engine, index)
    entry = (index.index_id, generation)
    keys = [int(str(key)) for (key,) in (yield Statement(KEY_OF_ENTRY, entry)) if key is not None]
    encoding = yield from sources.text_encoding()
    found = yield from sources.read_rows(index.source, index.key_table, keys, encoding)
    if not keys or found.failed:
        return False
    texts = {key: text for key, (_, text) in found.rows.items() if text is not None}
    embedded = embed_rows(engine, index, texts)
    check_space(engine, index)  # again: computing may have loaded weights installed meanwhile
    yield Boundary.BEGIN
    still = yield Statement(KEY_OF_ENTRY, entry)
    if still:
        yield from flush.replace(index, keys, embedded)
        entries = yield Statement(ENTRIES, (*entry, keys[0]))
        if not entries:
            raise UndoneError(UNDONE.format(index.name))
        yield from store.leave_queue(entries)
        yield from backlog.forget(index, keys[0], generation)
        yield from store.forget_keys(index, [key for key in keys if key not in found.rows])
    yield Boundary.COMMIT
    return bool(still)
