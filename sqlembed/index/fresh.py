"""Rows that wait for their vectors, made part of an answer: read, and embedded on the spot.

Nothing is written to the application's database.
"""

import json
import time
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from sqlembed.engine.interface import Engine
from sqlembed.index import choosing, waiting
from sqlembed.index import source as sources
from sqlembed.index.catalog import Index
from sqlembed.index.embedding import Embedded, apart, check_space, embed_rows, ready
from sqlembed.index.spelling import Words
from sqlembed.index.terms import Term
from sqlembed.plan import Plan, Statement

MOST_ROWS = 2000
"""Waiting rows that one search reads: those with the query's words first, then the newest."""
MOST_CHUNKS = 256
"""Texts among them that one search computes; those it remembers are not counted."""
MOST_UNFIT = 32
"""Texts that are cut though they turn out too long for what is left of these."""
SLICE_CHUNKS = 32
"""Texts that are computed between two looks at the clock."""

# Whether any waits at all: mostly none does.
ANY_LOGGED = """
SELECT EXISTS (SELECT 1 FROM main.sqlembed_queue WHERE index_id = ?1 AND key IS NOT NULL)"""
OR_LISTED = " OR EXISTS (SELECT 1 FROM main.sqlembed_backlog WHERE index_id = ?1)"
# How many are on the log and in the backlog, up to ?2.
COUNT_LOGGED = """
SELECT count(*) FROM (
    SELECT DISTINCT key FROM main.sqlembed_queue
    WHERE index_id = ?1 AND key IS NOT NULL LIMIT ?2
)"""
COUNT_LISTED = """
SELECT count(*) FROM (SELECT 1 FROM main.sqlembed_backlog WHERE index_id = ?1 LIMIT ?2)"""
ON_LOG = """
SELECT key FROM main.sqlembed_queue WHERE index_id = ? AND key IS NOT NULL
GROUP BY key ORDER BY max(generation) DESC"""
# And whether it may be tried: what failed before is not, by each search.
IN_BACKLOG = """
SELECT key, due IS NOT NULL AND error IS NULL FROM main.sqlembed_backlog
WHERE index_id = ? ORDER BY generation DESC"""
COUNT_STORED = "SELECT count(DISTINCT key) FROM main.{}"
AMONG = " WHERE {} AND key IN (SELECT value FROM json_each(?))"


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
    counts: dict[Words, int]
    """How many have a term of the query, by its tokens; where more wait than are read."""


def read(
    index: Index,
    keys: list[int] | None,
    terms: Sequence[Term] = (),
    seconds: float | None = None,
) -> Plan[Waiting]:
    """The texts of the rows that wait; of those among *keys*, if given.

    :param terms: of a query; where more wait than are read, those that have them are chosen
    :param seconds: how long to look for these at most; None for as long as that takes
    """
    any_waits = ANY_LOGGED + OR_LISTED if index.has_backlog else ANY_LOGGED
    ((waits,),) = yield Statement(any_waits, (index.index_id,))
    if not waits:
        return Waiting({}, 0, 0, "true", keys, {})
    many_logged, logged = yield from _logged(index)
    many_listed, listed = yield from _listed(index)
    many = many_logged or many_listed
    known = None if many_logged else {*logged, *listed}
    current = waiting.nowhere(index, index.chunk_table, known, in_backlog=many)
    counts: dict[Words, int] = {}
    if many:
        chosen, counts = yield from choosing.choose(index, terms, keys, MOST_ROWS, seconds)
        texts, looked, failed = yield from _chosen_and_newest(index, keys, chosen)
        total = yield from waiting.count(index, keys)
    else:
        allowed = None if keys is None else set(keys)
        waiting_keys = {key for key in (*logged, *listed) if allowed is None or key in allowed}
        # What changed since it failed is on the log.
        usable = [*logged, *(key for key, usable in listed.items() if usable and key not in logged)]
        usable = [key for key in usable if key in waiting_keys]
        texts, failed = yield from _texts(index, usable)
        total, looked = len(waiting_keys), len(usable)
    return Waiting(texts, total, total - looked + failed, current, keys, counts)


