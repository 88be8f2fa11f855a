"""Find the nearest rows: what is stored, and what was written a moment ago and still waits.

Rows on the queue are left out of what is stored; their texts are read and embedded
on the spot. Nothing is written to the application's database.
"""

import json
import math
from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sqlembed import vectors
from sqlembed.engine.interface import Engine
from sqlembed.index import fresh
from sqlembed.index import source as sources
from sqlembed.index.catalog import Index, check_watched
from sqlembed.index.embedding import Embedded
from sqlembed.plan import Plan, SqlValue, Statement

EXACT_CHUNKS = 10_000
"""Up to this many chunks every stored vector is compared."""
MOST_CODES = 4096
"""Candidates that ``vec0`` gives at most; beyond, every vector is compared."""
CANDIDATES = 4
"""Candidates by code for each chunk asked for: recall was 1.0 with three."""
CODE_ERROR = 0.02
"""A distance by codes is never so far from that of the vectors: 0.011 at most for 1,500 SMS, each
compared with all."""
FEW = 0.1
"""The share of the rows up to which the vectors of those that may be found are compared: that
takes about ten times as long a row as a scan of all codes."""
HIGHEST_CHUNK = "SELECT max(chunk) FROM main.{}"
COUNT_ROWS = "SELECT count(DISTINCT key) FROM main.{}"
COUNT_CHUNKS = "SELECT count(*) FROM (SELECT key FROM main.{} ORDER BY key LIMIT {})"
VECTORS = "SELECT vector FROM main.{} WHERE key IN ({})"
AMONG = "key IN (SELECT value FROM json_each(?3))"
EXACT = """
SELECT key, start, stop, vec_distance_l2(vector, ?1) AS l2
FROM main.{chunks} WHERE {condition} ORDER BY l2 LIMIT ?2"""
CHUNKS_IN_BOUNDS = """
SELECT * FROM (
    SELECT key, start, stop, vec_distance_l2(vector, ?1) AS l2 FROM main.{chunks} WHERE {condition}
) WHERE l2 * l2 / 2 BETWEEN ?4 AND ?5 ORDER BY l2 LIMIT ?2"""
# SQLite takes start and stop from the chunk that has the least.
ROWS_IN_BOUNDS = """
SELECT * FROM (
    SELECT key, start, stop, min(vec_distance_l2(vector, ?1)) AS l2
    FROM main.{chunks} WHERE {condition} GROUP BY key
) WHERE l2 * l2 / 2 BETWEEN ?4 AND ?5 ORDER BY l2 LIMIT ?2"""
COARSE = """
SELECT key, start, stop, vec_distance_l2(vector, ?1) AS distance
FROM main.{chunks}
WHERE chunk IN (SELECT rowid FROM main.{codes} WHERE code MATCH vec_int8(?2) AND k = ?3)
AND {condition} ORDER BY distance"""


UNBOUNDED = (-math.inf, math.inf)
"""Bounds that every distance is within."""


class Scope(NamedTuple):
    """The chunks that may be found."""

    keys: list[int] | None
    """Of the rows of these keys; None for all."""
    current: str
    """SQL that is true of the rows of the chunk table which do not wait."""
    bounds: tuple[float, float] = UNBOUNDED
    """The lowest and the highest distance, both included."""
    of_rows: bool = False
    """Whether these are of a row's nearest chunk; else of each chunk."""


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


def nearest(
    engine: Engine,
    index: Index,
    query: npt.NDArray[np.float32],
    k: int,
    among: Collection[SqlValue] | None = None,
    bounds: tuple[float, float] = UNBOUNDED,
) -> Plan[list[Neighbour]]:
    """The *k* rows nearest to *query*, nearest first.

    :param query: float32 of shape (dimension,), unit length
    :param among: ids that may be found; None for all. It applies before *k*.
    :param bounds: the lowest and the highest distance of a row, both included; likewise
    """
    yield from check_watched(index)
    keys = yield from keys_among(index, among)
    waiting = yield from fresh.read(index, keys)
    embedded = fresh.embed(engine, index, waiting.texts)
    new = new_hits(query, embedded)
    wanted, scope = k, Scope(keys, waiting.current, bounds, of_rows=True)
    while True:
        seen, whole = yield from _seen(index, query, wanted, new, scope)
        hits = within(_best(seen), bounds)
        found = yield from present(index, hits[:wanted])
        if len(found) >= k or (whole and len(hits) <= wanted):
            break
        wanted *= 4
    coverage = yield from fresh.coverage(index, waiting, embedded)
    return [
        Neighbour(identity, hit.distance, text[hit.start : hit.stop], hit.start, hit.stop, coverage)
        for hit, identity, text in found[:k]
    ]


