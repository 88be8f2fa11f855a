"""Find the nearest rows: what is stored, and what was written a moment ago and still waits.

Rows on the queue are left out of what is stored; their texts are read and embedded
on the spot. Nothing is written to the application's database.
"""

import math
from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sqlembed import vectors
from sqlembed.engine.interface import Engine
from sqlembed.index import source as sources
from sqlembed.index.catalog import Index, check_watched
from sqlembed.index.flush import HIGHEST, LOWEST, check_space, embed_rows
from sqlembed.plan import Plan, SqlValue, Statement

EXACT_CHUNKS = 10_000
"""Up to this many chunks every stored vector is compared."""
MOST_CODES = 4096
"""Candidates that ``vec0`` gives at most; beyond, every vector is compared."""
CANDIDATES = 4
"""Candidates by code for each row asked for: recall was 1.0 with three."""
FRESH_ROWS = 2000
"""Waiting rows that one search looks at, the newest first."""
FRESH_CHUNKS = 256
"""Texts among them that one search computes; those it remembers are not counted."""

WAITING = """
SELECT key FROM main.sqlembed_queue WHERE index_id = ?
GROUP BY key ORDER BY max(generation) DESC LIMIT ?"""
WAITING_COUNT = "SELECT count(DISTINCT key) FROM main.sqlembed_queue WHERE index_id = ?"
WAITING_AMONG = "SELECT DISTINCT key FROM main.sqlembed_queue WHERE index_id = ? AND key IN ({})"
HIGHEST_CHUNK = "SELECT max(chunk) FROM main.{}"
COUNT_CHUNKS = "SELECT count(*) FROM (SELECT key FROM main.{} ORDER BY key LIMIT {})"
COUNT_STORED = """
SELECT count(*) FROM (
    SELECT key FROM main.{} EXCEPT SELECT key FROM main.sqlembed_queue WHERE index_id = ?
)"""
NOT_WAITING = "key NOT IN (SELECT key FROM main.sqlembed_queue WHERE index_id = {})"
EXACT = """
SELECT key, start, stop, vec_distance_l2(vector, ?1) AS distance
FROM main.{chunks} WHERE {condition} ORDER BY distance LIMIT ?2"""
COARSE = """
SELECT key, start, stop, vec_distance_l2(vector, ?1) AS distance
FROM main.{chunks}
WHERE chunk IN (SELECT rowid FROM main.{codes} WHERE code MATCH vec_int8(?2) AND k = ?3)
AND {condition} ORDER BY distance"""


class Hit(NamedTuple):
    """A row found, by its best chunk."""

    key: int
    start: int
    stop: int
    distance: float
    """Cosine distance, 0 (same direction) to 2 (opposite)."""


class Neighbour(NamedTuple):
    """A row of ``knn()``."""

    id: SqlValue
    distance: float
    text: str
    start: int
    stop: int
    coverage: float
    """The share of the index's rows that was searched: 1.0, but under a large backlog."""


class Fresh(NamedTuple):
    """What a search made of the rows that wait."""

    hits: list[Hit]
    waiting: int
    searched: int


