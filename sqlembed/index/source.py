"""The application's table that an index reads: its key, its columns, and the text of its rows."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from sqlembed.errors import InputError, NotFoundError, SchemaError
from sqlembed.plan import Plan, SqlValue, Statement, StatementError, quote

TABLE = """
SELECT name, type FROM pragma_table_list WHERE schema = 'main' AND lower(name) = lower(?)"""
TABLE_NAMES = """
SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'
AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlembed\\_%' ESCAPE '\\'
ORDER BY name"""
COLUMNS = "SELECT name, type, pk, hidden FROM pragma_table_xinfo(?, 'main')"
KEY_INDEX = "SELECT name FROM pragma_index_list(?, 'main') WHERE origin = 'pk'"
COLLATIONS = "SELECT name, coll FROM pragma_index_xinfo(?, 'main') WHERE key"

STRINGS = re.compile(r"'(?:[^']|'')*'")
DOUBLE_QUOTED = re.compile(r'"((?:[^"]|"")*)"')
SLICE = 500
"""Keys bound in one statement; SQLite allows at least 999 parameters."""


class Column(NamedTuple):
    """A column of the application's table."""

    name: str
    type: str
    key_position: int
    generated: bool


@dataclass(frozen=True)
class Source:
    """What an index needs to know of the table it reads."""

    table: str
    expression: str
    key: tuple[str, ...]
    """The primary key's columns."""
    collations: tuple[str, ...]
    """The collation of each of them."""
    mapped: bool
    """Whether keys are mapped to integers; not so for INTEGER PRIMARY KEY."""
    used: tuple[str, ...]
    """The columns that the expression may read."""
    reads_generated: bool
    """Whether one of these is generated, and so changes with any other column."""

    @classmethod
    def from_json(cls, text: str) -> "Source":
        """Read what :meth:`to_json` wrote."""
        facts: dict[str, Any] = {
            name: tuple(fact) if isinstance(fact, list) else fact
            for name, fact in json.loads(text).items()
        }
        return cls(**facts)

    def to_json(self) -> str:
        """Every fact, for the catalog."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @property
    def id_sql(self) -> str:
        """SQL for the key as users see it: its value, or a JSON array of several."""
        columns = ", ".join(self.column(name) for name in self.key)
        return columns if len(self.key) == 1 else f"json_array({columns})"

    def column(self, name: str) -> str:
        """*name*, qualified so that nothing else can be meant."""
        return f"{quote(self.table)}.{quote(name)}"


def inspect(table: str, expression: str) -> Plan[Source]:
    """Look at *table*, and check that *expression* gives one text for each of its rows.

    :raises NotFoundError: no such table or column
    :raises SchemaError: not an ordinary table of the main database, or it has no lasting key
    :raises InputError: the expression is not one that an index can keep true
    """
    name = yield from _table_name(table)
    rows = yield Statement(COLUMNS, (name,))
    columns = [Column(str(n), str(t), int(str(pk)), hidden in (2, 3)) for n, t, pk, hidden in rows]
    yield from _check_expression(name, columns, expression)
    used = [column for column in columns if _mentions(expression, column.name)]
    if not used:
        raise InputError(
            f"the expression {expression} reads no column of {name}, {_listed(columns)}"
        )
    key = sorted((c for c in columns if c.key_position), key=lambda column: column.key_position)
    if not key:
        raise SchemaError(
            f"table {name} has no primary key, and its rowids change at VACUUM, so an index cannot"
            " tell its rows apart; declare one, best an INTEGER PRIMARY KEY"
        )
    if len(key) > 1 and any("BLOB" in column.type.upper() for column in key):
        raise SchemaError(
            f"table {name} has a BLOB in a key of several columns, which is not supported"
        )
    indexes = yield Statement(KEY_INDEX, (name,))
    collations: dict[SqlValue, SqlValue] = {}
    if indexes:
        for column, collation in (yield Statement(COLLATIONS, (indexes[0][0],))):
            collations[column] = collation
    return Source(
        table=name,
        expression=expression,
        key=tuple(column.name for column in key),
        collations=tuple(str(collations.get(column.name, "BINARY")) for column in key),
        # An INTEGER PRIMARY KEY DESC has an index of its own, and moves at VACUUM.
        mapped=bool(indexes) or len(key) > 1 or key[0].type.upper() != "INTEGER",
        used=tuple(column.name for column in used),
        reads_generated=any(column.generated for column in used),
    )


def read_rows(
    source: Source, key_table: str, keys: Iterable[int], encoding: str
) -> Plan[dict[int, tuple[SqlValue, str | None]]]:
    """The id and the text of the rows with these keys; rows that are gone are left out.

    :param encoding: the database's text encoding, as Python names it
    """
    found: dict[int, tuple[SqlValue, str | None]] = {}
    select, wanted = _select(source, key_table)
    for part in slices(keys):
        marks = ", ".join("?" * len(part))
        rows = yield Statement(f"{select} WHERE {wanted.format(marks)}", tuple(part))
        for key, identity, text in rows:
            assert isinstance(key, int)
            assert text is None or isinstance(text, bytes)
            # Bytes, decoded here: a text that is not valid must not stop its neighbours.
            found[key] = (identity, None if text is None else text.decode(encoding, "replace"))
    return found


def orphans(source: Source, chunk_table: str, key_table: str) -> str:
    """A query for the keys that are stored though the table has no such row."""
    table = f"main.{quote(source.table)}"
    if not source.mapped:
        gone = f"NOT EXISTS (SELECT 1 FROM {table} WHERE {source.column(source.key[0])} = key)"
        return f"SELECT DISTINCT key FROM main.{chunk_table} WHERE {gone}"
    pairs = zip(mapped_names(source), source.key, strict=True)
    same = " AND ".join(f"{source.column(name)} = {mapped}" for mapped, name in pairs)
    gone = f"NOT EXISTS (SELECT 1 FROM {table} WHERE {same})"
    waits = "SELECT key FROM main.sqlembed_queue"
    return f"SELECT key FROM main.{key_table} WHERE {gone} AND key NOT IN ({waits})"


def slices(values: Iterable[SqlValue]) -> Iterable[Sequence[SqlValue]]:
    """*values* in parts that fit one statement's bindings."""
    listed = list(values)
    return (listed[start : start + SLICE] for start in range(0, len(listed), SLICE))