def vectors_of(index: Index, keys: list[int]) -> Plan[list[bytes]]:
    """The vectors stored of the chunks of these rows."""
    found: list[bytes] = []
    for part in sources.slices(keys):
        sql = VECTORS.format(index.chunk_table, ", ".join("?" * len(part)))
        rows = yield Statement(sql, tuple(part))
        found += [blob for (blob,) in rows if isinstance(blob, bytes)]
    return found


def keys_among(index: Index, ids: Collection[SqlValue] | None) -> Plan[list[int] | None]:
    """The keys of the rows with these ids; None, which stands for all, for None."""
    if ids is None:
        return None
    return (yield from keys_of(index, [value for value in ids if value is not None]))


def keys_of(index: Index, ids: Iterable[SqlValue]) -> Plan[list[int]]:
    """The keys of the rows with these ids; ids of no row are left out."""
    if not index.source.mapped:
        return [int(i) for i in ids if type(i) is int or (isinstance(i, float) and _is_key(i))]
    names = sources.mapped_names(index.source)
    select = f"SELECT key FROM main.{index.key_table} WHERE {sources.identity(names)} IN"
    if len(names) > 1:  # no index serves: once through all keys
        listed = json.dumps([value for value in ids if isinstance(value, str)])
        rows = yield Statement(f"{select} (SELECT value FROM json_each(?))", (listed,))
        return [int(str(key)) for (key,) in rows]
    keys: list[int] = []
    for part in sources.slices(ids):
        rows = yield Statement(f"{select} ({', '.join('?' * len(part))})", tuple(part))
        keys += [int(str(key)) for (key,) in rows]
    return keys


def _is_key(number: float) -> bool:
    """Whether SQLite finds an integer equal to it, as 5 to 5.0."""
    return number.is_integer() and sources.LOWEST <= int(number) <= sources.HIGHEST


def near_chunks(
    index: Index,
    query: npt.NDArray[np.float32],
    depth: int,
    rows: int,
    new: list[Hit],
    scope: Scope,
) -> Plan[tuple[list[Hit], bool]]:
    """The *depth* nearest chunks in *scope*, nearest first; and the best ones of further rows.

    :param rows: how many rows at least, if there are so many
    :param new: chunks of rows that wait
    :returns: also, whether no other row has a chunk in *scope*
    """
    wanted = depth
    while True:
        seen, whole = yield from _seen(index, query, wanted, new, scope)
        hits = within(seen, scope.bounds)
        best = _best(hits)
        if whole or (len(hits) >= depth and len(best) >= rows):
            break
        wanted *= 4
    found = chosen(hits, depth, rows)
    return found, whole and len(best) == len({hit.key for hit in found})


def chosen(hits: list[Hit], depth: int, rows: int) -> list[Hit]:
    """The first *depth* of *hits*, and the first one of each further row, up to *rows* rows."""
    first = hits[:depth]
    had = {hit.key for hit in first}
    further: dict[int, Hit] = {}
    for hit in hits[depth:]:
        if hit.key not in had:
            further.setdefault(hit.key, hit)
    return [*first, *list(further.values())[: max(0, rows - len(had))]]


def _seen(
    index: Index,
    query: npt.NDArray[np.float32],
    wanted: int,
    new: list[Hit],
    scope: Scope,
) -> Plan[tuple[list[Hit], bool]]:
    """The *wanted* nearest stored chunks and those of *new* among them, nearest first.

    :returns: also, whether all chunks in *scope* are there
    """
    stored, whole = yield from _stored(index, query, wanted, scope)
    # Of what is farther some was not seen, and may be nearer than a new chunk.
    horizon = math.inf if whole else max((hit.distance for hit in stored), default=-math.inf)
    seen = [hit for hit in (*stored, *new) if hit.distance <= horizon]
    return sorted(seen, key=lambda hit: hit.distance), whole


