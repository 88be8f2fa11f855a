"""An index's own tables: chunks with their vectors (the truth), and the words to search them.

A row of a short text costs about 2,050 bytes for the chunk (384 dimensions; two to a
page of 4,096), and in a large index 256 for its code.
"""

import json
from collections.abc import Container, Iterable

from sqlembed.engine.space import Space
from sqlembed.errors import OptionError, SchemaError
from sqlembed.index import backlog, blocks, catalog, rate, samples, vec0, waiting
from sqlembed.index.catalog import Index
from sqlembed.index.options import Options
from sqlembed.index.source import Source, mapped_names
from sqlembed.index.triggers import triggers
from sqlembed.plan import Boundary, Many, Plan, Row, Statement, StatementError, quote

CATALOG_ROW = """
INSERT INTO main.sqlembed_catalog
    (name, source, model, space, dimension, mode, options, state, replaces, triggers)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '{}') RETURNING index_id"""
SHADOW_NAME = "sqlembed_shadow_{}"
"""In the catalog, where names are unique, of what is to replace the index of that number."""
CATALOG_TRIGGERS = """
UPDATE main.sqlembed_catalog SET triggers = (
    SELECT json_group_object(name, sql) FROM main.sqlite_schema
    WHERE type = 'trigger' AND name IN (SELECT value FROM json_each(?2))
) WHERE index_id = ?1 RETURNING triggers"""
TABLES = """
CREATE TABLE main.sqlembed_chunk_{id}(
    chunk INTEGER PRIMARY KEY,
    key INTEGER NOT NULL,       -- of the application's row
    ordinal INTEGER NOT NULL,   -- of the chunk in the row's text
    start INTEGER NOT NULL,     -- its span, in characters
    stop INTEGER NOT NULL,
    digest BLOB NOT NULL,       -- hash of (embedding space, role, text)
    vector BLOB NOT NULL        -- float32, little-endian, unit length
);
CREATE INDEX main.sqlembed_chunk_{id}_key ON sqlembed_chunk_{id}(key);"""
DELETE_ENTRY = """
DELETE FROM main.sqlembed_queue
WHERE generation = ? AND generation < (SELECT max(generation) FROM main.sqlembed_queue)"""
MARK_ENTRY = "UPDATE main.sqlembed_queue SET index_id = 0 WHERE generation = ?"
DELETE_MARKED_BEFORE = """
DELETE FROM main.sqlembed_queue WHERE index_id = 0
AND generation = (SELECT max(generation) FROM main.sqlembed_queue WHERE generation < ?)"""
LEAVE_QUEUE = "UPDATE main.sqlembed_queue SET index_id = 0 WHERE index_id = ?"
RETIRE = """
UPDATE main.sqlembed_catalog SET
    name = 'sqlembed_dropped_' || index_id, state = 'dropped', mode = 'deferred', replaces = NULL
WHERE index_id = ?"""
RETIRED = "SELECT 1 FROM main.sqlembed_catalog WHERE index_id = ? AND state = 'dropped'"
FREED_ROWS, FREED_BLOCKS = 2000, 4
"""That one transaction removes, so that no writer waits long."""
SLICE = "SELECT {key} FROM main.{table} WHERE {condition} LIMIT ?2"
DELETE_SLICE = "DELETE FROM main.{table} WHERE {condition} AND {key} IN ({slice})"
CHUNKS = "SELECT chunk FROM main.{} WHERE key IN (SELECT value FROM json_each(?))"
FORGET = "DELETE FROM main.{} WHERE key IN (SELECT value FROM json_each(?))"
KEYLESS = "SELECT chunk FROM main.{} WHERE typeof(key) <> 'integer' LIMIT ?"
# A row that came back meanwhile waits under the same integer.
FORGET_KEYS = """
DELETE FROM main.{keys} WHERE key IN (SELECT value FROM json_each(?1)) AND {waits_not}"""
WORDS = "CREATE VIRTUAL TABLE main.{} USING fts5(text, tokenize = {})"
HERE = "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ?"
# Without this FTS5 opens no table, and what it cannot open it does not drop.
WORDS_CONFIG = """
CREATE TABLE IF NOT EXISTS main.{0}_config(k PRIMARY KEY, v) WITHOUT ROWID;
INSERT INTO main.{0}_config VALUES ('version', 4) ON CONFLICT DO NOTHING"""
COPY_KEYS = "INSERT INTO main.{new} SELECT * FROM main.{old}"
MERGE = "INSERT INTO main.{0}({0}, rank) VALUES ('merge', ?)"
MERGED_PAGES = 250
"""Of words, that one transaction merges."""
TOTAL_CHANGES = "SELECT total_changes()"
KEY_TABLE = (
    "CREATE TABLE main.sqlembed_key_{id}(key INTEGER PRIMARY KEY, {columns}, UNIQUE({names}))"
)


