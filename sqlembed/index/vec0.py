"""The tables of codes that formats 1 to 3 kept, of sqlite-vec's ``vec0``: they are only dropped."""

import re

from sqlembed.index.catalog import Index
from sqlembed.plan import Boundary, Plan, Statement, StatementError

TABLES = """
SELECT name FROM main.sqlite_schema
WHERE type = 'table' AND (name = ?1 OR name GLOB ?1 || '_[0-9]*') AND sql LIKE 'CREATE VIRTUAL%'"""
PARTS = ("info", "chunks", "rowids", "vector_chunks00")
PART = "CREATE TABLE IF NOT EXISTS main.{}_{}(x)"
HERE = "SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name GLOB ? || '_*'"
# Where the connection reads from any table this fails cleanly, and dropping a vec0 table half done.
PROBE = "CREATE TEMP TABLE IF NOT EXISTS sqlembed_probe(x); DROP TABLE temp.sqlembed_probe"


def tables(index: Index) -> Plan[list[str]]:
    """Those of *index* that are there."""
    first = f"sqlembed_code_{index.index_id}"
    names = [str(name) for (name,) in (yield Statement(TABLES, (first,)))]
    return sorted(name for name in names if re.fullmatch(first + r"(_\d+)?", name))


def drop(table: str) -> Plan[None]:
    """Remove one, also where parts of it are missing: vec0 drops none then."""
    here = {name for (name,) in (yield Statement(HERE, (table,)))}
    for part in PARTS:
        if f"{table}_{part}" not in here:
            yield Statement(PART.format(table, part))
    yield Statement(f"DROP TABLE main.{table}")


def drop_every(index: Index) -> Plan[None]:
    """Remove all of *index*, unless this connection reads from a table: then the next one does."""
    if not (yield from tables(index)):
        return
    yield Boundary.BEGIN
    try:
        yield Statement(PROBE)
        for name in (yield from tables(index)):
            yield from drop(name)
    except StatementError:
        pass
    yield Boundary.COMMIT
