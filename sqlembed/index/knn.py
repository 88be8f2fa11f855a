"""Find the nearest rows: what is stored, and what was written a moment ago and still waits.

Rows on the queue are left out of what is stored; their texts are read and embedded
on the spot. Nothing is written to the application's database.
"""

import json
import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt

from sqlembed import vectors
from sqlembed.engine.interface import Engine
from sqlembed.errors import SchemaError
from sqlembed.index import fresh, resident
from sqlembed.index import source as sources
from sqlembed.index.catalog import Index, check_watched
from sqlembed.index.codes import Numbers
from sqlembed.index.embedding import Embedded
from sqlembed.plan import Plan, SqlValue, Statement

SPARE = 40
"""Chunks that are looked up since their codes are near, beside three times the wanted ones."""
EXACT_SPARE = 10
"""Chunks that are looked up since their remembered vectors are, beside those that are enough."""
FEW_KEYS = 256
"""Rows that may be found, up to which all of them are compared."""
EXACT_SHARE = 8
"""Where one of so many chunks would be looked up, all are read in their order, which is faster."""
EQUAL = 1e-6
"""A distance up to which nothing is nearer."""
MOST_LOOKED_UP = 8192
"""Chunks that are looked up by their numbers; if it would be more, every vector is compared."""
VECTORS = "SELECT vector FROM main.{} WHERE key IN ({})"
AMONG = "key IN (SELECT value FROM json_each(?3))"
EXACT = """
SELECT key, start, stop, vec_distance_l2(vector, ?1) AS l2
FROM main.{chunks} WHERE {condition} ORDER BY l2, chunk LIMIT ?2"""
CHUNKS_IN_BOUNDS = """
SELECT key, start, stop, l2 FROM (
    SELECT *, vec_distance_l2(vector, ?1) AS l2 FROM main.{chunks} WHERE {condition}
) WHERE l2 * l2 / 2 BETWEEN ?4 AND ?5 ORDER BY l2, chunk LIMIT ?2"""
# SQLite takes start and stop from the chunk that has the least.
ROWS_IN_BOUNDS = """
SELECT key, start, stop, l2 FROM (
    SELECT chunk, key, start, stop, min(vec_distance_l2(vector, ?1)) AS l2
    FROM main.{chunks} WHERE {condition} GROUP BY key
) WHERE l2 * l2 / 2 BETWEEN ?4 AND ?5 ORDER BY l2, chunk LIMIT ?2"""
LOOK_UP = """
SELECT chunk > ?3, key, start, stop, vec_distance_l2(vector, ?1) AS l2
FROM main.{chunks} WHERE chunk IN (SELECT value FROM json_each(?2)) AND {condition}
ORDER BY l2, chunk"""


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
    embedded = yield from fresh.embed(engine, index, waiting.texts)
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
    return None if ids is None else (yield from keys_of(index, ids))


def keys_of(index: Index, ids: Collection[SqlValue]) -> Plan[list[int]]:
    """The keys of the rows with these ids; ids of no row are left out, as is NULL."""
    if not index.source.mapped:
        if set(map(type, ids)) <= {int}:  # mostly; one by one takes twice as long
            return cast(list[int], list(ids))
        return [int(i) for i in ids if type(i) is int or (isinstance(i, float) and _is_key(i))]
    ids = [value for value in ids if value is not None]
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
    few = scope.keys is not None and len(scope.keys) <= FEW_KEYS
    if not few and scope.bounds[0] == -math.inf:
        found = yield from _looked_up(index, query, blob, wanted, scope)
        if found is not None:
            return found
    rows = yield _exact(index, blob, wanted, scope)
    return hits_of(index, rows), len(rows) < wanted


