"""Rows that wait for their vectors, made part of an answer: read, and embedded on the spot.

Nothing is written to the application's database.
"""

import json
import time
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sqlembed.engine.interface import Engine
from sqlembed.index import source as sources
from sqlembed.index import waiting
from sqlembed.index.catalog import Index
from sqlembed.index.embedding import Embedded, apart, check_space, embed_rows
from sqlembed.plan import Plan, Rows, Statement

MOST_ROWS = 2000
"""Waiting rows that one search looks at, the newest first."""
MOST_CHUNKS = 256
"""Texts among them that one search computes; those it remembers are not counted."""
SLICE_CHUNKS = 32
"""Texts that are computed between two looks at the clock."""

# Key, generation, and for the backlog whether it may be tried: what failed is not, by each search.
ON_LOG = """
SELECT * FROM (
    SELECT key, max(generation) AS generation, NULL FROM main.sqlembed_queue
    WHERE index_id = ?1 AND key IS NOT NULL GROUP BY key ORDER BY generation DESC LIMIT ?2
)"""
IN_BACKLOG = """
SELECT * FROM (
    SELECT key, generation, due IS NOT NULL AND error IS NULL FROM main.sqlembed_backlog
    WHERE index_id = ?1 LIMIT ?2
)"""
# A page of keys with their generations, the newest first. LIMIT -1: what is there is asked of no
# more rows than are wanted.
NEWEST_ON_LOG = """
SELECT key, generation FROM (
    SELECT key, max(generation) AS generation FROM main.sqlembed_queue
    WHERE index_id = ?1 AND key IS NOT NULL GROUP BY key ORDER BY generation DESC LIMIT -1
) AS sqlembed_waits WHERE generation < ?2 AND {condition} LIMIT ?3"""
NEWEST_IN_BACKLOG = """
SELECT key, generation FROM main.sqlembed_backlog AS sqlembed_waits
WHERE index_id = ?1 AND due IS NOT NULL AND error IS NULL AND generation < ?2 AND {condition}
ORDER BY generation DESC LIMIT ?3"""
WAITS_AMONG = " AND sqlembed_waits.key IN (SELECT value FROM json_each(?4))"
COUNT_STORED = "SELECT count(DISTINCT key) FROM main.{} WHERE {}"
AMONG = " AND key IN (SELECT value FROM json_each(?))"


class Waiting(NamedTuple):
    """The rows that wait."""

    texts: dict[int, str]
    """By key, the newest first; those whose text is NULL, or which are gone, are left out."""
    total: int
    """How many wait."""
    unread: int
    """How many of them were not looked at, failed before, or cannot be read."""
    current: str
    """SQL that is true of the rows of the chunk table which do not wait."""
    among: list[int] | None
    """The keys that were asked for; None for all."""


def read(index: Index, keys: list[int] | None) -> Plan[Waiting]:
    """The texts of the rows that wait; of those among *keys*, if given."""
    rows = yield Statement(_either(index, ON_LOG, IN_BACKLOG), (index.index_id, MOST_ROWS + 1))
    if not rows:
        return Waiting({}, 0, 0, "true", keys)
    logged, listed = _split(rows)
    many_logged, many_listed = len(logged) > MOST_ROWS, len(listed) > MOST_ROWS
    current = waiting.nowhere(
        index,
        index.chunk_table,
        None if many_logged else {**logged, **({} if many_listed else listed)},
        in_backlog=many_logged or many_listed,
    )
    if many_logged or many_listed:
        texts, looked, failed = yield from _newest(index, keys)
        total = yield from waiting.count(index, keys)
    else:
        allowed = None if keys is None else set(keys)
        waits = {key for key in (*logged, *listed) if allowed is None or key in allowed}
        usable = [key for key in _usable(logged, listed) if key in waits]
        texts, failed = yield from _texts(index, usable)
        total, looked = len(waits), len(usable)
    return Waiting(texts, total, total - looked + failed, current, keys)


def _newest(index: Index, keys: list[int] | None) -> Plan[tuple[dict[int, str], int, int]]:
    """The texts of the newest rows that wait, of those among *keys*, if given.

    What is gone, and what has no text, takes no place of another's.

    :returns: also, how many rows were looked at, and on how many of them the expression fails
    """
    condition = sources.is_there(index.source, "sqlembed_waits", index.key_table)
    among = () if keys is None else (json.dumps(keys),)
    if keys is not None:
        condition += WAITS_AMONG
    texts: dict[int, str] = {}
    seen: set[int] = set()
    failed = 0
    for sql in (NEWEST_ON_LOG, NEWEST_IN_BACKLOG) if index.has_backlog else (NEWEST_ON_LOG,):
        before, more = sources.HIGHEST, True
        while more and len(texts) < MOST_ROWS:
            asked = (index.index_id, before, MOST_ROWS, *among)
            rows = yield Statement(sql.format(condition=condition), asked)
            page = [int(str(key)) for key, _ in rows if key not in seen]
            new, wrong = yield from _texts(index, page)
            texts |= new
            failed += wrong
            seen.update(page)
            more = len(rows) == MOST_ROWS
            before = int(str(rows[-1][1])) if rows else before
    chosen = dict(list(texts.items())[:MOST_ROWS])
    return chosen, len(seen) - (len(texts) - len(chosen)), failed