def _stored(
    index: Index, query: npt.NDArray[np.float32], wanted: int, scope: Scope
) -> Plan[tuple[list[Hit], bool]]:
    """The *wanted* nearest stored chunks, and whether these are all in *scope* that there are."""
    blob = vectors.to_blob(query)
    candidates = yield from _candidates(index, wanted, scope)
    if candidates:
        code = vectors.code(query).tobytes()
        sql = COARSE.format(
            chunks=index.chunk_table, codes=index.code_table, condition=scope.current
        )
        hits = hits_of((yield Statement(sql, (blob, code, candidates))))
        whole = bool(hits) and hits[-1].distance - CODE_ERROR > scope.bounds[1]
        if scope.keys is None:
            return hits, whole
        keys = set(scope.keys)
        hits = [hit for hit in hits if hit.key in keys]
        if whole or len(hits) >= CANDIDATES * wanted:
            return hits, whole
    rows = yield _exact(index, blob, wanted, scope)
    return hits_of(rows), len(rows) < wanted


def _exact(index: Index, blob: bytes, wanted: int, scope: Scope) -> Statement:
    """The query that compares every vector in *scope*."""
    bounded = scope.bounds != UNBOUNDED
    sql = (ROWS_IN_BOUNDS if scope.of_rows else CHUNKS_IN_BOUNDS) if bounded else EXACT
    condition = scope.current if scope.keys is None else f"{scope.current} AND {AMONG}"
    values: tuple[SqlValue, ...] = (blob, wanted)
    if scope.keys is not None or bounded:
        values += (None if scope.keys is None else json.dumps(scope.keys),)
    if bounded:
        values += scope.bounds
    return Statement(sql.format(chunks=index.chunk_table, condition=condition), values)


def _candidates(index: Index, wanted: int, scope: Scope) -> Plan[int]:
    """How many chunks to take by their codes; 0 to compare the vectors themselves."""
    candidates = CANDIDATES * wanted
    if candidates > MOST_CODES or scope.bounds[0] > -math.inf or not (yield from _is_large(index)):
        return 0
    if scope.keys is None:
        return candidates
    rows = int(str((yield Statement(COUNT_ROWS.format(index.chunk_table)))[0][0]))
    if len(scope.keys) <= FEW * rows:
        return 0
    # So many that among them are enough that may be found, unless these lie far away.
    return min(MOST_CODES, 2 * candidates * rows // len(scope.keys))


def _is_large(index: Index) -> Plan[bool]:
    highest = yield Statement(HIGHEST_CHUNK.format(index.chunk_table))
    if int(str(highest[0][0] or 0)) <= EXACT_CHUNKS:
        return False
    rows = yield Statement(COUNT_CHUNKS.format(index.chunk_table, EXACT_CHUNKS + 1))
    return int(str(rows[0][0])) > EXACT_CHUNKS


def present(index: Index, hits: list[Hit]) -> Plan[list[tuple[Hit, SqlValue, str]]]:
    """*hits* whose row still exists: REPLACE deletes rows without firing a trigger."""
    encoding = yield from sources.text_encoding()
    keys = [hit.key for hit in hits]
    rows = (yield from sources.read_rows(index.source, index.key_table, keys, encoding)).rows
    return [(hit, rows[hit.key][0], rows[hit.key][1] or "") for hit in hits if hit.key in rows]


def _best(hits: Iterable[Hit]) -> list[Hit]:
    """Each row once, by its nearest chunk, nearest first."""
    best: dict[int, Hit] = {}
    for hit in sorted(hits, key=lambda hit: hit.distance):
        best.setdefault(hit.key, hit)
    return list(best.values())


def within(hits: list[Hit], bounds: tuple[float, float]) -> list[Hit]:
    """Those whose distance is in *bounds*, both included."""
    lowest, highest = bounds
    return [hit for hit in hits if lowest <= hit.distance <= highest]


def hits_of(rows: Iterable[tuple[SqlValue, ...]]) -> list[Hit]:
    # Between unit vectors |a - b|^2 = 2 (1 - cosine).
    return [Hit(key, start, stop, l2 * l2 / 2) for key, start, stop, l2 in rows]  # type: ignore[arg-type, operator]


def new_hits(query: npt.NDArray[np.float32], embedded: dict[int, list[Embedded]]) -> list[Hit]:
    """The chunks of rows that wait, by their keys, in their order."""
    parts = [(key, part) for key, parts in embedded.items() for part in parts]
    floats = np.frombuffer(b"".join(part.vector for _, part in parts), dtype="<f4")
    cosines = floats.reshape(-1, len(query)) @ query
    return [
        Hit(key, part.start, part.stop, max(0.0, 1.0 - float(cosine)))
        for (key, part), cosine in zip(parts, cosines, strict=True)
    ]
