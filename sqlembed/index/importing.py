"""Vectors that somebody has already: checked against the model, and kept until a flush used them.

A flush that embeds a text looks for its vector here first (``known``), by the text's digest.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sqlembed import vectors
from sqlembed.engine.interface import Engine
from sqlembed.errors import NotFoundError, SchemaError, VectorError
from sqlembed.index import source as sources
from sqlembed.index import waiting
from sqlembed.index.catalog import Index
from sqlembed.index.embedding import check_space, ready
from sqlembed.index.known import HAS_TABLE
from sqlembed.plan import Boundary, Many, Plan, Row, SqlValue, Statement, StatementError, quote

PAGE_ROWS = 500
"""Rows that are read together, and stored in one transaction."""
PROBES = 32
"""Texts that the model embeds, to see that the vectors are its own."""
LEAST_COSINE = 0.99
"""Of each with the vector that is given. Quantized weights have more; a prompt that is missing
costs more, and of another model's vectors it is about 0."""

COLUMNS = "SELECT name FROM pragma_table_xinfo(?, 'main')"
ROWIDS = ("rowid", "_rowid_", "oid")
NO_ROWID = "SELECT 1 FROM pragma_table_list(?) WHERE schema = 'main' AND (wr OR type = 'view')"
COUNT = "SELECT count(*) FROM {table} WHERE {given}"
SPREAD = """
SELECT id FROM (
    SELECT {rowid} AS id, row_number() OVER (ORDER BY {rowid}) - 1 AS n FROM {table} WHERE {given}
) WHERE n % ? = 0"""
SELECT = """
SELECT {rowid}, CAST(CAST({text} AS TEXT) AS BLOB), {vector} FROM {table} WHERE {given}"""
CREATE = "CREATE TABLE IF NOT EXISTS main.{}(digest BLOB PRIMARY KEY, vector BLOB NOT NULL)"
INSERT = "INSERT INTO main.{} VALUES (?, ?) ON CONFLICT DO NOTHING"
TAKEN = "SELECT count(*) FROM main.{}"
EMPTY = "DELETE FROM main.{}"
DROP = "DROP TABLE IF EXISTS main.{}"


class Given(NamedTuple):
    """A table of texts and vectors, as SQL."""

    name: str
    table: str
    rowid: str
    text: str
    vector: str

    @property
    def parts(self) -> dict[str, str]:
        """For the statements above."""
        given = f"{self.text} IS NOT NULL AND {self.vector} IS NOT NULL"
        return {**self._asdict(), "given": given}


def look_at(table: str, text_column: str, vector_column: str) -> Plan[Given]:
    """Find a table of the main database and two columns of it.

    :raises NotFoundError: there is no such table or column
    :raises SchemaError: its rows have no rowid, by which they are read
    """
    columns = [str(name) for (name,) in (yield Statement(COLUMNS, (table,)))]
    if not columns:
        raise NotFoundError(f"the main database has no table {table!r} to import vectors from")
    listed = ", ".join(columns)
    lower = {column.lower() for column in columns}
    for column in (text_column, vector_column):
        if column.lower() not in lower:
            raise NotFoundError(f"table {table} has no column {column!r}; its columns are {listed}")
    free = [name for name in ROWIDS if name not in lower]
    if not free or (yield Statement(NO_ROWID, (table,))):
        raise SchemaError(
            f"the rows of {table} have no rowid, by which they are read; import from a copy:"
            f" CREATE TABLE copy AS SELECT {text_column}, {vector_column} FROM {table}"
        )
    text, vector = (f"given.{quote(column)}" for column in (text_column, vector_column))
    return Given(table, f"main.{quote(table)} AS given", f"given.{free[0]}", text, vector)


def take(engine: Engine, index: Index, given: Given) -> Plan[int]:
    """Put the vectors into the table of known ones, if they are what the model gives.

    :returns: how many vectors, of different texts
    :raises VectorError: they are not; none is taken
    """
    encoding = yield from sources.text_encoding()
    yield from _check(engine, index, given, encoding)
    key = engine.space(index.model).key
    yield from forget(index)  # what a call that was interrupted left
    select = SELECT.format(**given.parts)
    page = f"{select} AND {given.rowid} > ? ORDER BY {given.rowid} LIMIT {PAGE_ROWS}"
    last, taken, more = sources.LOWEST, 0, True
    while more:
        rows = yield Statement(page, (last,))
        try:
            made: list[Row] = [
                (key("document", text), vectors.to_blob(vector))
                for text, vector in _read(index, given, rows, encoding)
            ]
        except VectorError:
            yield from forget(index)
            raise
        yield Boundary.BEGIN
        yield Statement(CREATE.format(index.import_table))
        yield Many(INSERT.format(index.import_table), made)
        taken = int(str((yield Statement(TAKEN.format(index.import_table)))[0][0]))
        yield Boundary.COMMIT
        more = len(rows) == PAGE_ROWS
        last = int(str(rows[-1][0])) if rows else last
    return taken