def _logged(index: Index) -> Plan[tuple[bool, dict[int, None]]]:
    """Whether more than MOST_ROWS are on the log; if not, their keys, the newest first."""
    counted = yield Statement(COUNT_LOGGED, (index.index_id, MOST_ROWS + 1))
    if counted[0][0] == MOST_ROWS + 1:
        return True, {}
    rows = (yield Statement(ON_LOG, (index.index_id,))) if counted[0][0] else []
    return False, {int(str(key)): None for (key,) in rows}


def _listed(index: Index) -> Plan[tuple[bool, dict[int, bool]]]:
    """Likewise in the backlog; and whether each may be tried."""
    if not index.has_backlog:
        return False, {}
    counted = yield Statement(COUNT_LISTED, (index.index_id, MOST_ROWS + 1))
    if counted[0][0] == MOST_ROWS + 1:
        return True, {}
    rows = (yield Statement(IN_BACKLOG, (index.index_id,))) if counted[0][0] else []
    return False, {int(str(key)): usable != 0 for key, usable in rows}


def _chosen_and_newest(
    index: Index, keys: list[int] | None, chosen: list[int]
) -> Plan[tuple[dict[int, str], int, int]]:
    """The texts of *chosen* rows, and of the newest that wait, of those among *keys*, if given.

    What is gone, and what has no text, takes no place of another's.

    :returns: also, how many rows were looked at, and on how many of them the expression fails
    """
    texts, failed = yield from _texts(index, chosen)
    seen = set(chosen)
    there = sources.is_there(index.source, "sqlembed_waits", index.key_table)
    newest = waiting.Newest(index, MOST_ROWS, keys, there)
    while len(texts) < MOST_ROWS and (keys_of_page := (yield from newest.page())):
        page = [key for key in dict.fromkeys(keys_of_page) if key not in seen]
        new, wrong = yield from _texts(index, page)
        texts |= new
        failed += wrong
        seen.update(page)
    first = dict(list(texts.items())[:MOST_ROWS])
    return first, len(seen) - (len(texts) - len(first)), failed


def _texts(index: Index, keys: list[int]) -> Plan[tuple[dict[int, str], int]]:
    """The texts of rows, in the order of *keys*; and on how many the expression fails."""
    encoding = yield from sources.text_encoding()
    found = yield from sources.read_rows(index.source, index.key_table, keys, encoding)
    read = ((key, found.rows[key][1]) for key in keys if key in found.rows)
    return {key: text for key, text in read if text is not None}, len(found.failed)


def embed(
    engine: Engine, index: Index, texts: dict[int, str], seconds: float | None = None
) -> Plan[dict[int, list[Embedded]]]:
    """The chunks of *texts* with their vectors, as many as are remembered or may be computed now.

    :param texts: by key, those that matter most first
    :param seconds: after which no more is begun; None to let the number of chunks alone decide
    """
    if not texts:
        return {}
    yield from ready(engine, index)
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
    stored = COUNT_STORED.format(index.chunk_table)
    if rows_waiting.among is None:
        ((rows,),) = yield Statement(stored)
        current = yield from waiting.count_current(index, int(str(rows)), rows_waiting.total)
    else:
        sql = stored + AMONG.format(rows_waiting.current)
        ((rows,),) = yield Statement(sql, (json.dumps(rows_waiting.among),))
        current = int(str(rows))
    return 1.0 - missed / (current + rows_waiting.total)


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
    room, begun, unfit = MOST_CHUNKS, 0, 0
    chosen: set[str] = set()
    for text in unknown:
        if room <= 0 or unfit >= MOST_UNFIT:
            break
        (chunks,) = engine.chunk([text], index.model, chunking)
        parts = list({part.text for part in chunks})
        missing = len(parts) - len(engine.recall(parts, index.model, "document"))
        # The first may exceed the number alone, or a very long text would never be searched.
        if missing <= room or (room == MOST_CHUNKS and not slices):
            room -= missing
            begun += missing
            chosen.add(text)
        else:
            unfit += 1
        if slices and begun >= SLICE_CHUNKS:
            yield {key: text for key, text in texts.items() if text in chosen}
            chosen, begun = set(), 0
    yield {key: text for key, text in texts.items() if text in chosen}