def text_encoding() -> Plan[str]:
    """How the database stores text, as Python names it."""
    rows = yield Statement("PRAGMA main.encoding")
    return {"UTF-16le": "utf-16-le", "UTF-16be": "utf-16-be"}.get(str(rows[0][0]), "utf-8")


def _select(source: Source, key_table: str) -> tuple[str, str]:
    text = f"CAST(CAST(({source.expression}) AS TEXT) AS BLOB)"
    table = f"main.{quote(source.table)}"
    columns = [source.column(name) for name in source.key]
    if not source.mapped:
        return f"SELECT {columns[0]}, {columns[0]}, {text} FROM {table}", f"{columns[0]} IN ({{}})"
    names = mapped_names(source)
    same = " AND ".join(f"{name} = {column}" for name, column in zip(names, columns, strict=True))
    key = f"(SELECT key FROM main.{key_table} WHERE {same})"
    keys = f"SELECT {', '.join(names)} FROM main.{key_table} WHERE key IN ({{}})"
    wanted = f"({', '.join(columns)}) IN ({keys})"
    return f"SELECT {key}, {source.id_sql}, {text} FROM {table}", wanted


def mapped_names(source: Source) -> list[str]:
    """The key's columns as the key table calls them: k1, k2 and so on."""
    return [f"k{position}" for position in range(1, len(source.key) + 1)]


def _table_name(table: str) -> Plan[str]:
    rows = yield Statement(TABLE, (table,))
    if not rows:
        known = yield Statement(TABLE_NAMES)
        names = ", ".join(str(row[0]) for row in known) or "none"
        raise NotFoundError(
            f"the main database has no table {table!r}; its tables are {names}"
            " (a table of an attached database is indexed by a connection to that database)"
        )
    name, kind = (str(value) for value in rows[0])
    if kind != "table" or name.lower().startswith("sqlembed_"):
        raise SchemaError(
            f"{name} is {'a view' if kind == 'view' else 'not an ordinary table'}, which triggers"
            " cannot watch; index the table under it"
        )
    return name


def _check_expression(table: str, columns: list[Column], expression: str) -> Plan[None]:
    """Let SQLite judge by its own rules for generated columns; nothing is written."""
    names = {column.name.lower() for column in columns}
    for quoted in DOUBLE_QUOTED.findall(STRINGS.sub("", expression)):
        if quoted.replace('""', '"').lower() not in names:
            # SQLite would take it for a string.
            raise NotFoundError(f"no such column: {quoted} in {table}, {_listed(columns)}")
    declared = ", ".join(f"{quote(column.name)} {column.type}" for column in columns)
    check = f"EXPLAIN CREATE TABLE main.sqlembed_check({declared}, sqlembed_text AS ({expression}))"
    single = f"SELECT ({expression}) FROM main.{quote(table)} UNION ALL SELECT 1 LIMIT 0"
    for sql in (check, single):
        try:
            yield Statement(sql)
        except StatementError as error:
            reason = str(error).replace("generated columns", "index expressions")
            kind = NotFoundError if "no such column" in reason else InputError
            raise kind(
                f"the expression {expression} cannot be indexed: {reason}; it may use"
                f" deterministic functions and the row's own columns: {table}, {_listed(columns)}"
            ) from error


def _mentions(expression: str, column: str) -> bool:
    """Whether *expression* may read *column*; too often yes costs a trigger, no is never wrong."""
    text = expression.lower()
    return column.lower() in text or quote(column).lower() in text


def _listed(columns: list[Column]) -> str:
    return "whose columns are " + ", ".join(column.name for column in columns)