def _looked_up(
    index: Index, query: npt.NDArray[np.float32], blob: bytes, wanted: int, scope: Scope
) -> Plan[tuple[list[Hit], bool] | None]:
    """Likewise, of chunks that are looked up since they are near by their codes.

    :returns: None where it is better to compare every vector
    """
    known = yield from resident.state(index)
    keys = None if scope.keys is None else np.array(scope.keys, np.int64)
    enough = wanted + wanted // 2
    most, most_exact = 3 * wanted + SPARE, enough + EXACT_SPARE
    while most <= MOST_LOOKED_UP and most * EXACT_SHARE < known.count:
        near, of_tail = yield from resident.nearest(index, known, query, most, most_exact, keys)
        chunks = np.concatenate([near.chunks, of_tail.chunks])
        hits, others = yield from _look_up(index, blob, chunks, scope, keys, known.end)
        tail_is_whole = of_tail.whole
        if known.tail is None:
            others = yield from _in_tail(index, blob, wanted, known, scope)
            tail_is_whole = len(others) < wanted
        if near.whole and tail_is_whole:
            return _sorted([*hits, *others]), True
        # What is farther than all that was looked up of one may be farther than what was not, too.
        limits = (
            math.inf if tail_is_whole else _farthest(others),
            math.inf if near.whole else _farthest(hits),
        )
        hits = _sorted(
            hit
            for part, limit in zip((hits, others), limits, strict=True)
            for hit in part
            if hit.distance <= limit
        )
        # Some may be missing since they wait, or are deleted; and of many that are nearly the same
        # the codes do not tell which is nearest.
        if len(hits) >= enough:
            farthest = hits[wanted - 1].distance
            if farthest > scope.bounds[1]:
                break
            if near.whole or farthest <= max(EQUAL, 1.0 - near.cosines[-1] - near.doubt):
                return hits[:wanted], False
        most, most_exact = 8 * most, 8 * most_exact
    if scope.bounds[1] == math.inf or known.count <= EXACT_SHARE * wanted:
        return None
    near = yield from resident.within(index, known, query, 1.0 - scope.bounds[1], keys)
    if len(near.chunks) > MOST_LOOKED_UP:
        return None
    hits, _ = yield from _look_up(index, blob, near.chunks, scope, keys, known.end)
    others = yield from _in_tail(index, blob, wanted, known, scope)
    return _sorted([*hits, *others]), len(others) < wanted


def _look_up(
    index: Index, blob: bytes, chunks: Numbers, scope: Scope, keys: Numbers | None, end: int
) -> Plan[tuple[list[Hit], list[Hit]]]:
    """Those of *chunks* that are there and in *scope*: with numbers up to *end*, and higher.

    :param keys: of the scope's rows, as an array
    """
    sql = LOOK_UP.format(chunks=index.chunk_table, condition=scope.current)
    rows = yield Statement(sql, (blob, json.dumps(chunks.tolist()), end))
    if keys is not None:
        found = np.isin(np.array([row[1] for row in rows], np.int64), keys)
        rows = [row for row, is_found in zip(rows, found, strict=True) if is_found]
    return (
        hits_of(index, (row[1:] for row in rows if not row[0])),
        hits_of(index, (row[1:] for row in rows if row[0])),
    )


def _farthest(hits: Iterable[Hit]) -> float:
    return max((hit.distance for hit in hits), default=-math.inf)


def _in_tail(
    index: Index, blob: bytes, wanted: int, known: resident.State, scope: Scope
) -> Plan[list[Hit]]:
    """The *wanted* nearest chunks that are in no block."""
    scope = scope._replace(current=f"{scope.current} AND chunk > {known.end}")
    return hits_of(index, (yield _exact(index, blob, wanted, scope)))


def _sorted(hits: Iterable[Hit]) -> list[Hit]:
    return sorted(hits, key=lambda hit: hit.distance)


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


def hits_of(index: Index, rows: Iterable[Sequence[SqlValue]]) -> list[Hit]:
    """(key, start, stop, l2) as hits.

    :raises SchemaError: a stored vector is at no distance, as it holds NaN
    """
    try:
        # Between unit vectors |a - b|^2 = 2 (1 - cosine).
        return [Hit(key, start, stop, l2 * l2 / 2) for key, start, stop, l2 in rows]  # type: ignore[arg-type, operator]
    except TypeError:
        raise SchemaError(
            f"a vector of index {index.name} is damaged: it holds no numbers; see"
            f" sqlembed_check('{index.name}'), and make it anew: SELECT"
            f" sqlembed_repair('{index.name}')"
        ) from None


def new_hits(query: npt.NDArray[np.float32], embedded: dict[int, list[Embedded]]) -> list[Hit]:
    """The chunks of rows that wait, by their keys, in their order."""
    parts = [(key, part) for key, parts in embedded.items() for part in parts]
    floats = np.frombuffer(b"".join(part.vector for _, part in parts), dtype="<f4")
    cosines = floats.reshape(-1, len(query)) @ query
    return [
        Hit(key, part.start, part.stop, max(0.0, 1.0 - float(cosine)))
        for (key, part), cosine in zip(parts, cosines, strict=True)
    ]