def _texts(index: Index, keys: list[int]) -> Plan[tuple[dict[int, str], int]]:
    """The texts of rows, in the order of *keys*; and on how many the expression fails."""
    encoding = yield from sources.text_encoding()
    found = yield from sources.read_rows(index.source, index.key_table, keys, encoding)
    read = ((key, found.rows[key][1]) for key in keys if key in found.rows)
    return {key: text for key, text in read if text is not None}, len(found.failed)


def _either(index: Index, logged: str, listed: str) -> str:
    return f"{logged} UNION ALL {listed}" if index.has_backlog else logged


def _split(rows: Rows) -> tuple[dict[int, bool], dict[int, bool]]:
    """The keys on the log and those in the backlog, the newest first, and whether to try them."""
    logged: dict[int, bool] = {}
    listed: dict[int, bool] = {}
    for key, _, usable in sorted(rows, key=lambda row: -int(str(row[1]))):
        (logged if usable is None else listed)[int(str(key))] = usable != 0
    return logged, listed


def _usable(logged: dict[int, bool], listed: dict[int, bool]) -> list[int]:
    """What may be tried, the newest first; what changed since it failed is on the log."""
    rest = [key for key, usable in listed.items() if usable and key not in logged]
    return [*logged, *rest]


def embed(
    engine: Engine, index: Index, texts: dict[int, str], seconds: float | None = None
) -> dict[int, list[Embedded]]:
    """The chunks of *texts* with their vectors, as many as are remembered or may be computed now.

    :param texts: by key, those that matter most first
    :param seconds: after which no more is begun; None to let the number of chunks alone decide
    """
    if not texts:
        return {}
    check_space(engine, index)
    embedded: dict[int, list[Embedded]] = {}
    until = None if seconds is None else time.monotonic() + seconds
    for part in _affordable(engine, index, texts, slices=until is not None):
        embedded |= _embed_fit(engine, index, part)
        if until is not None and time.monotonic() > until:
            break
    check_space(engine, index)  # again: computing may have loaded weights installed meanwhile
    return embedded


def _embed_fit(engine: Engine, index: Index, texts: dict[int, str]) -> dict[int, list[Embedded]]:
    """The chunks of *texts* with their vectors, without those on which the model fails."""

    def work(keys: Sequence[int]) -> list[list[Embedded]]:
        return list(embed_rows(engine, index, {key: texts[key] for key in keys}).values())

    return apart(engine, index.model, texts, work)[0]


def coverage(index: Index, rows_waiting: Waiting, embedded: Collection[int]) -> Plan[float]:
    """The share of the rows asked for that an answer has looked at.

    :param embedded: the keys of those that wait and were embedded
    """
    missed = rows_waiting.unread + len(rows_waiting.texts) - len(embedded)
    if missed <= 0:
        return 1.0
    sql = COUNT_STORED.format(index.chunk_table, rows_waiting.current)
    if rows_waiting.among is None:
        rows = yield Statement(sql)
    else:
        rows = yield Statement(sql + AMONG, (json.dumps(rows_waiting.among),))
    return 1.0 - missed / (int(str(rows[0][0])) + rows_waiting.total)


def _affordable(
    engine: Engine, index: Index, texts: dict[int, str], *, slices: bool
) -> Iterable[dict[int, str]]:
    """Those of *texts* that may be embedded now: first what is remembered, then what is not."""
    chunking = index.options.chunking
    # A text that is remembered may yet have been read whole, where this index cuts it.
    whole = [] if chunking.tokens else list(texts.values())
    known = engine.recall(whole, index.model, "document")
    yield {key: text for key, text in texts.items() if text in known}
    unknown = {text: None for text in texts.values() if text not in known}
    room, begun = MOST_CHUNKS, 0
    chosen: set[str] = set()
    for text in unknown:
        if room <= 0:
            break
        (chunks,) = engine.chunk([text], index.model, chunking)
        parts = list({part.text for part in chunks})
        missing = len(parts) - len(engine.recall(parts, index.model, "document"))
        # The first may exceed the number alone, or a very long text would never be searched.
        if missing <= room or (room == MOST_CHUNKS and not slices):
            room -= missing
            begun += missing
            chosen.add(text)
        if slices and begun >= SLICE_CHUNKS:
            yield {key: text for key, text in texts.items() if text in chosen}
            chosen, begun = set(), 0
    yield {key: text for key, text in texts.items() if text in chosen}