def create(
    name: str, source: Source, space: Space, options: Options, replaced: Index | None = None
) -> Plan[Index]:
    """Make an index's row, tables and triggers; no vectors yet.

    :param replaced: the index whose place it is to take, as a shadow; None for one that is live
    """
    mode = options.mode if replaced is None else "deferred"
    facts = (space.model, space.fingerprint, space.dimension, mode)
    lasting = options.lasting
    replaces = None if replaced is None else replaced.index_id
    state = "live" if replaced is None else "shadow"
    own_name = name if replaced is None else SHADOW_NAME.format(replaces)
    row = (own_name, source.to_json(), *facts, lasting.to_json(), state, replaces)
    index_id = int((yield Statement(CATALOG_ROW, row))[0][0])  # type: ignore[arg-type]
    yield Statement(TABLES.format(id=index_id))
    if options.words is not None:
        yield from create_words(name, f"sqlembed_word_{index_id}", options.words)
    if source.mapped:
        yield from _create_keys(index_id, source)
        if replaced is not None and replaced.source.has_keys_of(source):
            # Before there are triggers: so both know a row by the same integer.
            copied = COPY_KEYS.format(new=f"sqlembed_key_{index_id}", old=replaced.key_table)
            yield Statement(copied)
    statements = triggers(index_id, source)
    for statement in statements.values():
        yield Statement(statement)
    stored = yield Statement(CATALOG_TRIGGERS, (index_id, json.dumps(list(statements))))
    made = json.loads(str(stored[0][0]))
    return Index(index_id, name, source, *facts, made, lasting, state, replaces)


def create_words(name: str, table: str, tokenizer: str) -> Plan[None]:
    """Make the empty table of the words of the index *name*."""
    try:
        yield Statement(WORDS.format(table, quote(tokenizer)))
    except StatementError as error:
        raise OptionError(
            f"the words of index {name} cannot be kept with the tokenizer {tokenizer!r}: {error};"
            ' choose one of FTS5, or do without: {"words": null}'
        ) from error


def drop_words(table: str) -> Plan[None]:
    """Remove the table of an index's words, if there is one; also one that FTS5 cannot open."""
    if (yield Statement(HERE, (table,))):
        yield Statement(WORDS_CONFIG.format(table))
        yield Statement(f"DROP TABLE main.{table}")


def _create_keys(index_id: int, source: Source) -> Plan[None]:
    names = mapped_names(source)
    columns = ", ".join(
        f"{name} NOT NULL COLLATE {quote(collation)}"
        for name, collation in zip(names, source.collations, strict=True)
    )
    yield Statement(KEY_TABLE.format(id=index_id, columns=columns, names=", ".join(names)))


def restore(index: Index, source: Source, here: Container[str]) -> Plan[int]:
    """Make the plain tables of *index* that are not *here*; how many they were."""
    done = 0
    if index.chunk_table not in here:
        yield Statement(TABLES.format(id=index.index_id))
        done += 1
    if source.mapped and index.key_table not in here:
        yield from _create_keys(index.index_id, source)
        done += 1
    return done


def drop(index: Index) -> Plan[None]:
    """Remove everything of an index at once; the application's table stays as it is."""
    try:
        # The plain table first: with a cursor open elsewhere on this connection its DROP
        # fails cleanly, while a vec0 table's fails half done and is lost.
        yield Statement(f"DROP TABLE IF EXISTS main.{index.chunk_table}")
    except StatementError as error:
        raise SchemaError(
            f"index {index.name} cannot be dropped while this connection reads from a table"
            f" ({error}); finish those statements, and write: SELECT sqlembed_drop('{index.name}')"
        ) from error
    yield from retire(index)
    yield from _drop_rest(index)


def retire(index: Index) -> Plan[None]:
    """Take an index out of use, within a transaction; its tables stay until :func:`free`."""
    for trigger in index.triggers:
        yield Statement(f"DROP TRIGGER IF EXISTS main.{trigger}")
    yield Statement(RETIRE, (index.index_id,))
    yield Statement(LEAVE_QUEUE, (index.index_id,))
    yield Statement(backlog.SWEEP)


def free() -> Plan[None]:
    """Remove what retired indexes left, a slice at a time, as far as that is possible now.

    While this connection reads from a table none can be dropped; whoever writes next goes on.
    """
    for index in (yield from catalog.every()):
        if index.state == "dropped":
            yield from _free(index)


def _free(index: Index) -> Plan[None]:
    yield from _empty(index, "sqlembed_backlog", "key", "index_id = ?1")
    yield from _empty(index, "sqlembed_block", "block", "index_id = ?1", FREED_BLOCKS)
    yield from _empty(index, index.chunk_table, "chunk", "?1")
    if index.source.mapped:
        yield from _empty(index, index.key_table, "key", "?1")
    yield Boundary.BEGIN
    if (yield Statement(RETIRED, (index.index_id,))):
        try:
            yield Statement(f"DROP TABLE main.{index.chunk_table}")
        except StatementError:
            pass  # this connection reads
        else:
            yield from _drop_rest(index)
    yield Boundary.COMMIT


