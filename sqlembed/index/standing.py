"""How an index stands: what is stored, what waits, how fast that is stored, and what it takes."""

from typing import NamedTuple

from sqlembed.engine.interface import Engine
from sqlembed.errors import SqlembedError
from sqlembed.index import backlog, blocks, catalog, codes, rate, waiting
from sqlembed.index.catalog import Index
from sqlembed.index.embedding import check_space
from sqlembed.plan import Plan, Statement, StatementError, quote

STORED = "SELECT count(DISTINCT key), count(*) FROM main.{}"
BACKLOG = f"""
SELECT coalesce(sum(lease > ?2 AND lease <= ?2 + {backlog.CLOCK_LEASE}), 0),
       count(error), ?2 - min(since)
FROM main.sqlembed_backlog WHERE index_id = ?1"""
LAST_ERROR = """
SELECT error FROM main.sqlembed_backlog WHERE index_id = ? AND error IS NOT NULL
ORDER BY generation DESC LIMIT 1"""
OWN_TABLES = """
SELECT name, tbl_name FROM main.sqlite_schema WHERE rootpage > 0
AND (tbl_name IN (?1, ?2) OR tbl_name GLOB ?3 || '_*' OR tbl_name GLOB ?4 || '_*')"""
MOST_PAGES = 1000
"""Of a table that are looked at: what a larger one takes is told by its rows on these."""
PAGES = f"""
SELECT coalesce(sum(pgsize), 0), coalesce(sum(ncell) FILTER (WHERE pagetype = 'leaf'), 0), count(*)
FROM (SELECT * FROM dbstat WHERE name = ? AND schema = 'main' LIMIT {MOST_PAGES})"""


class Standing(NamedTuple):
    """What ``sqlembed_status`` shows besides what an index was made with."""

    indexed: int
    """Rows that have vectors."""
    chunks: int
    waiting: int
    """Rows that have changed since, and those that failed."""
    leased: int
    """How many of them somebody works on."""
    failed: int
    """How many of them failed the last time."""
    oldest: int | None
    """Seconds since the one that waits longest was first seen; None if none was yet."""
    last_error: str | None
    """Why the newest of those that failed did."""
    coverage: float
    """The share of the rows whose vectors are stored and current."""
    rate: float
    """Rows stored a second, of the last minute."""
    bytes: int | None
    """In the file; None where this SQLite cannot tell."""
    problem: str | None
    """Why the index cannot be used."""


def standing(engine: Engine, index: Index) -> Plan[Standing]:
    """How *index* stands now."""
    ((indexed, chunks),) = yield Statement(STORED.format(index.chunk_table))
    waits = yield from waiting.count(index)
    current = indexed
    leased = failed = oldest = last_error = None
    if waits:
        current = yield from waiting.count_current(index, int(str(indexed)), waits)
    if waits and index.has_backlog:
        ((leased, failed, oldest),) = yield Statement(BACKLOG, (index.index_id, backlog.now()))
        last_error = failed and (yield Statement(LAST_ERROR, (index.index_id,)))[0][0]
    stored = int(str(current))
    return Standing(
        int(str(indexed)),
        int(str(chunks)),
        waits,
        int(str(leased or 0)),
        int(str(failed or 0)),
        None if oldest is None else max(0, int(str(oldest))),
        str(last_error) if last_error else None,
        stored / (stored + waits) if waits else 1.0,
        (yield from rate.recent(index)),
        (yield from _bytes(index)),
        (yield from _problem(engine, index)),
    )


def _problem(engine: Engine, index: Index) -> Plan[str | None]:
    try:
        yield from catalog.check_watched(index)
        check_space(engine, index)
    except SqlembedError as error:
        return str(error)
    return None


def _bytes(index: Index) -> Plan[int | None]:
    """What the tables of *index* take."""
    # Older formats had tables of codes.
    names = (
        index.chunk_table,
        index.key_table,
        f"sqlembed_code_{index.index_id}",
        index.word_table,
    )
    listed = yield from blocks.listed(index)
    total = sum(codes.size(each.chunks, index.dimension) for each in listed)
    for name, table in (yield Statement(OWN_TABLES, names)):
        try:
            ((size, rows, pages),) = yield Statement(PAGES, (name,))
        except StatementError:  # a SQLite that was built without it
            return None
        size, rows = int(str(size)), int(str(rows))
        if pages == MOST_PAGES and rows:
            counted = yield Statement(f"SELECT count(*) FROM main.{quote(str(table))}")
            size = max(size, size * int(str(counted[0][0])) // rows)
        total += size
    return total
