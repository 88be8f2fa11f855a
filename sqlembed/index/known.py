"""Vectors that need no model: chunks of the same text, by digest, that are stored already.

A changed long text has most of its chunks from before. Whoever has vectors elsewhere, as an index
that is replaced or an import has, adds a source.
"""

import json
from collections.abc import Callable, Collection, Mapping
from typing import TypeAlias

import numpy as np

from sqlembed.index.catalog import Index
from sqlembed.index.source import slices
from sqlembed.plan import Plan, Statement, StatementError
from sqlembed.vectors import FLOAT_BYTES

Wanted: TypeAlias = Mapping[int, Collection[bytes]]
"""The digests of each row's chunks, by key."""
KnownSource: TypeAlias = Callable[[Index, Wanted], Plan[dict[bytes, bytes]]]
"""Gives vectors by digest, as they are found; they are checked here."""

UNIT_TOLERANCE = 1e-3
DIGESTS = "SELECT chunk, digest FROM main.{} WHERE key IN (SELECT value FROM json_each(?))"
VECTORS = "SELECT digest, vector FROM main.{} WHERE chunk IN (SELECT value FROM json_each(?))"

HAS_TABLE = "SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ?"
IMPORTED = "SELECT digest, vector FROM main.{} WHERE digest IN ({})"


def stored(table: str, wanted: Wanted) -> Plan[dict[bytes, bytes]]:
    """What the chunk table *table* has of the same rows."""
    digests = {digest for each in wanted.values() for digest in each}
    rows = yield Statement(DIGESTS.format(table), (json.dumps(list(wanted)),))
    chunks = {digest: chunk for chunk, digest in rows if digest in digests}
    if not chunks:
        return {}
    found = yield Statement(VECTORS.format(table), (json.dumps(list(chunks.values())),))
    return {
        digest: vector
        for digest, vector in found
        if isinstance(digest, bytes) and isinstance(vector, bytes)
    }


def own(index: Index, wanted: Wanted) -> Plan[dict[bytes, bytes]]:
    """What the index itself has of the same rows."""
    return (yield from stored(index.chunk_table, wanted))


def replaced(index: Index, wanted: Wanted) -> Plan[dict[bytes, bytes]]:
    """What the index that this one is to replace has of the same rows, in the same space."""
    if index.replaces is None:
        return {}
    try:
        return (yield from stored(f"sqlembed_chunk_{index.replaces}", wanted))
    except StatementError:
        return {}  # it was replaced meanwhile, and its tables dropped


def imported(index: Index, wanted: Wanted) -> Plan[dict[bytes, bytes]]:
    """What is just being imported, of whatever row."""
    if not (yield Statement(HAS_TABLE, (index.import_table,))):
        return {}
    found: dict[bytes, bytes] = {}
    try:
        for part in slices({digest for each in wanted.values() for digest in each}):
            sql = IMPORTED.format(index.import_table, ", ".join("?" * len(part)))
            found |= dict((yield Statement(sql, tuple(part))))  # type: ignore[arg-type]
    except StatementError:
        pass  # it was dropped meanwhile
    return found


SOURCES: tuple[KnownSource, ...] = (own, replaced, imported)
"""Asked in this order, each for what those before it did not have."""


def known(index: Index, wanted: Wanted) -> Plan[dict[bytes, bytes]]:
    """The vectors of *wanted* that are to be had without a model, by digest."""
    found: dict[bytes, bytes] = {}
    for source in SOURCES:
        left = {
            key: missing
            for key, digests in wanted.items()
            if (missing := [digest for digest in digests if digest not in found])
        }
        if left:
            new = yield from source(index, left)
            found |= {d: v for d, v in new.items() if is_sound(v, index.dimension)}
    return found


def is_sound(vector: bytes, dimension: int) -> bool:
    """Whether *vector* is one that a model may have given: whole, finite, of unit length."""
    if len(vector) != dimension * FLOAT_BYTES:
        return False
    norm = float(np.linalg.norm(np.frombuffer(vector, dtype="<f4").astype(np.float64)))
    return abs(norm - 1.0) < UNIT_TOLERANCE  # of NaN or infinity, it is not