def forget(index: Index) -> Plan[None]:
    """Remove the table of known vectors; or all in it, while this connection reads a table."""
    yield Boundary.BEGIN
    try:
        yield Statement(DROP.format(index.import_table))
    except StatementError:
        yield Statement(EMPTY.format(index.import_table))
    yield Boundary.COMMIT


def forget_used(index: Index) -> Plan[None]:
    """Remove what an import that was interrupted left, once nothing waits for it."""
    if (yield Statement(HAS_TABLE, (index.import_table,))) and not (
        yield from waiting.count(index)
    ):
        yield from forget(index)


def _check(engine: Engine, index: Index, given: Given, encoding: str) -> Plan[None]:
    """See that *index*'s model gives these vectors to texts spread over the table."""
    yield from ready(engine, index)
    ((count,),) = yield Statement(COUNT.format(**given.parts))
    step = max(1, int(str(count)) // (2 * PROBES))
    numbers = yield Statement(SPREAD.format(**given.parts), (step,))
    select = SELECT.format(**given.parts)
    among = f"{select} AND {given.rowid} IN (SELECT value FROM json_each(?)) ORDER BY {given.rowid}"
    rows = yield Statement(among, (json.dumps([number for (number,) in numbers]),))
    # Of a text that is there twice the first vector is taken, and so is the one to look at.
    pairs = dict(reversed(_read(index, given, rows, encoding)))
    # A text of several chunks has no vector of its own in the index.
    chunks = engine.chunk(list(pairs), index.model, index.options.chunking)
    whole = [text for text, parts in zip(pairs, chunks, strict=True) if len(parts) == 1]
    probes = whole[:: max(1, len(whole) // PROBES)][:PROBES]
    if not probes:
        raise VectorError(
            f"{given.name} has no vector that index {index.name} could take: of {count!s} rows with"
            " a text and a vector, none that was looked at has a text that fits one chunk"
        )
    ours = engine.embed(probes, index.model, "document")
    check_space(engine, index)
    cosines = sorted(
        float(pairs[text] @ np.frombuffer(blob, dtype="<f4"))
        for text, blob in zip(probes, ours, strict=True)
    )
    if cosines[0] < LEAST_COSINE:
        raise VectorError(
            f"the vectors of {given.name} are not those of {index.model}: of {len(cosines)} texts"
            f" that it embedded, the cosine with the vector given is {cosines[0]:.2f} at worst and"
            f" {cosines[len(cosines) // 2]:.2f} in the median, and at least {LEAST_COSINE} is"
            " expected. They may be of another model, of the texts without the model's prompt for"
            " documents, or of other texts. None was taken"
        )


def _read(
    index: Index, given: Given, rows: Sequence[Row], encoding: str
) -> list[tuple[str, npt.NDArray[np.float32]]]:
    """Texts and their vectors, at unit length.

    :raises VectorError: one is not a vector of the index's width
    """
    read = []
    for rowid, text, vector in rows:
        assert isinstance(text, bytes)
        what = f"the vector in row {rowid!s} of {given.name}"
        blob = vector if isinstance(vector, bytes) else _from_json(vector, what)
        array = vectors.from_blob(blob, what, index.dimension)
        read.append((text.decode(encoding, "replace"), vectors.unit(array.astype(np.float64))))
    return read


def _from_json(vector: SqlValue, what: str) -> bytes:
    try:
        numbers: Any = json.loads(vector) if isinstance(vector, str) else None
        if isinstance(numbers, list):
            with np.errstate(over="ignore"):  # infinity is refused with the others
                return vectors.to_blob(np.array(numbers, dtype=np.float32).reshape(-1))
    except (ValueError, TypeError, OverflowError, RecursionError):
        pass
    raise VectorError(
        f"{what} is neither a BLOB of little-endian float32 nor a JSON array of numbers"
    )
