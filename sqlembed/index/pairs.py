"""What one of an index's tables has and another lacks, as SQL over whole tables."""

from sqlembed.index import source as sources
from sqlembed.index import waiting
from sqlembed.index.catalog import Index
from sqlembed.plan import Plan, Row, Statement, quote

ORPHANED = """
FROM main.{chunks} AS sqlembed_ours WHERE NOT {there} AND {waits_not}"""
EMPTY_KEYS = """
FROM main.{keys} AS sqlembed_ours WHERE NOT EXISTS ({row}) AND {waits_not}
AND NOT EXISTS (SELECT 1 FROM main.{chunks} WHERE key = sqlembed_ours.key)"""
UNMAPPED = """
FROM main.{table} WHERE {present}
AND NOT EXISTS (SELECT 1 FROM main.{keys} AS sqlembed_keys WHERE {same})"""
UNSIZED = """
SELECT count(*), min(id) FROM main.{words}_content AS word
WHERE NOT EXISTS (SELECT 1 FROM main.{words}_docsize WHERE id = word.id)"""
WORDS_TOO_MANY = """
FROM (
    SELECT id FROM main.{words}_content UNION ALL SELECT id FROM main.{words}_docsize AS size
    WHERE NOT EXISTS (SELECT 1 FROM main.{words}_content WHERE id = size.id)
) AS word WHERE NOT EXISTS (SELECT 1 FROM main.{chunks} WHERE chunk = word.id)"""


def words_out_of_step(index: Index) -> Plan[list[Row]]:
    """How many chunks FTS5 keeps by halves, and of how many there is no chunk, each with one."""
    rows = yield Statement(UNSIZED.format(words=index.word_table))
    return rows + (yield Statement(f"SELECT count(*), min(id) {words_too_many(index)}"))


def words_too_many(index: Index) -> str:
    """FROM the numbers of chunks that are not there, but their words are."""
    return WORDS_TOO_MANY.format(words=index.word_table, chunks=index.chunk_table)


def orphaned(index: Index) -> str:
    """FROM the chunks of rows that are not in the table and do not wait."""
    there = sources.is_there(index.source, "sqlembed_ours", index.key_table)
    waits_not = waiting.nowhere(index, "sqlembed_ours")
    return ORPHANED.format(chunks=index.chunk_table, there=there, waits_not=waits_not)


def empty_keys(index: Index) -> str:
    """FROM the keys of rows that are neither in the table nor indexed, and do not wait."""
    return EMPTY_KEYS.format(
        keys=index.key_table,
        chunks=index.chunk_table,
        row=f"SELECT 1 FROM main.{quote(index.source.table)} WHERE {_same(index, 'sqlembed_ours')}",
        waits_not=waiting.nowhere(index, "sqlembed_ours"),
    )


def unmapped(index: Index) -> str:
    """FROM the rows of the table whose key has no integer."""
    source = index.source
    return UNMAPPED.format(
        table=quote(source.table),
        present=" AND ".join(f"{source.column(name)} IS NOT NULL" for name in source.key),
        keys=index.key_table,
        same=_same(index),
    )


def _same(index: Index, keys: str = "sqlembed_keys") -> str:
    source = index.source
    pairs = zip(sources.mapped_names(source), source.key, strict=True)
    return " AND ".join(f"{keys}.{mine} = {source.column(name)}" for mine, name in pairs)
