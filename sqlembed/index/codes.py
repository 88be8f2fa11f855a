"""The tables of codes: which of them are written, what deletes leave in them, making them anew.

A vec0 table keeps the slots of rows that were deleted. So codes are made anew beside the old
ones, in slices; whoever stores meanwhile writes to both, and the catalog then names the new table.
"""

import json
import re

import numpy as np

from sqlembed import vectors
from sqlembed.errors import SchemaError
from sqlembed.index import catalog
from sqlembed.index import source as sources
from sqlembed.index.catalog import Index
from sqlembed.plan import Boundary, Many, Plan, Row, SqlValue, Statement, StatementError

SLICE_CHUNKS = 1000
"""That one transaction codes: some 20 ms."""
LEAST_DEAD = 4096
"""Slots of deleted rows that are worth the work; of 384 dimensions, 1.6 MB."""

TABLES = """
SELECT name FROM main.sqlite_schema
WHERE type = 'table' AND (name = ?1 OR name GLOB ?1 || '_[0-9]*') AND sql LIKE 'CREATE VIRTUAL%'"""
CREATE = "CREATE VIRTUAL TABLE main.{} USING vec0(code int8[{}])"
CURRENT = "SELECT codes FROM main.sqlembed_catalog WHERE index_id = ?"
SWAP = "UPDATE main.sqlembed_catalog SET codes = ? WHERE index_id = ?"
SPACE = """
SELECT (SELECT count(*) FROM main.{codes}_rowids), (SELECT total(size) FROM main.{codes}_chunks)"""
SLICE_END = """
SELECT max(chunk) FROM (SELECT chunk FROM main.{} WHERE chunk >= ? ORDER BY chunk LIMIT ?)"""
UNCODED = """
SELECT chunk, vector FROM main.{chunks} WHERE chunk BETWEEN ? AND ?
AND NOT EXISTS (SELECT 1 FROM main.{codes}_rowids WHERE rowid = chunk) ORDER BY chunk"""
COUNTS = "SELECT (SELECT count(*) FROM main.{}), (SELECT count(*) FROM main.{}_rowids)"
INSERT = "INSERT INTO main.{}(rowid, code) VALUES (?, vec_int8(?))"
PARTS = ("info", "chunks", "rowids", "vector_chunks00")
PART = "CREATE TABLE IF NOT EXISTS main.{}_{}(x)"
HERE = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name GLOB ? || '_*'"
SLOTS = """
SELECT chunk_id, size, validity, rowids FROM main.{}_chunks
WHERE chunk_id > ? ORDER BY chunk_id LIMIT 1"""
PLACES = """
SELECT rowid, chunk_id, chunk_offset FROM main.{}_rowids
WHERE rowid IN (SELECT value FROM json_each(?))"""
COUNT = "SELECT count(*), min(rowid) FROM main.{}_rowids"
# Where the connection reads from any table this fails cleanly, and dropping a vec0 table half done.
PROBE = "CREATE TEMP TABLE IF NOT EXISTS sqlembed_probe(x); DROP TABLE temp.sqlembed_probe"


def numbered(index: Index) -> Plan[dict[int, str]]:
    """The tables of codes that *index* has, by their numbers; more than one while it is changed."""
    first = f"sqlembed_code_{index.index_id}"
    names = [str(name) for (name,) in (yield Statement(TABLES, (first,)))]
    return {number(name): name for name in sorted(names) if re.fullmatch(first + r"(_\d+)?", name)}


def drop(table: str) -> Plan[None]:
    """Remove a table of codes, also one of which parts are missing: vec0 drops none then."""
    here = {name for (name,) in (yield Statement(HERE, (table,)))}
    for part in PARTS:
        if f"{table}_{part}" not in here:
            yield Statement(PART.format(table, part))
    yield Statement(f"DROP TABLE main.{table}")


