"""SQL: the rows nearest to a text or a vector. ``knn``."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from sqlembed import vectors
from sqlembed.engine.chunk import WITHOUT_OVERLAP
from sqlembed.engine.interface import Engine
from sqlembed.errors import InputError, SpaceError, TextTooLongError
from sqlembed.functions.registry import Function, Restriction, Table, described, text_argument
from sqlembed.index import catalog
from sqlembed.index.catalog import Index
from sqlembed.index.embedding import check_space, ready
from sqlembed.index.knn import nearest
from sqlembed.plan import Plan, Row, SqlValue

DEFAULT_K = 10
MOST_K = 4096


def knn(
    engine: Engine, restriction: Restriction, index: SqlValue, query: SqlValue, k: SqlValue
) -> Plan[Iterable[Row]]:
    """``knn(index, query [, k])``: the *k* nearest rows, nearest first.

    Columns: id (the row's key), distance (cosine, 0 to 2), text, start and stop of the best
    chunk (characters, from 0), coverage (the share of the rows that was searched).
    *query* is a text or a vector. ``id IN (...)`` and bounds on distance restrict the rows
    before *k* does. Without *k*, LIMIT takes its place.
    """
    if index is None or query is None:
        return []
    wanted = count_argument(k, restriction.limit)
    found = yield from catalog.find(text_argument(index, "knn()'s index"))
    vector = yield from query_vector(engine, "knn()", found, query)
    among, bounds = restriction.among, restriction.bounds
    return (yield from nearest(engine, found, vector, wanted, among, bounds))


def count_argument(k: SqlValue, limit: int | None) -> int:
    """How many rows are wanted: *k*, else the statement's LIMIT, else ten.

    :raises InputError: *k* is no number of rows
    """
    if k is None:
        if limit is None:
            return DEFAULT_K
        if limit > MOST_K:
            raise InputError(
                f"LIMIT takes the place of k, which is at most {MOST_K}; got {limit:,}"
            )
        return max(1, limit)
    if not isinstance(k, int) or not 1 <= k <= MOST_K:
        raise InputError(f"k is a whole number from 1 to {MOST_K}; got {described(k)}")
    return k


def query_vector(
    engine: Engine, who: str, index: Index, query: SqlValue
) -> Plan["npt.NDArray[np.float32]"]:
    """A query as a unit vector of *index*'s model; it is a text, or a vector already.

    A text that is longer than the model reads is the mean of its parts: of 22 queries of some pages
    it found 18 first, and their first part alone 15 (Python's language reference).

    :raises SpaceError: it is known to be another model's vector
    """
    if isinstance(query, bytes):
        vector = vectors.from_blob(query, f"{who}'s query of index {index.name}", index.dimension)
        origin = engine.origin(query)
        if origin is not None and origin.fingerprint != index.space:
            raise SpaceError(
                f"{who}'s query is a vector of {origin.model}, and index {index.name} holds vectors"
                f" of {index.model}; they do not compare: embed_query(text, '{index.model}')"
            )
        return vectors.unit(vector)
    text = text_argument(query, f"{who}'s query (if it is no vector)")
    yield from ready(engine, index)
    try:
        blobs = engine.embed([text], index.model, "query")
    except TextTooLongError:
        (parts,) = engine.chunk([text], index.model, WITHOUT_OVERLAP, "query")
        blobs = engine.embed([part.text for part in parts], index.model, "query")
    check_space(engine, index)  # again: computing may have loaded weights installed meanwhile
    return vectors.centroid(blobs) if len(blobs) > 1 else vectors.from_blob(blobs[0], "the query")


FUNCTIONS: tuple[Function, ...] = (
    Table(
        "knn",
        ("id", "distance", "text", "start", "stop", "coverage"),
        knn,
        parameters=("index_name", "query", "k"),
        least=2,
        restricted="id",
        bounded="distance",
        ordered="distance",
    ),
)