def _empty(
    index: Index, table: str, key: str, condition: str, most: int = FREED_ROWS
) -> Plan[None]:
    """Delete the rows of *table* that are the index's, in transactions of so many."""
    part = SLICE.format(key=key, table=table, condition=condition)
    delete = DELETE_SLICE.format(key=key, table=table, condition=condition, slice=part)
    some = True
    while some:
        yield Boundary.BEGIN
        some = bool((yield Statement(RETIRED, (index.index_id,))))  # else another was faster
        if some:
            size = (index.index_id, most)
            some = bool((yield Statement(part, (index.index_id, 1))))
            if some:
                yield Statement(delete, size)
        yield Boundary.COMMIT


def _drop_rest(index: Index) -> Plan[None]:
    """Remove what is left of a retired index, after its table of chunks."""
    yield Statement(f"DROP TABLE IF EXISTS main.{index.import_table}")
    yield from drop_words(index.word_table)
    yield Statement(f"DROP TABLE IF EXISTS main.{index.key_table}")
    for table in (yield from vec0.tables(index)):
        yield from vec0.drop(table)
    yield Statement(blocks.DELETE_EVERY, (index.index_id,))
    yield from backlog.forget_index(index.index_id)
    yield from rate.forget_index(index.index_id)
    yield Statement("DELETE FROM main.sqlembed_catalog WHERE index_id = ?", (index.index_id,))
    yield from samples.forget_unused()


def leave_queue(entries: list[Row]) -> Plan[None]:
    """Take entries off the log, of which the newest of all stays, marked as done."""
    yield Many(DELETE_ENTRY, entries)
    yield Many(MARK_ENTRY, entries)
    yield Statement(DELETE_MARKED_BEFORE, entries[-1])


def forget(index: Index, keys: Iterable[int]) -> Plan[None]:
    """Remove what is stored of the rows with these keys."""
    among = (json.dumps(list(keys)),)
    rows = yield Statement(CHUNKS.format(index.chunk_table), among)
    if rows:
        yield Statement(FORGET.format(index.chunk_table), among)
        yield from _forget_rest(index, rows)


def forget_keyless(index: Index, most: int) -> Plan[int]:
    """Remove chunks, but so many, whose key is none that a row can have; how many they were."""
    rows = yield Statement(KEYLESS.format(index.chunk_table), (most,))
    yield Many(f"DELETE FROM main.{index.chunk_table} WHERE chunk = ?", rows)
    yield from _forget_rest(index, rows)
    return len(rows)


def _forget_rest(index: Index, chunks: list[Row]) -> Plan[None]:
    yield from blocks.stamp(index)
    if index.words is not None:
        yield Many(f"DELETE FROM main.{index.word_table} WHERE rowid = ?", chunks)


def forget_keys(index: Index, keys: list[int]) -> Plan[None]:
    """Remove from the key table those of *keys* that do not wait: their rows are gone."""
    if index.source.mapped and keys:
        sql = FORGET_KEYS.format(
            keys=index.key_table, waits_not=waiting.nowhere(index, index.key_table)
        )
        yield Statement(sql, (json.dumps(keys),))


def reclaim(index: Index) -> Plan[None]:
    """Seal what is to be, and give back the space of deleted rows, if they are most of them.

    All of that in short transactions.
    """
    yield from vec0.drop_every(index)
    yield from blocks.seal(index)
    if not (yield from blocks.tidy(index)) or index.words is None:
        return
    # FTS5 merges when rows are added. As it documents: the first time with a negative number of
    # pages, and done when fewer than two rows change.
    pages, changes = -MERGED_PAGES, 2
    while changes >= 2:
        yield Boundary.BEGIN
        before = yield Statement(TOTAL_CHANGES)
        yield Statement(MERGE.format(index.word_table), (pages,))
        after = yield Statement(TOTAL_CHANGES)
        yield Boundary.COMMIT
        pages, changes = MERGED_PAGES, int(str(after[0][0])) - int(str(before[0][0]))


def add(index: Index, chunks: list[Row], texts: list[str]) -> Plan[None]:
    """Store chunks, (key, ordinal, start, stop, digest, vector), and the words of their texts."""
    if not chunks:
        return
    first = yield from blocks.following(index)
    numbered: list[Row] = [(first + n, *chunk) for n, chunk in enumerate(chunks)]
    yield Many(f"INSERT INTO main.{index.chunk_table} VALUES (?, ?, ?, ?, ?, ?, ?)", numbered)
    yield from blocks.stamp(index)
    yield from blocks.grow(index, first, first + len(chunks) - 1)
    if index.words is not None:
        worded: list[Row] = [(first + n, text) for n, text in enumerate(texts)]
        yield Many(f"INSERT INTO main.{index.word_table}(rowid, text) VALUES (?, ?)", worded)