def nearest(
    engine: Engine,
    index: Index,
    query: npt.NDArray[np.float32],
    k: int,
    among: Collection[SqlValue] | None = None,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Plan[list[Neighbour]]:
    """The *k* rows nearest to *query*, nearest first.

    :param query: float32 of shape (dimension,), unit length
    :param among: ids that may be found; None for all. It applies before *k*.
    :param bounds: the lowest and the highest distance of a row, both included; likewise
    """
    yield from check_watched(index)
    keys: list[int] | None = None
    if among is not None:
        keys = yield from _keys(index, [value for value in among if value is not None])
    fresh = yield from _fresh(engine, index, query, keys)
    wanted = k
    while True:
        stored, all_seen = yield from _stored(index, query, wanted, keys, bool(fresh.waiting))
        hits = _within(_best([*fresh.hits, *stored]), bounds)
        found = yield from _present(index, hits[:wanted])
        if len(found) >= k or (all_seen and len(hits) <= wanted):
            break
        if stored and stored[-1].distance > bounds[1]:
            break  # all that follow are farther
        wanted *= 4
    coverage = yield from _coverage(index, fresh)
    return [
        Neighbour(identity, hit.distance, text[hit.start : hit.stop], hit.start, hit.stop, coverage)
        for hit, identity, text in found[:k]
    ]


def _keys(index: Index, ids: Iterable[SqlValue]) -> Plan[list[int]]:
    """The keys of the rows with these ids; ids of no row are left out."""
    if not index.source.mapped:
        # SQLite compares 5 and 5.0 as equal; a text is never an integer key.
        numbers = (i for i in ids if isinstance(i, int | float) and LOWEST <= i <= HIGHEST)
        return [int(i) for i in numbers if int(i) == i and int(i) <= HIGHEST]
    identity = sources.identity(sources.mapped_names(index.source))
    keys: list[int] = []
    for part in sources.slices(ids):
        marks = ", ".join("?" * len(part))
        sql = f"SELECT key FROM main.{index.key_table} WHERE {identity} IN ({marks})"
        keys += [int(str(row[0])) for row in (yield Statement(sql, tuple(part)))]
    return keys


def _fresh(
    engine: Engine, index: Index, query: npt.NDArray[np.float32], keys: list[int] | None
) -> Plan[Fresh]:
    newest = yield Statement(WAITING, (index.index_id, FRESH_ROWS))
    if not newest:
        return Fresh([], 0, 0)
    check_space(engine, index)
    waiting: list[int] = []
    total = 0
    if keys is None:
        waiting = [int(str(row[0])) for row in newest]
        total = int(str((yield Statement(WAITING_COUNT, (index.index_id,)))[0][0]))
    else:
        for part in sources.slices(keys):
            marks = ", ".join("?" * len(part))
            sql = WAITING_AMONG.format(marks)
            rows = yield Statement(sql, (index.index_id, *part))
            waiting += [int(str(row[0])) for row in rows]
        total = len(waiting)
    encoding = yield from sources.text_encoding()
    found = yield from sources.read_rows(index.source, index.key_table, waiting, encoding)
    texts = {key: found.rows[key][1] for key in waiting if key in found.rows}
    present = {key: text for key, text in texts.items() if text is not None}
    affordable = _affordable(engine, index, present)
    hits = [
        Hit(key, part.start, part.stop, _distance(query, part.vector))
        for key, parts in embed_rows(engine, index, affordable).items()
        for part in parts
    ]
    check_space(engine, index)  # again: computing may have loaded weights installed meanwhile
    missed = len(present) - len(affordable) + len(found.failed)
    return Fresh(hits, total, len(waiting) - missed)


def _affordable(engine: Engine, index: Index, texts: dict[int, str]) -> dict[int, str]:
    """Those of *texts*, newest first, whose vectors are remembered or may be computed now."""
    chunking = index.options.chunking
    # A text that is remembered may yet have been read whole, where this index cuts it.
    whole = [] if chunking.tokens else list(texts.values())
    known = engine.recall(whole, index.model, "document")
    unknown = [text for text in dict.fromkeys(texts.values()) if text not in known]
    affordable = set(known)
    room = FRESH_CHUNKS
    for text, chunks in zip(unknown, engine.chunk(unknown, index.model, chunking), strict=True):
        parts = list({part.text for part in chunks})
        missing = len(parts) - len(engine.recall(parts, index.model, "document"))
        # The first may exceed the budget alone, or a very long text would never be searched.
        if missing <= max(room, 0) or room == FRESH_CHUNKS:
            room -= missing
            affordable.add(text)
    return {key: text for key, text in texts.items() if text in affordable}


def _stored(
    index: Index,
    query: npt.NDArray[np.float32],
    wanted: int,
    keys: list[int] | None,
    some_wait: bool,
) -> Plan[tuple[list[Hit], bool]]:
    """The *wanted* nearest stored chunks, and whether these are all that there are."""
    condition = NOT_WAITING.format(index.index_id) if some_wait else "true"
    blob = vectors.to_blob(query)
    if keys is not None:
        hits: list[Hit] = []
        for part in sources.slices(keys):
            numbers = ", ".join(map(str, part))
            sql = EXACT.format(
                chunks=index.chunk_table, condition=f"key IN ({numbers}) AND {condition}"
            )
            hits += _hits((yield Statement(sql, (blob, -1))))
        return hits, True
    candidates = wanted * CANDIDATES
    if candidates <= MOST_CODES and (yield from _is_large(index)):
        code = vectors.code(query).tobytes()
        sql = COARSE.format(chunks=index.chunk_table, codes=index.code_table, condition=condition)
        return _hits((yield Statement(sql, (blob, code, candidates)))), False
    sql = EXACT.format(chunks=index.chunk_table, condition=condition)
    rows = yield Statement(sql, (blob, wanted))
    return _hits(rows), len(rows) < wanted


def _is_large(index: Index) -> Plan[bool]:
    highest = yield Statement(HIGHEST_CHUNK.format(index.chunk_table))
    if int(str(highest[0][0] or 0)) <= EXACT_CHUNKS:
        return False
    rows = yield Statement(COUNT_CHUNKS.format(index.chunk_table, EXACT_CHUNKS + 1))
    return int(str(rows[0][0])) > EXACT_CHUNKS


def _present(index: Index, hits: list[Hit]) -> Plan[list[tuple[Hit, SqlValue, str]]]:
    """*hits* whose row still exists: REPLACE deletes rows without firing a trigger."""
    encoding = yield from sources.text_encoding()
    keys = [hit.key for hit in hits]
    rows = (yield from sources.read_rows(index.source, index.key_table, keys, encoding)).rows
    return [(hit, rows[hit.key][0], rows[hit.key][1] or "") for hit in hits if hit.key in rows]


def _coverage(index: Index, fresh: Fresh) -> Plan[float]:
    missed = fresh.waiting - fresh.searched
    if missed <= 0:
        return 1.0
    rows = yield Statement(COUNT_STORED.format(index.chunk_table), (index.index_id,))
    return 1.0 - missed / (int(str(rows[0][0])) + fresh.waiting)


def _best(hits: Iterable[Hit]) -> list[Hit]:
    """Each row once, by its nearest chunk, nearest first."""
    best: dict[int, Hit] = {}
    for hit in sorted(hits, key=lambda hit: hit.distance):
        best.setdefault(hit.key, hit)
    return list(best.values())


def _within(hits: list[Hit], bounds: tuple[float, float]) -> list[Hit]:
    lowest, highest = bounds
    return [hit for hit in hits if lowest <= hit.distance <= highest]


def _hits(rows: Iterable[tuple[SqlValue, ...]]) -> list[Hit]:
    # Between unit vectors |a - b|^2 = 2 (1 - cosine).
    return [Hit(key, start, stop, l2 * l2 / 2) for key, start, stop, l2 in rows]  # type: ignore[arg-type, operator]


def _distance(query: npt.NDArray[np.float32], blob: bytes) -> float:
    return 1.0 - float(query @ np.frombuffer(blob, dtype="<f4"))