def misplaced(index: Index) -> Plan[Row]:
    """How many codes vec0 finds by their rowid and not among the nearest, or the reverse; and one.

    It keeps where a row is, and which slots are used; the nearest are looked for by the latter.
    """
    table, right, used, after = index.code_table, 0, 0, sources.LOWEST
    while blocks := (yield Statement(SLOTS.format(table), (after,))):
        ((after, size, validity, rowids),) = blocks  # type: ignore[assignment]
        if not (isinstance(validity, bytes) and isinstance(rowids, bytes)):
            continue
        if not len(validity) * 8 == len(rowids) // 8 == size:
            continue
        (slots,) = np.nonzero(np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little"))
        ids = np.frombuffer(rowids, "<i8")[slots].tolist()
        places = yield Statement(PLACES.format(table), (json.dumps(ids),))
        expected = zip(ids, [after] * len(ids), slots.tolist(), strict=True)
        right += len(set(places) & set(expected))
        used += len(ids)
    ((rows, one),) = yield Statement(COUNT.format(table))
    return max(int(str(rows)), used) - right, one


def number(table: str) -> int:
    """0 of the first table of an index; each one made anew has a higher one."""
    match = re.fullmatch(r"sqlembed_code_\d+_(\d+)", table)
    return int(match[1]) if match else 0


def written(index: Index) -> Plan[list[str]]:
    """The tables that a change of chunks is written to: the one in use, and a newer one."""
    tables = yield from numbered(index)
    in_use = number(index.code_table)
    return [name for n, name in tables.items() if n >= in_use] or [index.code_table]


def add(index: Index, first: int, blobs: list[SqlValue]) -> Plan[None]:
    """Store the codes of vectors, whose chunks have numbers from *first*."""
    numbered_blobs: list[Row] = [(first + n, blob) for n, blob in enumerate(blobs)]
    for table in (yield from written(index)):
        yield Many(INSERT.format(table), _coded(index, numbered_blobs))


def forget(index: Index, chunks: list[Row]) -> Plan[None]:
    """Remove the codes of chunks."""
    for table in (yield from written(index)):
        yield Many(f"DELETE FROM main.{table} WHERE rowid = ?", chunks)


def wasteful(index: Index) -> Plan[bool]:
    """Whether more than half of the table's slots are of rows that were deleted."""
    try:
        ((rows, slots),) = yield Statement(SPACE.format(codes=index.code_table))
    except StatementError:  # it is damaged, or laid out by another sqlite-vec
        return False
    used = int(str(rows))
    return float(str(slots)) - used > max(used, LEAST_DEAD)


def tidy(index: Index) -> Plan[bool]:
    """Make the codes anew if that frees much, or was begun; drop what is not used any more.

    :returns: whether most rows were deleted ones
    """
    now = yield from catalog.now(index)
    if now is None:
        return False
    tables, in_use = (yield from numbered(now)), number(now.code_table)
    frees = yield from wasteful(now)
    if frees or max(tables, default=0) > in_use:
        yield from renew(now)
    elif min(tables, default=in_use) < in_use:
        yield from _drop_old(now)
    return frees


def renew(index: Index) -> Plan[None]:
    """Make the codes anew from the vectors; goes on with what was begun before.

    :raises SchemaError: they do not come out in step
    """
    yield Boundary.BEGIN
    if not (yield from catalog.still(index)):
        yield Boundary.COMMIT
        return
    tables = yield from numbered(index)
    newest = max(tables, default=0)
    new = tables.get(newest, "")
    if newest <= number(index.code_table):
        new = f"sqlembed_code_{index.index_id}_{max(newest, number(index.code_table)) + 1}"
        yield Statement(CREATE.format(new, index.dimension))
    yield Boundary.COMMIT
    after: int | None = sources.LOWEST
    while after is not None:
        yield Boundary.BEGIN
        if new not in (yield from numbered(index)).values():  # another has made newer ones
            yield Boundary.COMMIT
            return
        after = yield from _code_slice(index, new, after)
        yield Boundary.COMMIT
    yield Boundary.BEGIN
    now = yield from catalog.now(index)
    if now is None or number(now.code_table) >= number(new):
        yield Boundary.COMMIT
        return
    ((chunks, codes),) = yield Statement(COUNTS.format(index.chunk_table, new))
    if chunks != codes:
        yield from drop(new)
        yield Boundary.COMMIT
        raise SchemaError(
            f"the codes of index {index.name} could not be made anew: {chunks!s} chunks gave"
            f" {codes!s} codes; call it again"
        )
    yield Statement(SWAP, (new, index.index_id))
    yield Boundary.COMMIT
    yield from _drop_old(index)


def _code_slice(index: Index, table: str, start: int) -> Plan[int | None]:
    """Code the next chunks from *start*; where to go on, or None at the end."""
    ((last,),) = yield Statement(SLICE_END.format(index.chunk_table), (start, SLICE_CHUNKS))
    if last is None:
        return None
    sql = UNCODED.format(chunks=index.chunk_table, codes=table)
    rows = yield Statement(sql, (start, last))
    yield Many(INSERT.format(table), _coded(index, rows))
    return int(str(last)) + 1


def _coded(index: Index, rows: list[Row]) -> list[Row]:
    """(chunk, code) of (chunk, vector); what is no vector of this width has an empty code."""
    size = index.dimension * vectors.FLOAT_BYTES
    zeros = bytes(size)
    whole = [v if isinstance(v, bytes) and len(v) == size else zeros for _, v in rows]
    floats = np.frombuffer(b"".join(whole), dtype="<f4").reshape(-1, index.dimension)
    codes = vectors.code(np.nan_to_num(floats))
    return [(chunk, code.tobytes()) for (chunk, _), code in zip(rows, codes, strict=True)]


def _drop_old(index: Index) -> Plan[None]:
    """Drop the tables before the one in use, unless this connection reads from a table."""
    yield Boundary.BEGIN
    now = yield from catalog.now(index)
    in_use = number(now.code_table) if now is not None else 0
    old = [name for n, name in (yield from numbered(index)).items() if n < in_use]
    try:
        if old:
            yield Statement(PROBE)
        for name in old:
            yield from drop(name)
    except StatementError:
        pass  # the next one does it
    yield Boundary.COMMIT
